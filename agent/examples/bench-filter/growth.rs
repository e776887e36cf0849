//! How the cost of a packet grows from one prefix to a million, with sources that vary inside each run, so that the
//! caches hold no more than they would in a flood from everywhere.

use std::net::IpAddr;

use anyhow::Result;
use spinegate::config::Source;

use crate::{
    driver::{Driver, SOURCES},
    frames::{PORT, segment, segment6},
    policies::{self, Random},
    report::{Report, median},
};

const SIZES: [usize; 4] = [1, 1000, 100_000, 1_000_000];
const ROUNDS: usize = 7;
/// Each source once in a run.
const REPEAT: u32 = SOURCES as u32;

pub(crate) fn measure(report: &mut Report) -> Result<()> {
    let mut worst: f64 = 0.0;
    for (name, draw) in [("allow", allowed as Draw), ("deny", refused)] {
        let nets = measure_sizes(report, name, draw, false)?;
        let [first, .., last] = nets.as_slice() else {
            anyhow::bail!("two sizes at the least");
        };
        report.add(&format!("growth_{name}_1m"), last / first);
        worst = worst.max(last / first);
        // The kernel's trie on the same prefixes: what IPv6 has, and IPv4 would have.
        measure_sizes(report, &format!("{name}_trie"), draw, true)?;
    }
    report.add("growth_1m", worst);
    Ok(())
}

/// Draws the source of a packet, given the allowlist.
type Draw = fn(&[Source], &mut Random) -> u32;

fn measure_sizes(report: &mut Report, name: &str, draw: Draw, as_ipv6: bool) -> Result<Vec<f64>> {
    let mut driver = Driver::load()?;
    let mut nets = Vec::new();
    for size in SIZES {
        let sources = policies::spread(size);
        let (mut filter, frame) = if as_ipv6 {
            (policies::filter(&policies::as_ipv6(&sources))?, segment6())
        } else {
            (policies::filter(&sources)?, segment([10, 0, 0, 1], PORT))
        };
        let descriptor = filter.descriptor()?;
        let mut random = Random::new(7);
        let drawn: Vec<u32> = (0..SOURCES).map(|_| draw(&sources, &mut random)).collect();
        driver.set_sources(|number| drawn.get(number).copied().unwrap_or_default())?;
        let (mut floors, mut totals) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            floors.push(driver.varied(None, &frame, REPEAT)?);
            totals.push(driver.varied(Some(&descriptor), &frame, REPEAT)?);
        }
        let net = median(&totals) - median(&floors);
        report.add(&format!("varied_{name}_{size}_net_ns"), net);
        if !as_ipv6 {
            report.add(
                &format!("policy_{size}_kib"),
                filter.policy_bytes() as f64 / 1024.0,
            );
        }
        nets.push(net);
    }
    Ok(nets)
}

/// An address of one of the sources.
fn allowed(sources: &[Source], random: &mut Random) -> u32 {
    let number = random.next() as usize % sources.len().max(1);
    match sources
        .get(number)
        .map(|source| (source.cidr.network(), source.cidr.prefix_len()))
    {
        Some((IpAddr::V4(network), length)) => {
            let host = random.next().checked_shr(length.into()).unwrap_or_default();
            u32::from(network) | host
        }
        _ => 0,
    }
}

/// An address anywhere; one in the half of the space in which there are prefixes as often as not.
fn refused(_sources: &[Source], random: &mut Random) -> u32 {
    loop {
        let address = random.next();
        if address >> 24 != 10 {
            return address;
        }
    }
}
