//! `spinegate explain`

mod packets;
mod question;
mod render;

use std::{net::IpAddr, path::PathBuf};

use clap::{ArgGroup, Args};

use super::{Exit, Failure, Format, Place, failure::lines, output};
use crate::{
    capture::CraftedPacket,
    control::{Decision, Explanation, PastDecision, Request, Response},
    explain::Offline,
};

/// What only a request that is described in words has.
const IN_WORDS: [&str; 7] = ["asid", "interaction", "method", "path", "headers", "body", "jwt"];
/// What any request has, and packets and past decisions don't.
const OF_A_REQUEST: [&str; 6] = ["custodian", "stored", "cert", "fqdn", "source", "at"];

#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("what").required(true).args(["asid", "request", "decision", "packets", "pcap"]),
    group = ArgGroup::new("line").multiple(true).args(["interaction", "path"]),
    after_help = "A file - is standard input. Of a request, exit code 0 says that it is allowed, 1 that it is refused."
)]
pub(super) struct Arguments {
    /// A request in words: the requester's ASID.
    #[arg(long, requires = "line")]
    asid: Option<String>,
    /// The interaction's ID.
    #[arg(long, requires = "asid")]
    interaction: Option<String>,
    /// The method [default: the interaction's, else GET].
    #[arg(long, requires = "path")]
    method: Option<String>,
    /// The path with its query [default: one of the interaction].
    #[arg(long, requires = "asid")]
    path: Option<String>,
    /// A header; may be repeated.
    #[arg(long = "header", value_name = "NAME:VALUE", requires = "asid")]
    headers: Vec<String>,
    /// A file with the body.
    #[arg(long, value_name = "FILE", requires = "asid")]
    body: Option<PathBuf>,
    /// A file with the JWT in compact form.
    #[arg(long, value_name = "FILE", requires = "asid")]
    jwt: Option<PathBuf>,
    /// Or a request as it is sent: a file with its bytes, head and body.
    #[arg(long, value_name = "FILE", conflicts_with_all = IN_WORDS)]
    request: Option<PathBuf>,
    /// Or a decision that was made: its id, as in the answer's X-Request-Id.
    #[arg(long, value_name = "ID", conflicts_with_all = IN_WORDS, conflicts_with_all = OF_A_REQUEST)]
    decision: Option<String>,
    /// The ODS code of the pointer's custodian, for an interaction that changes one.
    #[arg(long)]
    custodian: Option<String>,
    /// A file with the pointer that the record locator has, or with its answer to a search.
    #[arg(long, value_name = "FILE")]
    stored: Option<PathBuf>,
    /// The client's certificate, in PEM or DER; in PEM its chain may follow.
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Or the name in it.
    #[arg(long, conflicts_with = "cert")]
    fqdn: Option<String>,
    /// The client's address.
    #[arg(long)]
    source: Option<IpAddr>,
    /// The time at which it is judged, as in 2026-01-31T12:00:00Z [default: now].
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Ask the configuration file, and no agent: what it would put in force decides.
    #[arg(long)]
    offline: bool,
    /// A packet, as in 'tcp 192.0.2.7:40000 > 443'; may be repeated. After it may stand: flags syn,ack; type 8 (icmp);
    /// vlan 5; fragment later.
    #[arg(long = "packet", value_name = "PACKET", conflicts_with_all = IN_WORDS, conflicts_with_all = OF_A_REQUEST,
        conflicts_with = "offline")]
    packets: Vec<CraftedPacket>,
    /// The packets of a capture (pcap or pcapng), the first 1000.
    #[arg(long, value_name = "FILE", conflicts_with_all = IN_WORDS, conflicts_with_all = OF_A_REQUEST,
        conflicts_with = "offline")]
    pcap: Option<PathBuf>,
    #[command(flatten)]
    format: Format,
}

pub(super) fn run(place: &Place, arguments: Arguments) -> Result<Exit, Failure> {
    let format = arguments.format;
    if let Some(path) = &arguments.pcap {
        return packets::captured(place, path, format);
    }
    if !arguments.packets.is_empty() {
        return packets::crafted(place, &arguments.packets, format);
    }
    let offline = arguments.offline.then(|| offline(place)).transpose()?;
    if let Some(id) = arguments.decision {
        let past = match &offline {
            Some(offline) => offline.explain_past(&id)?,
            None => match place.ask(Request::ExplainDecision { id })? {
                Response::PastDecision(past) => *past,
                _ => return Err(Failure::other_answer()),
            },
        };
        return print_past(&past, format);
    }
    let question = question::of(&arguments)?;
    let explanation = match &offline {
        Some(offline) => offline.explain(&question)?,
        None => match place.ask(Request::Explain(Box::new(question)))? {
            Response::Explanation(explanation) => explanation,
            _ => return Err(Failure::other_answer()),
        },
    };
    print(&explanation, format)
}

fn offline(place: &Place) -> Result<Offline, Failure> {
    Offline::load(&place.config()).map_err(|problems| {
        let problems = lines(&problems);
        let message = format!("the configuration can't be loaded; mend this:\n{problems}");
        Failure::new(Exit::Usage, message)
    })
}

fn print(explanation: &Explanation, format: Format) -> Result<Exit, Failure> {
    if format.json {
        output::json(explanation)?;
    } else {
        output::text(&render::explanation(explanation))?;
    }
    Ok(exit(explanation))
}

fn print_past(past: &PastDecision, format: Format) -> Result<Exit, Failure> {
    if format.json {
        output::json(past)?;
    } else {
        output::text(&render::past(past))?;
    }
    Ok(exit(&past.explanation))
}

const fn exit(explanation: &Explanation) -> Exit {
    match explanation.decision {
        Decision::Allow => Exit::Done,
        Decision::Refuse => Exit::Refused,
    }
}
