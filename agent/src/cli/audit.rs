//! `spinegate audit`

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, BufReader},
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::SystemTime,
};

use clap::{Args, Subcommand};
use serde_json::Value;

use super::{
    Exit, Failure, Format, Place,
    failure::lines,
    output::{self, printable},
};
use crate::{
    audit::{self, Query, Verification, Verifier, VerifyingKey, public_half},
    config,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Find every line that was changed, put in, taken out, moved or cut off.
    Verify(Verify),
    /// Show the lines about a decision, a system, a trace or a time.
    Search(Search),
}

#[derive(Debug, Args)]
pub(super) struct Verify {
    /// The log's files, the oldest first [default: the configuration's, with what rotation has made of it].
    files: Vec<PathBuf>,
    /// The public key of its checkpoints [default: that beside the configuration's key, if it is there].
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Args)]
pub(super) struct Search {
    /// The log's files, the oldest first [default: the configuration's, with what rotation has made of it].
    files: Vec<PathBuf>,
    /// The decision's id, as in the answer's X-Request-Id, or the beginning of it.
    #[arg(long, value_name = "ID")]
    decision: Option<String>,
    /// The requester's ASID.
    #[arg(long)]
    asid: Option<String>,
    /// The trace id of a request.
    #[arg(long, value_name = "ID")]
    trace: Option<String>,
    /// The reason code.
    #[arg(long)]
    reason: Option<String>,
    /// Not before this time (2026-12-31T23:59:59Z), or not longer ago than this (2h).
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<SystemTime>,
    /// Not after this time, or longer ago than this.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<SystemTime>,
    #[command(flatten)]
    format: Format,
}

pub(super) fn run(place: &Place, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Verify(arguments) => verify(place, arguments),
        Command::Search(arguments) => search(place, arguments),
    }
}

fn verify(place: &Place, arguments: Verify) -> Result<Exit, Failure> {
    let (files, of_config) = files(place, arguments.files)?;
    let key = arguments.key.or_else(|| {
        of_config
            .map(|audit| public_half(&audit.key))
            .filter(|key| key.exists())
    });
    let key = key
        .map(|key| VerifyingKey::load(&key))
        .transpose()
        .map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
    let is_signed = key.is_some();
    // Before the files: a log that grows meanwhile has lines that were not noted yet.
    let noted = files.last().and_then(|last| audit::head(last));
    let mut verifier = Verifier::new(key);
    for path in &files {
        let file = open(path)?;
        verifier
            .read(&path.display().to_string(), file)
            .map_err(|error| unreadable(path, &error))?;
    }
    let found = verifier.finish(noted);
    if arguments.format.json {
        output::json(&found)?;
    } else {
        output::text(&report(&found, is_signed))?;
    }
    Ok(if found.faults.is_empty() {
        Exit::Done
    } else {
        Exit::Refused
    })
}

fn report(found: &Verification, is_signed: bool) -> String {
    let mut text = String::new();
    // Writing to a string can't fail.
    for fault in &found.faults {
        let place = match fault.line {
            0 => fault.file.clone(),
            line => format!("{}:{line}", fault.file),
        };
        let _ = writeln!(
            text,
            "{}: {}",
            printable(&place),
            printable(&fault.kind.to_string())
        );
    }
    let _ = match (found.first, found.last) {
        (Some(first), Some(last)) => write!(text, "{} lines, {first} to {last} of the chain", found.lines),
        _ => write!(text, "{} lines, none of them of a chain", found.lines),
    };
    if found.before_chain > 0 {
        let _ = write!(text, "; {} before the chain begins", found.before_chain);
    }
    let _ = match (is_signed, found.signed_until) {
        (false, _) => write!(text, "; signatures were not checked: give --key"),
        (true, None) => Ok(()),
        (true, Some(line)) => write!(text, "; signed up to line {line}"),
    };
    let _ = match found.faults.len() {
        0 => writeln!(text, ": sound"),
        1 => writeln!(text, ": 1 fault"),
        count => writeln!(text, ": {count} faults"),
    };
    text
}

fn search(place: &Place, arguments: Search) -> Result<Exit, Failure> {
    let (files, _) = files(place, arguments.files)?;
    let query = Query {
        decision: arguments.decision,
        asid: arguments.asid,
        trace: arguments.trace,
        reason: arguments.reason,
        since: arguments.since,
        until: arguments.until,
    };
    let json = arguments.format.json;
    let mut found_any = false;
    for path in &files {
        let end = audit::search(open(path)?, &query, |line| {
            found_any = true;
            if json {
                output::json_line(line).map_err(Stop::Output)
            } else {
                output::stream(&render(line)).map_err(Stop::Output)
            }
        });
        match end {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) => return Ok(Exit::Done),
            Err(Stop::Output(failure)) => return Err(failure),
            Err(Stop::Read(error)) => return Err(unreadable(path, &error)),
        }
    }
    if found_any {
        return Ok(Exit::Done);
    }
    output::note("no line of the audit log has all of that");
    Ok(Exit::Refused)
}

/// Why a search ends early.
enum Stop {
    Read(io::Error),
    Output(Failure),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

/// Two lines: what and who, and under them why.
fn render(line: &Value) -> String {
    let text = |pointer: &str| match line.pointer(pointer) {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Null) | None => None,
        Some(other) => Some(other.to_string()),
    };
    let named = |name: &str, pointer: &str| text(pointer).map(|value| format!("{name} {value}"));
    let first = [
        text("/ts"),
        text("/event"),
        text("/decision"),
        text("/reason"),
        named("from", "/peer/ip"),
        named("of", "/source"),
        text("/certificate/fqdn"),
        named("ASID", "/request/asid"),
        named("for", "/request/ods"),
        text("/request/method"),
        text("/request/path"),
        named("status", "/request/status"),
    ];
    let first: Vec<String> = first.into_iter().flatten().collect();
    let second = format!(
        "    {}  [{}]",
        text("/detail").as_deref().unwrap_or("-"),
        text("/decision_id").as_deref().unwrap_or("-")
    );
    format!("{}\n{}\n", printable(&first.join("  ")), printable(&second))
}

/// The files that were named, or those of the configuration, with it.
fn files(place: &Place, named: Vec<PathBuf>) -> Result<(Vec<PathBuf>, Option<config::Audit>), Failure> {
    if !named.is_empty() {
        return Ok((named, None));
    }
    let file = place.config();
    let loaded = config::load(&file).map_err(|problems| {
        let mend = "mend the configuration, or name the log's files";
        Failure::new(Exit::Usage, format!("{}\n{mend}", lines(&problems)))
    })?;
    let audit = loaded.config.audit;
    let files = audit::with_rotated(&audit.file).map_err(|error| unreadable(&audit.file, &error))?;
    Ok((files, Some(audit)))
}

fn open(path: &Path) -> Result<BufReader<File>, Failure> {
    File::open(path)
        .map(BufReader::new)
        .map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let exit = match error.kind() {
        io::ErrorKind::PermissionDenied => Exit::Privilege,
        _ => Exit::Refused,
    };
    let mend = "name the log's files, or mend `audit.file`";
    Failure::new(exit, format!("{} can't be read: {error}; {mend}", path.display()))
}

fn moment(text: &str) -> Result<SystemTime, String> {
    if let Ok(time) = humantime::parse_rfc3339_weak(text) {
        return Ok(time);
    }
    humantime::parse_duration(text)
        .ok()
        .and_then(|ago| SystemTime::now().checked_sub(ago))
        .ok_or_else(|| "write a time as 2026-12-31T23:59:59Z, or how long ago as 2h".to_owned())
}
