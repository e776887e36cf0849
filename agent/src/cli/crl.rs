//! `spinegate crl`

use std::{fmt::Write as _, time::Duration};

use clap::Subcommand;

use super::{
    Exit, Failure, Format, Place,
    output::{self, Table, printable},
};
use crate::control::{CrlReport, CrlStatus, Request, Response};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show the CRLs in force: whose, how old, until when, and from which file.
    Status(Format),
}

pub(super) fn run(place: &Place, command: Command) -> Result<Exit, Failure> {
    let Command::Status(format) = command;
    let Response::Crls(report) = place.ask(Request::CrlStatus)? else {
        return Err(Failure::other_answer());
    };
    if format.json {
        output::json(&report)
    } else {
        output::text(&render(&report))
    }
}

fn render(report: &CrlReport) -> String {
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
    ]);
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
        };
        assert_eq!(
            render(&report),
            concat!(
                "CRL ISSUER  FOR  NUMBER  AGE       NEXT UPDATE  STATE  REVOKED  SOURCE\n",
                "CN=Sub      all  1f      2days 1h  -            stale  2        crl/sub.pem\n",
                "kept: CN=Sub (all): crl/sub.pem holds an older one\n",
                "fault: crl/x: is no CRL\n"
            )
        );
    }
}
