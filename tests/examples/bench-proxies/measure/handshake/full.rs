//! Full handshakes: the CPU time that each costs the server, beside the arithmetic and the peers.

use std::{thread, time::Duration};

use anyhow::{Result, ensure};

use super::{Extent, floor::Floor};
use crate::{
    ground::{Ground, Limits},
    isolation::Cores,
    load::Client,
    peers,
    process::Server,
    report::{Report, median, note, ratio, spread},
};

/// What a server still does about closed connections is done by then.
const SETTLE: Duration = Duration::from_millis(60);
const WARM_UP: Duration = Duration::from_millis(100);

pub(crate) fn measure(ground: &Ground, extent: &Extent, report: &mut Report) -> Result<()> {
    for version in [peers::versions(ground)?, peers::further_versions(ground)?].concat() {
        note(version);
    }
    let (client, floor) = (ground.client()?, Floor::new(ground)?);
    let servers = [
        ground.agent(Limits::Wide, Cores::One)?,
        ground.agent_with_system_openssl()?,
        ground.nginx(Cores::One)?,
        ground.haproxy(Cores::One)?,
        ground.stunnel()?,
    ];
    for server in &servers {
        client.load(server.address, WARM_UP)?;
    }
    let mut floors = Vec::new();
    let mut costs = vec![Vec::new(); servers.len()];
    for _ in 0..extent.rounds {
        floors.push(milliseconds(floor.measure(extent.turn / 4)?));
        for (server, costs) in servers.iter().zip(&mut costs) {
            costs.push(cost(server, &client, extent.turn)?);
        }
    }
    note(format!(
        "CPU of a full handshake, medians of {} rounds of {} ms (least to most):",
        extent.rounds,
        extent.turn.as_millis()
    ));
    note(spread("arithmetic", &floors, "ms"));
    for (server, costs) in servers.iter().zip(&costs) {
        note(spread(server.name, costs, "ms"));
    }
    let [full, system, nginx, haproxy, stunnel] = costs.as_slice() else {
        anyhow::bail!("not five contestants");
    };
    report.add("floor_ms", median(&floors));
    report.add("full_ms", median(full));
    report.add("ratio_floor", ratio(full, &floors));
    report.add("ratio_nginx", ratio(full, nginx));
    report.add("ratio_haproxy", ratio(full, haproxy));
    report.add("ratio_stunnel", ratio(full, stunnel));
    report.add("ratio_nginx_system_openssl", ratio(system, nginx));
    Ok(())
}

/// The CPU time of a handshake, in milliseconds.
fn cost(server: &Server, client: &Client, turn: Duration) -> Result<f64> {
    let before = server.cpu()?;
    let count = client.load(server.address, turn)?;
    thread::sleep(SETTLE);
    let used = server.cpu()?.saturating_sub(before);
    ensure!(count > 0, "{} made no handshake", server.name);
    Ok(milliseconds(used) / count as f64)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
