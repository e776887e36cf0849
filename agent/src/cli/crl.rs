//! `spinegate crl`

use std::{fmt::Write as _, time::Duration};

use clap::Subcommand;

use super::{
    Exit, Failure, Place,
    output::printable,
    table::{self, Table},
    watch::Watched,
};
use crate::{
    control::{CrlReport, CrlStatus, Request, Response},
    fetch::{FetchOrigin, FetchStatus},
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show the CRLs in force: whose, how old, until when, and from which file.
    Status(Watched),
    /// Fetch all CRLs that the agent fetches now, and ask OCSP responders again, without waiting until that is due.
    Fetch,
}

pub(super) fn run(place: &Place, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Status(watched) => status(place, watched),
        Command::Fetch => place.order(Request::CrlFetch),
    }
}

fn status(place: &Place, watched: Watched) -> Result<Exit, Failure> {
    let ask = || match place.ask(Request::CrlStatus)? {
        Response::Crls(report) => Ok(report),
        _ => Err(Failure::other_answer()),
    };
    watched.show(ask, render)
}

pub(super) fn render(report: &CrlReport) -> String {
    let mut text = if report.crls.is_empty() {
        "no CRL is loaded\n".to_owned()
    } else {
        table(&report.crls).render()
    };
    for crl in &report.crls {
        if let Some(why) = &crl.kept {
            let (issuer, scope) = (printable(&crl.issuer), printable(&crl.scope));
            // Writing to a string can't fail.
            let _ = writeln!(text, "kept: {issuer} ({scope}): {}", printable(why));
        }
    }
    for fault in &report.faults {
        let _ = writeln!(text, "fault: {}", printable(fault));
    }
    if !report.fetches.is_empty() {
        text = text + "\n" + &fetches(&report.fetches).render();
    }
    for fetch in &report.fetches {
        if let Some(error) = &fetch.last_error {
            let (url, times) = (printable(&fetch.url), fetch.failures);
            let _ = writeln!(text, "not fetched, {times} in a row: {url}: {}", printable(error));
        }
    }
    text
}

/// As `status` shows them too.
pub(super) fn table(crls: &[CrlStatus]) -> Table<8> {
    let mut table = Table::titled([
        "CRL ISSUER",
        "FOR",
        "NUMBER",
        "AGE",
        "NEXT UPDATE",
        "STATE",
        "REVOKED",
        "SOURCE",
    ])
    .toned(5, table::state);
    let absent = || "-".to_owned();
    for crl in crls {
        table.row([
            crl.issuer.clone(),
            crl.scope.clone(),
            crl.number.clone().unwrap_or_else(absent),
            age(crl.age_seconds),
            crl.next_update.clone().unwrap_or_else(absent),
            crl.state.clone(),
            crl.entries.to_string(),
            crl.source.clone(),
        ]);
    }
    table
}

fn fetches(fetches: &[FetchStatus]) -> Table<5> {
    let mut table = Table::titled(["FETCHED FROM", "NAMED BY", "LAST", "NEXT", "INTO"]);
    for fetch in fetches {
        let origin = match fetch.origin {
            FetchOrigin::Configuration => "configuration",
            FetchOrigin::Issuer => "issuer",
            FetchOrigin::Client => "client",
        };
        table.row([
            fetch.url.clone(),
            origin.to_owned(),
            fetch.last_success.clone().unwrap_or_else(|| "-".to_owned()),
            fetch.next_attempt.clone(),
            fetch.file.clone(),
        ]);
    }
    table
}

/// To its two largest units.
fn age(seconds: u64) -> String {
    let unit = match seconds {
        0..3_600 => 1,
        3_600..86_400 => 60,
        _ => 3_600,
    };
    humantime::format_duration(Duration::from_secs(seconds - seconds % unit)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_as_documented() {
        let crl = CrlStatus {
            issuer: "CN=Sub".to_owned(),
            scope: "all".to_owned(),
            number: Some("1f".to_owned()),
            this_update: "2026-01-01T00:00:00Z".to_owned(),
            age_seconds: 2 * 86_400 + 3_700,
            next_update: None,
            state: "stale".to_owned(),
            entries: 2,
            source: "crl/sub.pem".to_owned(),
            kept: Some("crl/sub.pem holds an older one".to_owned()),
        };
        let report = CrlReport {
            crls: vec![crl],
            faults: vec!["crl/x: is no CRL".to_owned()],
            fetches: vec![FetchStatus {
                url: "http://crl/a".to_owned(),
                origin: FetchOrigin::Issuer,
                file: "crl/1.crl".to_owned(),
                last_success: None,
                last_error: Some("status 404".to_owned()),
                failures: 2,
                next_attempt: "2026-01-01T00:00:00Z".to_owned(),
            }],
        };
        assert_eq!(
            render(&report),
            concat!(
                "CRL ISSUER  FOR  NUMBER  AGE       NEXT UPDATE  STATE  REVOKED  SOURCE\n",
                "CN=Sub      all  1f      2days 1h  -            stale  2        crl/sub.pem\n",
                "kept: CN=Sub (all): crl/sub.pem holds an older one\n",
                "fault: crl/x: is no CRL\n",
                "\n",
                "FETCHED FROM  NAMED BY  LAST  NEXT                  INTO\n",
                "http://crl/a  issuer    -     2026-01-01T00:00:00Z  crl/1.crl\n",
                "not fetched, 2 in a row: http://crl/a: status 404\n"
            )
        );
    }
}
