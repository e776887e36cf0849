//! Failsafe entries: the operator's way in, which neither a policy nor a verdict shuts.

use spinegate::config::{Failsafe, Filter as Settings, Scope};
use spinegate_common::{Pass, Reason};

use crate::packets::*;

fn entry(cidr: &str, services: &[&str]) -> Failsafe {
    let services = services.iter().map(|service| service.parse().expect("a service"));
    Failsafe {
        cidr: net(cidr),
        services: services.collect(),
    }
}

fn host(failsafes: Vec<Failsafe>) -> Settings {
    Settings {
        scope: Scope::Host,
        failsafes,
        ..settings()
    }
}

#[test]
fn a_failsafe_entry_wins_over_everything_but_a_malformed_header() {
    let mut filter = filter!(&host(vec![
        entry("198.51.100.0/28", &[]),
        entry("2001:db8:ff00::/64", &[]),
    ]));
    for (stranger, outside) in [(STRANGER4, "198.51.100.16"), (STRANGER6, "2001:db8:ff00:1::9")] {
        let frames = [
            syn(stranger, 443),
            syn(stranger, 22),
            udp(stranger, 9),
            later(stranger),
            vlans(&syn(stranger, 22), 2),
            from(stranger).icmp(if stranger == STRANGER4 { 8 } else { 128 }),
        ];
        for denied in [false, true] {
            if denied {
                filter.judge(net(stranger), deny(HOUR)).expect("a verdict");
                filter
                    .judge(net(&format!("{stranger}/24")).trunc(), deny(HOUR))
                    .expect("a verdict");
            }
            for frame in &frames {
                passes_as(&filter, "from a failsafe source", frame, Pass::Failsafe);
            }
        }
        is_dropped(
            &filter,
            "half a header from there",
            &frames[0][..30],
            Reason::PacketTruncated,
        );
        let frame = syn(outside, 22);
        let explained = filter.explain(&frame).expect("an explanation").outcome;
        assert!(
            !explained.passes(),
            "the address behind the prefix: {explained:?}"
        );
    }
}

#[test]
fn a_failsafe_entry_may_be_for_some_services_only() {
    let filter = filter!(&host(vec![
        entry("198.51.100.9/32", &["tcp/22", "udp/161"]),
        entry("2001:db8:ff00::9/128", &["tcp/22", "udp/161"]),
    ]));
    for (stranger, neighbour) in [(STRANGER4, "198.51.100.8"), (STRANGER6, "2001:db8:ff00::8")] {
        for frame in [syn(stranger, 22), ack(stranger, 22), udp(stranger, 161)] {
            passes_as(&filter, "a failsafe service", &frame, Pass::Failsafe);
        }
        for (what, frame) in [
            ("another port", syn(stranger, 443)),
            ("the port of another protocol", udp(stranger, 22)),
            ("the other protocol's port", syn(stranger, 161)),
            ("the port as the source's", from(stranger).tcp(22, 9, 0x10)),
            ("another source", syn(neighbour, 22)),
        ] {
            is_dropped(&filter, what, &frame, Reason::SourceNotAllowlisted);
        }
        passes_as(
            &filter,
            "a later fragment, whose ports are unknown",
            &later(stranger),
            Pass::Failsafe,
        );
    }
}

#[test]
fn a_failsafe_entry_holds_in_scope_services_too() {
    let mut settings = host(vec![entry(STRANGER4, &["tcp/443"])]);
    settings.scope = Scope::Services;
    let filter = filter!(&settings);
    passes_as(
        &filter,
        "to a guarded service",
        &syn(STRANGER4, 443),
        Pass::Failsafe,
    );
    is_dropped(
        &filter,
        "to another one",
        &syn(STRANGER4, 636),
        Reason::SourceNotAllowlisted,
    );
}

#[test]
fn a_failsafe_entry_is_for_its_own_family_alone() {
    let filter = filter!(&host(vec![entry("::/0", &[]), entry("10.0.0.0/8", &[])]));
    passes_as(&filter, "IPv6", &syn(STRANGER6, 22), Pass::Failsafe);
    is_dropped(&filter, "IPv4", &syn(STRANGER4, 22), Reason::SourceNotAllowlisted);
    let filter = filter!(&host(vec![
        entry("10.0.0.0/8", &[]),
        entry("0.0.0.0/0", &["udp/1"])
    ]));
    is_dropped(
        &filter,
        "an IPv4 address in an IPv6 header",
        &syn("::ffff:10.0.0.1", 22),
        Reason::SourceNotAllowlisted,
    );
    passes_as(&filter, "the address", &syn("10.0.0.1", 22), Pass::Failsafe);
}

#[test]
fn as_many_failsafe_entries_hold_as_a_policy_has_room_for() {
    let entries = (0..32).map(|number| entry(&format!("10.0.{number}.0/24"), &["tcp/22"]));
    let filter = filter!(&host(entries.collect()));
    for number in [0, 1, 30, 31] {
        passes_as(
            &filter,
            "each of them",
            &syn(&format!("10.0.{number}.1"), 22),
            Pass::Failsafe,
        );
    }
    is_dropped(
        &filter,
        "none of them",
        &syn("10.0.32.1", 22),
        Reason::SourceNotAllowlisted,
    );
}
