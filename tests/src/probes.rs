//! What no sound TLS client sends, by the program in `tests/probes`, and what became of it.

use std::{fmt, time::Duration};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::{
    command::Run,
    json::at,
    lab::Lab,
    netns::{Family, Host},
    tools,
    wait::wait_for,
};

const LIMIT: Duration = Duration::from_secs(120);
const PATIENCE: Duration = Duration::from_secs(3);
/// The one alert of those that the probes get that is a warning.
const NO_RENEGOTIATION: u8 = 100;

/// A probe, as the client saw it and as the audit log has it.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Its name.
    pub name: String,
    /// How the gateway ended it.
    pub end: End,
    /// The last record that the gateway sent, in hexadecimal, if that was an alert.
    pub answer: String,
    /// Why the gateway refused the connection; none if it accepted it.
    pub reason: Option<String>,
}

/// How a connection ended, for its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The handshake was finished, and a request answered.
    Served,
    /// The gateway sent this TLS alert.
    Alert(u8),
    /// The gateway closed or reset the connection without an alert.
    Closed,
    /// Neither came in time.
    Silence,
}

/// A line of the program.
#[derive(Debug, Deserialize)]
struct Line {
    probe: String,
    port: u16,
    end: String,
    alert: Option<u8>,
    #[serde(default)]
    answer: String,
}

/// Sends a group of probes from the proxy's address, and gives each with its outcome.
///
/// # Errors
/// The program is not installed, did not end well, or the audit log lacks one of the connections.
pub fn run(lab: &Lab, group: &str) -> Result<Vec<Probe>> {
    let mark = lab.audit().mark()?;
    let pki = lab.pki();
    let (good, other, stranger) = (pki.leaf("good")?, pki.leaf("system")?, pki.leaf("rogue")?);
    let printed = Run::inside(&lab.network().namespace(Host::Ssp), tools::program("python")?)
        .arg("-B")
        .arg(tools::probes().join("probes.py"))
        .args(["--address", &lab.gateway(Family::V4).ip().to_string()])
        .arg("--chain")
        .arg(&good.cert)
        .arg("--key")
        .arg(&good.key)
        .arg("--other-key")
        .arg(&other.key)
        .arg("--strangers")
        .arg(&stranger.cert)
        .arg(group)
        .within(LIMIT)
        .success()?;
    printed.lines().map(|line| read(lab, mark, line)).collect()
}

fn read(lab: &Lab, mark: usize, line: &str) -> Result<Probe> {
    let line: Line = serde_json::from_str(line).with_context(|| format!("a probe printed {line:?}"))?;
    let end = match (line.end.as_str(), line.alert) {
        ("finished", _) => End::Served,
        ("alert", Some(number)) => End::Alert(number),
        ("closed" | "reset", _) => End::Closed,
        ("silence", _) => End::Silence,
        (other, _) => anyhow::bail!("{} ended in itself: {other}", line.probe),
    };
    Ok(Probe {
        reason: reason(lab, mark, &line, end)?,
        name: line.probe,
        end,
        answer: line.answer,
    })
}

/// Why the gateway refused the connection. One that was served, or only warned, has been accepted.
fn reason(lab: &Lab, mark: usize, line: &Line, end: End) -> Result<Option<String>> {
    let accepted = matches!(end, End::Served | End::Alert(NO_RENEGOTIATION));
    let what = format!("the audit line of {} (port {})", line.probe, line.port);
    wait_for(&what, PATIENCE, || {
        let entries = lab.audit().since(mark)?;
        let own = entries.iter().filter(|entry| {
            *at(entry, "/event") == "connection" && at(entry, "/peer/port").as_u64() == Some(line.port.into())
        });
        let reasons: Vec<Option<&str>> = own.map(|entry| at(entry, "/reason").as_str()).collect();
        Ok(match reasons.last() {
            Some(Some(reason)) => Some(Some((*reason).to_owned())),
            Some(None) if accepted => Some(None),
            Some(None) | None => None,
        })
    })
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Served => f.write_str("served"),
            Self::Alert(number) => write!(f, "alert {number}"),
            Self::Closed => f.write_str("closed"),
            Self::Silence => f.write_str("silence"),
        }
    }
}
