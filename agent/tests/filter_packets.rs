//! Packet tables: frames in, verdict and counter out, run by the kernel on the loaded program (BPF_PROG_TEST_RUN).
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test says what it expects by panicking"
)]

use std::{net::IpAddr, time::Duration};

use etherparse::{IpFragOffset, IpNumber, Ipv4Extensions, Ipv4Header, LinkExtHeader, PacketBuilder, VlanId};
use ipnet::IpNet;
use spinegate::{
    config::{Filter as Settings, FilterMode, GuardedService, Scope, Service, ServiceProtocol, Source},
    filter::{Filter, NewVerdict},
};
use spinegate_common::{Reason, VerdictKind, VerdictOrigin};

const LISTED4: [u8; 4] = [192, 0, 2, 7];
const STRANGER4: [u8; 4] = [198, 51, 100, 9];
const EDGE4: [u8; 4] = [203, 0, 113, 1];
const LISTED6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
const STRANGER6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
const EDGE6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

fn settings() -> Settings {
    Settings {
        max_sources: 1024,
        services: vec![guarded("tcp/443"), guarded("tcp/636")],
        sources: vec![
            source("192.0.2.0/28", &[]),
            source("2001:db8::/64", &[]),
            source("192.0.2.64/32", &[636]),
        ],
        ..Settings::default()
    }
}

fn guarded(service: &str) -> GuardedService {
    GuardedService::everywhere(service.parse().expect("a service"))
}

fn source(cidr: &str, ports: &[u16]) -> Source {
    Source {
        services: ports
            .iter()
            .map(|port| Service {
                protocol: ServiceProtocol::Tcp,
                port: *port,
            })
            .collect(),
        ..Source::new(cidr.parse().expect("a CIDR"), cidr)
    }
}

fn deny(reason: Reason, origin: VerdictOrigin, ttl: Duration) -> NewVerdict {
    NewVerdict {
        kind: VerdictKind::Deny,
        reason,
        origin,
        ttl,
    }
}

/// The loaded program, or nothing on a machine where it can't be loaded: that is said, and counted as skipped.
fn load(test: &str, settings: &Settings) -> Option<Filter> {
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED {test}: loading an XDP program needs root");
        return None;
    }
    Some(Filter::unattached(settings, &settings.sources).expect("the kernel takes the program"))
}

fn tcp4(source: [u8; 4], port: u16) -> Vec<u8> {
    build(
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4(source, EDGE4, 64)
            .tcp(40000, port, 1, 1024)
            .syn(),
    )
}

fn tcp6(source: [u8; 16], port: u16) -> Vec<u8> {
    build(
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv6(source, EDGE6, 64)
            .tcp(40000, port, 1, 1024)
            .syn(),
    )
}

fn build(step: etherparse::PacketBuilderStep<etherparse::TcpHeader>) -> Vec<u8> {
    let mut frame = Vec::new();
    step.write(&mut frame, &[]).expect("a frame");
    frame
}

fn drops(filter: &Filter, reason: Reason) -> u64 {
    let counters = filter.counters().expect("counters");
    counters
        .all
        .drops
        .get(reason.as_str())
        .map_or(0, |tally| tally.packets)
}

#[track_caller]
fn passes(filter: &Filter, what: &str, frame: &[u8]) {
    assert!(filter.test(frame, 1).expect("a test run").0, "{what} should pass");
}

#[track_caller]
fn is_dropped(filter: &Filter, what: &str, frame: &[u8], reason: Reason) {
    let before = drops(filter, reason);
    let (passed, _) = filter.test(frame, 1).expect("a test run");
    assert!(!passed, "{what} should be dropped for {}", reason.as_str());
    assert_eq!(
        drops(filter, reason),
        before + 1,
        "{what}: counted as {}",
        reason.as_str()
    );
}

fn vlans(frame: &[u8], tags: usize) -> Vec<u8> {
    let mut tagged = frame[..12].to_vec();
    for tag in 0..tags {
        tagged.extend(if tag == 0 { [0x88, 0xa8] } else { [0x81, 0x00] });
        tagged.extend([0, 5]);
    }
    tagged.extend(&frame[12..]);
    tagged
}

/// The IPv6 frame with extension headers (number, bytes) put in front of its transport header.
fn with_extensions(frame: &[u8], extensions: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut built = frame[..54].to_vec();
    let transport = frame[20];
    let mut next_at = 20;
    for (number, bytes) in extensions {
        built[next_at] = *number;
        next_at = built.len();
        built.extend(bytes);
        built[next_at] = transport;
    }
    built.extend(&frame[54..]);
    let length = u16::try_from(built.len() - 54)
        .expect("a short frame")
        .to_be_bytes();
    built[18..20].copy_from_slice(&length);
    built
}

fn options8() -> Vec<u8> {
    vec![0, 0, 1, 4, 0, 0, 0, 0]
}

fn fragment_header(offset: u16, more: bool) -> Vec<u8> {
    let piece = (offset << 3 | u16::from(more)).to_be_bytes();
    vec![0, 0, piece[0], piece[1], 0, 0, 0, 1]
}

fn fragment4(source: [u8; 4], offset: u16, more: bool, payload: &[u8]) -> Vec<u8> {
    let mut header = Ipv4Header::new(
        u16::try_from(payload.len()).expect("a short payload"),
        64,
        IpNumber::TCP,
        source,
        EDGE4,
    )
    .expect("a header");
    header.fragment_offset = IpFragOffset::try_new(offset).expect("an offset");
    header.more_fragments = more;
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ip(etherparse::IpHeaders::Ipv4(header, Ipv4Extensions::default()))
        .write(&mut frame, IpNumber::TCP, payload)
        .expect("a frame");
    frame
}

#[test]
fn only_allowlisted_sources_reach_a_guarded_service() {
    let settings = settings();
    let Some(filter) = load("only_allowlisted_sources_reach_a_guarded_service", &settings) else {
        return;
    };
    passes(&filter, "a listed IPv4 source", &tcp4(LISTED4, 443));
    passes(&filter, "a listed IPv6 source", &tcp6(LISTED6, 443));
    is_dropped(
        &filter,
        "an IPv4 stranger",
        &tcp4(STRANGER4, 443),
        Reason::SourceNotAllowlisted,
    );
    is_dropped(
        &filter,
        "an IPv6 stranger",
        &tcp6(STRANGER6, 443),
        Reason::SourceNotAllowlisted,
    );
    is_dropped(
        &filter,
        "the address after the prefix",
        &tcp4([192, 0, 2, 16], 443),
        Reason::SourceNotAllowlisted,
    );
    is_dropped(
        &filter,
        "a source of another service",
        &tcp4([192, 0, 2, 64], 443),
        Reason::SourceNotAllowlisted,
    );
    passes(&filter, "a source of this service", &tcp4([192, 0, 2, 64], 636));
    passes(&filter, "a stranger to an unguarded port", &tcp4(STRANGER4, 22));
    let mut udp = Vec::new();
    let step = PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4(STRANGER4, EDGE4, 64)
        .udp(443, 443);
    step.write(&mut udp, &[1]).expect("a frame");
    passes(&filter, "the same port of an unguarded protocol", &udp);
    let arp = [&[0xff; 6][..], &[2; 6], &[8, 6], &[0; 28]].concat();
    passes(&filter, "ARP", &arp);
}

#[test]
fn vlan_tags_hide_nothing() {
    let settings = settings();
    let Some(filter) = load("vlan_tags_hide_nothing", &settings) else {
        return;
    };
    for tags in [1, 2] {
        passes(
            &filter,
            "a tagged listed source",
            &vlans(&tcp4(LISTED4, 443), tags),
        );
        is_dropped(
            &filter,
            "a tagged stranger",
            &vlans(&tcp4(STRANGER4, 443), tags),
            Reason::SourceNotAllowlisted,
        );
        is_dropped(
            &filter,
            "a tagged IPv6 stranger",
            &vlans(&tcp6(STRANGER6, 443), tags),
            Reason::SourceNotAllowlisted,
        );
    }
    is_dropped(
        &filter,
        "three tags",
        &vlans(&tcp4(LISTED4, 443), 3),
        Reason::PacketTooManyHeaders,
    );
    // What etherparse calls one tag is what the table builds by hand.
    let tagged = PacketBuilder::ethernet2([2; 6], [4; 6])
        .single_vlan(VlanId::try_new(5).expect("an id"))
        .ipv4(STRANGER4, EDGE4, 64)
        .tcp(40000, 443, 1, 1024)
        .syn();
    let frame = build(tagged);
    let sliced = etherparse::PacketHeaders::from_ethernet_slice(&frame).expect("a frame");
    assert!(matches!(sliced.link_exts.first(), Some(LinkExtHeader::Vlan(_))));
    is_dropped(
        &filter,
        "a stranger in a VLAN",
        &frame,
        Reason::SourceNotAllowlisted,
    );
}

#[test]
fn ipv4_options_and_ipv6_extension_headers_hide_nothing() {
    let settings = settings();
    let Some(filter) = load("ipv4_options_and_ipv6_extension_headers_hide_nothing", &settings) else {
        return;
    };
    for source in [LISTED4, STRANGER4] {
        let mut frame = tcp4(source, 443);
        frame.splice(34..34, [1; 40]);
        frame[14] = 0x4f;
        let length = u16::try_from(frame.len() - 14)
            .expect("a short frame")
            .to_be_bytes();
        frame[16..18].copy_from_slice(&length);
        if source == LISTED4 {
            passes(&filter, "options", &frame);
        } else {
            is_dropped(&filter, "options", &frame, Reason::SourceNotAllowlisted);
        }
    }
    let chain = [
        (0, options8()),
        (60, options8()),
        (43, options8()),
        (
            51,
            vec![
                0, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            ],
        ),
        (135, options8()),
        (44, fragment_header(0, false)),
        (60, options8()),
        (140, options8()),
    ];
    for length in 1..=chain.len() {
        passes(
            &filter,
            "a chain",
            &with_extensions(&tcp6(LISTED6, 443), &chain[..length]),
        );
        is_dropped(
            &filter,
            "a stranger's chain",
            &with_extensions(&tcp6(STRANGER6, 443), &chain[..length]),
            Reason::SourceNotAllowlisted,
        );
    }
    let nine: Vec<_> = (0..9).map(|_| (60, options8())).collect();
    is_dropped(
        &filter,
        "nine",
        &with_extensions(&tcp6(LISTED6, 443), &nine),
        Reason::PacketTooManyHeaders,
    );
    let late_hop_by_hop = [(60, options8()), (0, options8())];
    is_dropped(
        &filter,
        "late hop-by-hop options",
        &with_extensions(&tcp6(LISTED6, 443), &late_hop_by_hop),
        Reason::PacketBadHeader,
    );
    let mut endless = with_extensions(&tcp6(LISTED6, 443), &[(60, options8())]);
    endless[55] = 255;
    is_dropped(
        &filter,
        "an extension longer than the packet",
        &endless,
        Reason::PacketTruncated,
    );
}

#[test]
fn fragments_pass_only_from_allowlisted_sources() {
    let settings = settings();
    let Some(filter) = load("fragments_pass_only_from_allowlisted_sources", &settings) else {
        return;
    };
    let payload = [0xbb; 24];
    passes(
        &filter,
        "a listed source's later fragment",
        &fragment4(LISTED4, 185, false, &payload),
    );
    passes(
        &filter,
        "one of a source of another service",
        &fragment4([192, 0, 2, 64], 185, false, &payload),
    );
    is_dropped(
        &filter,
        "a stranger's",
        &fragment4(STRANGER4, 185, true, &payload),
        Reason::FragmentNotAllowlisted,
    );
    is_dropped(
        &filter,
        "one over the flags",
        &fragment4(LISTED4, 1, false, &payload),
        Reason::PacketBadHeader,
    );
    let tcp = tcp4(LISTED4, 443)[34..].to_vec();
    passes(&filter, "a first fragment", &fragment4(LISTED4, 0, true, &tcp));
    is_dropped(
        &filter,
        "a tiny first one",
        &fragment4(LISTED4, 0, true, &tcp[..16]),
        Reason::FragmentWithoutPorts,
    );
    let later = |source| with_extensions(&tcp6(source, 443), &[(44, fragment_header(185, false))]);
    passes(&filter, "a listed IPv6 later fragment", &later(LISTED6));
    is_dropped(
        &filter,
        "a stranger's IPv6 one",
        &later(STRANGER6),
        Reason::FragmentNotAllowlisted,
    );
    let behind_options = |source| {
        let mut frame = with_extensions(&tcp6(source, 443), &[(44, fragment_header(185, false))]);
        frame[54] = 60;
        frame
    };
    is_dropped(
        &filter,
        "one with options",
        &behind_options(STRANGER6),
        Reason::FragmentNotAllowlisted,
    );
    let twice = [(44, fragment_header(0, true)), (44, fragment_header(0, true))];
    is_dropped(
        &filter,
        "cut twice",
        &with_extensions(&tcp6(LISTED6, 443), &twice),
        Reason::PacketBadHeader,
    );
}

#[test]
fn malformed_packets_are_dropped_whoever_sends_them() {
    let settings = settings();
    let Some(filter) = load("malformed_packets_are_dropped_whoever_sends_them", &settings) else {
        return;
    };
    for frame in [tcp4(LISTED4, 443), tcp6(LISTED6, 443)] {
        for length in 15..frame.len() {
            is_dropped(
                &filter,
                &format!("cut to {length} bytes"),
                &frame[..length],
                Reason::PacketTruncated,
            );
        }
    }
    let bent = |at: usize, byte: u8| {
        let mut frame = tcp4(LISTED4, 443);
        frame[at] = byte;
        frame
    };
    is_dropped(
        &filter,
        "IP version 6 in an IPv4 frame",
        &bent(14, 0x65),
        Reason::PacketBadHeader,
    );
    is_dropped(
        &filter,
        "a header of 16 bytes",
        &bent(14, 0x44),
        Reason::PacketBadHeader,
    );
    is_dropped(
        &filter,
        "a total length below the header's",
        &bent(17, 19),
        Reason::PacketBadHeader,
    );
    is_dropped(
        &filter,
        "a total length inside the TCP header",
        &bent(17, 39),
        Reason::PacketTruncated,
    );
    is_dropped(
        &filter,
        "a total length beyond the frame",
        &bent(16, 1),
        Reason::PacketTruncated,
    );
    is_dropped(
        &filter,
        "a TCP header of 16 bytes",
        &bent(46, 0x40),
        Reason::PacketBadHeader,
    );
    is_dropped(
        &filter,
        "a TCP header beyond the packet",
        &bent(46, 0xf0),
        Reason::PacketTruncated,
    );
    let mut padded = tcp4(LISTED4, 443);
    padded.extend([0; 6]);
    passes(&filter, "Ethernet padding", &padded);
}

#[test]
fn a_deny_verdict_drops_the_next_packet_until_it_expires() {
    let settings = settings();
    let Some(mut filter) = load("a_deny_verdict_drops_the_next_packet_until_it_expires", &settings) else {
        return;
    };
    for (source, frame) in [
        (IpNet::from(IpAddr::from(LISTED4)), tcp4(LISTED4, 443)),
        (IpNet::from(IpAddr::from(LISTED6)), tcp6(LISTED6, 443)),
    ] {
        passes(&filter, "before", &frame);
        let ttl = Duration::from_millis(300);
        filter
            .judge(source, deny(Reason::FqdnMismatch, VerdictOrigin::Agent, ttl))
            .expect("a verdict");
        is_dropped(&filter, "denied", &frame, Reason::VerdictDeny);
        let listed = filter.verdicts().expect("verdicts");
        assert_eq!(
            listed.iter().map(|verdict| verdict.source).collect::<Vec<_>>(),
            [source]
        );
        assert_eq!(listed[0].reason, Reason::FqdnMismatch);
        assert!(listed[0].remaining <= ttl && !listed[0].ordered);
        filter.apply(&settings, &settings.sources).expect("a policy swap");
        is_dropped(&filter, "denied after a policy swap", &frame, Reason::VerdictDeny);
        std::thread::sleep(ttl);
        passes(&filter, "after it expired", &frame);
        assert_eq!(filter.verdicts().expect("verdicts"), []);
        assert_eq!(filter.forget_expired().expect("a sweep"), 1);
    }
    let (source, other) = (IpNet::from(IpAddr::from(LISTED4)), [192, 0, 2, 8]);
    filter
        .judge(
            source,
            deny(
                Reason::OperatorOrder,
                VerdictOrigin::Operator,
                Duration::from_secs(60),
            ),
        )
        .expect("a verdict");
    passes(&filter, "another source", &tcp4(other, 443));
    passes(&filter, "an unguarded port", &tcp4(LISTED4, 22));
    is_dropped(
        &filter,
        "a fragment",
        &fragment4(LISTED4, 185, false, &[0; 24]),
        Reason::VerdictDeny,
    );
    assert!(filter.lift(source).expect("lifted"));
    assert!(!filter.lift(source).expect("nothing left to lift"));
    passes(&filter, "lifted", &tcp4(LISTED4, 443));
}

#[test]
fn monitor_mode_counts_and_passes() {
    let mut settings = settings();
    settings.mode = FilterMode::Monitor;
    let Some(filter) = load("monitor_mode_counts_and_passes", &settings) else {
        return;
    };
    passes(&filter, "a stranger", &tcp4(STRANGER4, 443));
    passes(&filter, "half a header", &tcp4(LISTED4, 443)[..20]);
    let counters = filter.counters().expect("counters");
    let would = |reason: Reason| counters.all.would_drops[reason.as_str()].packets;
    assert_eq!(
        (
            would(Reason::SourceNotAllowlisted),
            would(Reason::PacketTruncated)
        ),
        (1, 1)
    );
    assert_eq!(drops(&filter, Reason::SourceNotAllowlisted), 0);
    assert!(counters.all.passes.values().all(|tally| tally.packets == 0));
}

#[test]
fn host_scope_guards_everything_but_control_traffic() {
    let mut settings = settings();
    settings.scope = Scope::Host;
    let Some(filter) = load("host_scope_guards_everything_but_control_traffic", &settings) else {
        return;
    };
    is_dropped(
        &filter,
        "a stranger to SSH",
        &tcp4(STRANGER4, 22),
        Reason::SourceNotAllowlisted,
    );
    passes(&filter, "a listed source to SSH", &tcp4(LISTED4, 22));
    is_dropped(
        &filter,
        "a source of one service",
        &tcp4([192, 0, 2, 64], 22),
        Reason::SourceNotAllowlisted,
    );
    let arp = [&[0xff; 6][..], &[2; 6], &[8, 6], &[0; 28]].concat();
    passes(&filter, "ARP", &arp);
    let loopback_test = [&[0xff; 6][..], &[2; 6], &[0x90, 0], &[0; 28]].concat();
    is_dropped(
        &filter,
        "an unknown ethertype",
        &loopback_test,
        Reason::EthertypeUnknown,
    );
    let icmp = |kind: u8| {
        let mut frame = Vec::new();
        let step = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(STRANGER4, EDGE4, 64);
        step.icmpv4_raw(kind, 0, [0; 4])
            .write(&mut frame, &[0; 28])
            .expect("a frame");
        frame
    };
    passes(&filter, "fragmentation needed", &icmp(3));
    is_dropped(&filter, "a ping", &icmp(8), Reason::SourceNotAllowlisted);
    let solicitation = |hops: u8| {
        let mut frame = Vec::new();
        let step = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv6(STRANGER6, EDGE6, hops);
        step.icmpv6_raw(135, 0, [0; 4])
            .write(&mut frame, &[0; 16])
            .expect("a frame");
        frame
    };
    passes(&filter, "a neighbour's solicitation", &solicitation(255));
    is_dropped(
        &filter,
        "one from beyond a router",
        &solicitation(254),
        Reason::SourceNotAllowlisted,
    );
}

#[test]
fn a_swapped_policy_holds_for_the_next_packet_and_counters_go_on() {
    let before = settings();
    let Some(mut filter) = load(
        "a_swapped_policy_holds_for_the_next_packet_and_counters_go_on",
        &before,
    ) else {
        return;
    };
    is_dropped(
        &filter,
        "a stranger",
        &tcp4(STRANGER4, 443),
        Reason::SourceNotAllowlisted,
    );
    let mut after = settings();
    after.sources = vec![source("198.51.100.0/24", &[])];
    for generation in 2..6 {
        let now = if generation % 2 == 0 { &after } else { &before };
        filter.apply(now, &now.sources).expect("a policy swap");
        assert_eq!(filter.generation(), generation);
        let (in_force, out_of_force) = if generation % 2 == 0 {
            (STRANGER4, LISTED4)
        } else {
            (LISTED4, STRANGER4)
        };
        passes(&filter, "a source of the policy in force", &tcp4(in_force, 443));
        is_dropped(
            &filter,
            "a source of the other",
            &tcp4(out_of_force, 443),
            Reason::SourceNotAllowlisted,
        );
    }
    assert_eq!(drops(&filter, Reason::SourceNotAllowlisted), 5);
}

#[test]
fn drops_are_reported_with_their_reason_within_the_budget() {
    let mut settings = settings();
    settings.events_per_second = 3;
    let Some(mut filter) = load(
        "drops_are_reported_with_their_reason_within_the_budget",
        &settings,
    ) else {
        return;
    };
    let mut events = filter.events().expect("a ring buffer").expect("the only reader");
    assert!(filter.events().expect("a ring buffer").is_none());
    is_dropped(
        &filter,
        "a stranger",
        &tcp4(STRANGER4, 443),
        Reason::SourceNotAllowlisted,
    );
    let event = events.next().expect("an event");
    assert_eq!(event.reason, Reason::SourceNotAllowlisted);
    assert_eq!(
        (event.source, event.source_port),
        (IpAddr::from(STRANGER4), 40000)
    );
    assert_eq!(
        (event.destination, event.destination_port),
        (IpAddr::from(EDGE4), 443)
    );
    filter.test(&tcp4(STRANGER4, 443), 1000).expect("a test run");
    let reported = events.count();
    let lost = filter.counters().expect("counters").lost_events;
    assert!(
        reported < 1000 && reported as u64 + lost == 1000,
        "{reported} reported, {lost} lost"
    );
}
