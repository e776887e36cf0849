//! `spinegate explain --packet` and `--pcap`: the loaded program's own answer about packets.

use std::net::IpAddr;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use spinegate_common::{
    Outcome, Pass, Reason,
    packet::{self, Address, Fragment, Network, Packet, protocol},
};

use super::Agent;
use crate::{
    control::{Failure, FailureKind, PacketExplanation},
    filter::{Explained, address},
    verdict::OrderError,
};

/// No shorter frame is taken for a trial.
const ETHERNET_HEADER: usize = 14;

impl Agent {
    /// What the loaded program would do with each of the frames.
    pub(super) fn explain_packets(&self, frames: &[String]) -> Result<Vec<PacketExplanation>, Failure> {
        let Some(filter) = &self.filter else {
            let mend = "there is no program to ask";
            return Err(Failure::new(
                FailureKind::Refused,
                OrderError::FilterOff.to_string(),
                mend,
            ));
        };
        let explain = |text: &String| {
            let frame: Vec<u8> = STANDARD.decode(text).map_err(|error| {
                Failure::new(
                    FailureKind::Usage,
                    format!("a frame is not in base64: {error}"),
                    "send it again",
                )
            })?;
            let length = frame.len();
            // One frame of a capture must not cost the answers about all the others.
            if length < ETHERNET_HEADER {
                let meaning =
                    format!("{length} bytes hold no Ethernet header: the filter never meets such a frame.");
                return Ok(not_judged(&frame, "frame_too_short", meaning));
            }
            Ok(match filter.explain(&frame) {
                Ok(explained) => self.describe(&explained),
                Err(error) => {
                    let meaning = format!("The kernel made no trial with {length} bytes: {error}.");
                    not_judged(&frame, "kernel_refused", meaning)
                }
            })
        };
        frames.iter().map(explain).collect()
    }

    fn describe(&self, explained: &Explained) -> PacketExplanation {
        let (outcome, reason, meaning, mend) = match explained.outcome {
            Outcome::Dropped(reason) => ("drop", reason.as_str(), reason.meaning(), Some(reason.mend())),
            Outcome::WouldDrop(reason) => (
                "would_drop",
                reason.as_str(),
                reason.meaning(),
                Some(reason.mend()),
            ),
            Outcome::Passed(pass) => ("pass", pass.as_str(), pass.meaning(), None),
        };
        let source = address(&explained.packet.source);
        let entry = matches!(explained.outcome, Outcome::Passed(_))
            .then(|| self.entry_over(source, explained))
            .flatten();
        PacketExplanation {
            packet: line(&explained.packet),
            outcome: outcome.to_owned(),
            step: step(explained.outcome).to_owned(),
            reason: reason.to_owned(),
            meaning: meaning.to_owned(),
            mend: mend.map(str::to_owned),
            service: explained.service.clone(),
            entry,
        }
    }

    /// The entry of the allowlist whose counter the packet goes to.
    fn entry_over(&self, source: IpAddr, explained: &Explained) -> Option<String> {
        let sources = self.sources_listed.load();
        let (entry, _) = sources
            .with_origin()
            .find(|(entry, _)| entry.cidr.contains(&source) && explained.entry_cidr == Some(entry.cidr))?;
        Some(format!("{} ({})", entry.cidr, entry.name))
    }
}

fn not_judged(frame: &[u8], reason: &str, meaning: String) -> PacketExplanation {
    let mut packet = Packet::default();
    let _ = packet::parse(&frame, &mut packet);
    PacketExplanation {
        packet: line(&packet),
        outcome: "not_judged".to_owned(),
        step: "none".to_owned(),
        reason: reason.to_owned(),
        meaning,
        mend: None,
        service: "none".to_owned(),
        entry: None,
    }
}

/// The step of the filter that decides.
const fn step(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Dropped(reason) | Outcome::WouldDrop(reason) => match reason {
            Reason::PacketTruncated
            | Reason::PacketBadHeader
            | Reason::PacketTooManyHeaders
            | Reason::FragmentWithoutPorts => "headers",
            Reason::ControlRate => "control traffic",
            Reason::EthertypeUnknown => "scope",
            Reason::VerdictDeny => "verdict",
            Reason::FragmentNotAllowlisted => "fragment",
            Reason::SourceNotAllowlisted => "allowlist",
            Reason::HandshakeBudget => "handshake budget",
            // No other reason is the filter's own.
            _ => "policy",
        },
        Outcome::Passed(pass) => match pass {
            Pass::Unguarded => "scope",
            Pass::Control => "control traffic",
            Pass::Allowlisted => "allowlist",
            Pass::Fragment => "fragment",
            Pass::Failsafe => "failsafe",
            Pass::Reply => "replies",
        },
    }
}

/// A packet's headers in a line, as far as they could be read.
pub(super) fn line(packet: &Packet) -> String {
    match packet.network {
        Network::Unknown => return "unreadable".to_owned(),
        Network::Arp => return "arp".to_owned(),
        Network::Other => return "neither IP nor ARP".to_owned(),
        Network::Ipv4 | Network::Ipv6 => {}
    }
    let protocol = match packet.protocol {
        protocol::TCP => "tcp".to_owned(),
        protocol::UDP => "udp".to_owned(),
        protocol::ICMP => "icmp".to_owned(),
        protocol::ICMPV6 => "icmpv6".to_owned(),
        other => format!("protocol {other}"),
    };
    let end = |address: &Address, port: u16| match (crate::filter::address(address), port) {
        (address, 0) => address.to_string(),
        (IpAddr::V4(address), port) => format!("{address}:{port}"),
        (IpAddr::V6(address), port) => format!("[{address}]:{port}"),
    };
    let fragment = match packet.fragment {
        Fragment::Whole => "",
        Fragment::First => " fragment first",
        Fragment::Later => " fragment later",
    };
    let flags = if packet.protocol == protocol::TCP && packet.fragment != Fragment::Later {
        format!(" flags {}", tcp_flags(packet.tcp_flags))
    } else {
        String::new()
    };
    format!(
        "{protocol} {} > {}{flags}{fragment}",
        end(&packet.source, packet.source_port),
        end(&packet.destination, packet.destination_port)
    )
}

fn tcp_flags(flags: u8) -> String {
    const NAMES: [&str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];
    let set: Vec<&str> = NAMES
        .iter()
        .enumerate()
        .filter(|(bit, _)| flags >> bit & 1 != 0)
        .map(|(_, name)| *name)
        .collect();
    if set.is_empty() {
        "none".to_owned()
    } else {
        set.join(",")
    }
}
