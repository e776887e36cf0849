//! The same walk through the headers, each decoded by etherparse: reason and fields must be the same for every frame.
//!
//! Where the filter and etherparse differ by design, the rule stands here with the word "Rule".

use std::net::IpAddr;

use etherparse::{
    Ethernet2Slice, Icmpv4Slice, Icmpv6Slice, IpAuthHeaderSlice, Ipv4HeaderSlice, Ipv6FragmentHeaderSlice,
    Ipv6HeaderSlice, Ipv6RawExtHeaderSlice, SingleVlanSlice, TcpHeaderSlice, UdpHeaderSlice, err, ether_type,
    ip_number,
};
use spinegate::filter::address;
use spinegate_common::{
    Reason,
    packet::{Fragment, MAX_EXTENSION_HEADERS, MAX_VLAN_TAGS, Network, Packet},
};

use crate::{on_many_frames, parsed};

#[test]
fn every_frame_is_read_as_etherparse_reads_its_headers() {
    on_many_frames(|frame| {
        let (result, packet) = parsed(frame);
        let ours = result.map(|()| Read::of(&packet));
        let theirs = read(frame);
        if ours == theirs {
            return Ok(());
        }
        Err(format!("the parser: {ours:?}\netherparse: {theirs:?}"))
    });
}

/// What there is to read, in a form of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Read {
    network: Network,
    addresses: Option<(IpAddr, IpAddr)>,
    end: usize,
    hop_limit: u8,
    fragment: Fragment,
    protocol: u8,
    ports: (u16, u16),
    tcp_flags: u8,
    icmp_type: u8,
}

impl Read {
    const NOTHING: Self = Self {
        network: Network::Unknown,
        addresses: None,
        end: 0,
        hop_limit: 0,
        fragment: Fragment::Whole,
        protocol: 0,
        ports: (0, 0),
        tcp_flags: 0,
        icmp_type: 0,
    };

    fn of(packet: &Packet) -> Self {
        let is_ip = matches!(packet.network, Network::Ipv4 | Network::Ipv6);
        Self {
            network: packet.network,
            addresses: is_ip.then(|| (address(&packet.source), address(&packet.destination))),
            end: packet.end as usize,
            hop_limit: packet.hop_limit,
            fragment: packet.fragment,
            protocol: packet.protocol,
            ports: (packet.source_port, packet.destination_port),
            tcp_flags: packet.tcp_flags,
            icmp_type: packet.icmp_type,
        }
    }
}

const TRUNCATED: Reason = Reason::PacketTruncated;
const BAD: Reason = Reason::PacketBadHeader;

fn read(frame: &[u8]) -> Result<Read, Reason> {
    let ethernet = Ethernet2Slice::from_slice_without_fcs(frame).map_err(|_| TRUNCATED)?;
    let mut next = ethernet.ether_type();
    let mut rest = ethernet.payload_slice();
    for _ in 0..MAX_VLAN_TAGS {
        if is_vlan(next) {
            let tag = SingleVlanSlice::from_slice(rest).map_err(|_| TRUNCATED)?;
            (next, rest) = (tag.ether_type(), tag.payload_slice());
        }
    }
    // Rule: etherparse reads through three tags, the filter through two.
    if is_vlan(next) {
        return Err(Reason::PacketTooManyHeaders);
    }
    let start = frame.len() - rest.len();
    match next {
        ether_type::IPV4 => ipv4(start, rest),
        ether_type::IPV6 => ipv6(start, rest),
        // Rule: what an ARP packet says is none of the filter's business.
        ether_type::ARP => Ok(Read {
            network: Network::Arp,
            ..Read::NOTHING
        }),
        _ => Ok(Read {
            network: Network::Other,
            ..Read::NOTHING
        }),
    }
}

fn is_vlan(number: etherparse::EtherType) -> bool {
    matches!(
        number,
        ether_type::VLAN_TAGGED_FRAME | ether_type::PROVIDER_BRIDGING | ether_type::VLAN_DOUBLE_TAGGED_FRAME
    )
}

fn ipv4(start: usize, rest: &[u8]) -> Result<Read, Reason> {
    let header = match Ipv4HeaderSlice::from_slice(rest) {
        Ok(header) => header,
        Err(err::ipv4::HeaderSliceError::Content(_)) => return Err(BAD),
        // Rule: where the options do not fit into the frame, etherparse does not look whether they fit into the packet.
        Err(err::ipv4::HeaderSliceError::Len(_)) => {
            let Some([version_ihl, _, upper, lower]) = rest.first_chunk().filter(|_| rest.len() >= 20) else {
                return Err(TRUNCATED);
            };
            let contradicts = u16::from_be_bytes([*upper, *lower]) < u16::from(version_ihl & 0x0f) * 4;
            return Err(if contradicts { BAD } else { TRUNCATED });
        }
    };
    let total = usize::from(header.total_len());
    let payload = match rest.get(header.slice().len()..total) {
        Some(payload) => payload,
        None if total < header.slice().len() => return Err(BAD),
        None => return Err(TRUNCATED),
    };
    let read = Read {
        network: Network::Ipv4,
        addresses: Some((
            IpAddr::V4(header.source_addr()),
            IpAddr::V4(header.destination_addr()),
        )),
        end: start + total,
        hop_limit: header.ttl(),
        protocol: header.protocol().0,
        ..Read::NOTHING
    };
    let offset = header.fragments_offset().value();
    if offset != 0 {
        // Rule: a piece over the flags of a TCP header is refused (RFC 3128); etherparse looks into no piece.
        if offset == 1 && header.protocol() == ip_number::TCP {
            return Err(BAD);
        }
        return Ok(Read {
            fragment: Fragment::Later,
            ..read
        });
    }
    let fragment = if header.more_fragments() {
        Fragment::First
    } else {
        Fragment::Whole
    };
    // Rule: etherparse reads through an authentication header over IPv4; to the filter it is a protocol without ports.
    transport(Read { fragment, ..read }, payload)
}

fn ipv6(start: usize, rest: &[u8]) -> Result<Read, Reason> {
    let header = match Ipv6HeaderSlice::from_slice(rest) {
        Ok(header) => header,
        Err(err::ipv6::HeaderSliceError::Content(_)) => return Err(BAD),
        Err(err::ipv6::HeaderSliceError::Len(_)) => return Err(TRUNCATED),
    };
    // Rule: a length of 0 is one, not "as long as the frame" (the filter reads no jumbograms, RFC 2675).
    let total = 40 + usize::from(header.payload_length());
    let mut payload = rest.get(40..total).ok_or(TRUNCATED)?;
    let mut read = Read {
        network: Network::Ipv6,
        addresses: Some((
            IpAddr::V6(header.source_addr()).to_canonical(),
            IpAddr::V6(header.destination_addr()).to_canonical(),
        )),
        end: start + total,
        hop_limit: header.hop_limit(),
        protocol: header.next_header().0,
        ..Read::NOTHING
    };
    for position in 0..=MAX_EXTENSION_HEADERS {
        let number = etherparse::IpNumber(read.protocol);
        // Rule: etherparse stops at mobility, host identity and shim6 headers, which have the form of the others.
        let is_plain = matches!(number.0, 43 | 60 | 135 | 139 | 140);
        if !is_plain && !matches!(number.0, 0 | 44 | 51) {
            return transport(read, payload);
        }
        // Rule: no more than eight.
        if position == MAX_EXTENSION_HEADERS {
            break;
        }
        let length = match number.0 {
            44 => {
                let piece = Ipv6FragmentHeaderSlice::from_slice(payload).map_err(|_| TRUNCATED)?;
                // Rule: a packet is cut once; etherparse counts no pieces.
                if read.fragment != Fragment::Whole {
                    return Err(BAD);
                }
                // Rule: the offset is in the upper 13 bits, and the lowest says that more follows (RFC 8200 section 4.5).
                // etherparse 0.19 takes both from elsewhere.
                let [_, _, upper, lower, ..] = *piece.slice() else {
                    return Err(TRUNCATED);
                };
                let (offset, more) = (u16::from_be_bytes([upper, lower]) >> 3, lower & 1 != 0);
                // Rule: behind the header of a later piece stand no headers; etherparse reads on.
                if offset != 0 {
                    return Ok(Read {
                        fragment: Fragment::Later,
                        protocol: piece.next_header().0,
                        ..read
                    });
                }
                if more {
                    read.fragment = Fragment::First;
                }
                read.protocol = piece.next_header().0;
                8
            }
            51 => match IpAuthHeaderSlice::from_slice(payload) {
                Ok(header) => {
                    read.protocol = header.next_header().0;
                    header.slice().len()
                }
                // Rule: one that says it has less than its fixed fields is stepped over by its length, as Linux does.
                Err(_) if payload.len() >= 8 && payload[1] == 0 => {
                    read.protocol = payload[0];
                    8
                }
                Err(_) => return Err(TRUNCATED),
            },
            _ => {
                let header = match Ipv6RawExtHeaderSlice::from_slice(payload) {
                    Ok(header) => header,
                    // Rule: where it stands is looked at before how long it is.
                    Err(_) if number.0 == 0 && position != 0 && payload.len() >= 8 => return Err(BAD),
                    Err(_) => return Err(TRUNCATED),
                };
                if number.0 == 0 && position != 0 {
                    return Err(BAD);
                }
                read.protocol = header.next_header().0;
                header.slice().len()
            }
        };
        payload = &payload[length..];
    }
    Err(Reason::PacketTooManyHeaders)
}

fn transport(read: Read, payload: &[u8]) -> Result<Read, Reason> {
    // Rule: etherparse looks for no transport header in the first piece of a packet.
    let missing = match read.fragment {
        Fragment::Whole => TRUNCATED,
        _ => Reason::FragmentWithoutPorts,
    };
    match (read.protocol, read.network) {
        (6, _) => {
            let header = TcpHeaderSlice::from_slice(payload).map_err(|error| match error {
                err::tcp::HeaderSliceError::Len(_) => missing,
                err::tcp::HeaderSliceError::Content(_) => BAD,
            })?;
            let flags = [
                header.fin(),
                header.syn(),
                header.rst(),
                header.psh(),
                header.ack(),
                header.urg(),
                header.ece(),
                header.cwr(),
            ];
            let flags = flags
                .iter()
                .rev()
                .fold(0, |bits, flag| bits << 1 | u8::from(*flag));
            Ok(Read {
                ports: (header.source_port(), header.destination_port()),
                tcp_flags: flags,
                ..read
            })
        }
        (17, _) => {
            let header = UdpHeaderSlice::from_slice(payload).map_err(|_| missing)?;
            let length = usize::from(header.length());
            // Rule: a length of 0 is one; etherparse takes it for "as long as the packet".
            if length < 8 {
                return Err(BAD);
            }
            if read.fragment == Fragment::Whole && length > payload.len() {
                return Err(TRUNCATED);
            }
            Ok(Read {
                ports: (header.source_port(), header.destination_port()),
                ..read
            })
        }
        (1, Network::Ipv4) => {
            let icmp_type = match Icmpv4Slice::from_slice(payload) {
                Ok(message) => message.type_u8(),
                // Rule: a timestamp message has a length of its own, which the filter has no use for.
                Err(_) if payload.len() >= 8 && matches!(payload[0], 13 | 14) => payload[0],
                Err(_) => return Err(missing),
            };
            Ok(Read { icmp_type, ..read })
        }
        (58, Network::Ipv6) => {
            let icmp_type = match Icmpv6Slice::from_slice(payload) {
                Ok(message) => message.type_u8(),
                // Rule: type, code and checksum are a whole header (RFC 4443 section 2.1).
                Err(_) if payload.len() >= 4 => payload[0],
                Err(_) => return Err(missing),
            };
            Ok(Read { icmp_type, ..read })
        }
        _ => Ok(read),
    }
}
