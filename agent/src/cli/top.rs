//! `spinegate top`

use std::{
    io::{self, IsTerminal as _},
    thread,
    time::{Duration, Instant},
};

use clap::Args;

use super::{
    Exit, Failure, Place,
    output::{self, Table},
};
use crate::{
    control::{EventsWanted, RECENT, Request, Response, stream},
    rates::{Rate, Rates, Reading},
};

/// The time between two readings.
const ROUND: Duration = Duration::from_secs(1);
/// Rows of a table: all of them together are to fit a screen.
const ROWS: usize = 10;
/// Puts the cursor in the corner and clears what is below (ECMA-48).
const CLEAR: &str = "\x1b[H\x1b[J";

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Measure for a second, print that, and end.
    #[arg(long)]
    once: bool,
    /// Print JSON.
    #[arg(long, requires = "once")]
    json: bool,
}

pub(super) fn run(place: &Place, arguments: &Arguments) -> Result<Exit, Failure> {
    let mut before = read(place)?;
    let is_terminal = io::stdout().is_terminal();
    loop {
        thread::sleep(ROUND);
        let after = read(place)?;
        let rates = Rates::between(&before, &after);
        if arguments.json {
            return output::json(&rates);
        }
        let round = render(&rates);
        if arguments.once {
            return output::text(&round);
        }
        let shown = if is_terminal {
            format!("{CLEAR}{round}")
        } else {
            format!("{round}\n")
        };
        if output::stream(&shown)?.is_break() {
            return Ok(Exit::Done);
        }
        before = after;
    }
}

fn read(place: &Place) -> Result<Reading, Failure> {
    let Response::Stats(stats) = place.ask(Request::Stats)? else {
        return Err(Failure::other_answer());
    };
    let at = Instant::now();
    let Response::Sources(sources) = place.ask(Request::SourcesList)? else {
        return Err(Failure::other_answer());
    };
    let wanted = EventsWanted {
        last: RECENT,
        ..EventsWanted::default()
    };
    let mut answers = stream(&place.socket()?, Request::Events(wanted))?;
    let mut sampled = Vec::new();
    loop {
        match answers.receive()? {
            Response::EventsBegin => {}
            Response::Event(report) => sampled.push(report),
            Response::EventsEnd { .. } => break,
            Response::Error(failure) => return Err(failure.into()),
            _ => return Err(Failure::other_answer()),
        }
    }
    Ok(Reading {
        at,
        stats: *stats,
        sources,
        sampled,
    })
}

fn render(rates: &Rates) -> String {
    let mut filter = Table::titled(["FILTER", "REASON", "PACKETS/S", "BYTES/S"]);
    for outcome in rates.filter.iter().take(ROWS) {
        let [packets, bytes] = columns(outcome.rate);
        filter.row([
            outcome.outcome.replace('_', " "),
            outcome.reason.clone(),
            packets,
            bytes,
        ]);
    }
    let mut services = Table::titled(["SERVICE", "DROPPED/S", "WOULD DROP/S", "PASSED/S"]);
    for service in rates.services.iter().take(ROWS) {
        services.row([
            service.service.clone(),
            number(service.dropped),
            number(service.would_drop),
            number(service.passed),
        ]);
    }
    let mut sources = Table::titled(["SOURCE", "NAME", "PACKETS/S", "BYTES/S"]);
    for source in rates.sources.iter().take(ROWS) {
        let [packets, bytes] = columns(source.rate);
        sources.row([source.cidr.clone(), source.name.clone(), packets, bytes]);
    }
    let mut refused = Table::titled(["REFUSED SOURCE", "SAMPLED DROPS", "LAST REASON"]);
    for source in rates.refused_sources.iter().take(ROWS) {
        refused.row([
            source.source.to_string(),
            source.sampled.to_string(),
            source.reason.clone(),
        ]);
    }
    let mut gateway = Table::titled(["GATEWAY", "PER SECOND"]);
    for (name, rate) in [
        ("handshakes accepted", rates.handshakes),
        ("requests allowed", rates.requests_allowed),
        ("requests refused", rates.requests_refused),
        ("drop events lost", rates.lost_events),
    ] {
        gateway.row([name.to_owned(), number(rate)]);
    }
    [
        filter.render(),
        services.render(),
        sources.render(),
        refused.render(),
        gateway.render(),
    ]
    .join("\n")
}

fn columns(rate: Rate) -> [String; 2] {
    [number(rate.packets), number(rate.bytes)]
}

fn number(rate: f64) -> String {
    format!("{rate:.1}")
}
