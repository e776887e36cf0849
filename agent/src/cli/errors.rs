//! `spinegate errors`

use std::ops::ControlFlow;

use clap::Args;

use super::{
    Exit, Failure, Place,
    output::{self, printable},
    watch::Watched,
};
use crate::control::{self, ErrorReport, ErrorsWanted, RECENT, Request, Response};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Go on with every new one until interrupted.
    #[arg(long, short, conflicts_with = "watch")]
    follow: bool,
    /// How many of the latest to begin with, up to 1000.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(..=RECENT as i64))]
    last: u16,
    #[command(flatten)]
    watched: Watched,
}

pub(super) fn run(place: &Place, arguments: &Arguments) -> Result<Exit, Failure> {
    let wanted = ErrorsWanted {
        last: arguments.last.into(),
        follow: arguments.follow,
    };
    if arguments.watched.is_on() {
        let ask = || latest(place, arguments.last.into());
        return arguments
            .watched
            .show(ask, |reports| reports.iter().map(render).collect());
    }
    let json = arguments.watched.format.json;
    let mut answers = control::stream(&place.socket()?, Request::Errors(wanted))?;
    loop {
        let shown = match answers.receive()? {
            Response::EventsBegin => ControlFlow::Continue(()),
            Response::Refusal(report) if json => output::json_line(&report)?,
            Response::Refusal(report) => output::stream(&render(&report))?,
            Response::EventsMissed(missed) if json => {
                output::json_line(&serde_json::json!({ "missed": missed.behind }))?
            }
            Response::EventsMissed(missed) => {
                let behind = missed.behind;
                output::note(&format!(
                    "{behind} errors are left out: they came faster than they are read here"
                ));
                ControlFlow::Continue(())
            }
            Response::EventsEnd { .. } if arguments.follow => {
                return Err(Failure::new(
                    Exit::NotRunning,
                    "the agent has stopped; start it with `spinegate run`",
                ));
            }
            Response::EventsEnd { .. } => return Ok(Exit::Done),
            Response::Error(failure) => return Err(failure.into()),
            _ => return Err(Failure::other_answer()),
        };
        if shown.is_break() {
            return Ok(Exit::Done);
        }
    }
}

/// The latest refusals, from the oldest on.
fn latest(place: &Place, last: usize) -> Result<Vec<ErrorReport>, Failure> {
    let wanted = ErrorsWanted {
        last,
        ..ErrorsWanted::default()
    };
    let mut answers = control::stream(&place.socket()?, Request::Errors(wanted))?;
    let mut reports = Vec::new();
    loop {
        match answers.receive()? {
            Response::Refusal(report) => reports.push(report),
            Response::EventsBegin | Response::EventsMissed(_) => {}
            Response::EventsEnd { .. } => return Ok(reports),
            Response::Error(failure) => return Err(failure.into()),
            _ => return Err(Failure::other_answer()),
        }
    }
}

/// Two lines: what and who, and under them why.
pub(super) fn render(report: &ErrorReport) -> String {
    let position = report.position.map(|position| format!(" (byte {position})"));
    let parts = [
        Some(report.time.clone()),
        Some(format!("{} {}", report.event, report.reason)),
        Some(format!("by the {}", report.side)),
        report.source.map(|source| format!("from {source}")),
        report.fqdn.clone(),
        report.asid.as_ref().map(|asid| format!("ASID {asid}")),
        report.request.clone(),
    ];
    let first: Vec<_> = parts.into_iter().flatten().collect();
    let second = format!(
        "    {}{}  [{}]",
        report.detail.as_deref().unwrap_or("-"),
        position.unwrap_or_default(),
        report.decision_id
    );
    format!("{}\n{}\n", printable(&first.join("  ")), printable(&second))
}
