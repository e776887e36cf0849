//! Verdicts on addresses: from the next packet on, until they end.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;
use spinegate::filter::Filter;
use spinegate_common::{Pass, Reason};

use crate::packets::*;

#[test]
fn a_deny_verdict_drops_the_next_packet_until_it_expires() {
    let settings = settings();
    let mut filter = filter!(&settings);
    for address in [LISTED4, LISTED6] {
        let (source, frame) = (net(address), syn(address, 443));
        passes(&filter, "before", &frame);
        let ttl = Duration::from_secs(2);
        filter.judge(source, deny(ttl)).expect("a verdict");
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
}

#[test]
fn a_denial_is_of_guarded_services_and_of_one_address() {
    let mut filter = filter!(&settings());
    for (denied, other) in [(LISTED4, "192.0.2.8"), (LISTED6, "2001:db8::8")] {
        filter.judge(net(denied), deny(HOUR)).expect("a verdict");
        is_dropped(&filter, "a SYN", &syn(denied, 443), Reason::VerdictDeny);
        is_dropped(
            &filter,
            "an open connection",
            &ack(denied, 443),
            Reason::VerdictDeny,
        );
        is_dropped(&filter, "another service", &syn(denied, 636), Reason::VerdictDeny);
        is_dropped(&filter, "a fragment", &later(denied), Reason::VerdictDeny);
        passes(&filter, "another source", &syn(other, 443));
        passes_as(&filter, "an unguarded port", &syn(denied, 22), Pass::Unguarded);
        assert!(filter.lift(net(denied)).expect("lifted"));
        assert!(!filter.lift(net(denied)).expect("nothing left to lift"));
        passes(&filter, "lifted", &syn(denied, 443));
    }
}

#[test]
fn the_last_verdict_on_an_address_is_the_one_that_holds() {
    let mut filter = filter!(&settings());
    let (source, frame) = (net(LISTED4), syn(LISTED4, 443));
    filter.judge(source, deny(HOUR)).expect("a verdict");
    filter.judge(source, trust(HOUR)).expect("a verdict");
    passes(&filter, "denied, then trusted", &frame);
    filter.judge(source, deny(Duration::ZERO)).expect("a verdict");
    passes(&filter, "denied for no time", &frame);
    filter.judge(source, deny(Duration::MAX)).expect("a verdict");
    is_dropped(&filter, "denied for good", &frame, Reason::VerdictDeny);
    assert_eq!(filter.count_verdicts().expect("a count"), 1);
}

#[test]
fn trust_opens_nothing_that_the_allowlist_does_not() {
    let mut filter = filter!(&settings());
    for stranger in [STRANGER4, STRANGER6] {
        filter.judge(net(stranger), trust(HOUR)).expect("a verdict");
        is_dropped(
            &filter,
            "a trusted stranger",
            &syn(stranger, 443),
            Reason::SourceNotAllowlisted,
        );
        is_dropped(
            &filter,
            "its later fragment",
            &later(stranger),
            Reason::FragmentNotAllowlisted,
        );
    }
}

#[test]
fn a_verdict_counts_what_it_decided_on() {
    let mut filter = filter!(&settings());
    let hits = |filter: &Filter, source: IpNet| {
        let verdict = filter.verdict_on(source).expect("the map");
        verdict.expect("a verdict").hits
    };
    for (address, prefix) in [(LISTED4, "192.0.2.0/29"), (LISTED6, "2001:db8::/96")] {
        let own = IpNet::from(address.parse::<IpAddr>().expect("an address"));
        for source in [own, net(prefix)] {
            filter.judge(source, deny(HOUR)).expect("a verdict");
            for frame in [syn(address, 443), ack(address, 443), later(address)] {
                filter.test(&frame, 5).expect("a test run");
                filter.explain(&frame).expect("an explanation");
            }
            filter.test(&syn(address, 22), 5).expect("a test run");
            assert_eq!(
                hits(&filter, source),
                15,
                "packets to guarded services, explained ones not"
            );

            filter.judge(source, trust(HOUR)).expect("a verdict");
            assert_eq!(hits(&filter, source), 0, "a new verdict has decided on nothing");
            filter.test(&syn(address, 443), 3).expect("a test run");
            filter.test(&ack(address, 443), 5).expect("a test run");
            assert_eq!(hits(&filter, source), 3, "handshakes of a trusted source");
            filter.lift(source).expect("lifted");
        }
    }
}
