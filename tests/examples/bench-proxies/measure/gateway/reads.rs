//! Authorised reads over kept connections: the CPU time of each, and what cores can do of them.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Contestant, Extent};
use crate::{
    ground::{Ground, Limits},
    isolation::Cores,
    load::{Kept, head},
    origin::SHORT,
    peers,
    process::Server,
    report::{Report, median, note, ratio, spread},
};

const WARM_UP: Duration = Duration::from_millis(100);

/// What the rounds have shown of one contestant.
#[derive(Default)]
struct Shown {
    costs: Vec<f64>,
    rates: Vec<f64>,
    busy: Vec<f64>,
}

pub(super) fn measure(ground: &Ground, extent: &Extent, report: &mut Report) -> Result<()> {
    for version in peers::versions(ground)? {
        note(version);
    }
    let client = ground.client()?;
    let mut contestants = Vec::new();
    for cores in [Cores::One, Cores::Two] {
        for server in [
            ground.agent(Limits::Wide, cores)?,
            ground.nginx(cores)?,
            ground.haproxy(cores)?,
        ] {
            let kept = Kept::open(&client, server.address, extent.connections)
                .with_context(|| format!("connections to {}", server.name))?;
            contestants.push(Contestant { server, kept });
        }
    }
    for contestant in &mut contestants {
        contestant.turn(WARM_UP.min(extent.turn), &head(), SHORT)?;
    }
    let mut shown: Vec<Shown> = contestants.iter().map(|_| Shown::default()).collect();
    for _ in 0..extent.rounds {
        for (contestant, shown) in contestants.iter_mut().zip(&mut shown) {
            let turn = contestant
                .turn(extent.turn, &head(), SHORT)
                .with_context(|| format!("requests to {}", contestant.server.name))?;
            shown.costs.push(turn.cost);
            shown.rates.push(turn.rate);
            shown.busy.push(turn.busy);
        }
    }
    note(format!(
        "reads over {} connections, medians of {} rounds of {} ms (least to most):",
        extent.connections,
        extent.rounds,
        extent.turn.as_millis()
    ));
    for (contestant, shown) in contestants.iter().zip(&shown) {
        tell(&contestant.server, shown);
    }
    let costs: Vec<_> = shown.iter().map(|shown| shown.costs.as_slice()).collect();
    let [one, nginx, haproxy, two, ..] = costs.as_slice() else {
        anyhow::bail!("not three contestants");
    };
    report.add("cpu_us_read", median(one));
    report.add("haproxy_cpu_us", median(haproxy));
    report.add("nginx_cpu_us", median(nginx));
    report.add("ratio_haproxy", ratio(one, haproxy));
    report.add("ratio_nginx", ratio(one, nginx));
    report.add("rps_1", capacity(Cores::One, median(one)));
    report.add("rps_2", capacity(Cores::Two, median(two)));
    let twice: Vec<_> = one.iter().map(|one| 2.0 * one).collect();
    report.add("scale_2", ratio(&twice, two));
    Ok(())
}

/// Answers per second of so many cores that do nothing else.
fn capacity(cores: Cores, cost: f64) -> f64 {
    f64::from(cores.count()) * 1e6 / cost
}

fn tell(server: &Server, shown: &Shown) {
    let cores = server.cores;
    note(format!("{} on cores {}:", server.name, cores.list()));
    note(spread("CPU", &shown.costs, "µs"));
    note(spread("answers", &shown.rates, "per second"));
    note(spread("of its cores", &shown.busy, ""));
    note(format!(
        "  {:<18} {:.0} per second",
        "all of them",
        capacity(cores, median(&shown.costs))
    ));
}
