//! Verdicts on prefixes, nested and with verdicts on addresses in them: of all that cover a source, a denial wins.

use std::time::{Duration, Instant};

use spinegate::filter::Filter;
use spinegate_common::{Outcome, Pass, Reason};

use crate::packets::*;

const DENIED: Outcome = Outcome::Dropped(Reason::VerdictDeny);
const ALLOWED: Outcome = Outcome::Passed(Pass::Allowlisted);

fn everyone() -> spinegate::config::Filter {
    let mut settings = settings();
    settings.sources = vec![source("0.0.0.0/0", &[]), source("::/0", &[])];
    settings
}

#[track_caller]
fn stand(filter: &Filter, what: &str, expected: &[(&str, Outcome)]) {
    for (address, outcome) in expected {
        has_outcome(
            filter,
            &format!("{what}: {address}"),
            &ack(address, 443),
            *outcome,
        );
    }
}

#[test]
fn a_verdict_on_a_prefix_is_one_on_every_address_in_it() {
    let mut filter = filter!(&everyone());
    for (prefix, inside, outside) in [
        (
            "10.1.0.0/16",
            ["10.1.0.0", "10.1.255.255"],
            ["10.0.255.255", "10.2.0.0"],
        ),
        ("10.9.9.8/31", ["10.9.9.8", "10.9.9.9"], ["10.9.9.7", "10.9.9.10"]),
        (
            "2001:db8:7::/48",
            ["2001:db8:7::", "2001:db8:7:ffff:ffff:ffff:ffff:ffff"],
            ["2001:db8:6:ffff:ffff:ffff:ffff:ffff", "2001:db8:8::"],
        ),
        (
            "2001:db8:9::8/127",
            ["2001:db8:9::8", "2001:db8:9::9"],
            ["2001:db8:9::7", "2001:db8:9::a"],
        ),
    ] {
        filter.judge(net(prefix), deny(HOUR)).expect("a verdict");
        stand(&filter, prefix, &inside.map(|address| (address, DENIED)));
        stand(&filter, prefix, &outside.map(|address| (address, ALLOWED)));
        assert!(filter.lift(net(prefix)).expect("lifted"));
        assert!(!filter.lift(net(prefix)).expect("nothing left to lift"));
        stand(&filter, "lifted", &[(inside[0], ALLOWED), (inside[1], ALLOWED)]);
    }
}

#[test]
fn a_denial_wins_whatever_is_more_specific() {
    let mut filter = filter!(&everyone());
    for [wide, narrow, inner, middle, outer] in [
        ["10.0.0.0/8", "10.1.0.0/16", "10.1.1.1", "10.1.2.2", "10.2.2.2"],
        [
            "2001:db8::/32",
            "2001:db8:1::/48",
            "2001:db8:1::1",
            "2001:db8:1::2",
            "2001:db8:2::2",
        ],
    ] {
        let all = |inside, between, outside| [(inner, inside), (middle, between), (outer, outside)];
        // Written in either order, a trust inside a denial opens nothing.
        for order in [[(wide, true), (narrow, false)], [(narrow, false), (wide, true)]] {
            for (prefix, denied) in order {
                let verdict = if denied { deny(HOUR) } else { trust(HOUR) };
                filter.judge(net(prefix), verdict).expect("a verdict");
            }
            filter.judge(net(inner), trust(HOUR)).expect("a verdict");
            stand(&filter, "denied outside", &all(DENIED, DENIED, DENIED));
            filter.lift(net(wide)).expect("lifted");
            stand(
                &filter,
                "the covering one lifted",
                &all(ALLOWED, ALLOWED, ALLOWED),
            );
            filter.lift(net(narrow)).expect("lifted");
            filter.lift(net(inner)).expect("lifted");
        }

        filter.judge(net(wide), trust(HOUR)).expect("a verdict");
        filter.judge(net(narrow), deny(HOUR)).expect("a verdict");
        stand(&filter, "denied inside", &all(DENIED, DENIED, ALLOWED));
        filter.lift(net(narrow)).expect("lifted");
        stand(&filter, "the nested one lifted", &all(ALLOWED, ALLOWED, ALLOWED));

        filter.judge(net(inner), deny(HOUR)).expect("a verdict");
        stand(
            &filter,
            "an address in a trusted prefix",
            &all(DENIED, ALLOWED, ALLOWED),
        );
        filter.judge(net(wide), deny(HOUR)).expect("a verdict");
        filter.lift(net(inner)).expect("lifted");
        stand(
            &filter,
            "an address in a denied prefix, lifted",
            &all(DENIED, DENIED, DENIED),
        );
        filter.lift(net(wide)).expect("lifted");
        stand(&filter, "nothing left", &all(ALLOWED, ALLOWED, ALLOWED));
    }
    assert_eq!(filter.count_verdicts().expect("a count"), 0);
}

#[test]
fn a_covering_denial_ends_at_its_time_and_one_below_it_at_its_own() {
    let mut filter = filter!(&everyone());
    let frames = ["10.1.1.1", "10.2.2.2", "10.3.3.3"].map(|address| ack(address, 443));
    filter.judge(net("10.1.0.0/16"), trust(HOUR)).expect("a verdict");
    filter.judge(net("10.2.0.0/16"), deny(HOUR)).expect("a verdict");
    // A busy machine may need longer to see it in force.
    let mut seen = None;
    for seconds in [1, 5, 25] {
        let ttl = Duration::from_secs(seconds);
        let begun = Instant::now();
        filter.judge(net("10.0.0.0/8"), deny(ttl)).expect("a verdict");
        let passed = frames
            .each_ref()
            .map(|frame| filter.test(frame, 1).expect("a test run").0);
        if begun.elapsed() < ttl {
            assert_eq!(passed, [false; 3], "before its time");
            seen = Some(ttl);
            break;
        }
    }
    std::thread::sleep(seen.expect("a machine that looks within 25 seconds"));
    let after = [("10.1.1.1", ALLOWED), ("10.2.2.2", DENIED), ("10.3.3.3", ALLOWED)];
    stand(&filter, "after", &after);
    assert_eq!(filter.forget_expired().expect("a sweep"), 1);
    stand(&filter, "after the sweep", &after);
    assert_eq!(filter.verdicts().expect("verdicts").len(), 2);
}

#[test]
fn a_verdict_that_is_renewed_lasts_longer_for_what_it_covers_too() {
    let mut filter = filter!(&everyone());
    let short = Duration::from_millis(500);
    filter.judge(net("10.1.0.0/16"), trust(HOUR)).expect("a verdict");
    filter.judge(net("10.0.0.0/8"), deny(short)).expect("a verdict");
    filter.judge(net("10.0.0.0/8"), deny(HOUR)).expect("a verdict");
    std::thread::sleep(short);
    assert_eq!(filter.forget_expired().expect("a sweep"), 0);
    stand(&filter, "renewed", &[("10.1.1.1", DENIED), ("10.3.3.3", DENIED)]);
}

#[test]
fn a_verdict_on_a_prefix_is_on_its_own_family_alone() {
    let mut filter = filter!(&everyone());
    filter.judge(net("::/0"), deny(HOUR)).expect("a verdict");
    stand(
        &filter,
        "all IPv6 denied",
        &[(LISTED6, DENIED), (STRANGER6, DENIED), (LISTED4, ALLOWED)],
    );
    filter.judge(net("192.0.2.0/24"), trust(HOUR)).expect("a verdict");
    stand(
        &filter,
        "with an IPv4 prefix trusted",
        &[(LISTED4, ALLOWED), (STRANGER4, ALLOWED), (LISTED6, DENIED)],
    );
    let over = filter
        .verdicts_over(LISTED4.parse().expect("an address"))
        .expect("verdicts");
    assert_eq!(over.len(), 1);
    filter.lift(net("::/0")).expect("lifted");
    filter.judge(net("0.0.0.0/0"), deny(HOUR)).expect("a verdict");
    stand(
        &filter,
        "all IPv4 denied",
        &[(LISTED4, DENIED), (STRANGER4, DENIED), (LISTED6, ALLOWED)],
    );
}
