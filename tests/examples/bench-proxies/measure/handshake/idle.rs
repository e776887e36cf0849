//! Memory of connections that are open and idle.

use std::{
    net::{Ipv4Addr, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};

use super::Extent;
use crate::{
    ground::{Ground, Limits},
    isolation::Cores,
    load::{Client, head},
    process::Server,
    report::{Report, note},
};

/// The first connections fill what all later ones share.
const WARM_UP: usize = 20;
/// They connect at the same time.
const CLIENTS: usize = 4;
/// Longer than servers take to find a connection idle.
const SETTLE: Duration = Duration::from_millis(1500);

pub(crate) fn measure(ground: &Ground, extent: &Extent, report: &mut Report) -> Result<()> {
    let client = ground.client()?;
    note(format!("memory of {} idle connections:", extent.connections));
    for (key, server) in [
        ("idle_kib_per_conn", ground.agent(Limits::Wide, Cores::One)?),
        ("haproxy_idle_kib_per_conn", ground.haproxy(Cores::One)?),
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
    let open = |count: usize| -> Result<Vec<TcpStream>> {
        let one = |_| {
            let mut connection = client.connect(server.address, Ipv4Addr::LOCALHOST)?;
            connection.exchange(&request)?;
            connection.keep()
        };
        (0..count).map(one).collect()
    };
    let first = open(WARM_UP)?;
    thread::sleep(SETTLE);
    let before = server.memory()?;
    let each = connections.div_ceil(CLIENTS);
    let kept = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| open(each))).collect();
        let opened = clients
            .into_iter()
            .map(|client| client.join().map_err(|_| anyhow!("a client panicked"))?);
        opened.collect::<Result<Vec<_>>>()
    })?;
    thread::sleep(SETTLE);
    let grown = server.memory()? - before;
    drop((first, kept));
    Ok(grown / (each * CLIENTS) as f64)
}
