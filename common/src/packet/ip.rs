//! IPv4 (RFC 791) and IPv6 (RFC 8200) headers.

use super::{Address, Fragment, Frame, MAX_EXTENSION_HEADERS, Network, Packet, protocol, read, transport};
use crate::Reason;

const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const FRAGMENT_HEADER: usize = 8;
const MORE_FRAGMENTS_V4: u16 = 0x2000;
const OFFSET_MASK_V4: u16 = 0x1fff;
const MORE_FRAGMENTS_V6: u16 = 0x0001;
const OFFSET_MASK_V6: u16 = 0xfff8;

#[inline(always)]
pub(super) fn parse_v4<F: Frame>(frame: &F, start: usize, packet: &mut Packet) -> Result<(), Reason> {
    let header: [u8; IPV4_HEADER] = read(frame, start)?;
    #[rustfmt::skip]
    let [version_ihl, _, length_0, length_1, _, _, fragment_0, fragment_1, ttl, next, _, _,
        s0, s1, s2, s3, d0, d1, d2, d3] = header;
    packet.network = Network::Ipv4;
    packet.source = Address::v4([s0, s1, s2, s3]);
    packet.destination = Address::v4([d0, d1, d2, d3]);
    packet.hop_limit = ttl;
    packet.protocol = next;

    let header_length = usize::from(version_ihl & 0x0f) * 4;
    let total_length = usize::from(u16::from_be_bytes([length_0, length_1]));
    if version_ihl >> 4 != 4 || header_length < IPV4_HEADER || total_length < header_length {
        return Err(Reason::PacketBadHeader);
    }
    let end = start + total_length;
    if !frame.reaches(end) {
        return Err(Reason::PacketTruncated);
    }
    packet.end = end as u32;

    let fragment = u16::from_be_bytes([fragment_0, fragment_1]);
    let offset = fragment & OFFSET_MASK_V4;
    if offset != 0 {
        packet.fragment = Fragment::Later;
        // It would overwrite the flags of a TCP header that has been judged already (RFC 3128).
        if offset == 1 && next == protocol::TCP {
            return Err(Reason::PacketBadHeader);
        }
        return Ok(());
    }
    if fragment & MORE_FRAGMENTS_V4 != 0 {
        packet.fragment = Fragment::First;
    }
    transport::parse(frame, start + header_length, end, packet)
}

// A function of its own in the kernel as well: what the verifier has to follow in its loop ends where it returns.
#[inline(never)]
pub(super) fn parse_v6<F: Frame>(frame: &F, start: usize, packet: &mut Packet) -> Result<(), Reason> {
    let [version, _, _, _, length_0, length_1, next, hop_limit]: [u8; 8] = read(frame, start)?;
    packet.network = Network::Ipv6;
    packet.hop_limit = hop_limit;
    packet.source = Address::v6(read(frame, start + 8)?);
    packet.destination = Address::v6(read(frame, start + 24)?);
    packet.protocol = next;

    if version >> 4 != 6 {
        return Err(Reason::PacketBadHeader);
    }
    let end = start + IPV6_HEADER + usize::from(u16::from_be_bytes([length_0, length_1]));
    if !frame.reaches(end) {
        return Err(Reason::PacketTruncated);
    }
    packet.end = end as u32;

    let mut next = next;
    let mut offset = start + IPV6_HEADER;
    for position in 0..=MAX_EXTENSION_HEADERS {
        packet.protocol = next;
        if !is_extension(next) {
            return transport::parse(frame, offset, end, packet);
        }
        if position == MAX_EXTENSION_HEADERS {
            break;
        }
        if offset + FRAGMENT_HEADER > end {
            return Err(Reason::PacketTruncated);
        }
        let [following, length, piece_0, piece_1]: [u8; 4] = read(frame, offset)?;
        match next {
            extension::FRAGMENT => {
                // RFC 8200 section 4.5: a packet is cut once.
                if packet.fragment != Fragment::Whole {
                    return Err(Reason::PacketBadHeader);
                }
                let piece = u16::from_be_bytes([piece_0, piece_1]);
                if piece & OFFSET_MASK_V6 != 0 {
                    packet.fragment = Fragment::Later;
                    packet.protocol = following;
                    return Ok(());
                }
                if piece & MORE_FRAGMENTS_V6 != 0 {
                    packet.fragment = Fragment::First;
                }
                offset += FRAGMENT_HEADER;
            }
            // RFC 8200 section 4.1: hop-by-hop options stand only right behind the IPv6 header.
            extension::HOP_BY_HOP if position != 0 => return Err(Reason::PacketBadHeader),
            // RFC 4302 section 2.2 counts in units of four bytes, less two.
            extension::AUTHENTICATION => offset += (usize::from(length) + 2) * 4,
            _ => offset += (usize::from(length) + 1) * 8,
        }
        if offset > end {
            return Err(Reason::PacketTruncated);
        }
        next = following;
    }
    Err(Reason::PacketTooManyHeaders)
}

/// IPv6 extension headers (IANA) that stand in front of a transport header.
mod extension {
    pub(super) const HOP_BY_HOP: u8 = 0;
    pub(super) const ROUTING: u8 = 43;
    pub(super) const FRAGMENT: u8 = 44;
    pub(super) const AUTHENTICATION: u8 = 51;
    pub(super) const DESTINATION: u8 = 60;
    pub(super) const MOBILITY: u8 = 135;
    pub(super) const HOST_IDENTITY: u8 = 139;
    pub(super) const SHIM6: u8 = 140;
}

/// Whether a next-header value names an extension header that the parser reads through.
#[inline(always)]
#[must_use]
pub const fn is_extension(next: u8) -> bool {
    matches!(
        next,
        extension::HOP_BY_HOP
            | extension::ROUTING
            | extension::FRAGMENT
            | extension::AUTHENTICATION
            | extension::DESTINATION
            | extension::MOBILITY
            | extension::HOST_IDENTITY
            | extension::SHIM6
    )
}
