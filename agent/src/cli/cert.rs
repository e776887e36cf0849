//! `spinegate cert`

use std::{fmt::Write as _, path::PathBuf, time::SystemTime};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{
    Exit, Failure, Format, Place,
    failure::lines,
    output::{self, printable},
    table::Table,
};
use crate::{
    config::{self, ClientTls, CrlFetch, Ocsp, OnStale, Problem, Revocation},
    nrl::Fqdn,
    tls::{self, CertificateFacts, Inspection, LoadedTrust, Presented},
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Judge a client's certificate by the rules of the handshake. No agent has to run, and no private key is needed.
    Inspect(Inspect),
}

#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// The certificate, in PEM or DER; in PEM its chain may follow. A private key in the file is left alone.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    accepted: Accepted,
    #[command(flatten)]
    format: Format,
}

/// What a gateway accepts, for those who don't have its configuration.
#[derive(Debug, Args)]
struct Accepted {
    /// Without the gateway's configuration: the RootCA's certificate, in PEM; may be repeated.
    #[arg(long, value_name = "FILE", requires = "issuers", requires = "fqdns")]
    roots: Vec<PathBuf>,
    /// The issuing CAs' certificates, in PEM; may be repeated.
    #[arg(long, value_name = "FILE", requires = "roots")]
    issuers: Vec<PathBuf>,
    /// A name that the gateway accepts; may be repeated.
    #[arg(long = "fqdn", value_name = "NAME", value_parser = Fqdn::parse, requires = "roots")]
    fqdns: Vec<Fqdn>,
    /// The CAs' CRLs, in PEM or DER, or folders of them; may be repeated. None: revocation is not checked.
    #[arg(long = "crl", value_name = "FILE", requires = "roots")]
    crls: Vec<PathBuf>,
}

pub(super) fn run(place: &Place, command: Command) -> Result<Exit, Failure> {
    let Command::Inspect(Inspect {
        file,
        accepted,
        format,
    }) = command;
    let presented =
        Presented::read(&file).map_err(|error| Failure::new(Exit::Usage, printable(&error.to_string())))?;
    let now = SystemTime::now();
    let (LoadedTrust { trust, .. }, warnings) = if accepted.roots.is_empty() {
        of_configuration(place, now)?
    } else {
        of_options(place, accepted, now)?
    };
    let inspection = tls::inspect(&trust, &presented, now).map_err(|error| {
        let message = format!(
            "{} can't be read: {error}; ask its issuer for a sound certificate",
            file.display()
        );
        Failure::new(Exit::Usage, printable(&message))
    })?;
    let report = Report {
        inspection: &inspection,
        private_key_ignored: presented.holds_key(),
        warnings: &warnings,
    };
    if format.json {
        output::json(&report)?;
    } else {
        output::text(&render(&report))?;
    }
    Ok(match inspection.refused {
        None => Exit::Done,
        Some(_) => Exit::Refused,
    })
}

/// What the configuration accepts.
fn of_configuration(place: &Place, now: SystemTime) -> Result<(LoadedTrust, Vec<String>), Failure> {
    let fail = |problems: Vec<config::Diagnostic>| {
        let message = format!(
            "what the gateway accepts can't be loaded; mend this, or name it with --roots, --issuers and --fqdn:\n{}",
            lines(&problems)
        );
        Failure::new(Exit::Usage, message)
    };
    let loaded = config::load(&place.config()).map_err(fail)?;
    let trust = tls::load_trust(&loaded.config.tls.client, now)
        .map_err(|problems| fail(loaded.source.diagnose_all(&problems)))?;
    let warnings = loaded.source.diagnose_all(&trust.warnings);
    Ok((trust, warnings.iter().map(ToString::to_string).collect()))
}

/// What the options accept. Given CRLs have to cover every CA, as those of a gateway do.
fn of_options(
    place: &Place,
    accepted: Accepted,
    now: SystemTime,
) -> Result<(LoadedTrust, Vec<String>), Failure> {
    if place.config.is_some() {
        let message = "--config and --roots say two things about what is accepted; give one of them";
        return Err(Failure::new(Exit::Usage, message));
    }
    let revocation = if accepted.crls.is_empty() {
        Revocation::Prefer
    } else {
        Revocation::Require
    };
    let settings = ClientTls {
        roots: accepted.roots,
        issuers: accepted.issuers,
        fqdns: accepted.fqdns,
        crls: accepted.crls,
        revocation,
        on_stale: OnStale::Deny,
        fetch: CrlFetch::off(),
        ocsp: Ocsp::off(),
    };
    let lines = |problems: &[Problem]| -> Vec<String> { problems.iter().map(of_option).collect() };
    let trust = tls::load_trust(&settings, now)
        .map_err(|problems| Failure::new(Exit::Usage, lines(&problems).join("\n")))?;
    let warnings = lines(&trust.warnings);
    Ok((trust, warnings))
}

/// A problem in the words of the command line.
fn of_option(problem: &Problem) -> String {
    let mut line = format!("{}: {}; {}", problem.key, problem.message, problem.mend).replace(
        ", or set `tls.client.revocation = \"prefer\"`",
        ", or give no --crl: then revocation is not checked",
    );
    for (key, option) in [
        ("tls.client.roots", "--roots"),
        ("tls.client.issuers", "--issuers"),
        ("tls.client.fqdns", "--fqdn"),
        ("tls.client.crls", "--crl"),
    ] {
        line = line.replace(&format!("`{key}`"), option).replace(key, option);
    }
    line
}

#[derive(Serialize)]
struct Report<'r> {
    #[serde(flatten)]
    inspection: &'r Inspection,
    private_key_ignored: bool,
    warnings: &'r [String],
}

fn render(report: &Report<'_>) -> String {
    let Report {
        inspection,
        private_key_ignored,
        warnings,
    } = report;
    let mut text = String::new();
    // Writing to a string can't fail.
    match &inspection.refused {
        None if inspection
            .rules
            .iter()
            .any(|judged| judged.outcome == tls::Outcome::NotChecked) =>
        {
            text.push_str("pass, but revocation was not checked: a gateway with CRLs may still refuse it\n");
        }
        None => text.push_str("pass: a handshake with this certificate is accepted\n"),
        Some(refused) => {
            let _ = writeln!(text, "refused: {}", refused.reason);
            let mut why = Table::untitled();
            why.row(["  meaning", refused.meaning]);
            why.row(["  found", &refused.detail]);
            why.row(["  mend", refused.mend]);
            text.push_str(&why.render());
        }
    }

    let mut rules = Table::titled(["RULE", "OUTCOME", "REASON", "DETAIL"]);
    for judged in &inspection.rules {
        rules.row([
            judged.rule.as_str(),
            judged.outcome.as_str(),
            judged.reason.unwrap_or("-"),
            judged.detail.as_deref().unwrap_or_default(),
        ]);
    }
    text = text + "\n" + &rules.render() + "\n" + &facts(&inspection.certificate);

    let mut chain = Table::titled(["CHAIN", "FROM", "UNTIL", "WHERE", "SHA-256"]);
    for link in &inspection.chain {
        chain.row([
            link.subject.as_str(),
            &link.not_before,
            &link.not_after,
            if link.in_file { "file" } else { "gateway" },
            &link.sha256,
        ]);
    }
    let mut accepted = Table::untitled();
    accepted.row(["accepted issuers", &inspection.accepted_issuers.join("; ")]);
    accepted.row(["accepted names", &inspection.accepted_names.join(", ")]);
    text = text + "\n" + &chain.render() + "\n" + &accepted.render();

    if inspection.certificate.ca {
        text.push_str("note: this is a CA's certificate; of a file with several the first is judged, so put the client's first\n");
    }
    for unused in &inspection.unused {
        let _ = writeln!(
            text,
            "note: the chain does not need the file's {}",
            printable(unused)
        );
    }
    if *private_key_ignored {
        text.push_str("note: the file holds a private key too, which was left alone; give it to nobody\n");
    }
    for warning in *warnings {
        let _ = writeln!(text, "warning: {}", printable(warning));
    }
    text
}

fn facts(certificate: &CertificateFacts) -> String {
    let mut facts = Table::untitled();
    let mut fact = |name: &str, value: &str| {
        facts.row([name, if value.is_empty() { "-" } else { value }]);
    };
    fact("subject", &certificate.subject);
    fact("issuer", &certificate.issuer);
    fact("common name", &certificate.common_names.join(", "));
    fact("alternative names", &certificate.alternative_names.join(", "));
    fact("serial", &certificate.serial);
    fact("SHA-256", &certificate.sha256);
    fact("valid from", &certificate.not_before);
    let until = &certificate.not_after;
    fact(
        "valid until",
        &match certificate.days_left {
            left @ 0.. => format!("{until} ({left} days left)"),
            over => format!("{until} (over for {} days)", over.unsigned_abs() - 1),
        },
    );
    fact("key", &certificate.key);
    fact("signature", &certificate.signature);
    fact("CA", if certificate.ca { "yes" } else { "no" });
    fact("key usage", &certificate.key_usage.join(", "));
    fact("extended key usage", &certificate.extended_key_usage.join(", "));
    fact(
        "CRL distribution points",
        &certificate.crl_distribution_points.join(", "),
    );
    facts.render()
}
