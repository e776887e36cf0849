//! TCP (RFC 9293), UDP (RFC 768) and ICMP (RFC 792, RFC 4443) headers.

use super::{Fragment, Frame, Network, Packet, protocol, read};
use crate::Reason;

const TCP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const ICMP_HEADER: usize = 8;
const ICMPV6_HEADER: usize = 4;

/// Reads the transport header that begins at `start`; the IP packet ends at `end`.
#[inline(always)]
pub(super) fn parse<F: Frame>(
    frame: &F,
    start: usize,
    end: usize,
    packet: &mut Packet,
) -> Result<(), Reason> {
    match (packet.protocol, packet.network) {
        (protocol::TCP, _) => tcp(frame, start, end, packet),
        (protocol::UDP, _) => udp(frame, start, end, packet),
        (protocol::ICMP, Network::Ipv4) => icmp(frame, start, end, ICMP_HEADER, packet),
        (protocol::ICMPV6, Network::Ipv6) => icmp(frame, start, end, ICMPV6_HEADER, packet),
        _ => Ok(()),
    }
}

#[inline(always)]
fn tcp<F: Frame>(frame: &F, start: usize, end: usize, packet: &mut Packet) -> Result<(), Reason> {
    holds(start, TCP_HEADER, end, packet)?;
    let [source_0, source_1, destination_0, destination_1]: [u8; 4] = read(frame, start)?;
    packet.source_port = u16::from_be_bytes([source_0, source_1]);
    packet.destination_port = u16::from_be_bytes([destination_0, destination_1]);
    let [data_offset, flags]: [u8; 2] = read(frame, start + 12)?;
    packet.tcp_flags = flags;
    let length = usize::from(data_offset >> 4) * 4;
    if length < TCP_HEADER {
        return Err(Reason::PacketBadHeader);
    }
    holds(start, length, end, packet)
}

#[inline(always)]
fn udp<F: Frame>(frame: &F, start: usize, end: usize, packet: &mut Packet) -> Result<(), Reason> {
    holds(start, UDP_HEADER, end, packet)?;
    let [
        source_0,
        source_1,
        destination_0,
        destination_1,
        length_0,
        length_1,
    ]: [u8; 6] = read(frame, start)?;
    packet.source_port = u16::from_be_bytes([source_0, source_1]);
    packet.destination_port = u16::from_be_bytes([destination_0, destination_1]);
    let length = usize::from(u16::from_be_bytes([length_0, length_1]));
    if length < UDP_HEADER {
        return Err(Reason::PacketBadHeader);
    }
    // A first fragment's length counts what the later ones bring.
    if packet.fragment == Fragment::Whole && start + length > end {
        return Err(Reason::PacketTruncated);
    }
    Ok(())
}

#[inline(always)]
fn icmp<F: Frame>(
    frame: &F,
    start: usize,
    end: usize,
    length: usize,
    packet: &mut Packet,
) -> Result<(), Reason> {
    holds(start, length, end, packet)?;
    let [kind]: [u8; 1] = read(frame, start)?;
    packet.icmp_type = kind;
    Ok(())
}

/// Whether `length` bytes from `start` lie inside the IP packet.
#[inline(always)]
fn holds(start: usize, length: usize, end: usize, packet: &Packet) -> Result<(), Reason> {
    if start + length <= end {
        return Ok(());
    }
    Err(match packet.fragment {
        Fragment::Whole => Reason::PacketTruncated,
        _ => Reason::FragmentWithoutPorts,
    })
}
