//! Requests at half of the load that HAProxy can bear: how much later their slowest answers come than from the service itself.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};

use super::{Contestant, Extent};
use crate::{
    ground::{Ground, Limits},
    isolation::Cores,
    load::{Client, Connection, Kept, exchange, head},
    origin::SHORT,
    report::{Report, note, ratio, spread},
};

/// A connection of the load.
enum Line {
    Direct(TcpStream),
    Secure(Connection),
}

pub(super) fn measure(ground: &Ground, extent: &Extent, report: &mut Report) -> Result<()> {
    let client = ground.client()?;
    let (agent, haproxy) = (
        ground.agent(Limits::Wide, Cores::One)?,
        ground.haproxy(Cores::One)?,
    );
    let (agent_address, haproxy_address) = (agent.address, haproxy.address);
    let mut full = Contestant {
        kept: Kept::open(&client, haproxy_address, extent.connections)?,
        server: haproxy,
    };
    let rate = full.turn(extent.turn, &head(), SHORT)?.rate / 2.0;
    let mut all = [
        (
            "the service",
            direct(ground.origin.address, extent.connections)?,
            Vec::new(),
        ),
        (
            "spinegate",
            secure(&client, agent_address, extent.connections)?,
            Vec::new(),
        ),
        (
            "haproxy",
            secure(&client, haproxy_address, extent.connections)?,
            Vec::new(),
        ),
    ];
    for _ in 0..extent.rounds {
        for (name, lines, found) in &mut all {
            found.push(p99(lines, rate, extent.turn).with_context(|| format!("requests to {name}"))?);
        }
    }
    note(format!(
        "p99 at {rate:.0} requests per second over {} connections, medians of {} rounds of {} ms (least to most):",
        extent.connections,
        extent.rounds,
        extent.turn.as_millis()
    ));
    for (name, _, found) in &all {
        note(spread(name, found, "µs"));
    }
    let [(_, _, service), (_, _, agent), (_, _, haproxy)] = &all;
    let added = |found: &[f64]| -> Vec<f64> {
        found
            .iter()
            .zip(service)
            .map(|(found, service)| found - service)
            .collect()
    };
    report.add("p99_ratio_haproxy", ratio(&added(agent), &added(haproxy)));
    Ok(())
}

fn direct(address: SocketAddr, count: usize) -> Result<Vec<Line>> {
    let connect = |_| {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Line::Direct(stream))
    };
    (0..count).map(connect).collect()
}

fn secure(client: &Client, address: SocketAddr, count: usize) -> Result<Vec<Line>> {
    let connect = |_| client.connect(address, Ipv4Addr::LOCALHOST).map(Line::Secure);
    (0..count).map(connect).collect()
}

/// In microseconds, of requests at this rate in all: each connection sends at times of its own.
fn p99(lines: &mut [Line], rate: f64, turn: Duration) -> Result<f64> {
    let (request, mean) = (head(), lines.len() as f64 / rate);
    let mut times = thread::scope(|scope| {
        let clients: Vec<_> = lines
            .iter_mut()
            .map(|line| scope.spawn(|| line.requests(&request, mean, turn)))
            .collect();
        let times = clients
            .into_iter()
            .map(|client| client.join().map_err(|_| anyhow!("a client panicked"))?);
        times.collect::<Result<Vec<_>>>().map(|times| times.concat())
    })?;
    times.sort_unstable();
    let slow = times.get(times.len() * 99 / 100).or(times.last());
    Ok(slow.context("no request was answered")?.as_secs_f64() * 1e6)
}

impl Line {
    /// Sends requests for a while, at random times that are so many seconds apart on average; says how long each took.
    fn requests(&mut self, request: &str, mean: f64, turn: Duration) -> Result<Vec<Duration>> {
        let (begun, mut times) = (Instant::now(), Vec::new());
        let mut due = begun;
        loop {
            due += Duration::from_secs_f64(2.0 * mean * fastrand::f64());
            if due.duration_since(begun) > turn {
                return Ok(times);
            }
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let sent = Instant::now();
            match self {
                Self::Direct(stream) => exchange(stream, request)?,
                Self::Secure(connection) => connection.exchange(request)?,
            }
            times.push(sent.elapsed());
        }
    }
}
