//! `spinegate status`

use std::fmt::Write as _;

use super::{
    Exit, Failure, Place, crl,
    output::printable,
    registry,
    table::{self, Table, Tone},
    watch::Watched,
};
use crate::control::{Request, Response, Status};

pub(super) fn run(place: &Place, watched: Watched) -> Result<Exit, Failure> {
    let ask = || match place.ask(Request::Status)? {
        Response::Status(status) => Ok(*status),
        _ => Err(Failure::other_answer()),
    };
    watched.show(ask, render)
}

pub(super) fn render(status: &Status) -> String {
    let mut facts = Table::untitled();
    let mut fact = |name: &str, value: String| facts.row([name.to_owned(), value]);
    fact("version", status.version.clone());
    fact("process", format!("{}, since {}", status.pid, status.started));
    fact("configuration", status.config.display().to_string());
    fact(
        "filter",
        format!(
            "{}, scope {}, policy {}",
            status.mode, status.scope, status.policy_generation
        ),
    );
    if !status.shadow.is_empty() {
        fact(
            "permission",
            format!("IN SHADOW, not enforced: {}", joined(&status.shadow)),
        );
    }
    fact(
        "policy memory",
        format!("{} KiB", status.policy_bytes.div_ceil(1024)),
    );
    if let Some(until) = &status.confirm_until {
        fact(
            "on trial",
            format!("until {until}, then the old configuration comes back"),
        );
    }
    fact("services", joined(&status.services));
    fact("listens on", joined(&status.listen));
    fact("sources", status.sources.to_string());
    fact("verdicts", status.verdicts.to_string());
    fact("systems", status.systems.to_string());
    fact("connections", status.connections.to_string());
    let sides = status.refusals_by_side.iter();
    let sides: Vec<_> = sides.map(|(side, count)| format!("{side} {count}")).collect();
    fact("refusals", joined(&sides));
    fact("TLS", status.openssl.clone());
    if !matches!(status.log_filter.as_str(), "" | "info") {
        fact("log", status.log_filter.clone());
    }
    let mut text = facts.render();

    if !status.interfaces.is_empty() {
        let mut table = Table::titled(["INTERFACE", "INDEX", "ATTACHED", "PROGRAM", "XDP SLOT"])
            .toned(2, attached)
            .toned(4, slot);
        for interface in &status.interfaces {
            table.row([
                interface.name.clone(),
                interface.index.to_string(),
                interface.attach.clone(),
                interface.program_id.to_string(),
                interface.owner.clone(),
            ]);
        }
        text = text + "\n" + &table.render();
    }
    let mut table = Table::titled([
        "UPSTREAM",
        "STATE",
        "OUTSTANDING",
        "IDLE",
        "ANSWERED",
        "FAILURES",
        "LAST ERROR",
    ])
    .toned(1, table::state);
    for upstream in &status.upstreams {
        let state = match upstream.ejected_seconds {
            Some(seconds) => format!("{} for {seconds}s", upstream.state),
            None => upstream.state.clone(),
        };
        table.row([
            upstream.address.clone(),
            state,
            upstream.outstanding.to_string(),
            upstream.idle.to_string(),
            upstream.answered.to_string(),
            upstream.failures.to_string(),
            upstream.last_error.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    text = text + "\n" + &table.render();
    if !status.registry.is_empty() {
        text = text + "\n" + &registry::sources(&status.registry);
    }
    if !status.certificates.is_empty() {
        let mut table = Table::titled(["CERTIFICATE", "SUBJECT", "ENDS", "DAYS LEFT"]).toned(3, table::days);
        for certificate in &status.certificates {
            table.row([
                certificate.what.clone(),
                certificate.subject.clone(),
                certificate.ends.clone(),
                certificate.days_left.to_string(),
            ]);
        }
        text = text + "\n" + &table.render();
    }
    if !status.crls.is_empty() {
        text = text + "\n" + &crl::table(&status.crls).render();
    }
    if !status.warnings.is_empty() {
        text.push('\n');
    }
    for warning in &status.warnings {
        let _ = writeln!(text, "warning: {}", printable(warning));
    }
    text
}

fn attached(how: &str) -> Tone {
    match how {
        "native" => Tone::Good,
        "generic" => Tone::Warn,
        _ => Tone::Bad,
    }
}

fn slot(owner: &str) -> Tone {
    if owner == "spinegate" {
        Tone::Good
    } else {
        Tone::Bad
    }
}

fn joined<T: ToString>(items: &[T]) -> String {
    if items.is_empty() {
        return "-".to_owned();
    }
    items
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}
