//! `spinegate verdicts`

use std::{net::IpAddr, time::Duration};

use clap::Subcommand;

use super::{
    Exit, Failure, Format, Place,
    output::{self, Table},
};
use crate::control::{Request, Response, VerdictEntry};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show the verdicts in force.
    List(Format),
    /// Deny a source: its next packet is dropped.
    Add {
        /// The address to deny.
        source: IpAddr,
        /// For how long, as in 10m [default: as long as the configuration lets a verdict last].
        #[arg(long, value_parser = seconds)]
        ttl: Option<u64>,
    },
    /// Lift the verdict on a source.
    Remove {
        /// The denied address.
        source: IpAddr,
    },
}

pub(super) fn run(place: &Place, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::List(format) => list(place, format),
        Command::Add { source, ttl } => place.order(Request::VerdictsAdd { source, ttl }),
        Command::Remove { source } => place.order(Request::VerdictsRemove { source }),
    }
}

fn list(place: &Place, format: Format) -> Result<Exit, Failure> {
    let Response::Verdicts(verdicts) = place.ask(Request::VerdictsList)? else {
        return Err(Failure::other_answer());
    };
    if format.json {
        output::json(&verdicts)
    } else {
        output::text(&render(&verdicts))
    }
}

fn render(verdicts: &[VerdictEntry]) -> String {
    let mut table = Table::titled(["SOURCE", "VERDICT", "REASON", "REMAINING", "FROM"]);
    for verdict in verdicts {
        table.row([
            verdict.source.to_string(),
            verdict.kind.as_str().to_owned(),
            verdict.reason.clone(),
            humantime::format_duration(verdict.remaining()).to_string(),
            verdict.origin.as_str().to_owned(),
        ]);
    }
    table.render()
}

/// Whole seconds, at least one: less would be over before the operator has read the answer.
fn seconds(text: &str) -> Result<u64, String> {
    match humantime::parse_duration(text) {
        Ok(ttl) if ttl >= Duration::from_secs(1) => Ok(ttl.as_secs()),
        Ok(_) => Err("shorter than a second; write a time span such as 10m".to_owned()),
        Err(error) => Err(format!("{error}; write a time span such as 10m")),
    }
}
