//! What the screen shows, as rows of text: the order and the choice of them, and how bad each is.

use std::time::{Duration, SystemTime};

use super::{Seen, View};

/// What the colour of a row says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Good,
    Warn,
    Bad,
}

/// A titled list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Panel {
    pub(super) title: &'static str,
    /// Each column's title; its width, none for what is left; and whether it is a number.
    pub(super) columns: &'static [(&'static str, Option<u16>, bool)],
    pub(super) rows: Vec<Row>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) cells: Vec<String>,
    pub(super) tone: Tone,
}

/// What ends within this time is to be renewed.
const SOON: Duration = Duration::from_secs(30 * 86_400);

pub(super) fn all(seen: &Seen, view: &View, now: SystemTime) -> Vec<Panel> {
    let mut panels = vec![
        reasons(seen),
        gateway(seen),
        services(seen),
        actions(seen),
        refused(seen),
        verdicts(seen),
        sources(seen),
        ends(seen, now),
    ];
    let wanted = view.filter.to_lowercase();
    for panel in &mut panels {
        panel.rows.retain(|row| {
            wanted.is_empty() || row.cells.iter().any(|cell| cell.to_lowercase().contains(&wanted))
        });
        if view.by_name {
            panel.rows.sort_by(|a, b| a.cells.cmp(&b.cells));
        }
    }
    panels
}

fn row<const N: usize>(tone: Tone, cells: [String; N]) -> Row {
    Row {
        cells: cells.into(),
        tone,
    }
}

fn reasons(seen: &Seen) -> Panel {
    let rows = seen.rates.filter.iter().map(|rate| {
        let (tone, outcome) = match rate.outcome {
            "drop" => (Tone::Bad, "drop"),
            // It was passed, since the mode is `monitor`.
            "would_drop" => (Tone::Warn, "monitor"),
            other => (Tone::Good, other),
        };
        row(
            tone,
            [rate.reason.clone(), outcome.to_owned(), number(rate.rate.packets)],
        )
    });
    Panel {
        title: "Packets by reason",
        columns: &[
            ("REASON", None, false),
            ("OUTCOME", Some(7), false),
            ("PER S", Some(7), true),
        ],
        rows: rows.collect(),
    }
}

fn gateway(seen: &Seen) -> Panel {
    let rates = &seen.rates;
    let mut rows = vec![
        row(
            Tone::Good,
            ["handshakes accepted".to_owned(), number(rates.handshakes)],
        ),
        row(
            Tone::Plain,
            ["handshakes refused".to_owned(), number(rates.handshakes_refused)],
        ),
        row(
            Tone::Good,
            ["requests allowed".to_owned(), number(rates.requests_allowed)],
        ),
        row(
            Tone::Plain,
            ["requests refused".to_owned(), number(rates.requests_refused)],
        ),
    ];
    let refusals = rates.refusals.iter();
    rows.extend(refusals.map(|refusal| row(Tone::Bad, [refusal.reason.clone(), number(refusal.count)])));
    Panel {
        title: "Handshakes and requests",
        columns: &[("OUTCOME OR REASON", None, false), ("PER S", Some(9), true)],
        rows,
    }
}

fn services(seen: &Seen) -> Panel {
    let rows = seen.rates.services.iter().map(|rate| {
        let dropped = rate.dropped + rate.would_drop;
        row(
            Tone::Plain,
            [rate.service.clone(), number(dropped), number(rate.passed)],
        )
    });
    Panel {
        title: "Packets by service",
        columns: &[
            ("SERVICE", None, false),
            ("DROPPED/S", Some(10), true),
            ("PASSED/S", Some(9), true),
        ],
        rows: rows.collect(),
    }
}

fn actions(seen: &Seen) -> Panel {
    let rows = seen.rates.actions.iter().map(|rate| {
        let tone = if rate.refused > rate.allowed {
            Tone::Bad
        } else {
            Tone::Plain
        };
        row(
            tone,
            [rate.action.clone(), number(rate.allowed), number(rate.refused)],
        )
    });
    Panel {
        title: "Requests by interaction",
        columns: &[
            ("INTERACTION", None, false),
            ("ALLOWED/S", Some(10), true),
            ("REFUSED/S", Some(10), true),
        ],
        rows: rows.collect(),
    }
}

fn refused(seen: &Seen) -> Panel {
    let rows = seen.rates.refused_sources.iter().map(|source| {
        row(
            Tone::Bad,
            [
                source.source.to_string(),
                source.reason.clone(),
                source.sampled.to_string(),
            ],
        )
    });
    Panel {
        title: "Sources by drops",
        columns: &[
            ("SOURCE", Some(16), false),
            ("REASON", None, false),
            ("SAMPLED", Some(7), true),
        ],
        rows: rows.collect(),
    }
}

fn verdicts(seen: &Seen) -> Panel {
    let rows = seen.verdicts.iter().map(|verdict| {
        let kind = verdict.kind.as_str();
        let tone = if kind == "deny" { Tone::Bad } else { Tone::Good };
        let left = left(verdict.remaining());
        row(
            tone,
            [
                verdict.source.to_string(),
                format!("{kind}: {}", verdict.reason),
                left,
            ],
        )
    });
    Panel {
        title: "Verdicts in force",
        columns: &[
            ("SOURCE", Some(16), false),
            ("VERDICT", None, false),
            ("LEFT", Some(8), true),
        ],
        rows: rows.collect(),
    }
}

fn sources(seen: &Seen) -> Panel {
    let rows = seen.rates.sources.iter().map(|source| {
        row(
            Tone::Plain,
            [
                source.name.clone(),
                source.cidr.clone(),
                number(source.rate.packets),
            ],
        )
    });
    Panel {
        title: "Packets by allowlist entry",
        columns: &[
            ("NAME", Some(12), false),
            ("SOURCE", None, false),
            ("PER S", Some(9), true),
        ],
        rows: rows.collect(),
    }
}

/// What ends, the next first.
fn ends(seen: &Seen, now: SystemTime) -> Panel {
    let status = &seen.status;
    let certificates = status
        .certificates
        .iter()
        .map(|one| (one.what.replace('_', " "), one.subject.clone(), Some(&one.ends)));
    let crls = status
        .crls
        .iter()
        .map(|one| ("crl".to_owned(), one.issuer.clone(), one.next_update.as_ref()));
    let registry = status
        .registry
        .iter()
        .map(|one| ("registry".to_owned(), one.source.clone(), one.ends.as_ref()));
    let mut ends: Vec<_> = certificates
        .chain(crls)
        .chain(registry)
        .filter_map(|(what, whose, end)| Some((humantime::parse_rfc3339_weak(end?).ok()?, what, whose)))
        .collect();
    ends.sort();
    let rows = ends.into_iter().map(|(end, what, whose)| {
        let (tone, left) = match end.duration_since(now) {
            Err(_) => (Tone::Bad, "over".to_owned()),
            // A registry is fetched every few minutes, so a month says nothing of it.
            Ok(rest) if rest < SOON && what != "registry" => (Tone::Warn, left(rest)),
            Ok(rest) => (Tone::Plain, left(rest)),
        };
        row(tone, [what, whose, left])
    });
    Panel {
        title: "Ends",
        columns: &[
            ("WHAT", Some(15), false),
            ("WHOSE", None, false),
            ("IN", Some(8), true),
        ],
        rows: rows.collect(),
    }
}

/// To its two largest units.
pub(super) fn left(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{minutes}m {}s", seconds % 60),
        3_600..86_400 => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

/// Few digits, so that a number stays where it is.
fn number(rate: f64) -> String {
    match rate {
        ..100.0 => format!("{rate:.1}"),
        ..100_000.0 => format!("{rate:.0}"),
        ..100_000_000.0 => format!("{:.1}k", rate / 1e3),
        _ => format!("{:.1}M", rate / 1e6),
    }
}
