//! Frames that are cut, bent, wrapped or longer than a page.

use etherparse::IpNumber;
use spinegate_common::{Pass, Reason};

use crate::packets::*;

#[test]
fn vlan_tags_hide_nothing() {
    let filter = filter!(&settings());
    for tags in [1, 2] {
        for (listed, stranger) in [(LISTED4, STRANGER4), (LISTED6, STRANGER6)] {
            passes(&filter, "a tagged listed source", &vlans(&syn(listed, 443), tags));
            is_dropped(
                &filter,
                "a tagged stranger",
                &vlans(&syn(stranger, 443), tags),
                Reason::SourceNotAllowlisted,
            );
        }
        let tagged = vlans(&syn(LISTED4, 443), tags);
        for length in 15..tagged.len() {
            is_dropped(
                &filter,
                &format!("{tags} tags, cut to {length} bytes"),
                &tagged[..length],
                Reason::PacketTruncated,
            );
        }
        passes_as(
            &filter,
            "tagged ARP",
            &vlans(&ethertype(0x0806), tags),
            Pass::Unguarded,
        );
    }
    for tags in [3, 4] {
        is_dropped(
            &filter,
            "a tag too many",
            &vlans(&syn(LISTED4, 443), tags),
            Reason::PacketTooManyHeaders,
        );
    }
    // The three numbers that a tag goes by, whichever stands outside.
    for outer in [[0x81, 0x00], [0x88, 0xa8], [0x91, 0x00]] {
        let mut frame = vlans(&syn(STRANGER4, 443), 2);
        frame[12..14].copy_from_slice(&outer);
        is_dropped(
            &filter,
            "a stranger under any tag",
            &frame,
            Reason::SourceNotAllowlisted,
        );
    }
    // What etherparse calls a tagged frame is what these tables build by hand.
    let frame = vlans(&syn(STRANGER4, 443), 2);
    let sliced = etherparse::SlicedPacket::from_ethernet(&frame).expect("a frame");
    assert_eq!(sliced.vlan_ids().len(), 2);
    assert!(matches!(
        sliced.transport,
        Some(etherparse::TransportSlice::Tcp(_))
    ));
}

#[test]
fn ipv4_options_and_ipv6_extension_headers_hide_nothing() {
    let filter = filter!(&settings());
    for words in 1..=10_u8 {
        let with_options = |source| {
            let mut frame = syn(source, 443);
            frame.splice(34..34, vec![1; usize::from(words) * 4]);
            frame[14] = 0x45 + words;
            let length = u16::try_from(frame.len() - 14).expect("a short frame");
            frame[16..18].copy_from_slice(&length.to_be_bytes());
            frame
        };
        passes(&filter, "options", &with_options(LISTED4));
        is_dropped(
            &filter,
            "a stranger's options",
            &with_options(STRANGER4),
            Reason::SourceNotAllowlisted,
        );
    }
    let authentication = [&[0, 4][..], &[0; 22]].concat();
    let chain = [
        (0, options8()),
        (60, options8()),
        (43, options8()),
        (51, authentication),
        (135, options8()),
        (44, fragment_header(0, false)),
        (139, options8()),
        (140, options8()),
    ];
    for length in 1..=chain.len() {
        passes(
            &filter,
            "a chain",
            &with_extensions(&syn(LISTED6, 443), &chain[..length]),
        );
        let frame = with_extensions(&syn(STRANGER6, 443), &chain[..length]);
        is_dropped(
            &filter,
            "a stranger's chain",
            &frame,
            Reason::SourceNotAllowlisted,
        );
        for cut in 15..frame.len() {
            is_dropped(
                &filter,
                "a chain cut short",
                &frame[..cut],
                Reason::PacketTruncated,
            );
        }
    }
    let nine: Vec<_> = (0..9).map(|_| (60, options8())).collect();
    is_dropped(
        &filter,
        "nine",
        &with_extensions(&syn(LISTED6, 443), &nine),
        Reason::PacketTooManyHeaders,
    );
    let late_hop_by_hop = [(60, options8()), (0, options8())];
    is_dropped(
        &filter,
        "late hop-by-hop options",
        &with_extensions(&syn(LISTED6, 443), &late_hop_by_hop),
        Reason::PacketBadHeader,
    );
    for number in [0, 43, 51, 60, 135, 139, 140] {
        let mut endless = with_extensions(&syn(LISTED6, 443), &[(number, options8())]);
        endless[55] = 255;
        is_dropped(
            &filter,
            "an extension longer than the packet",
            &endless,
            Reason::PacketTruncated,
        );
    }
    passes_as(
        &filter,
        "nothing behind the headers",
        &with_extensions(&from(STRANGER6).icmp(128), &[(59, options8())]),
        Pass::Unguarded,
    );
}

#[test]
fn malformed_packets_are_dropped_whoever_sends_them() {
    let filter = filter!(&settings());
    for frame in [
        syn(LISTED4, 443),
        syn(LISTED6, 443),
        udp(LISTED4, 9),
        udp(LISTED6, 9),
        from(LISTED4).icmp(8),
        from(LISTED6).icmp(128),
    ] {
        for length in 15..frame.len() {
            is_dropped(
                &filter,
                &format!("cut to {length} bytes"),
                &frame[..length],
                Reason::PacketTruncated,
            );
        }
    }
    let (bad, truncated) = (Reason::PacketBadHeader, Reason::PacketTruncated);
    for (what, at, byte, reason) in [
        ("IP version 6 in an IPv4 frame", 14, 0x65, bad),
        ("IP version 0", 14, 0x05, bad),
        ("a header of 16 bytes", 14, 0x44, bad),
        ("a header of no bytes", 14, 0x40, bad),
        ("a total length of nothing", 17, 0, bad),
        ("a total length below the header's", 17, 19, bad),
        ("a header beyond the packet", 14, 0x4f, bad),
        ("a total length without a TCP header", 17, 20, truncated),
        ("a total length inside the TCP header", 17, 39, truncated),
        ("a total length beyond the frame", 16, 1, truncated),
        ("a TCP header of no bytes", 46, 0x00, bad),
        ("a TCP header of 16 bytes", 46, 0x40, bad),
        ("a TCP header beyond the packet", 46, 0xf0, truncated),
    ] {
        let mut frame = syn(LISTED4, 443);
        frame[at] = byte;
        is_dropped(&filter, what, &frame, reason);
    }
    for (what, at, byte, reason) in [
        ("IP version 4 in an IPv6 frame", 14, 0x40, bad),
        ("a payload length beyond the frame", 18, 1, truncated),
        ("a payload length inside the TCP header", 19, 19, truncated),
        ("a payload length of nothing", 19, 0, truncated),
        ("a TCP header of 16 bytes", 66, 0x40, bad),
        ("a TCP header beyond the packet", 66, 0xf0, truncated),
    ] {
        let mut frame = syn(LISTED6, 443);
        frame[at] = byte;
        is_dropped(&filter, what, &frame, reason);
    }
    for (what, byte, reason) in [
        ("a UDP length of nothing", 0, bad),
        ("a UDP length below the header's", 7, bad),
        ("a UDP length beyond the packet", 10, truncated),
    ] {
        let mut frame = udp(LISTED4, 443);
        frame[39] = byte;
        is_dropped(&filter, what, &frame, reason);
    }
    let mut padded = syn(LISTED4, 443);
    padded.extend([0; 6]);
    passes(&filter, "Ethernet padding", &padded);
    let mut short_udp = from(LISTED4).udp(1, 9, &[0; 8]);
    short_udp[39] = 12;
    passes_as(
        &filter,
        "a UDP datagram that does not fill its packet",
        &short_udp,
        Pass::Unguarded,
    );
}

/// The kernel keeps a frame of more than a page in several buffers, of which the program sees the first.
#[test]
fn jumbo_frames_are_judged_by_their_headers_and_counted_with_all_their_bytes() {
    let filter = filter!(&settings());
    for length in [1500, 3500, 3520, 3521, 4096, 9000] {
        let frame = |source: &str, headers: usize| {
            from(source).tcp_with(40000, 443, 0x10, &vec![7; length - headers])
        };
        for (listed, stranger, headers) in [(LISTED4, STRANGER4, 40), (LISTED6, STRANGER6, 60)] {
            let before = filter.counters().expect("counters").all;
            passes(&filter, "a listed source's long frame", &frame(listed, headers));
            is_dropped(
                &filter,
                "a stranger's long frame",
                &frame(stranger, headers),
                Reason::SourceNotAllowlisted,
            );
            let after = filter.counters().expect("counters").all;
            let bytes = length as u64 + 14;
            let name = Pass::Allowlisted.as_str();
            assert_eq!(after.passes[name].bytes - before.passes[name].bytes, bytes);
            let name = Reason::SourceNotAllowlisted.as_str();
            assert_eq!(after.drops[name].bytes - before.drops[name].bytes, bytes);
        }
        let whole = frame(LISTED4, 40);
        is_dropped(
            &filter,
            "a long frame that lacks a byte",
            &whole[..whole.len() - 1],
            Reason::PacketTruncated,
        );
        is_dropped(
            &filter,
            "a stranger's long later fragment",
            &from(STRANGER4).fragment4(IpNumber::TCP, 185, true, &vec![7; length - 20]),
            Reason::FragmentNotAllowlisted,
        );
    }
}
