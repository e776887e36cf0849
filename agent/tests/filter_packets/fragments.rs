//! Pieces of packets: the first has the ports, the others have nothing but their source.

use etherparse::IpNumber;
use spinegate_common::{Outcome, Pass, Reason};

use crate::packets::*;

#[test]
fn fragments_pass_only_from_allowlisted_sources() {
    let filter = filter!(&settings());
    let payload = [0xbb; 24];
    let piece = |source: &str, offset, more, payload: &[u8]| {
        from(source).fragment4(IpNumber::TCP, offset, more, payload)
    };
    for (what, frame) in [
        ("a listed source's", later(LISTED4)),
        ("a listed IPv6 source's", later(LISTED6)),
        ("one of a source of another service", later("192.0.2.64")),
        ("one from the middle", piece(LISTED4, 185, true, &payload)),
        ("one without a byte", piece(LISTED4, 185, false, &[])),
    ] {
        passes_as(&filter, what, &frame, Pass::Fragment);
    }
    let behind_options = |source| {
        let mut frame = later(source);
        frame[54] = 60;
        frame
    };
    passes_as(
        &filter,
        "a listed source's with options",
        &behind_options(LISTED6),
        Pass::Fragment,
    );
    for (what, frame) in [
        ("a stranger's", piece(STRANGER4, 185, true, &payload)),
        ("a stranger's last", later(STRANGER4)),
        ("a stranger's IPv6 one", later(STRANGER6)),
        ("a stranger's with options", behind_options(STRANGER6)),
    ] {
        is_dropped(&filter, what, &frame, Reason::FragmentNotAllowlisted);
    }
    passes_as(
        &filter,
        "a stranger's of a protocol that nothing guards",
        &from(STRANGER4).fragment4(IpNumber::UDP, 185, false, &payload),
        Pass::Unguarded,
    );
    is_dropped(
        &filter,
        "one over the flags",
        &piece(LISTED4, 1, false, &payload),
        Reason::PacketBadHeader,
    );
    passes_as(
        &filter,
        "one at the same place of another protocol",
        &from(STRANGER4).fragment4(IpNumber::UDP, 1, false, &payload),
        Pass::Unguarded,
    );
}

#[test]
fn a_first_fragment_is_judged_by_its_ports_and_must_have_them() {
    let filter = filter!(&settings());
    let tcp = syn(LISTED4, 443)[34..].to_vec();
    let first = |source: &str, payload: &[u8]| from(source).fragment4(IpNumber::TCP, 0, true, payload);
    passes(&filter, "a listed source's", &first(LISTED4, &tcp));
    is_dropped(
        &filter,
        "a stranger's",
        &first(STRANGER4, &tcp),
        Reason::SourceNotAllowlisted,
    );
    for length in [0, 8, 16] {
        is_dropped(
            &filter,
            "a tiny one",
            &first(LISTED4, &tcp[..length]),
            Reason::FragmentWithoutPorts,
        );
    }
    let mut long_header = tcp;
    long_header[12] = 0xf0;
    is_dropped(
        &filter,
        "one that ends in the TCP options",
        &first(LISTED4, &long_header),
        Reason::FragmentWithoutPorts,
    );
    // The datagram's length counts what the later fragments bring.
    let datagram = [
        &9999_u16.to_be_bytes()[..],
        &[0, 9],
        &4000_u16.to_be_bytes(),
        &[0; 10],
    ]
    .concat();
    passes_as(
        &filter,
        "a datagram's",
        &from(STRANGER4).fragment4(IpNumber::UDP, 0, true, &datagram),
        Pass::Unguarded,
    );
    let first6 = |source| with_extensions(&syn(source, 443), &[(44, fragment_header(0, true))]);
    passes(&filter, "a listed IPv6 source's", &first6(LISTED6));
    is_dropped(
        &filter,
        "an IPv6 stranger's",
        &first6(STRANGER6),
        Reason::SourceNotAllowlisted,
    );
    let mut tiny = first6(LISTED6);
    tiny.truncate(54 + 8 + 16);
    tiny[19] = 24;
    is_dropped(&filter, "a tiny IPv6 one", &tiny, Reason::FragmentWithoutPorts);
    let twice = [(44, fragment_header(0, true)), (44, fragment_header(0, true))];
    is_dropped(
        &filter,
        "a packet cut twice",
        &with_extensions(&syn(LISTED6, 443), &twice),
        Reason::PacketBadHeader,
    );
}

#[test]
fn later_fragments_are_watched_only_where_every_service_is() {
    use spinegate::config::ServiceMode::{Enforce, Monitor};
    let mut settings = settings();
    settings.services[0].mode = Some(Monitor);
    let mut filter = filter!(&settings);
    let reason = Reason::FragmentNotAllowlisted;
    is_dropped(&filter, "one of two", &later(STRANGER4), reason);
    settings.services[1].mode = Some(Monitor);
    filter.apply(&settings, &settings.sources).expect("a policy");
    has_outcome(&filter, "both", &later(STRANGER4), Outcome::WouldDrop(reason));
    settings.services[0].mode = Some(Enforce);
    filter.apply(&settings, &settings.sources).expect("a policy");
    is_dropped(&filter, "the other one", &later(STRANGER4), reason);
}
