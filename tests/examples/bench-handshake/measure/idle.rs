//! Memory of connections that are open and idle.

use std::{net::Ipv4Addr, thread, time::Duration};

use anyhow::{Context as _, Result};

use crate::{
    Extent,
    ground::{Ground, Limits},
    load::{Client, head},
    process::Server,
    report::{Report, note},
};

/// The first connections fill what all later ones share.
const WARM_UP: usize = 20;
const SETTLE: Duration = Duration::from_millis(500);

pub(crate) fn measure(ground: &Ground, extent: &Extent, report: &mut Report) -> Result<()> {
    let client = ground.client()?;
    note(format!("memory of {} idle connections:", extent.connections));
    for (key, server) in [
        ("idle_kib_per_conn", ground.agent(Limits::Wide)?),
        ("haproxy_idle_kib_per_conn", ground.haproxy()?),
    ] {
        let each = growth(&server, &client, extent.connections)
            .with_context(|| format!("connections to {}", server.name))?;
        note(format!("  {:<18} {each:.1} KiB each", server.name));
        report.add(key, each);
    }
    Ok(())
}

/// What each connection adds, after its handshake and one request, in KiB.
fn growth(server: &Server, client: &Client, connections: usize) -> Result<f64> {
    let request = head();
    let open = || {
        let mut connection = client.connect(server.address, Ipv4Addr::LOCALHOST)?;
        connection.exchange(&request)?;
        connection.keep()
    };
    let mut kept = Vec::new();
    for _ in 0..WARM_UP {
        kept.push(open()?);
    }
    thread::sleep(SETTLE);
    let before = server.memory()?;
    for _ in 0..connections {
        kept.push(open()?);
    }
    thread::sleep(SETTLE);
    Ok((server.memory()? - before) / connections as f64)
}
