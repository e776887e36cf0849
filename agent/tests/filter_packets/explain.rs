//! `explain`: the loaded program's own word on a packet, without a trace.

use spinegate::config::Scope;
use spinegate_common::{Outcome, Pass, Reason};

use crate::packets::*;

#[test]
fn an_explanation_names_outcome_service_and_entry() {
    let mut settings = settings();
    settings.sources.push(source("192.0.2.0/30", &["tcp/636"]));
    let mut filter = filter!(&settings);
    for (frame, outcome, service, entry) in [
        (
            syn(LISTED4, 443),
            Outcome::Passed(Pass::Allowlisted),
            "tcp/443",
            Some("192.0.2.0/28"),
        ),
        (
            syn("192.0.2.1", 636),
            Outcome::Passed(Pass::Allowlisted),
            "tcp/636",
            Some("192.0.2.0/30"),
        ),
        (
            syn("192.0.2.1", 443),
            Outcome::Passed(Pass::Allowlisted),
            "tcp/443",
            Some("192.0.2.0/28"),
        ),
        (
            later(LISTED6),
            Outcome::Passed(Pass::Fragment),
            "fragments",
            Some("2001:db8::/64"),
        ),
        (
            syn(STRANGER4, 443),
            Outcome::Dropped(Reason::SourceNotAllowlisted),
            "tcp/443",
            None,
        ),
        (syn(STRANGER4, 22), Outcome::Passed(Pass::Unguarded), "none", None),
        (
            syn(LISTED4, 443)[..20].to_vec(),
            Outcome::Dropped(Reason::PacketTruncated),
            "none",
            None,
        ),
    ] {
        let explained = filter.explain(&frame).expect("an explanation");
        assert_eq!(explained.outcome, outcome);
        assert_eq!(explained.service, service);
        assert_eq!(explained.entry_cidr, entry.map(net));
    }
    let explained = filter.explain(&syn(LISTED6, 443)).expect("an explanation");
    assert_eq!(
        spinegate::filter::address(&explained.packet.source),
        LISTED6.parse::<std::net::IpAddr>().expect("an address")
    );
    assert_eq!(explained.packet.destination_port, 443);
}

#[test]
fn explaining_counts_nothing_and_uses_nothing_up() {
    let mut settings = settings();
    settings.scope = Scope::Host;
    settings.control_per_second = 1;
    settings.handshake.untrusted_per_second = 1;
    settings.handshake.untrusted_burst = 1;
    settings.handshake.trusted_per_second = 1;
    settings.handshake.trusted_burst = 1;
    let mut filter = filter!(&settings);
    filter.judge(net("192.0.2.8"), trust(HOUR)).expect("a verdict");
    filter.judge(net("192.0.2.9"), deny(HOUR)).expect("a verdict");
    let before = filter.counters().expect("counters");
    let frames = [
        (syn(LISTED4, 443), Outcome::Passed(Pass::Allowlisted)),
        (syn("192.0.2.8", 443), Outcome::Passed(Pass::Allowlisted)),
        (syn("192.0.2.9", 443), Outcome::Dropped(Reason::VerdictDeny)),
        (
            syn(STRANGER4, 443),
            Outcome::Dropped(Reason::SourceNotAllowlisted),
        ),
        (ethertype(0x0806), Outcome::Passed(Pass::Control)),
    ];
    for (frame, outcome) in &frames {
        for _ in 0..20 {
            assert_eq!(filter.explain(frame).expect("an explanation").outcome, *outcome);
        }
    }
    assert_eq!(filter.counters().expect("counters"), before);
    let verdicts = filter.verdicts().expect("verdicts");
    assert!(verdicts.iter().all(|verdict| verdict.hits == 0));
    for cidr in ["192.0.2.0/28", "2001:db8::/64"] {
        let passed = filter.passed(&source(cidr, &[])).expect("counters");
        assert_eq!(passed.map(|tally| tally.packets), Some(0));
    }

    // Everything is still there to be used up, and once it is, an explanation says so.
    for (frame, outcome) in &frames {
        let (passed, _) = filter.test(frame, 1).expect("a test run");
        let second = filter.explain(frame).expect("an explanation").outcome;
        assert_eq!(passed, outcome.passes());
        if *outcome == Outcome::Passed(Pass::Allowlisted) {
            assert_eq!(second, Outcome::Dropped(Reason::HandshakeBudget));
        }
    }
}
