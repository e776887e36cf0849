//! `spinegate top`

use std::{
    io::{self, IsTerminal as _},
    time::{Duration, Instant, SystemTime},
};

use clap::Args;
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event},
};

use super::{Exit, Failure, Place, output, table::Table};
use crate::{
    control::{EventsWanted, RECENT, Request, Response, stream},
    rates::{Rate, Rates, Reading},
    top::{self, Next, Seen, View},
};

/// The time between two readings.
const ROUND: Duration = Duration::from_secs(1);
/// Rows of a table without a terminal.
const ROWS: usize = 10;

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
    if arguments.once || !io::stdout().is_terminal() {
        return plain(place, arguments);
    }
    // Before the screen is taken: without an agent there is nothing to show on it.
    let before = read(place)?;
    let mut terminal = ratatui::try_init().map_err(|error| no_terminal(&error))?;
    let end = live(place, &mut terminal, before);
    ratatui::restore();
    end
}

/// One table after the other, for what is no terminal.
fn plain(place: &Place, arguments: &Arguments) -> Result<Exit, Failure> {
    let mut before = read(place)?;
    loop {
        std::thread::sleep(ROUND);
        let after = read(place)?;
        let rates = Rates::between(&before, &after);
        if arguments.json {
            return output::json(&rates);
        }
        let round = render(&rates);
        if arguments.once {
            return output::text(&round);
        }
        if output::stream(&format!("{round}\n"))?.is_break() {
            return Ok(Exit::Done);
        }
        before = after;
    }
}

/// The screen, until a key ends it.
fn live(place: &Place, terminal: &mut DefaultTerminal, mut before: Reading) -> Result<Exit, Failure> {
    let color = output::look().color;
    let mut view = View::default();
    let mut seen = see(place, Rates::between(&before, &before))?;
    let mut due = Instant::now() + ROUND;
    loop {
        terminal
            .draw(|frame| top::draw(frame, &seen, &view, SystemTime::now(), color))
            .map_err(|error| no_terminal(&error))?;
        let rest = due.saturating_duration_since(Instant::now());
        if event::poll(rest).map_err(|error| no_terminal(&error))? {
            // A changed size is an event too: what comes next is drawn for it.
            let event = event::read().map_err(|error| no_terminal(&error))?;
            if let Event::Key(key) = event
                && view.press(key) == Next::Quit
            {
                return Ok(Exit::Done);
            }
            continue;
        }
        due = Instant::now() + ROUND;
        if !view.is_paused() {
            let after = read(place)?;
            seen = see(place, Rates::between(&before, &after))?;
            before = after;
        }
    }
}

fn see(place: &Place, rates: Rates) -> Result<Seen, Failure> {
    let Response::Status(status) = place.ask(Request::Status)? else {
        return Err(Failure::other_answer());
    };
    let Response::Verdicts(verdicts) = place.ask(Request::VerdictsList)? else {
        return Err(Failure::other_answer());
    };
    Ok(Seen {
        rates,
        status: *status,
        verdicts,
    })
}

fn no_terminal(error: &io::Error) -> Failure {
    Failure::new(
        Exit::Refused,
        format!("the terminal can't be used: {error}; `spinegate top --once` needs none"),
    )
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
