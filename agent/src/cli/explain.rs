//! `spinegate explain`

use std::net::IpAddr;

use clap::Args;

use super::{
    Exit, Failure, Format, Place,
    output::{self, Table, printable},
};
use crate::control::{Explanation, Question, Request, Response};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The requester's ASID.
    #[arg(long)]
    asid: String,
    /// The interaction's ID.
    #[arg(long)]
    interaction: String,
    /// The ODS code of the pointer's custodian, for an interaction that changes one.
    #[arg(long)]
    custodian: Option<String>,
    /// The name in the client's certificate.
    #[arg(long)]
    fqdn: Option<String>,
    /// The client's address.
    #[arg(long)]
    source: Option<IpAddr>,
    #[command(flatten)]
    format: Format,
}

/// An explanation that was given is done, whatever the gateway would decide.
pub(super) fn run(place: &Place, arguments: Arguments) -> Result<Exit, Failure> {
    let Arguments {
        asid,
        interaction,
        custodian,
        fqdn,
        source,
        format,
    } = arguments;
    let question = Question {
        asid,
        interaction,
        custodian,
        fqdn,
        source,
    };
    let Response::Explanation(explanation) = place.ask(Request::Explain(question))? else {
        return Err(Failure::other_answer());
    };
    if format.json {
        output::json(&explanation)
    } else {
        output::text(&render(&explanation))
    }
}

fn render(explanation: &Explanation) -> String {
    let mut table = Table::titled(["CHECK", "OUTCOME", "REASON", "DETAIL"]);
    for check in &explanation.checks {
        table.row([
            check.check.clone(),
            check.outcome.as_str().to_owned(),
            check.reason.clone().unwrap_or_else(|| "-".to_owned()),
            check.detail.clone().unwrap_or_default(),
        ]);
    }
    let decision = match &explanation.reason {
        Some(reason) => format!("{}: {}", explanation.decision.as_str(), printable(reason)),
        None => explanation.decision.as_str().to_owned(),
    };
    format!("{}\n{decision}\n", table.render())
}
