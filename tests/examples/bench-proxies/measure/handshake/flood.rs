//! A good client's requests while others do nothing but handshakes: how much later its slowest answers come.

use std::{env, net::Ipv4Addr, thread, time::Duration};

use anyhow::{Context as _, Result};
use spinegate_tests::{command::Run, lab::Background};

use super::Extent;
use crate::{
    ground::{Ground, Limits},
    isolation::Cores,
    load::Client,
    process::Server,
    report::{Report, median, note},
};

const PAUSE: Duration = Duration::from_micros(500);
/// The flood has filled every queue by then.
const RISE: Duration = Duration::from_millis(200);

pub(crate) fn measure(ground: &Ground, extent: &Extent, report: &mut Report) -> Result<()> {
    let client = ground.client()?;
    let servers = [
        ground.agent(Limits::Default, Cores::One)?,
        ground.nginx(Cores::One)?,
    ];
    let mut found = vec![(Vec::new(), Vec::new()); servers.len()];
    for _ in 0..extent.flood_rounds {
        for (server, (calm, flooded)) in servers.iter().zip(&mut found) {
            calm.push(p99(server, &client, extent.flood_turn)?);
            let flood = begin(ground, server)?;
            thread::sleep(RISE);
            let measured = p99(server, &client, extent.flood_turn);
            flood.kill()?;
            flooded.push(measured?);
        }
    }
    note(format!(
        "p99 of requests, calm and in the flood, medians of {} rounds of {} ms:",
        extent.flood_rounds,
        extent.flood_turn.as_millis()
    ));
    for ((server, (calm, flooded)), key) in servers
        .iter()
        .zip(&found)
        .zip(["flood_p99_ratio", "nginx_flood_p99_ratio"])
    {
        let (calm, flooded) = (median(calm), median(flooded));
        note(format!("  {:<18} {calm:.0} µs, {flooded:.0} µs", server.name));
        report.add(key, flooded / calm);
    }
    Ok(())
}

/// The flood is a process of the idle class, so that on their common core the good client and the origin never wait for it.
fn begin(ground: &Ground, server: &Server) -> Result<Background> {
    let binary = env::current_exe().context("can't tell where this program is")?;
    let nowhere = "/dev/null";
    let server = server.address.to_string();
    let run = Run::new("chrt").args(["--idle", "0"]).arg(binary).args([
        "handshake",
        "--flood",
        &server,
        "--agent",
        nowhere,
        "--peers",
        nowhere,
    ]);
    Background::start("flood", &run, &ground.files)
}

/// In microseconds.
fn p99(server: &Server, client: &Client, turn: Duration) -> Result<f64> {
    let mut connection = client.connect(server.address, Ipv4Addr::LOCALHOST)?;
    let mut times = connection
        .request(turn, PAUSE)
        .with_context(|| format!("requests to {}", server.name))?;
    connection.close();
    times.sort_unstable();
    let slow = times.get(times.len() * 99 / 100).or(times.last());
    Ok(slow.context("no request was answered")?.as_secs_f64() * 1e6)
}
