//! Scope `host`: everything is guarded but what the host's network needs.

use spinegate::config::{Filter as Settings, Scope, Source};
use spinegate_common::{Pass, Reason};

use crate::packets::*;

const LINK_LOCAL: &str = "fe80::9";

fn host() -> Settings {
    Settings {
        scope: Scope::Host,
        ..settings()
    }
}

#[test]
fn host_scope_guards_everything_but_control_traffic() {
    let filter = filter!(&host());
    passes(&filter, "a listed source to SSH", &syn(LISTED4, 22));
    passes(&filter, "a listed source's datagram", &udp(LISTED6, 53));
    passes(&filter, "a listed source's ping", &from(LISTED4).icmp(8));
    for (what, frame) in [
        ("a stranger to SSH", syn(STRANGER4, 22)),
        ("a stranger's datagram", udp(STRANGER6, 53)),
        ("a source of one service", syn("192.0.2.64", 22)),
        ("a ping", from(STRANGER4).icmp(8)),
        ("a redirect", from(STRANGER4).icmp(5)),
        ("an IPv6 ping", from(STRANGER6).icmp(128)),
    ] {
        is_dropped(&filter, what, &frame, Reason::SourceNotAllowlisted);
    }
    is_dropped(
        &filter,
        "a stranger's later fragment",
        &later(STRANGER4),
        Reason::FragmentNotAllowlisted,
    );
    passes_as(
        &filter,
        "a listed source's later fragment",
        &later(LISTED4),
        Pass::Fragment,
    );
    passes_as(&filter, "ARP", &ethertype(0x0806), Pass::Control);
    for number in [0x9000, 0x88cc, 0x0026] {
        is_dropped(
            &filter,
            "an unknown ethertype",
            &ethertype(number),
            Reason::EthertypeUnknown,
        );
    }
}

#[test]
fn errors_that_tcp_needs_and_neighbours_get_through() {
    let filter = filter!(&host());
    for kind in [3, 11, 12] {
        passes_as(
            &filter,
            "an error over IPv4",
            &from(STRANGER4).icmp(kind),
            Pass::Control,
        );
    }
    for kind in 1..=4 {
        passes_as(
            &filter,
            "an error over IPv6",
            &from(STRANGER6).icmp(kind),
            Pass::Control,
        );
    }
    for kind in 133..=137 {
        passes_as(
            &filter,
            "a neighbour",
            &from(LINK_LOCAL).hops(255).icmp(kind),
            Pass::Control,
        );
        is_dropped(
            &filter,
            "one from beyond a router",
            &from(STRANGER6).hops(254).icmp(kind),
            Reason::SourceNotAllowlisted,
        );
    }
    for kind in [130, 131, 132, 143] {
        // MLD comes with a router alert: RFC 3810 section 5.
        let report = with_extensions(&from(LINK_LOCAL).hops(1).icmp(kind), &[(0, options8())]);
        passes_as(&filter, "a listener's report", &report, Pass::Control);
        is_dropped(
            &filter,
            "one with hops to go",
            &from(LINK_LOCAL).hops(2).icmp(kind),
            Reason::SourceNotAllowlisted,
        );
    }
    for kind in [0, 127, 129, 138, 144] {
        is_dropped(
            &filter,
            "another message",
            &from(LINK_LOCAL).hops(255).icmp(kind),
            Reason::SourceNotAllowlisted,
        );
    }
}

#[test]
fn a_dhcp_servers_answers_get_through() {
    let filter = filter!(&host());
    for (source, from_port, to_port) in [("10.9.9.9", 67, 68), (LINK_LOCAL, 547, 546)] {
        passes_as(
            &filter,
            "an answer",
            &from(source).udp(from_port, to_port, &[0; 16]),
            Pass::Control,
        );
        for (from_port, to_port) in [(from_port, 9), (9, to_port), (to_port, from_port)] {
            is_dropped(
                &filter,
                "something like it",
                &from(source).udp(from_port, to_port, &[0; 16]),
                Reason::SourceNotAllowlisted,
            );
        }
        is_dropped(
            &filter,
            "the same ports of TCP",
            &from(source).tcp(from_port, to_port, 0x10),
            Reason::SourceNotAllowlisted,
        );
    }
}

#[test]
fn answers_come_from_the_ports_that_a_source_may_answer_from() {
    const SERVER4: &str = "198.51.100.53";
    const SERVER6: &str = "2001:db8:5353::53";
    let mut settings = host();
    settings.sources.extend([SERVER4, SERVER6].map(|server| Source {
        reply_ports: vec![53, 443],
        ..Source::new(net(server), server)
    }));
    let mut filter = filter!(&settings);
    let not_listed = Reason::SourceNotAllowlisted;
    for server in [SERVER4, SERVER6] {
        let answers = [
            from(server).udp(53, 40000, &[1]),
            from(server).udp(53, 1024, &[1]),
            from(server).udp(53, 65535, &[1]),
            from(server).tcp(53, 40000, 0x10),
            from(server).tcp(443, 40000, 0x12),
            from(server).tcp(443, 40000, 0x04),
            vlans(&from(server).udp(53, 40000, &[1]), 2),
        ];
        for answer in answers {
            passes_as(&filter, "an answer", &answer, Pass::Reply);
        }
        for (what, frame) in [
            ("a new connection", from(server).tcp(443, 40000, 0x02)),
            ("one with urgent data", from(server).tcp(443, 40000, 0x22)),
            ("one to a privileged port", from(server).udp(53, 1023, &[1])),
            ("one from another port", from(server).udp(54, 40000, &[1])),
            ("one to a service", from(server).tcp(53, 443, 0x10)),
            (
                "a ping",
                from(server).icmp(if server == SERVER4 { 8 } else { 128 }),
            ),
        ] {
            is_dropped(&filter, what, &frame, not_listed);
        }
        is_dropped(
            &filter,
            "a later fragment",
            &later(server),
            Reason::FragmentNotAllowlisted,
        );
    }
    for stranger in [STRANGER4, STRANGER6] {
        is_dropped(
            &filter,
            "a stranger's answer",
            &from(stranger).udp(53, 40000, &[1]),
            not_listed,
        );
    }
    filter.judge(net(SERVER4), deny(HOUR)).expect("a verdict");
    is_dropped(
        &filter,
        "a denied server's answer",
        &from(SERVER4).udp(53, 40000, &[1]),
        Reason::VerdictDeny,
    );

    settings.scope = Scope::Services;
    filter.apply(&settings, &settings.sources).expect("a policy");
    passes_as(
        &filter,
        "in scope `services` nothing waits for answers",
        &from(STRANGER4).udp(53, 40000, &[1]),
        Pass::Unguarded,
    );
}

#[test]
fn control_traffic_has_a_budget() {
    let mut settings = host();
    settings.control_per_second = 5;
    let filter = filter!(&settings);
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    let begun = std::time::Instant::now();
    for _ in 0..2000 {
        filter.test(&ethertype(0x0806), 1).expect("a test run");
    }
    let passed = counted(&filter, spinegate_common::Outcome::Passed(Pass::Control));
    let dropped = counted(&filter, spinegate_common::Outcome::Dropped(Reason::ControlRate));
    assert_eq!(passed + dropped, 2000);
    // Every CPU has its own.
    let most = cpus * (5 + 5 * (begun.elapsed().as_secs() + 1));
    assert!(
        (5..=most).contains(&passed),
        "{passed} passed, at most {most} should"
    );
    passes(&filter, "what is not control traffic", &syn(LISTED4, 22));
    std::thread::sleep(std::time::Duration::from_millis(500));
    passes_as(
        &filter,
        "control traffic after a pause",
        &ethertype(0x0806),
        Pass::Control,
    );
}
