//! Packet headers, read through a bounds-checked frame: Ethernet, VLAN tags, IPv4, IPv6, TCP, UDP, ICMP.
//!
//! The kernel half, the host tests and the fuzzer run this very code, each over its own [`Frame`].

mod ip;
mod transport;

pub use ip::is_extension;

use crate::Reason;

/// VLAN tags that are read through; a frame with more is refused.
pub const MAX_VLAN_TAGS: usize = 2;
/// IPv6 extension headers that are read through; a packet with more is refused.
pub const MAX_EXTENSION_HEADERS: usize = 8;

/// IP protocol numbers (IANA) that the filter tells apart.
pub mod protocol {
    /// ICMP for IPv4
    pub const ICMP: u8 = 1;
    /// TCP
    pub const TCP: u8 = 6;
    /// UDP
    pub const UDP: u8 = 17;
    /// ICMP for IPv6
    pub const ICMPV6: u8 = 58;
}

/// The bytes of a frame. Every read is checked: there is no other way to the bytes.
pub trait Frame {
    /// Whether the frame has at least `end` bytes, from the Ethernet header on. Not all of them need be readable.
    fn reaches(&self, end: usize) -> bool;
    /// `N` bytes at an offset; none if any of them lies outside the frame.
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;
}

/// What kind of network-layer packet a frame holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// Nothing has been recognised (yet).
    #[default]
    Unknown,
    /// ARP
    Arp,
    /// IPv4
    Ipv4,
    /// IPv6
    Ipv6,
    /// Another ethertype.
    Other,
}

/// Whether a packet is whole or a piece of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fragment {
    /// A whole packet.
    #[default]
    Whole,
    /// The first fragment: it holds the transport header.
    First,
    /// A later fragment: its ports are unknown.
    Later,
}

/// An address in the form that maps have it in: 16 bytes in network order, IPv4 as `::ffff:a.b.c.d` (RFC 4291 section
/// 2.5.5.2). They are kept as four words, so that the kernel half moves and hashes words and not bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Address([u32; 4]);

impl Address {
    /// An IPv4 address.
    #[inline(always)]
    #[must_use]
    pub const fn v4(octets: [u8; 4]) -> Self {
        Self([
            0,
            0,
            u32::from_ne_bytes([0, 0, 0xff, 0xff]),
            u32::from_ne_bytes(octets),
        ])
    }

    /// An IPv6 address, or an IPv4 one in its clothes.
    #[inline(always)]
    #[must_use]
    pub const fn v6(octets: [u8; 16]) -> Self {
        #[rustfmt::skip]
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = octets;
        Self([
            u32::from_ne_bytes([a, b, c, d]),
            u32::from_ne_bytes([e, f, g, h]),
            u32::from_ne_bytes([i, j, k, l]),
            u32::from_ne_bytes([m, n, o, p]),
        ])
    }

    /// Its bytes.
    #[inline(always)]
    #[must_use]
    pub const fn octets(&self) -> [u8; 16] {
        let [first, second, third, fourth] = self.0;
        let ([a, b, c, d], [e, f, g, h]) = (first.to_ne_bytes(), second.to_ne_bytes());
        let ([i, j, k, l], [m, n, o, p]) = (third.to_ne_bytes(), fourth.to_ne_bytes());
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }

    /// The number that an IPv4 address is.
    #[inline(always)]
    #[must_use]
    pub const fn number4(&self) -> u32 {
        let [.., last] = self.0;
        u32::from_be(last)
    }

    /// The upper and the lower half of the number that it is.
    #[inline(always)]
    #[must_use]
    pub const fn halves(&self) -> [u64; 2] {
        let [a, b, c, d] = self.0;
        [
            (u32::from_be(a) as u64) << 32 | u32::from_be(b) as u64,
            (u32::from_be(c) as u64) << 32 | u32::from_be(d) as u64,
        ]
    }
}

/// What the headers say. [`parse`] fills it as far as it comes, so that even a refused packet's source can be reported.
///
/// Aligned and in this order, so that the kernel half clears and copies it word by word, without calling out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Packet {
    /// The source address.
    pub source: Address,
    /// The destination address.
    pub destination: Address,
    /// Where the IP packet ends in the frame; 0 as long as that is not certain.
    pub end: u32,
    /// Source port of TCP and UDP.
    pub source_port: u16,
    /// Destination port of TCP and UDP.
    pub destination_port: u16,
    /// The network layer.
    pub network: Network,
    /// Whole or fragment.
    pub fragment: Fragment,
    /// The protocol behind the IP headers (IANA number). In a later IPv6 fragment it may be an extension header's.
    pub protocol: u8,
    /// Hop limit, or IPv4's time to live.
    pub hop_limit: u8,
    /// TCP's flags (RFC 9293 section 3.1), from FIN in the lowest bit.
    pub tcp_flags: u8,
    /// Type of an ICMP or ICMPv6 message.
    pub icmp_type: u8,
}

impl Packet {
    /// Whether it asks for a new TCP connection: SYN without ACK.
    #[inline(always)]
    #[must_use]
    pub const fn opens_connection(&self) -> bool {
        const SYN: u8 = 0x02;
        const ACK: u8 = 0x10;
        self.protocol == protocol::TCP && self.tcp_flags & (SYN | ACK) == SYN
    }
}

const ETHERNET_HEADER: usize = 14;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_QINQ: u16 = 0x88a8;
const ETHERTYPE_QINQ_OLD: u16 = 0x9100;

/// Reads a frame's headers.
///
/// # Errors
/// The reason for which the frame must be dropped: it is truncated, contradicts itself, or stacks more headers than allowed.
#[inline(always)]
pub fn parse<F: Frame>(frame: &F, packet: &mut Packet) -> Result<(), Reason> {
    let mut offset = ETHERNET_HEADER;
    let mut ethertype = read_u16(frame, ETHERNET_HEADER - 2)?;
    for _ in 0..MAX_VLAN_TAGS {
        if !is_vlan(ethertype) {
            break;
        }
        ethertype = read_u16(frame, offset + 2)?;
        offset += 4;
    }
    match ethertype {
        ETHERTYPE_IPV4 => ip::parse_v4(frame, offset, packet),
        ETHERTYPE_IPV6 => ip::parse_v6(frame, offset, packet),
        ETHERTYPE_ARP => {
            packet.network = Network::Arp;
            Ok(())
        }
        other if is_vlan(other) => Err(Reason::PacketTooManyHeaders),
        _ => {
            packet.network = Network::Other;
            Ok(())
        }
    }
}

#[inline(always)]
const fn is_vlan(ethertype: u16) -> bool {
    matches!(ethertype, ETHERTYPE_VLAN | ETHERTYPE_QINQ | ETHERTYPE_QINQ_OLD)
}

#[inline(always)]
fn read<F: Frame, const N: usize>(frame: &F, offset: usize) -> Result<[u8; N], Reason> {
    match frame.read(offset) {
        Some(bytes) => Ok(bytes),
        None => Err(Reason::PacketTruncated),
    }
}

#[inline(always)]
fn read_u16<F: Frame>(frame: &F, offset: usize) -> Result<u16, Reason> {
    Ok(u16::from_be_bytes(read(frame, offset)?))
}

impl Frame for &[u8] {
    fn reaches(&self, end: usize) -> bool {
        end <= self.len()
    }

    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.get(offset..offset.checked_add(N)?)?.try_into().ok()
    }
}

#[cfg(feature = "user")]
mod user {
    // SAFETY: transparent over words, every bit pattern is a value.
    unsafe impl aya::Pod for super::Address {}
}

#[cfg(test)]
mod tests;
