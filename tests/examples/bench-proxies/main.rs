//! What handshakes and requests cost, beside the proxies that an operator could install instead. Run by
//! `cargo xtask bench handshake` and `cargo xtask bench gateway`.
//!
//! Contestants take turns and medians are taken, as machines are noisy: compare the ratios, not the times. Servers run
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

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};

use self::{
    ground::Ground,
    measure::{gateway, handshake},
    report::Report,
};

/// Measures handshakes or requests.
#[derive(Parser)]
struct Arguments {
    /// What is measured.
    subject: Subject,
    /// The agent with the OpenSSL that this program has too.
    #[arg(long)]
    agent: PathBuf,
    /// The agent with the system's OpenSSL; for handshakes.
    #[arg(long)]
    agent_system: Option<PathBuf>,
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

#[derive(Clone, Copy, ValueEnum)]
enum Subject {
    Handshake,
    Gateway,
}

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
    let (parts, targets) = match arguments.subject {
        Subject::Handshake => (handshake::PARTS.as_slice(), report::HANDSHAKE),
        Subject::Gateway => (gateway::PARTS.as_slice(), report::GATEWAY),
    };
    let mut report = Report::new(targets);
    for (name, measure) in parts {
        if arguments.only.as_deref().is_none_or(|only| only == *name) {
            measure(&ground, &arguments, &mut report).with_context(|| format!("measuring {name}"))?;
        }
    }
    report.print(arguments.json)?;
    Ok(ExitCode::SUCCESS)
}
