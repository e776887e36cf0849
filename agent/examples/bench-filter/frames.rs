//! Frames as the filter meets them.

use std::net::Ipv6Addr;

use etherparse::PacketBuilder;

/// The destination of all frames, and its guarded port.
pub(crate) const HERE: [u8; 4] = [10, 255, 0, 1];
pub(crate) const PORT: u16 = 443;
/// The network whose addresses end in an IPv4 address.
pub(crate) const NETWORK6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0);
/// The hardware address that frames are sent to.
pub(crate) const MAC: &str = "04:04:04:04:04:04";

/// A TCP segment of an open connection.
pub(crate) fn segment(source: [u8; 4], port: u16) -> Vec<u8> {
    written(|frame| {
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4(source, HERE, 64)
            .tcp(40000, port, 1, 1024)
            .ack(1)
            .write(frame, &[])
    })
}

/// A TCP segment that asks for a connection.
pub(crate) fn syn(source: [u8; 4], port: u16) -> Vec<u8> {
    written(|frame| {
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4(source, HERE, 64)
            .tcp(40000, port, 1, 1024)
            .syn()
            .write(frame, &[])
    })
}

/// A TCP segment of an open connection over IPv6, from an address of [`NETWORK6`].
pub(crate) fn segment6() -> Vec<u8> {
    written(|frame| {
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv6(NETWORK6.octets(), NETWORK6.octets(), 64)
            .tcp(40000, PORT, 1, 1024)
            .ack(1)
            .write(frame, &[])
    })
}

fn written(
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), etherparse::err::packet::BuildWriteError>,
) -> Vec<u8> {
    let mut frame = Vec::new();
    // Writing to memory can't fail.
    let _ = write(&mut frame);
    frame
}
