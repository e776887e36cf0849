//! The handshake budget: a SYN is what costs, and only the source that asks pays.

use spinegate::{config::Filter as Settings, filter::Filter};
use spinegate_common::{Outcome, Reason};

use crate::packets::*;

const OVER: Reason = Reason::HandshakeBudget;

/// Bursts of three and ten; what comes back within a test is less than one.
fn sparing() -> Settings {
    let mut settings = settings();
    settings.handshake.untrusted_per_second = 1;
    settings.handshake.untrusted_burst = 3;
    settings.handshake.trusted_per_second = 1;
    settings.handshake.trusted_burst = 10;
    settings
}

/// How many of some SYNs pass.
fn passing(filter: &Filter, frame: &[u8], tries: usize) -> usize {
    (0..tries)
        .filter(|_| filter.test(frame, 1).expect("a test run").0)
        .count()
}

/// The frame is over its source's budget: explained and done. Counting takes long enough for more to come back.
#[track_caller]
fn is_over(filter: &mut Filter, what: &str, frame: &[u8]) {
    let explained = filter.explain(frame).expect("an explanation").outcome;
    assert_eq!(explained, Outcome::Dropped(OVER), "{what}: explained");
    assert_eq!(passing(filter, frame, 1), 0, "{what}");
}

/// A filter whose explaining program is loaded already, which takes long, too.
macro_rules! sparing_filter {
    () => {{
        let mut filter = filter!(&sparing());
        filter.explain(&ack(LISTED4, 443)).expect("an explanation");
        filter
    }};
}

#[test]
fn a_source_has_its_burst_of_handshakes_and_then_waits() {
    let mut filter = sparing_filter!();
    for (address, other) in [(LISTED4, "192.0.2.8"), (LISTED6, "2001:db8::8")] {
        let frame = syn(address, 443);
        assert_eq!(passing(&filter, &frame, 3), 3);
        is_over(&mut filter, "the fourth", &frame);
        is_over(&mut filter, "one to another service", &syn(address, 636));
        is_over(&mut filter, "a tagged one", &vlans(&frame, 1));
        for (what, frame) in [
            ("what belongs to open connections", ack(address, 443)),
            ("a SYN-ACK", from(address).tcp(40000, 443, 0x12)),
            ("a reset", from(address).tcp(40000, 443, 0x04)),
            ("another source", syn(other, 443)),
        ] {
            assert_eq!(passing(&filter, &frame, 1), 1, "{what}");
        }
        assert_eq!(passing(&filter, &syn(address, 22), 9), 9, "an unguarded port");
        std::thread::sleep(std::time::Duration::from_millis(1050));
        passes(&filter, "a second later", &frame);
    }
}

#[test]
fn only_a_pure_syn_takes_from_the_budget() {
    let mut filter = sparing_filter!();
    for flags in 0..=0xff_u8 {
        if flags & 0x12 != 0x02 {
            let frame = from(LISTED4).tcp(40000, 443, flags);
            assert_eq!(passing(&filter, &frame, 2), 2, "flags {flags:#x}");
        }
    }
    // ECN's bits beside it make it no other thing (RFC 3168 section 6.1.1).
    for flags in [0x02, 0xc2, 0x42] {
        let frame = from(LISTED4).tcp(40000, 443, flags);
        assert_eq!(passing(&filter, &frame, 1), 1, "flags {flags:#x}");
    }
    is_over(&mut filter, "the fourth", &syn(LISTED4, 443));
}

#[test]
fn a_trusted_source_has_a_larger_budget() {
    let mut filter = sparing_filter!();
    for (source, address) in [
        (LISTED4, LISTED4),
        (LISTED6, LISTED6),
        ("192.0.2.8/30", "192.0.2.9"),
        ("2001:db8::100/120", "2001:db8::101"),
    ] {
        let frame = syn(address, 443);
        assert_eq!(passing(&filter, &frame, 5), 3, "{address}");
        filter.judge(net(source), trust(HOUR)).expect("a verdict");
        assert_eq!(passing(&filter, &frame, 15), 10, "{address}, trusted");
        filter.lift(net(source)).expect("lifted");
        is_over(&mut filter, "no longer trusted", &frame);
    }
}

#[test]
fn a_verdict_of_trust_that_has_ended_enlarges_nothing() {
    let mut filter = filter!(&sparing());
    let short = std::time::Duration::from_millis(1);
    filter.judge(net(LISTED4), trust(short)).expect("a verdict");
    std::thread::sleep(short * 2);
    assert_eq!(passing(&filter, &syn(LISTED4, 443), 15), 3);
}

#[test]
fn a_flood_from_many_listed_addresses_takes_nothing_from_a_trusted_source() {
    const ADDRESSES: u32 = 70_000;
    let mut settings = sparing();
    settings.sources.push(source("10.0.0.0/8", &[]));
    let mut filter = filter!(&settings);
    filter.judge(net(LISTED4), trust(HOUR)).expect("a verdict");
    let trusted = syn(LISTED4, 443);
    assert_eq!(passing(&filter, &trusted, 2), 2);
    // More than there is room for budgets of sources that are not trusted.
    let mut frame = syn("10.0.0.0", 443);
    for number in 0..ADDRESSES {
        frame[27..30].copy_from_slice(&number.to_be_bytes()[1..]);
        assert!(
            filter.test(&frame, 1).expect("a test run").0,
            "the first SYN of address {number}"
        );
    }
    assert_eq!(
        counted(&filter, Outcome::Dropped(OVER)),
        0,
        "everyone has a budget of their own"
    );
    assert_eq!(
        passing(&filter, &trusted, 8),
        8,
        "the flood took nothing from the trusted source"
    );
}

#[test]
fn a_denied_or_unlisted_source_takes_no_budget() {
    let mut filter = filter!(&sparing());
    filter.judge(net(LISTED4), deny(HOUR)).expect("a verdict");
    assert_eq!(passing(&filter, &syn(LISTED4, 443), 5), 0);
    filter.lift(net(LISTED4)).expect("lifted");
    assert_eq!(passing(&filter, &syn(LISTED4, 443), 5), 3);

    let mut after = sparing();
    after.sources.push(source(STRANGER4, &[]));
    assert_eq!(passing(&filter, &syn(STRANGER4, 443), 5), 0);
    filter.apply(&after, &after.sources).expect("a policy");
    assert_eq!(passing(&filter, &syn(STRANGER4, 443), 5), 3);
    assert_eq!(
        passing(&filter, &syn(LISTED4, 443), 5),
        0,
        "a policy swap refills nothing"
    );
}
