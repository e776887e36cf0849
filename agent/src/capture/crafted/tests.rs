//! The packet language, checked against what the filter's own parser reads from the frames.

use proptest::prelude::*;
use spinegate_common::packet::{self, Address, Fragment, Network, Packet, protocol};

use super::*;

fn parsed(text: &str) -> Packet {
    let frame = text.parse::<CraftedPacket>().unwrap().frame();
    let mut packet = Packet::default();
    packet::parse(&frame.as_slice(), &mut packet).unwrap();
    packet
}

#[test]
fn a_tcp_packet_is_a_syn_unless_it_says_otherwise() {
    let syn = parsed("tcp 192.0.2.7:40000 > 443");
    assert_eq!((syn.network, syn.protocol), (Network::Ipv4, protocol::TCP));
    assert_eq!(
        (syn.source, syn.source_port),
        (Address::v4([192, 0, 2, 7]), 40000)
    );
    assert_eq!(
        (syn.destination, syn.destination_port),
        (Address::v4([203, 0, 113, 1]), 443)
    );
    assert!(syn.opens_connection());
    assert_eq!(parsed("tcp 192.0.2.7 > 443").source_port, SOURCE_PORT);
    assert_eq!(
        parsed("tcp 192.0.2.7 > 198.51.100.1:443 flags fin,ack").tcp_flags,
        0x11
    );
    assert_eq!(parsed("tcp 192.0.2.7 > 443 flags none").tcp_flags, 0);
}

#[test]
fn udp_and_icmp_go_over_ipv4_and_ipv6() {
    let udp = parsed("udp [2001:db8::7]:53 > [2001:db8::1]:5353");
    assert_eq!((udp.network, udp.protocol), (Network::Ipv6, protocol::UDP));
    assert_eq!((udp.source_port, udp.destination_port), (53, 5353));
    assert_eq!(parsed("tcp 2001:db8::7 > 443").network, Network::Ipv6);
    let echo = parsed("icmp 192.0.2.7 > 198.51.100.1");
    assert_eq!((echo.protocol, echo.icmp_type), (protocol::ICMP, 8));
    let solicitation = parsed("icmp 2001:db8::7 > [2001:db8::1] type 135");
    assert_eq!(
        (solicitation.protocol, solicitation.icmp_type),
        (protocol::ICMPV6, 135)
    );
    assert_eq!(parsed("icmp 2001:db8::7 > 2001:db8::1").icmp_type, 128);
}

#[test]
fn vlan_tags_and_later_fragments_are_written() {
    let text = "tcp 192.0.2.7 > 443 vlan 5 vlan 6";
    let frame = text.parse::<CraftedPacket>().unwrap().frame();
    assert_eq!(frame[12..20], [0x88, 0xa8, 0, 5, 0x81, 0, 0, 6]);
    assert_eq!(parsed(text).destination_port, 443);
    for source in ["192.0.2.7", "2001:db8::7"] {
        let later = parsed(&format!("tcp {source} > 443 fragment later vlan 1"));
        assert_eq!((later.fragment, later.protocol), (Fragment::Later, protocol::TCP));
    }
}

#[test]
fn a_fault_names_its_word_and_shows_an_example() {
    for (text, said) in [
        ("", "after word 0: there should be a protocol"),
        (
            "sctp 192.0.2.7 > 443",
            "word 1, \"sctp\": it is not a protocol: tcp, udp or icmp",
        ),
        (
            "tcp 192.0.2.777 > 443",
            "word 2, \"192.0.2.777\": it is not the source",
        ),
        ("tcp 192.0.2.7:70000 > 443", "word 2, \"192.0.2.7:70000\""),
        ("tcp 2001:db8::7:99999 > 443", "word 2, \"2001:db8::7:99999\""),
        ("tcp 192.0.2.7 443", "word 3, \"443\": it is not `>`"),
        ("tcp 192.0.2.7 >", "after word 3: there should be the destination"),
        ("tcp 192.0.2.7 > +443", "word 4, \"+443\""),
        (
            "tcp 192.0.2.7 > 203.0.113.1",
            "word 4, \"203.0.113.1\": it is not the destination: a port",
        ),
        (
            "tcp 192.0.2.7 > [2001:db8::1]:443",
            "word 4, \"[2001:db8::1]:443\"",
        ),
        (
            "icmp 192.0.2.7:1 > 192.0.2.8",
            "word 2, \"192.0.2.7:1\": it is not the source's address",
        ),
        (
            "tcp 192.0.2.7 > 443 flags sny",
            "word 6, \"sny\": it is not TCP flags",
        ),
        (
            "tcp 192.0.2.7 > 443 flags syn flags ack",
            "word 7, \"flags\": it is said twice",
        ),
        (
            "udp 192.0.2.7 > 443 flags syn",
            "word 5, \"flags\": this protocol does not have it",
        ),
        (
            "tcp 192.0.2.7 > 443 type 8",
            "word 5, \"type\": this protocol does not have it",
        ),
        ("icmp 192.0.2.7 > 192.0.2.8 type 256", "word 6, \"256\""),
        (
            "tcp 192.0.2.7 > 443 vlan 4095",
            "word 6, \"4095\": it is not a VLAN's number",
        ),
        (
            "tcp 192.0.2.7 > 443 vlan 1 vlan 2 vlan 3",
            "word 9, \"vlan\": there are two VLAN tags already",
        ),
        (
            "tcp 192.0.2.7 > 443 fragment first",
            "word 6, \"first\": it is not `later`",
        ),
        (
            "tcp 192.0.2.7 > 443 and more",
            "word 5, \"and\": it is not an option",
        ),
    ] {
        let error = text.parse::<CraftedPacket>().unwrap_err().to_string();
        assert!(error.starts_with(said), "{text}: {error}");
        assert!(
            error.ends_with("write it as in `tcp 192.0.2.7:40000 > 443 flags syn`"),
            "{error}"
        );
    }
    assert!(EXAMPLE.parse::<CraftedPacket>().is_ok());
}

proptest! {
    #[test]
    fn any_text_is_a_packet_or_a_fault_without_a_panic(text in any::<String>()) {
        let _ = text.parse::<CraftedPacket>().map(|packet| packet.frame());
    }

    #[test]
    fn any_words_of_the_language_are_a_sound_packet_or_a_fault(
        words in proptest::collection::vec(
            prop_oneof![
                Just("tcp"), Just("udp"), Just("icmp"), Just("192.0.2.7"), Just("[2001:db8::7]:1"), Just(">"),
                Just("443"), Just("203.0.113.1:443"), Just("flags"), Just("syn,ack"), Just("type"), Just("8"),
                Just("vlan"), Just("7"), Just("fragment"), Just("later"), Just("::1"), Just("[]:1"), Just(":"),
            ],
            0..12,
        )
    ) {
        if let Ok(packet) = words.join(" ").parse::<CraftedPacket>() {
            let frame = packet.frame();
            let mut read = Packet::default();
            prop_assert_eq!(packet::parse(&frame.as_slice(), &mut read), Ok(()));
        }
    }
}
