//! Monitor mode: counted as what it would have been, and passed.

use spinegate::config::{FilterMode, ServiceMode};
use spinegate_common::{Outcome, Pass, Reason};

use crate::packets::*;

#[test]
fn monitor_mode_counts_and_passes() {
    let mut settings = settings();
    settings.mode = FilterMode::Monitor;
    settings.handshake.untrusted_burst = 1;
    settings.handshake.untrusted_per_second = 1;
    let mut filter = filter!(&settings);
    for (what, frame, reason) in [
        ("a stranger", syn(STRANGER4, 443), Reason::SourceNotAllowlisted),
        (
            "half a header",
            syn(LISTED4, 443)[..20].to_vec(),
            Reason::PacketTruncated,
        ),
        (
            "a later fragment",
            later(STRANGER6),
            Reason::FragmentNotAllowlisted,
        ),
    ] {
        has_outcome(&filter, what, &frame, Outcome::WouldDrop(reason));
    }
    passes(&filter, "the first handshake", &syn(LISTED4, 443));
    let second = Outcome::WouldDrop(Reason::HandshakeBudget);
    has_outcome(&filter, "the second", &syn(LISTED4, 443), second);
    filter.judge(net(LISTED6), deny(HOUR)).expect("a verdict");
    let denied = Outcome::WouldDrop(Reason::VerdictDeny);
    has_outcome(&filter, "a denied source", &syn(LISTED6, 443), denied);
    let counters = filter.counters().expect("counters");
    assert!(counters.all.drops.values().all(|tally| tally.packets == 0));
}

#[test]
fn a_service_may_be_watched_while_the_others_are_guarded() {
    let mut settings = settings();
    settings.services[0].mode = Some(ServiceMode::Monitor);
    let mut filter = filter!(&settings);
    let reason = Reason::SourceNotAllowlisted;
    for stranger in [STRANGER4, STRANGER6] {
        has_outcome(
            &filter,
            "to the one that is watched",
            &syn(stranger, 443),
            Outcome::WouldDrop(reason),
        );
        is_dropped(&filter, "to the other", &syn(stranger, 636), reason);
        is_dropped(
            &filter,
            "half a header",
            &syn(stranger, 443)[..20],
            Reason::PacketTruncated,
        );
    }
    settings.mode = FilterMode::Monitor;
    settings.services[0].mode = None;
    settings.services[1].mode = Some(ServiceMode::Enforce);
    filter.apply(&settings, &settings.sources).expect("a policy");
    has_outcome(
        &filter,
        "in a filter that watches",
        &syn(STRANGER4, 443),
        Outcome::WouldDrop(reason),
    );
    is_dropped(
        &filter,
        "to the one that is guarded nevertheless",
        &syn(STRANGER4, 636),
        reason,
    );
    let counters = filter.counters().expect("counters");
    let of = |service: &str| &counters.services[service];
    assert_eq!(of("tcp/443").would_drops[reason.as_str()].packets, 3);
    assert_eq!(of("tcp/636").drops[reason.as_str()].packets, 3);
    assert!(!of("tcp/443").drops.contains_key(reason.as_str()));
}

#[test]
fn a_watched_host_loses_nothing() {
    let mut settings = settings();
    settings.mode = FilterMode::Monitor;
    settings.scope = spinegate::config::Scope::Host;
    settings.control_per_second = 1;
    let filter = filter!(&settings);
    for (frame, reason) in [
        (syn(STRANGER4, 22), Reason::SourceNotAllowlisted),
        (ethertype(0x9000), Reason::EthertypeUnknown),
        (later(STRANGER4), Reason::FragmentNotAllowlisted),
        (vlans(&syn(LISTED4, 22), 3), Reason::PacketTooManyHeaders),
    ] {
        has_outcome(&filter, "anything", &frame, Outcome::WouldDrop(reason));
    }
    for _ in 0..50 {
        assert!(filter.test(&ethertype(0x0806), 1).expect("a test run").0);
    }
    let over = counted(&filter, Outcome::WouldDrop(Reason::ControlRate));
    let within = counted(&filter, Outcome::Passed(Pass::Control));
    assert!(over > 0 && over + within == 50, "{over} over, {within} within");
}
