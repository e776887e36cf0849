//! IPv6 packets as no ordinary socket sends them: with extension headers of the test's choice.

use std::{
    io::ErrorKind,
    net::{Ipv6Addr, SocketAddrV6, UdpSocket},
    os::fd::AsRawFd,
    time::Duration,
};

use anyhow::{Context, Result};
use etherparse::{IpNumber, Ipv6Header, UdpHeader};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, sendto, socket,
};

use crate::netns;

/// An IPv6 extension header that the test host's kernel steps over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// Hop-by-hop options, all padding; only ever the first one.
    HopByHop,
    /// Destination options, all padding.
    Destination,
    /// A fragment header of a packet in one piece (RFC 6946).
    Fragment,
}

impl Extension {
    const fn number(self) -> u8 {
        match self {
            Self::HopByHop => 0,
            Self::Destination => 60,
            Self::Fragment => 44,
        }
    }

    const fn bytes(self, next: u8) -> [u8; 8] {
        match self {
            // PadN of four bytes.
            Self::HopByHop | Self::Destination => [next, 0, 1, 4, 0, 0, 0, 0],
            Self::Fragment => [next, 0, 0, 0, 0, 0, 0, 7],
        }
    }
}

/// Sends a UDP datagram behind extension headers, and tells whether an answer came.
///
/// # Errors
/// The kernel refuses to send it.
pub fn datagram(
    namespace: &str,
    source: Ipv6Addr,
    service: SocketAddrV6,
    extensions: &[Extension],
) -> Result<bool> {
    netns::enter(namespace, || {
        // An ordinary socket has the port that the packet names, so the answer finds it.
        let answers = UdpSocket::bind((source, 0))?;
        answers.set_read_timeout(Some(Duration::from_millis(500)))?;
        let packet = packet(source, answers.local_addr()?.port(), service, extensions)?;
        let raw = socket(
            AddressFamily::Inet6,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::Raw,
        )
        .context("can't open a raw socket")?;
        // A raw socket takes a protocol for a port.
        let to = SockaddrIn6::from(SocketAddrV6::new(*service.ip(), 0, 0, 0));
        sendto(raw.as_raw_fd(), &packet, &to, MsgFlags::empty())
            .with_context(|| format!("sending {extensions:?} from {source} to {service}"))?;
        match answers.recv(&mut [0; 64]) {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(false),
            Err(error) => Err(error).context("waiting for an answer"),
        }
    })
}

fn packet(source: Ipv6Addr, port: u16, service: SocketAddrV6, extensions: &[Extension]) -> Result<Vec<u8>> {
    const PAYLOAD: &[u8] = b"through the headers";
    let transport = IpNumber::UDP.0;
    let next = |position: usize| {
        extensions
            .get(position)
            .map_or(transport, |extension| extension.number())
    };
    let mut chain = Vec::new();
    for (position, extension) in extensions.iter().enumerate() {
        chain.extend(extension.bytes(next(position + 1)));
    }
    let length = chain.len() + UdpHeader::LEN + PAYLOAD.len();
    let header = Ipv6Header {
        payload_length: u16::try_from(length)?,
        next_header: IpNumber(next(0)),
        hop_limit: 64,
        source: source.octets(),
        destination: service.ip().octets(),
        ..Ipv6Header::default()
    };
    let udp = UdpHeader::with_ipv6_checksum(port, service.port(), &header, PAYLOAD)?;
    Ok([&header.to_bytes(), chain.as_slice(), &udp.to_bytes(), PAYLOAD].concat())
}

#[cfg(test)]
mod tests {
    use etherparse::SlicedPacket;

    use super::*;

    #[test]
    fn a_packet_has_its_extension_headers_in_their_order_and_a_right_checksum() {
        let service = "[fd00::1]:7".parse().unwrap();
        let packet = packet(
            "fd00::2".parse().unwrap(),
            4_000,
            service,
            &[Extension::HopByHop, Extension::Destination, Extension::Fragment],
        )
        .unwrap();
        assert_eq!((packet[6], packet[40], packet[48], packet[56]), (0, 60, 44, 17));
        let sliced = SlicedPacket::from_ip(&packet).unwrap();
        let Some(etherparse::TransportSlice::Udp(udp)) = sliced.transport else {
            panic!("no UDP in {sliced:?}");
        };
        assert_eq!((udp.source_port(), udp.destination_port()), (4_000, 7));
    }
}
