//! `spinegate explain --packet` and `--pcap`: the loaded program's own answer about packets.

use std::net::IpAddr;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use spinegate_common::{
    Outcome,
    packet::{Address, Fragment, Network, Packet, protocol},
};

use super::{Agent, lock};
use crate::{
    control::{Failure, FailureKind, PacketExplanation},
    filter::{Explained, address},
    verdict::OrderError,
};

impl Agent {
    /// What the loaded program would do with each of the frames.
    pub(super) fn explain_packets(&self, frames: &[String]) -> Result<Vec<PacketExplanation>, Failure> {
        let mut filter = lock(&self.filter);
        let Some(filter) = filter.as_mut() else {
            let mend = "there is no program to ask";
            return Err(Failure::new(
                FailureKind::Refused,
                OrderError::FilterOff.to_string(),
                mend,
            ));
        };
        let explain = |text: &String| {
            let frame = STANDARD.decode(text).map_err(|error| {
                Failure::new(
                    FailureKind::Usage,
                    format!("a frame is not in base64: {error}"),
                    "send it again",
                )
            })?;
            let explained = filter.explain(&frame).map_err(|error| {
                Failure::new(
                    FailureKind::Usage,
                    format!(
                        "the kernel does not take a frame of {} bytes: {error}",
                        frame.len()
                    ),
                    "a frame has 14 bytes at the least",
                )
            })?;
            Ok(self.describe(&explained))
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
        Fragment::First => " first fragment",
        Fragment::Later => " later fragment",
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
