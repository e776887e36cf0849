//! The Ethernet frame of a packet that was written by hand.

use std::net::IpAddr;

use etherparse::{
    EtherType, Ethernet2Header, Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, IpFragOffset, IpNumber,
    Ipv4Header, Ipv6Header, SingleVlanHeader, TcpHeader, UdpHeader, VlanId,
};

use super::{CraftedPacket, Message};

/// Locally administered addresses: the filter does not look at them.
const MACS: ([u8; 6], [u8; 6]) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
const HOP_LIMIT: u8 = 64;

impl CraftedPacket {
    /// The frame. Checksums of the transport header are left out: the filter leaves them to the network stack.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        let packet = self.ip_packet();
        let version = match self.source.address {
            IpAddr::V4(_) => EtherType::IPV4,
            IpAddr::V6(_) => EtherType::IPV6,
        };
        let (source, destination) = MACS;
        let outermost = match self.vlans.len() {
            0 => version,
            1 => EtherType::VLAN_TAGGED_FRAME,
            _ => EtherType::PROVIDER_BRIDGING,
        };
        let mut frame = Ethernet2Header {
            source,
            destination,
            ether_type: outermost,
        }
        .to_bytes()
        .to_vec();
        for (index, id) in self.vlans.iter().enumerate() {
            let is_innermost = index + 1 == self.vlans.len();
            let tag = SingleVlanHeader {
                vlan_id: VlanId::try_new(*id).unwrap_or(VlanId::ZERO),
                ether_type: if is_innermost {
                    version
                } else {
                    EtherType::VLAN_TAGGED_FRAME
                },
                ..SingleVlanHeader::default()
            };
            frame.extend(tag.to_bytes());
        }
        frame.extend(packet);
        frame
    }

    fn ip_packet(&self) -> Vec<u8> {
        let (number, payload) = self.transport();
        // A later fragment holds bytes from the middle of the packet, which these stand for.
        let offset = match self.later_fragment {
            true => length(payload.len() / 8 + 1),
            false => 0,
        };
        let mut packet = match (self.source.address, self.destination.address) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut header = Ipv4Header {
                    total_len: length(Ipv4Header::MIN_LEN + payload.len()),
                    dont_fragment: !self.later_fragment,
                    fragment_offset: IpFragOffset::try_new(offset).unwrap_or(IpFragOffset::ZERO),
                    time_to_live: HOP_LIMIT,
                    protocol: number,
                    source: source.octets(),
                    destination: destination.octets(),
                    ..Ipv4Header::default()
                };
                header.header_checksum = header.calc_header_checksum();
                header.to_bytes().to_vec()
            }
            (source, destination) => {
                // RFC 8200 section 4.5; etherparse 0.19 puts the offset's lower bits in the wrong place.
                let [piece_0, piece_1] = (offset << 3).to_be_bytes();
                let fragment = [number.0, 0, piece_0, piece_1, 0, 0, 0, 1];
                let extension = match self.later_fragment {
                    true => fragment.as_slice(),
                    false => &[],
                };
                let header = Ipv6Header {
                    payload_length: length(extension.len() + payload.len()),
                    next_header: if self.later_fragment {
                        IpNumber::IPV6_FRAGMENTATION_HEADER
                    } else {
                        number
                    },
                    hop_limit: HOP_LIMIT,
                    source: v6(source),
                    destination: v6(destination),
                    ..Ipv6Header::default()
                };
                [&header.to_bytes(), extension].concat()
            }
        };
        packet.extend(payload);
        packet
    }

    fn transport(&self) -> (IpNumber, Vec<u8>) {
        let (source, destination) = (self.source.port, self.destination.port);
        match self.message {
            Message::Tcp { flags } => {
                let mut header = TcpHeader::new(source, destination, 1, 64240);
                let has = |bit: u8| flags & bit != 0;
                (header.fin, header.syn, header.rst, header.psh) =
                    (has(0x01), has(0x02), has(0x04), has(0x08));
                (header.ack, header.urg, header.ece, header.cwr) =
                    (has(0x10), has(0x20), has(0x40), has(0x80));
                (IpNumber::TCP, header.to_bytes().to_vec())
            }
            Message::Udp => {
                let header = UdpHeader {
                    source_port: source,
                    destination_port: destination,
                    length: UdpHeader::LEN_U16,
                    checksum: 0,
                };
                (IpNumber::UDP, header.to_bytes().to_vec())
            }
            Message::Icmp { kind } => {
                let (type_u8, code_u8, bytes5to8) = (kind, 0, [0; 4]);
                match self.source.address {
                    IpAddr::V4(_) => {
                        let icmp_type = Icmpv4Type::Unknown {
                            type_u8,
                            code_u8,
                            bytes5to8,
                        };
                        (
                            IpNumber::ICMP,
                            Icmpv4Header {
                                icmp_type,
                                checksum: 0,
                            }
                            .to_bytes()
                            .to_vec(),
                        )
                    }
                    IpAddr::V6(_) => {
                        let icmp_type = Icmpv6Type::Unknown {
                            type_u8,
                            code_u8,
                            bytes5to8,
                        };
                        (
                            IpNumber::IPV6_ICMP,
                            Icmpv6Header {
                                icmp_type,
                                checksum: 0,
                            }
                            .to_bytes()
                            .to_vec(),
                        )
                    }
                }
            }
        }
    }
}

/// A packet that was written by hand has a few dozen bytes.
fn length(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

fn v6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}
