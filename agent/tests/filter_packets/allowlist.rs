//! Who is on the allowlist: longest prefix, by service, for a time.

use std::time::{Duration, SystemTime};

use spinegate::filter::{Filter, FilterError};
use spinegate_common::{Outcome, Pass, Reason, tree::MAX_NESTING};

use crate::packets::*;

#[test]
fn only_allowlisted_sources_reach_a_guarded_service() {
    let filter = filter!(&settings());
    passes(&filter, "a listed IPv4 source", &syn(LISTED4, 443));
    passes(&filter, "a listed IPv6 source", &syn(LISTED6, 443));
    for (what, source, port) in [
        ("an IPv4 stranger", STRANGER4, 443),
        ("an IPv6 stranger", STRANGER6, 443),
        ("the address after the prefix", "192.0.2.16", 443),
        ("the address before the prefix", "192.0.1.255", 443),
        ("a source of another service", "192.0.2.64", 443),
    ] {
        is_dropped(&filter, what, &syn(source, port), Reason::SourceNotAllowlisted);
    }
    passes(&filter, "a source of this service", &syn("192.0.2.64", 636));
    for (what, frame) in [
        ("a stranger to an unguarded port", syn(STRANGER4, 22)),
        ("the same port of an unguarded protocol", udp(STRANGER4, 443)),
        ("ARP", ethertype(0x0806)),
        ("another ethertype", ethertype(0x9000)),
        ("a ping", from(STRANGER4).icmp(8)),
    ] {
        passes_as(&filter, what, &frame, Pass::Unguarded);
    }
}

#[test]
fn an_entry_that_lacks_the_service_leaves_the_word_to_the_one_that_covers_it() {
    let mut settings = settings();
    settings.sources = vec![
        source("10.0.0.0/8", &["tcp/443"]),
        source("10.1.0.0/16", &["tcp/636"]),
        source("10.1.1.0/24", &[]),
        source("10.1.1.64/26", &["tcp/636"]),
        source("2001:db8::/32", &["tcp/443"]),
        source("2001:db8:1::/48", &["tcp/636"]),
        source("2001:db8:1:1::/64", &[]),
        source("2001:db8:1:1::64/128", &["tcp/636"]),
    ];
    let mut filter = filter!(&settings);
    for (address, port, entry) in [
        ("10.9.9.9", 443, Some("10.0.0.0/8")),
        ("10.9.9.9", 636, None),
        ("10.1.9.9", 443, Some("10.0.0.0/8")),
        ("10.1.9.9", 636, Some("10.1.0.0/16")),
        ("10.1.1.1", 443, Some("10.1.1.0/24")),
        ("10.1.1.1", 636, Some("10.1.1.0/24")),
        ("10.1.1.65", 443, Some("10.1.1.0/24")),
        ("10.1.1.65", 636, Some("10.1.1.64/26")),
        ("2001:db8:9::9", 443, Some("2001:db8::/32")),
        ("2001:db8:9::9", 636, None),
        ("2001:db8:1:9::9", 443, Some("2001:db8::/32")),
        ("2001:db8:1:9::9", 636, Some("2001:db8:1::/48")),
        ("2001:db8:1:1::1", 443, Some("2001:db8:1:1::/64")),
        ("2001:db8:1:1::64", 443, Some("2001:db8:1:1::/64")),
        ("2001:db8:1:1::64", 636, Some("2001:db8:1:1::64/128")),
    ] {
        let (what, frame) = (format!("{address} to {port}"), syn(address, port));
        let explained = filter.explain(&frame).expect("an explanation");
        assert_eq!(explained.entry_cidr, entry.map(net), "{what}");
        match entry {
            Some(_) => passes(&filter, &what, &frame),
            None => is_dropped(&filter, &what, &frame, Reason::SourceNotAllowlisted),
        }
    }
}

#[test]
fn an_entry_ends_at_its_time_without_the_agent() {
    let mut settings = settings();
    let mut filter = filter!(&settings);
    let until = |cidr, services: &[&str], expires| spinegate::config::Source {
        expires: Some(expires),
        ..source(cidr, services)
    };
    let temporary = [
        (LISTED4, 443, None),
        (LISTED6, 443, None),
        ("10.1.1.1", 443, None),
        ("10.1.1.1", 636, Some("10.0.0.0/8")),
    ];
    let not_listed = Reason::SourceNotAllowlisted;
    // A busy machine may need longer to see them in force.
    let mut seen = None;
    for seconds in [1, 5, 25] {
        let soon = SystemTime::now() + Duration::from_secs(seconds);
        settings.sources = vec![
            until("192.0.2.0/28", &[], soon),
            until("192.0.2.128/28", &[], SystemTime::now() - Duration::from_secs(1)),
            source("10.0.0.0/8", &["tcp/636"]),
            until("10.1.0.0/16", &[], soon),
            until("2001:db8::/64", &["tcp/443"], soon),
            until("2001:db8:2::/64", &[], soon + HOUR),
        ];
        filter.apply(&settings, &settings.sources).expect("a policy");
        let passing = temporary.map(|(address, port, _)| {
            let explained = filter.explain(&syn(address, port)).expect("an explanation");
            explained.outcome == Outcome::Passed(Pass::Allowlisted)
        });
        if SystemTime::now() < soon {
            assert_eq!(passing, [true; 4], "before their time");
            seen = Some(soon);
            break;
        }
    }
    let soon = seen.expect("a machine that looks within 25 seconds");
    is_dropped(
        &filter,
        "one that ended before",
        &syn("192.0.2.129", 443),
        not_listed,
    );
    let rest = soon.duration_since(SystemTime::now()).unwrap_or_default();
    std::thread::sleep(rest + Duration::from_millis(50));
    for (address, port, covering) in temporary {
        let frame = syn(address, port);
        match covering {
            Some(covering) => {
                passes(&filter, "by the entry that covers it", &frame);
                let explained = filter.explain(&frame).expect("an explanation");
                assert_eq!(explained.entry_cidr, Some(net(covering)));
            }
            None => is_dropped(&filter, "after its time", &frame, not_listed),
        }
    }
    passes(&filter, "one that still lasts", &syn("2001:db8:2::1", 443));
}

#[test]
fn limited_entries_nest_as_deep_as_the_filter_looks_and_no_deeper() {
    let mut settings = settings();
    let nested = |depth: u8| {
        let mut sources = vec![source("10.0.0.0/8", &["tcp/443"])];
        sources.extend((1..depth).map(|more| source(&format!("10.0.0.0/{}", 8 + more), &["tcp/636"])));
        sources
    };
    let deepest = u8::try_from(MAX_NESTING).expect("a small number");
    settings.sources = nested(deepest);
    let mut filter = filter!(&settings);
    passes(
        &filter,
        "a source that only the widest grants the service",
        &syn("10.0.0.1", 443),
    );
    settings.sources = nested(deepest + 1);
    let error = filter
        .apply(&settings, &settings.sources)
        .expect_err("one too many");
    assert!(
        matches!(&error, FilterError::NestedTooDeep { cidr, .. } if *cidr == net("10.0.0.0/24")),
        "{error}"
    );
    passes(
        &filter,
        "under the policy that stays in force",
        &syn("10.0.0.1", 443),
    );

    // The one without limits that covers them all counts as well: it has to be reached.
    let covered = |depth: u8| {
        let mut sources = nested(depth);
        sources[0].services.clear();
        sources
    };
    settings.sources = covered(deepest);
    filter.apply(&settings, &settings.sources).expect("a policy");
    passes(&filter, "a source in one without limits", &syn("10.0.0.1", 443));
    settings.sources = covered(deepest + 1);
    filter
        .apply(&settings, &settings.sources)
        .expect_err("one too many");

    // An entry without limits ends the search wherever it stands, so what lies in it counts anew.
    settings.sources = nested(deepest - 4);
    settings.sources.push(source("10.0.0.0/22", &[]));
    settings
        .sources
        .extend([23, 24, 25].map(|length| source(&format!("10.0.0.0/{length}"), &["tcp/636"])));
    filter.apply(&settings, &settings.sources).expect("a policy");
    passes(&filter, "below one without limits", &syn("10.0.0.1", 443));
}

#[test]
fn an_allowlist_without_entries_lets_nobody_in() {
    let mut settings = settings();
    settings.sources.clear();
    let filter = filter!(&settings);
    for source in [LISTED4, LISTED6] {
        is_dropped(&filter, "anyone", &syn(source, 443), Reason::SourceNotAllowlisted);
    }
}

#[test]
fn an_entry_for_everyone_is_of_one_family() {
    let mut settings = settings();
    settings.sources = vec![source("0.0.0.0/0", &[])];
    let mut filter = filter!(&settings);
    for address in ["0.0.0.0", "255.255.255.255", STRANGER4] {
        passes(&filter, "any IPv4 source", &syn(address, 443));
    }
    is_dropped(
        &filter,
        "IPv6",
        &syn(STRANGER6, 443),
        Reason::SourceNotAllowlisted,
    );
    settings.sources = vec![source("::/0", &[])];
    filter.apply(&settings, &settings.sources).expect("a policy");
    for address in ["::", "ffff:ffff::1", STRANGER6] {
        passes(&filter, "any IPv6 source", &syn(address, 443));
    }
    is_dropped(
        &filter,
        "IPv4",
        &syn(STRANGER4, 443),
        Reason::SourceNotAllowlisted,
    );
}

#[test]
fn more_services_than_numbers_are_refused_and_the_old_policy_stays() {
    let mut settings = settings();
    let services = |count: u16| (1..=count).map(|port| guarded(&format!("udp/{port}"))).collect();
    settings.services = services(61);
    settings.sources.truncate(1);
    let mut filter = filter!(&settings);
    passes(&filter, "the last service", &udp(LISTED4, 61));
    settings.services = services(62);
    let error = filter
        .apply(&settings, &settings.sources)
        .expect_err("one too many");
    assert!(
        matches!(error, FilterError::TooManyServices { limit: 61 }),
        "{error}"
    );
    assert!(error.to_string().contains("61 services"), "{error}");
    is_dropped(
        &filter,
        "a stranger",
        &udp(STRANGER4, 61),
        Reason::SourceNotAllowlisted,
    );
    passes_as(
        &filter,
        "the service that was refused",
        &udp(STRANGER4, 62),
        Pass::Unguarded,
    );
    let Err(error) = Filter::unattached(&settings, &settings.sources) else {
        panic!("62 services are one too many");
    };
    assert!(matches!(error, FilterError::TooManyServices { .. }), "{error}");
}
