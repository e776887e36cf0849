//! etherparse's own walk over whole packets: where it finds a transport header, so does the parser, and the same one.

use etherparse::{Ipv6ExtensionSlice, LinkExtSlice, NetSlice, SlicedPacket, TransportSlice};
use spinegate_common::{Reason, packet::Fragment};

use crate::{on_many_frames, parsed};

#[test]
fn a_packet_in_which_etherparse_finds_ports_has_these_ports_or_is_refused_for_a_rule_of_the_filter() {
    on_many_frames(|frame| {
        let Ok(theirs) = SlicedPacket::from_ethernet(frame) else {
            return Ok(());
        };
        let expected = match &theirs.transport {
            Some(TransportSlice::Tcp(tcp)) => (6, tcp.source_port(), tcp.destination_port()),
            Some(TransportSlice::Udp(udp)) => (17, udp.source_port(), udp.destination_port()),
            _ => return Ok(()),
        };
        let (result, packet) = parsed(frame);
        let found = (packet.protocol, packet.source_port, packet.destination_port);
        match result {
            Ok(()) if found == expected || rule_for_other_ports(&theirs) => Ok(()),
            Err(reason) if rule_for_refusal(&theirs, reason) => Ok(()),
            _ => Err(format!(
                "etherparse finds {expected:?}; the parser says {result:?} and {packet:?}"
            )),
        }
    });
}

/// The filter looks for no ports where etherparse does: in MACsec and behind an IPv4 authentication header. And
/// etherparse 0.19 reads IPv6 fragment headers amiss, so it does not know a piece when it has one.
fn rule_for_other_ports(theirs: &SlicedPacket<'_>) -> bool {
    let macsec = theirs
        .link_exts
        .iter()
        .any(|link| matches!(link, LinkExtSlice::Macsec(_)));
    let authenticated = matches!(&theirs.net, Some(NetSlice::Ipv4(ip)) if ip.extensions().auth.is_some());
    macsec || authenticated || has_fragment_header(theirs)
}

fn has_fragment_header(theirs: &SlicedPacket<'_>) -> bool {
    let Some(NetSlice::Ipv6(ip)) = &theirs.net else {
        return false;
    };
    let mut extensions = ip.extensions().clone().into_iter();
    extensions.any(|extension| matches!(extension, Ipv6ExtensionSlice::Fragment(_)))
}

/// The filter refuses some packets that etherparse takes.
fn rule_for_refusal(theirs: &SlicedPacket<'_>, reason: Reason) -> bool {
    let (extensions, takes_the_rest) = match &theirs.net {
        Some(NetSlice::Ipv6(ip)) => (
            ip.extensions().clone().into_iter().count(),
            ip.header().payload_length() == 0,
        ),
        _ => (0, false),
    };
    let udp_without_length = matches!(&theirs.transport, Some(TransportSlice::Udp(udp)) if udp.length() == 0);
    match reason {
        Reason::PacketTooManyHeaders => theirs.link_exts.len() > 2 || extensions > 8,
        Reason::PacketTruncated => takes_the_rest,
        Reason::PacketBadHeader => udp_without_length,
        _ => false,
    }
}

#[test]
fn a_packet_in_which_the_parser_finds_ports_is_a_packet_to_etherparse() {
    on_many_frames(|frame| {
        let (result, packet) = parsed(frame);
        let has_ports = matches!(packet.protocol, 6 | 17);
        if result.is_err() || !has_ports || packet.fragment != Fragment::Whole {
            return Ok(());
        }
        match SlicedPacket::from_ethernet(frame) {
            Ok(theirs) if theirs.transport.is_some() => Ok(()),
            Ok(theirs) if has_fragment_header(&theirs) => Ok(()),
            // It stops at extension headers that the filter reads through.
            Ok(theirs) => match &theirs.net {
                Some(NetSlice::Ipv6(ip)) if matches!(ip.payload().ip_number.0, 135 | 139 | 140) => Ok(()),
                _ => Err(format!("etherparse finds no ports, the parser {packet:?}")),
            },
            // It wants an authentication header's fixed fields.
            Err(etherparse::err::packet::SliceError::Ipv6Exts(_)) => Ok(()),
            Err(error) => Err(format!(
                "etherparse refuses it: {error}; the parser says {packet:?}"
            )),
        }
    });
}
