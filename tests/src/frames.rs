//! Frames as they are on the wire, with VLAN tags of the test's choice, sent past all that a host does with tags.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use etherparse::PacketBuilder;
use nix::{
    net::if_::if_nametoindex,
    sys::{
        socket::{
            AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, recvfrom, sendto,
            setsockopt, socket, sockopt,
        },
        time::TimeVal,
    },
};

use crate::netns::{self, Family, Host, INTERFACE};

/// The type of a VLAN tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// 802.1Q
    Customer,
    /// 802.1ad
    Service,
}

impl Tag {
    const fn bytes(self) -> [u8; 4] {
        match self {
            Self::Customer => [0x81, 0x00, 0, 7],
            Self::Service => [0x88, 0xa8, 0, 70],
        }
    }
}

/// A SYN from one host to a port of another, behind tags.
///
/// # Errors
/// None that can be thought of: the packet is well formed.
pub fn syn(from: Host, to: Host, family: Family, port: u16, tags: &[Tag]) -> Result<Vec<u8>> {
    const SOURCE_PORT: u16 = 40_000;
    let ethernet = PacketBuilder::ethernet2(from.hardware(), to.hardware());
    let packet = match (from.address(family), to.address(family)) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to)) => ethernet.ipv6(from.octets(), to.octets(), 64),
        _ => bail!("{from} and {to} have addresses of different families"),
    };
    let mut frame = Vec::new();
    packet
        .tcp(SOURCE_PORT, port, 1, 1024)
        .syn()
        .write(&mut frame, &[])?;
    // Between the addresses and the type of what they carry.
    let tags = tags.iter().flat_map(|tag| tag.bytes());
    frame.splice(12..12, tags);
    Ok(frame)
}

/// Sends a frame from a host's interface.
///
/// # Errors
/// The namespace is not there, or the kernel refuses.
pub fn send(namespace: &str, frame: &[u8]) -> Result<()> {
    netns::enter(namespace, || {
        let packets = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::EthAll,
        )
        .context("can't open a packet socket")?;
        setsockopt(&packets, sockopt::ReceiveTimeout, &TimeVal::new(1, 0))?;
        let interface = interface(packets.as_raw_fd())?;
        sendto(packets.as_raw_fd(), frame, &interface, MsgFlags::empty()).context("can't send a frame")?;
        // A frame on its way through the bridge is there before anyone looks.
        std::thread::sleep(Duration::from_millis(20));
        Ok(())
    })
}

/// The interface as an address of the link layer. The kernel makes such an address with each frame that it shows, and
/// there is no other way to one that is safe; so it is made to send a datagram.
fn interface(packets: i32) -> Result<LinkAddr> {
    const DISCARD: u16 = 9;
    let index = usize::try_from(if_nametoindex(INTERFACE)?)?;
    let datagrams = UdpSocket::bind("0.0.0.0:0")?;
    datagrams.set_broadcast(true)?;
    // To everyone, so that it goes out without a question for anyone's hardware address.
    let everyone = SocketAddr::from(([10, 239, 14, 255], DISCARD));
    datagrams.send_to(&[0], everyone)?;
    for _ in 0..50 {
        let (_, address) = recvfrom::<LinkAddr>(packets, &mut [0; 64]).context("no frame went out")?;
        if let Some(address) = address.filter(|address| address.ifindex() == index) {
            return Ok(address);
        }
    }
    bail!("no frame went out of {INTERFACE}")
}

#[cfg(test)]
mod tests {
    use etherparse::SlicedPacket;

    use super::*;

    #[test]
    fn tags_stand_between_the_addresses_and_what_they_carry() {
        let tags = [Tag::Service, Tag::Customer];
        let frame = syn(Host::Ssp, Host::Edge, Family::V6, 443, &tags).unwrap();
        let sliced = SlicedPacket::from_ethernet(&frame).unwrap();
        let ids: Vec<u16> = sliced.vlan_ids().iter().map(|id| id.value()).collect();
        assert_eq!(ids, [70, 7]);
        let Some(etherparse::TransportSlice::Tcp(tcp)) = sliced.transport else {
            panic!("no TCP in {sliced:?}");
        };
        assert!(tcp.syn() && !tcp.ack());
    }
}
