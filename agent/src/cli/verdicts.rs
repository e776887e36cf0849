//! `spinegate verdicts`

use std::time::Duration;

use clap::Subcommand;

use super::{
    Exit, Failure, Place,
    guard::Force,
    table::{Table, Tone},
    watch::Watched,
};
use crate::control::{Request, Response, Target, VerdictEntry, VerdictKind};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show the verdicts in force.
    List(Watched),
    /// Deny a source: its next packet is dropped. Or trust it: its handshakes have a generous budget.
    Add {
        /// The address or network.
        source: Target,
        /// Trust it instead of denying it.
        #[arg(long)]
        trust: bool,
        /// For how long, as in 10m [default: as long as the configuration lets a verdict last].
        #[arg(long, value_parser = seconds)]
        ttl: Option<u64>,
        #[command(flatten)]
        force: Force,
    },
    /// Lift the verdict on a source.
    Remove {
        /// The address or network that it is on.
        source: Target,
    },
    /// Lift all verdicts, or those on a network and all within it.
    Clear {
        /// The address or network.
        #[arg(long)]
        source: Option<Target>,
    },
}

pub(super) fn run(place: &Place, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::List(watched) => list(place, watched),
        Command::Add {
            source,
            trust,
            ttl,
            force,
        } => place.order(Request::VerdictsAdd {
            source,
            kind: if trust {
                VerdictKind::Trust
            } else {
                VerdictKind::Deny
            },
            ttl,
            guard: force.guard(),
        }),
        Command::Remove { source } => place.order(Request::VerdictsRemove { source }),
        Command::Clear { source } => place.order(Request::VerdictsClear { source }),
    }
}

fn list(place: &Place, watched: Watched) -> Result<Exit, Failure> {
    let ask = || match place.ask(Request::VerdictsList)? {
        Response::Verdicts(verdicts) => Ok(verdicts),
        _ => Err(Failure::other_answer()),
    };
    watched.show(ask, |verdicts| render(verdicts))
}

pub(super) fn render(verdicts: &[VerdictEntry]) -> String {
    let mut table =
        Table::titled(["SOURCE", "VERDICT", "REASON", "REMAINING", "FROM", "HITS"]).toned(1, tone);
    for verdict in verdicts {
        table.row([
            verdict.source.to_string(),
            verdict.kind.as_str().to_owned(),
            verdict.reason.clone(),
            humantime::format_duration(verdict.remaining()).to_string(),
            verdict.origin.as_str().to_owned(),
            verdict.hits.to_string(),
        ]);
    }
    table.render()
}

fn tone(verdict: &str) -> Tone {
    if verdict == VerdictKind::Deny.as_str() {
        Tone::Bad
    } else {
        Tone::Good
    }
}

/// Whole seconds, at least one: less would be over before the operator has read the answer.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    match humantime::parse_duration(text) {
        Ok(ttl) if ttl >= Duration::from_secs(1) => Ok(ttl.as_secs()),
        Ok(_) => Err("shorter than a second; write a time span such as 10m".to_owned()),
        Err(error) => Err(format!("{error}; write a time span such as 10m")),
    }
}
