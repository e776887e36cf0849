//! `spinegate events`

use std::{
    fs::File,
    io::{self, Write},
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::SystemTime,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::{Args, builder::PossibleValuesParser};

use super::{
    Exit, Failure, Format, Place,
    output::{self, printable},
};
use crate::{
    capture::{SampledFrame, Writer},
    control::{self, DropReport, EventsMissed, EventsWanted, RECENT, Request, Response},
};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Go on with every new one until interrupted.
    #[arg(long, short)]
    follow: bool,
    /// Only drops for this reason.
    #[arg(long, value_parser = PossibleValuesParser::new(control::drop_codes()), hide_possible_values = true)]
    reason: Option<String>,
    /// How many of the latest to begin with, up to 1000.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(..=RECENT as i64))]
    last: u16,
    /// Write them to a capture (pcapng), with the reason as each packet's comment; - is standard output.
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    #[command(flatten)]
    format: Format,
}

pub(super) fn run(place: &Place, arguments: Arguments) -> Result<Exit, Failure> {
    let Arguments {
        follow,
        reason,
        last,
        pcap,
        format,
    } = arguments;
    let to_stdout = pcap.as_deref() == Some(Path::new("-"));
    if to_stdout && format.json {
        let message = "--pcap - and --json both want standard output; write the capture to a file";
        return Err(Failure::new(Exit::Usage, message));
    }
    let wanted = EventsWanted {
        last: last.into(),
        follow,
        reason,
    };
    let mut answers = control::stream(&place.socket()?, Request::Events(wanted))?;
    let mut view = View {
        capture: None,
        rows: match (to_stdout, format.json) {
            (true, _) => Rows::None,
            (false, true) => Rows::Json,
            (false, false) => Rows::Table,
        },
    };
    // What an earlier capture holds is not lost over a command that is refused.
    match answers.receive()? {
        Response::EventsBegin => {}
        Response::Error(failure) => return Err(failure.into()),
        _ => return Err(Failure::other_answer()),
    }
    if view.begin(pcap.as_deref())?.is_break() {
        return Ok(Exit::Done);
    }
    loop {
        let shown = match answers.receive()? {
            Response::Event(report) => view.event(&report)?,
            Response::EventsMissed(missed) => view.missed(missed)?,
            Response::EventsEnd { lost_events } => {
                view.end(lost_events)?;
                return match follow {
                    true => Err(Failure::new(
                        Exit::NotRunning,
                        "the agent has stopped; start it with `spinegate run`",
                    )),
                    false => Ok(Exit::Done),
                };
            }
            _ => return Err(Failure::other_answer()),
        };
        if shown.is_break() {
            return Ok(Exit::Done);
        }
    }
}

/// Where the events go.
struct View {
    capture: Option<Writer<Box<dyn Write>>>,
    rows: Rows,
}

/// How they are printed.
#[derive(Clone, Copy)]
enum Rows {
    /// A row each.
    Table,
    /// A JSON object a line.
    Json,
    /// Not at all.
    None,
}

impl View {
    fn begin(&mut self, pcap: Option<&Path>) -> Result<ControlFlow<()>, Failure> {
        if let Some(path) = pcap {
            let out: Box<dyn Write> = if path == Path::new("-") {
                Box::new(io::stdout())
            } else {
                Box::new(File::create(path).map_err(|error| not_written(&error))?)
            };
            match Writer::new(out) {
                Ok(writer) => self.capture = Some(writer),
                Err(error) => return gone(&error),
            }
        }
        match self.rows {
            Rows::Table => output::stream(&row([
                "TIME",
                "OUTCOME",
                "REASON",
                "SERVICE",
                "INTERFACE",
                "PACKET",
            ])),
            Rows::Json | Rows::None => Ok(ControlFlow::Continue(())),
        }
    }

    fn event(&mut self, report: &DropReport) -> Result<ControlFlow<()>, Failure> {
        if let Some(capture) = &mut self.capture {
            let bytes = STANDARD
                .decode(&report.frame)
                .map_err(|_| Failure::other_answer())?;
            let frame = SampledFrame {
                time: time(report).ok_or_else(Failure::other_answer)?,
                interface: report.interface,
                interface_name: report.interface_name.as_deref(),
                length: report.length,
                bytes: &bytes,
                comment: &format!(
                    "{}: {}, service {}",
                    outcome(report),
                    report.reason,
                    report.service
                ),
            };
            if let Err(error) = capture.write(&frame) {
                return gone(&error);
            }
        }
        match self.rows {
            Rows::Table => output::stream(&row([
                &time(report).map_or_else(
                    || report.time.clone(),
                    |time| humantime::format_rfc3339_millis(time).to_string(),
                ),
                outcome(report),
                &report.reason,
                &report.service,
                report
                    .interface_name
                    .as_ref()
                    .unwrap_or(&report.interface.to_string()),
                &report.packet,
            ])),
            Rows::Json => output::json_line(report),
            Rows::None => Ok(ControlFlow::Continue(())),
        }
    }

    fn missed(&self, missed: EventsMissed) -> Result<ControlFlow<()>, Failure> {
        if let Rows::Json = self.rows {
            return output::json_line(&serde_json::json!({ "missed": missed }));
        }
        let EventsMissed { unsampled, behind } = missed;
        if unsampled > 0 {
            output::note(&format!(
                "{unsampled} more drops were only counted: `filter.events_per_second` bounds the sample"
            ));
        }
        if behind > 0 {
            output::note(&format!(
                "{behind} events are left out: they came faster than they are read here"
            ));
        }
        Ok(ControlFlow::Continue(()))
    }

    fn end(&self, lost_events: u64) -> Result<(), Failure> {
        match self.rows {
            Rows::Json => output::json_line(&serde_json::json!({ "lost_events": lost_events })).map(drop),
            Rows::Table | Rows::None if lost_events == 0 => Ok(()),
            Rows::Table | Rows::None => {
                output::note(&format!(
                    "{lost_events} drops in all were only counted, not sampled; `spinegate stats` has them"
                ));
                Ok(())
            }
        }
    }
}

/// Columns of widths that fit what mostly stands in them: rows to come are not known.
fn row([time, outcome, reason, service, interface, packet]: [&str; 6]) -> String {
    let row = format!("{time:<24}  {outcome:<10}  {reason:<22}  {service:<9}  {interface:<9}  {packet}");
    format!("{}\n", printable(&row))
}

const fn outcome(report: &DropReport) -> &'static str {
    if report.monitored { "would drop" } else { "drop" }
}

fn time(report: &DropReport) -> Option<SystemTime> {
    humantime::parse_rfc3339(&report.time).ok()
}

/// A reader of the capture that has gone away has seen enough.
fn gone(error: &io::Error) -> Result<ControlFlow<()>, Failure> {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
        _ => Err(not_written(error)),
    }
}

fn not_written(error: &io::Error) -> Failure {
    Failure::new(
        Exit::Refused,
        format!("the capture can't be written: {error}; name another file, or free space"),
    )
}
