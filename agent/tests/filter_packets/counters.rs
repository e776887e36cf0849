//! What is counted, for whom, and for how long.

use spinegate::filter::{Filter, Tally};
use spinegate_common::{Outcome, Pass, Reason};

use crate::packets::*;

#[track_caller]
fn has_let_pass(filter: &Filter, cidr: &str, packets: u64) {
    let counted = filter.passed(&source(cidr, &[])).expect("counters");
    assert_eq!(counted.map(|tally| tally.packets), Some(packets), "{cidr}");
}

fn run(filter: &Filter, frame: &[u8], times: u32) {
    filter.test(frame, times).expect("a test run");
}

#[test]
fn each_packet_is_counted_once_with_its_bytes_for_its_service_and_its_entry() {
    let filter = filter!(&settings());
    let (short, long) = (
        ack(LISTED4, 443),
        from(LISTED4).tcp_with(1, 443, 0x10, &[0; 1000]),
    );
    run(&filter, &short, 3);
    run(&filter, &long, 2);
    run(&filter, &ack("192.0.2.64", 636), 7);
    run(&filter, &ack(STRANGER4, 636), 5);
    run(&filter, &later(LISTED6), 4);
    let passed = Tally {
        packets: 5,
        bytes: 3 * short.len() as u64 + 2 * long.len() as u64,
    };
    let entry = filter.passed(&source("192.0.2.0/28", &[])).expect("counters");
    assert_eq!(entry, Some(passed));
    has_let_pass(&filter, "192.0.2.64/32", 7);
    has_let_pass(&filter, "2001:db8::/64", 4);
    assert_eq!(filter.passed(&source("10.0.0.0/8", &[])).expect("counters"), None);

    let counters = filter.counters().expect("counters");
    let (allowlisted, not_listed) = (Pass::Allowlisted.as_str(), Reason::SourceNotAllowlisted.as_str());
    assert_eq!(counters.services["tcp/443"].passes[allowlisted], passed);
    assert_eq!(counters.services["tcp/636"].passes[allowlisted].packets, 7);
    assert_eq!(counters.services["tcp/636"].drops[not_listed].packets, 5);
    let fragments = &counters.services["fragments"].passes[Pass::Fragment.as_str()];
    assert_eq!(fragments.packets, 4);
    let total = |tallies: &std::collections::BTreeMap<std::borrow::Cow<str>, Tally>| -> u64 {
        tallies.values().map(|tally| tally.packets).sum()
    };
    let all = &counters.all;
    assert_eq!(
        (total(&all.passes), total(&all.drops), total(&all.would_drops)),
        (16, 5, 0)
    );
    passes(&filter, "and one more", &short);
    has_let_pass(&filter, "192.0.2.0/28", 6);
}

#[test]
fn counters_survive_a_policy_swap_and_a_number_begins_at_zero_for_another_entry() {
    let mut settings = settings();
    let mut filter = filter!(&settings);
    run(&filter, &ack(LISTED4, 443), 5);
    run(&filter, &ack(LISTED6, 443), 6);
    run(&filter, &ack(STRANGER4, 443), 7);

    // Another entry comes in front of the others, and the services change places.
    settings.sources.insert(0, source("10.0.0.0/8", &[]));
    settings.services.reverse();
    filter.apply(&settings, &settings.sources).expect("a policy");
    has_let_pass(&filter, "192.0.2.0/28", 5);
    has_let_pass(&filter, "2001:db8::/64", 6);
    has_let_pass(&filter, "10.0.0.0/8", 0);
    run(&filter, &ack(LISTED4, 443), 1);
    has_let_pass(&filter, "192.0.2.0/28", 6);
    let dropped = |filter: &Filter| {
        let counters = filter.counters().expect("counters");
        counters.services["tcp/443"].drops[Reason::SourceNotAllowlisted.as_str()].packets
    };
    assert_eq!(dropped(&filter), 7);

    // The entry goes, and one that takes over its number comes; later it is back, as a new one.
    settings
        .sources
        .retain(|source| source.cidr != net("192.0.2.0/28"));
    filter.apply(&settings, &settings.sources).expect("a policy");
    assert_eq!(
        filter.passed(&source("192.0.2.0/28", &[])).expect("counters"),
        None
    );
    settings.sources.push(source("198.51.100.0/24", &[]));
    filter.apply(&settings, &settings.sources).expect("a policy");
    has_let_pass(&filter, "198.51.100.0/24", 0);
    run(&filter, &ack(STRANGER4, 443), 2);
    has_let_pass(&filter, "198.51.100.0/24", 2);
    settings.sources.push(source("192.0.2.0/28", &[]));
    filter.apply(&settings, &settings.sources).expect("a policy");
    has_let_pass(&filter, "192.0.2.0/28", 0);
    has_let_pass(&filter, "2001:db8::/64", 6);
    assert_eq!(dropped(&filter), 7);
}

#[test]
fn a_service_that_takes_over_a_number_begins_at_zero() {
    let reason = Reason::SourceNotAllowlisted;
    let mut settings = settings();
    let services = |range: std::ops::Range<u16>| range.map(|port| guarded(&format!("udp/{port}"))).collect();
    settings.services = services(1..62);
    settings.sources.truncate(1);
    let mut filter = filter!(&settings);
    for port in 1..62 {
        run(&filter, &udp(STRANGER4, port), 3);
    }
    settings.services = services(101..162);
    filter.apply(&settings, &settings.sources).expect("a policy");
    let counters = filter.counters().expect("counters");
    let old = (101..162).find(|port| counters.services.contains_key(&format!("udp/{port}")));
    assert_eq!(old, None, "a service that has had no packet has counts");
    is_dropped(&filter, "a stranger", &udp(STRANGER4, 101), reason);
    let counters = filter.counters().expect("counters");
    assert_eq!(counters.services["udp/101"].drops[reason.as_str()].packets, 1);
}

#[test]
fn a_policy_that_is_refused_takes_no_services_number_away() {
    let mut settings = settings();
    let services = |range: std::ops::Range<u16>| range.map(|port| guarded(&format!("udp/{port}"))).collect();
    settings.services = services(1..62);
    let mut filter = filter!(&settings);
    run(&filter, &udp(STRANGER4, 1), 3);
    let before = filter.counters().expect("counters");
    settings.services = services(101..162);
    settings.sources = (8..30)
        .map(|length| source(&format!("10.0.0.0/{length}"), &["udp/101"]))
        .collect();
    filter
        .apply(&settings, &settings.sources)
        .expect_err("prefixes that nest too deep");
    assert_eq!(filter.counters().expect("counters"), before);
    let explained = filter.explain(&udp(STRANGER4, 1)).expect("an explanation");
    assert_eq!(explained.service, "udp/1");
}

#[test]
fn an_allowlist_may_be_longer_than_its_counters() {
    let mut settings = settings();
    settings.max_sources = 4;
    settings.sources = (0..6)
        .map(|number| source(&format!("10.0.{number}.0/24"), &[]))
        .collect();
    let filter = filter!(&settings);
    for number in 0..6 {
        let frame = ack(&format!("10.0.{number}.1"), 443);
        passes(&filter, "each entry", &frame);
    }
    for number in 0..4 {
        has_let_pass(&filter, &format!("10.0.{number}.0/24"), 1);
    }
    for number in 4..6 {
        let source = &settings.sources[number];
        assert_eq!(filter.passed(source).expect("counters"), None);
    }
    assert_eq!(counted(&filter, Outcome::Passed(Pass::Allowlisted)), 6);
}
