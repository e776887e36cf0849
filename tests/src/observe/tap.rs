//! What reaches the edge host's network stack: a packet socket sees each frame that XDP lets by, and none that it drops.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsRawFd, OwnedFd},
};

use anyhow::{Context, Result};
use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, socket},
};

use crate::netns;

/// A packet socket on all interfaces of a namespace.
#[derive(Debug)]
pub struct Tap {
    socket: OwnedFd,
}

impl Tap {
    /// Begins to listen.
    ///
    /// # Errors
    /// The namespace is not there, or the kernel refuses the socket.
    pub fn open(namespace: &str) -> Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = netns::enter(namespace, || {
            socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)
                .context("can't open a packet socket")
        })?;
        Ok(Self { socket })
    }

    /// How many SYNs of a source have come since it was opened or last asked.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn syns(&self, source: IpAddr) -> Result<usize> {
        let mut count = 0;
        let mut frame = [0; 128];
        loop {
            match recv(self.socket.as_raw_fd(), &mut frame, MsgFlags::empty()) {
                Ok(length) => {
                    count += usize::from(syn_of(frame.get(..length).unwrap_or_default()) == Some(source));
                }
                Err(Errno::EAGAIN) => return Ok(count),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error).context("can't read from a packet socket"),
            }
        }
    }
}

/// The source of a frame that carries a SYN: behind any number of VLAN tags, of which the kernel takes off the first for a
/// packet socket, without options or extension headers, as the lab's hosts send it.
fn syn_of(frame: &[u8]) -> Option<IpAddr> {
    const TAGS: [[u8; 2]; 2] = [[0x81, 0x00], [0x88, 0xa8]];
    const IPV4: [u8; 2] = [0x08, 0x00];
    const IPV6: [u8; 2] = [0x86, 0xdd];
    const TCP: u8 = 6;
    const SYN_AND_ACK: u8 = 0x12;
    const SYN: u8 = 0x02;
    let mut rest = frame.get(12..)?;
    while TAGS.iter().any(|tag| rest.starts_with(tag)) {
        rest = rest.get(4..)?;
    }
    let (ethertype, packet) = rest.split_first_chunk()?;
    let (source, protocol, segment) = match *ethertype {
        IPV4 => {
            let source: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
            (
                IpAddr::V4(Ipv4Addr::from(source)),
                *packet.get(9)?,
                packet.get(20..)?,
            )
        }
        IPV6 => {
            let source: [u8; 16] = packet.get(8..24)?.try_into().ok()?;
            (
                IpAddr::V6(Ipv6Addr::from(source)),
                *packet.get(6)?,
                packet.get(40..)?,
            )
        }
        _ => return None,
    };
    (protocol == TCP && segment.get(13)? & SYN_AND_ACK == SYN).then_some(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(ethertype: [u8; 2], header: &[u8], flags: u8) -> Vec<u8> {
        let mut segment = [0; 20];
        segment[13] = flags;
        [&[0; 12], ethertype.as_slice(), header, &segment].concat()
    }

    #[test]
    fn a_syn_is_told_from_all_else_and_attributed_to_its_source() {
        let mut v4 = [0; 20];
        v4[9] = 6;
        v4[12..16].copy_from_slice(&[192, 0, 2, 7]);
        assert_eq!(
            syn_of(&frame([8, 0], &v4, 0x02)),
            Some("192.0.2.7".parse().unwrap())
        );
        let tags = [0x88, 0xa8, 0, 70, 0x81, 0, 0, 7, 8, 0].as_slice();
        let inside = frame([8, 0], &v4, 0x02);
        let tagged = [&[0; 12], tags, &inside[14..]].concat();
        assert_eq!(syn_of(&tagged), Some("192.0.2.7".parse().unwrap()));
        assert_eq!(syn_of(&frame([8, 0], &v4, 0x12)), None);
        assert_eq!(syn_of(&frame([8, 6], &v4, 0x02)), None);
        v4[9] = 17;
        assert_eq!(syn_of(&frame([8, 0], &v4, 0x02)), None);

        let mut v6 = [0; 40];
        v6[6] = 6;
        v6[8] = 0xfd;
        assert_eq!(
            syn_of(&frame([0x86, 0xdd], &v6, 0x02)),
            Some("fd00::".parse().unwrap())
        );
        assert_eq!(syn_of(&[0; 13]), None);
    }
}
