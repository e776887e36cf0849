//! What a handshake costs, beside the proxies that an operator could install instead. Run by `cargo xtask bench handshake`.
//!
//! Contestants take turns and medians are taken, as machines are noisy: compare the ratios, not the milliseconds. Servers run
//! on core 0, everything else on core 1, all in namespaces that end with this process, however it ends.

mod agent;
mod ground;
mod isolation;
mod load;
mod measure;
mod origin;
mod peers;
mod process;
mod report;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use clap::Parser;

use self::{ground::Ground, report::Report};

/// Measures handshakes.
#[derive(Parser)]
struct Arguments {
    /// The agent with the OpenSSL that this program has too.
    #[arg(long)]
    agent: PathBuf,
    /// The agent with the system's OpenSSL.
    #[arg(long)]
    agent_system: PathBuf,
    /// The folder of the unpacked peers: `nginx`, `haproxy`, `stunnel4`.
    #[arg(long)]
    peers: PathBuf,
    /// Print the figures as JSON; what was measured, and how often, goes to standard error either way.
    #[arg(long)]
    json: bool,
    /// Only see whether every part runs: the figures mean nothing.
    #[arg(long)]
    smoke: bool,
    /// Measure this part alone.
    #[arg(long)]
    only: Option<String>,
    /// Open so many idle connections.
    #[arg(long)]
    connections: Option<usize>,
    /// Be the flood: make handshakes with this address until killed.
    #[arg(long, hide = true)]
    flood: Option<SocketAddr>,
}

/// How much is measured.
struct Extent {
    /// How often each contestant has its turn.
    rounds: usize,
    /// How long a turn's load lasts.
    turn: Duration,
    /// How often each has its turn in a flood.
    flood_rounds: usize,
    /// How long requests are timed in a turn, without the flood and in it.
    flood_turn: Duration,
    /// Idle connections.
    connections: usize,
}

const WHOLE: Extent = Extent {
    rounds: 9,
    turn: Duration::from_millis(1200),
    flood_rounds: 5,
    flood_turn: Duration::from_millis(2500),
    connections: 10_000,
};

const SMOKE: Extent = Extent {
    rounds: 1,
    turn: Duration::from_millis(150),
    flood_rounds: 1,
    flood_turn: Duration::from_millis(200),
    connections: 30,
};

type Measure = fn(&Ground, &Extent, &mut Report) -> Result<()>;

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if let Some(address) = arguments.flood {
        load::flood(address)?;
        return Ok(ExitCode::SUCCESS);
    }
    if !isolation::is_isolated() {
        return isolation::run_again();
    }
    isolation::prepare()?;
    let ground = Ground::lay(&arguments)?;
    let mut extent = if arguments.smoke { SMOKE } else { WHOLE };
    extent.connections = arguments.connections.unwrap_or(extent.connections);
    let mut report = Report::default();
    let parts: [(&str, Measure); 3] = [
        ("full", measure::full::measure),
        ("flood", measure::flood::measure),
        ("idle", measure::idle::measure),
    ];
    for (name, measure) in parts {
        if arguments.only.as_deref().is_none_or(|only| only == name) {
            measure(&ground, &extent, &mut report).with_context(|| format!("measuring {name}"))?;
        }
    }
    report.print(arguments.json)?;
    Ok(ExitCode::SUCCESS)
}
