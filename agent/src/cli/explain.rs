//! `spinegate explain`

mod packets;

use std::{net::IpAddr, path::PathBuf};

use clap::{ArgGroup, Args};

use super::{
    Exit, Failure, Format, Place,
    output::{self, Table, printable},
};
use crate::{
    capture::CraftedPacket,
    control::{Explanation, Question, Request, Response},
};

/// What only a request has.
const OF_A_REQUEST: [&str; 5] = ["asid", "interaction", "custodian", "fqdn", "source"];

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["asid", "packets", "pcap"]))]
pub(super) struct Arguments {
    /// The requester's ASID.
    #[arg(long, requires = "interaction")]
    asid: Option<String>,
    /// The interaction's ID.
    #[arg(long, requires = "asid")]
    interaction: Option<String>,
    /// The ODS code of the pointer's custodian, for an interaction that changes one.
    #[arg(long, requires = "asid")]
    custodian: Option<String>,
    /// The name in the client's certificate.
    #[arg(long, requires = "asid")]
    fqdn: Option<String>,
    /// The client's address.
    #[arg(long, requires = "asid")]
    source: Option<IpAddr>,
    /// A packet, as in 'tcp 192.0.2.7:40000 > 443'; may be repeated. After it may stand: flags syn,ack; type 8 (icmp);
    /// vlan 5; fragment later.
    #[arg(long = "packet", value_name = "PACKET", conflicts_with_all = OF_A_REQUEST)]
    packets: Vec<CraftedPacket>,
    /// The packets of a capture (pcap or pcapng), the first 1000; - is standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = OF_A_REQUEST)]
    pcap: Option<PathBuf>,
    #[command(flatten)]
    format: Format,
}

/// An explanation that was given is done, whatever the gateway or the filter would decide.
pub(super) fn run(place: &Place, arguments: Arguments) -> Result<Exit, Failure> {
    let Arguments {
        asid,
        interaction,
        custodian,
        fqdn,
        source,
        packets,
        pcap,
        format,
    } = arguments;
    if let Some(path) = pcap {
        return packets::captured(place, &path, format);
    }
    let (Some(asid), Some(interaction)) = (asid, interaction) else {
        return packets::crafted(place, &packets, format);
    };
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
