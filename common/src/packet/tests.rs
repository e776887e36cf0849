//! Properties of the parser, on arbitrary bytes and on packets that etherparse builds.

use std::{format, vec::Vec};

use etherparse::{PacketBuilder, VlanId};
use proptest::prelude::*;

use super::*;

fn parsed(frame: &[u8]) -> (Result<(), Reason>, Packet) {
    let mut packet = Packet::default();
    (parse(&frame, &mut packet), packet)
}

#[derive(Clone, Copy, Debug)]
enum Transport {
    Tcp,
    Udp,
    Icmp,
}

/// A frame as etherparse builds it, and what the parser must read out of it.
#[derive(Clone, Debug)]
struct Sample {
    frame: Vec<u8>,
    expected: Packet,
}

prop_compose! {
    fn sample()(
        v4 in any::<bool>(),
        transport in prop_oneof![Just(Transport::Tcp), Just(Transport::Udp), Just(Transport::Icmp)],
        tags in 0..=2_usize,
        source in any::<[u8; 16]>(),
        destination in any::<[u8; 16]>(),
        hop_limit in any::<u8>(),
        (source_port, destination_port) in any::<(u16, u16)>(),
        payload in proptest::collection::vec(any::<u8>(), 0..64),
    ) -> Sample {
        build(v4, transport, tags, (source, destination), hop_limit, (source_port, destination_port), &payload)
    }
}

fn build(
    v4: bool,
    transport: Transport,
    tags: usize,
    (source, destination): ([u8; 16], [u8; 16]),
    hop_limit: u8,
    (source_port, destination_port): (u16, u16),
    payload: &[u8],
) -> Sample {
    let tag = VlanId::try_new(7).expect("an id");
    let link = PacketBuilder::ethernet2([2; 6], [4; 6]);
    let first = |address: [u8; 16]| [address[0], address[1], address[2], address[3]];
    let ip = match (tags, v4) {
        (0, true) => link.ipv4(first(source), first(destination), hop_limit),
        (1, true) => link
            .single_vlan(tag)
            .ipv4(first(source), first(destination), hop_limit),
        (_, true) => link
            .double_vlan(tag, tag)
            .ipv4(first(source), first(destination), hop_limit),
        (0, false) => link.ipv6(source, destination, hop_limit),
        (1, false) => link.single_vlan(tag).ipv6(source, destination, hop_limit),
        (_, false) => link.double_vlan(tag, tag).ipv6(source, destination, hop_limit),
    };
    let mut expected = Packet {
        network: if v4 { Network::Ipv4 } else { Network::Ipv6 },
        source: if v4 {
            Address::v4(first(source))
        } else {
            Address::v6(source)
        },
        destination: if v4 {
            Address::v4(first(destination))
        } else {
            Address::v6(destination)
        },
        hop_limit,
        source_port,
        destination_port,
        ..Packet::default()
    };
    let mut frame = Vec::new();
    match transport {
        Transport::Tcp => {
            expected.protocol = protocol::TCP;
            expected.tcp_flags = 0x12;
            ip.tcp(source_port, destination_port, 1, 2)
                .syn()
                .ack(3)
                .write(&mut frame, payload)
        }
        Transport::Udp => {
            expected.protocol = protocol::UDP;
            ip.udp(source_port, destination_port).write(&mut frame, payload)
        }
        Transport::Icmp => {
            (
                expected.source_port,
                expected.destination_port,
                expected.icmp_type,
            ) = (0, 0, 42);
            if v4 {
                expected.protocol = protocol::ICMP;
                ip.icmpv4_raw(42, 0, [0; 4]).write(&mut frame, payload)
            } else {
                expected.protocol = protocol::ICMPV6;
                ip.icmpv6_raw(42, 0, [0; 4]).write(&mut frame, payload)
            }
        }
    }
    .expect("a frame");
    expected.end = u32::try_from(frame.len()).expect("a short frame");
    Sample { frame, expected }
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_or_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        let (result, _) = parsed(&bytes);
        if let Err(reason) = result {
            prop_assert_eq!(reason.layer(), crate::Layer::Filter);
        }
    }

    #[test]
    fn a_sound_packet_is_read_as_it_was_built(sample in sample()) {
        let (result, packet) = parsed(&sample.frame);
        prop_assert_eq!(result, Ok(()));
        prop_assert_eq!(packet, sample.expected);
    }

    #[test]
    fn a_packet_cut_anywhere_is_refused(sample in sample(), cut in any::<prop::sample::Index>()) {
        let length = cut.index(sample.frame.len());
        let (result, _) = parsed(&sample.frame[..length]);
        prop_assert_eq!(result, Err(Reason::PacketTruncated));
    }

    #[test]
    fn what_follows_the_packet_changes_nothing(
        sample in sample(),
        padding in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut frame = sample.frame.clone();
        frame.extend(padding);
        prop_assert_eq!(parsed(&frame), (Ok(()), sample.expected));
    }

    /// A bent header may name another source or another port, but the parser then reads just what the bytes say.
    #[test]
    fn a_bent_packet_that_is_taken_agrees_with_etherparse(
        sample in sample(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut frame = sample.frame.clone();
        let at = at.index(frame.len());
        frame[at] = byte;
        let (result, packet) = parsed(&frame);
        if result.is_ok() && matches!(packet.fragment, Fragment::Whole | Fragment::First) && packet.protocol == protocol::TCP {
            let Ok(theirs) = etherparse::PacketHeaders::from_ethernet_slice(&frame) else {
                // etherparse reads headers that the filter has no use for, and refuses what it dislikes in them.
                return Ok(());
            };
            if let Some(etherparse::TransportHeader::Tcp(tcp)) = theirs.transport {
                prop_assert_eq!(tcp.source_port, packet.source_port, "{}", format!("{frame:02x?}"));
                prop_assert_eq!(tcp.destination_port, packet.destination_port);
            }
        }
    }
}

#[test]
fn reads_beyond_the_frame_give_nothing() {
    let bytes: &[u8] = &[1, 2, 3];
    assert_eq!(Frame::read::<2>(&bytes, 1), Some([2, 3]));
    assert_eq!(Frame::read::<2>(&bytes, 2), None);
    assert_eq!(Frame::read::<2>(&bytes, usize::MAX), None);
    assert!(bytes.reaches(3) && !bytes.reaches(4));
}
