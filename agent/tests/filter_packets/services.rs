//! What is guarded: protocol, port, and where it says so the destination address.

use std::net::IpAddr;

use spinegate::{config::GuardedService, filter::Filter};
use spinegate_common::{Pass, Reason};

use crate::packets::*;

fn guarded_at(service: &str, address: &str) -> GuardedService {
    GuardedService {
        address: Some(address.parse::<IpAddr>().expect("an address")),
        ..guarded(service)
    }
}

#[test]
fn udp_services_are_guarded_as_tcp_ones_are() {
    let mut settings = settings();
    settings.services = vec![guarded("udp/443"), guarded("tcp/636")];
    settings.sources.push(source("10.0.0.0/8", &["udp/443"]));
    settings.sources.push(source("2001:db8:10::/48", &["udp/443"]));
    let mut filter = filter!(&settings);
    for (listed, datagrams, stranger) in [
        (LISTED4, "10.1.1.1", STRANGER4),
        (LISTED6, "2001:db8:10::1", STRANGER6),
    ] {
        passes(&filter, "a listed source", &udp(listed, 443));
        passes(&filter, "a source of this service", &udp(datagrams, 443));
        is_dropped(
            &filter,
            "a stranger",
            &udp(stranger, 443),
            Reason::SourceNotAllowlisted,
        );
        is_dropped(
            &filter,
            "a source of the other service",
            &syn(datagrams, 636),
            Reason::SourceNotAllowlisted,
        );
        passes_as(
            &filter,
            "the same port of TCP",
            &syn(stranger, 443),
            Pass::Unguarded,
        );
        passes_as(
            &filter,
            "the other's port of UDP",
            &udp(stranger, 636),
            Pass::Unguarded,
        );
    }
    // Datagrams ask for no connection, so they use up no handshake budget.
    settings.handshake.untrusted_burst = 1;
    settings.handshake.untrusted_per_second = 1;
    filter.apply(&settings, &settings.sources).expect("a policy");
    for _ in 0..20 {
        assert!(filter.test(&udp(LISTED4, 443), 1).expect("a test run").0);
    }
    is_dropped(
        &filter,
        "a stranger's later fragment of UDP",
        &from(STRANGER4).fragment4(etherparse::IpNumber::UDP, 185, false, &[0; 24]),
        Reason::FragmentNotAllowlisted,
    );
}

#[test]
fn a_service_may_be_guarded_at_some_addresses_only() {
    let mut settings = settings();
    settings.services = vec![
        guarded_at("tcp/443", "203.0.113.1"),
        guarded_at("tcp/443", "203.0.113.2"),
        guarded_at("tcp/443", "2001:db8:1::1"),
        guarded("tcp/636"),
    ];
    let filter = filter!(&settings);
    for destination in ["203.0.113.1", "203.0.113.2"] {
        is_dropped(
            &filter,
            "a stranger to a guarded address",
            &from(STRANGER4).to(destination).tcp(40000, 443, 2),
            Reason::SourceNotAllowlisted,
        );
        passes(
            &filter,
            "a listed source",
            &from(LISTED4).to(destination).tcp(40000, 443, 2),
        );
    }
    is_dropped(
        &filter,
        "over IPv6",
        &syn(STRANGER6, 443),
        Reason::SourceNotAllowlisted,
    );
    for (stranger, destination) in [
        (STRANGER4, "203.0.113.3"),
        (STRANGER4, "203.0.113.0"),
        (STRANGER6, "2001:db8:1::2"),
    ] {
        let frame = from(stranger).to(destination).tcp(40000, 443, 2);
        passes_as(&filter, "to another address", &frame, Pass::Unguarded);
        is_dropped(
            &filter,
            "to another address, the service that is guarded everywhere",
            &from(stranger).to(destination).tcp(40000, 636, 2),
            Reason::SourceNotAllowlisted,
        );
    }
}

#[test]
fn a_service_at_some_addresses_may_have_another_elsewhere() {
    use spinegate::config::ServiceMode::Monitor;
    let mut settings = settings();
    let mut everywhere = guarded("tcp/443");
    everywhere.mode = Some(Monitor);
    settings.services = vec![guarded_at("tcp/443", EDGE4), everywhere];
    // A group of as many as there can be.
    let more = (2..=8).map(|last| guarded_at("tcp/443", &format!("203.0.113.{last}")));
    settings.services.extend(more);
    let mut filter = filter!(&settings);
    let reason = Reason::SourceNotAllowlisted;
    for last in 1..=8 {
        let destination = format!("203.0.113.{last}");
        let frame = from(STRANGER4).to(&destination).tcp(40000, 443, 2);
        is_dropped(&filter, "at an address of its own", &frame, reason);
        assert_eq!(
            filter.explain(&frame).expect("an explanation").service,
            format!("tcp/443 at {destination}")
        );
    }
    let frame = from(STRANGER4).to("203.0.113.9").tcp(40000, 443, 2);
    has_outcome(
        &filter,
        "elsewhere",
        &frame,
        spinegate_common::Outcome::WouldDrop(reason),
    );
    assert_eq!(filter.explain(&frame).expect("an explanation").service, "tcp/443");
}

#[test]
fn every_port_can_be_guarded() {
    let mut settings = settings();
    settings.services = ["tcp/1", "tcp/65535", "udp/1", "udp/65535"].map(guarded).into();
    let filter = filter!(&settings);
    for port in [1, 65535] {
        for frame in [syn(STRANGER4, port), udp(STRANGER4, port)] {
            is_dropped(&filter, "a guarded port", &frame, Reason::SourceNotAllowlisted);
        }
    }
    for port in [0, 2, 65534] {
        for frame in [syn(STRANGER4, port), udp(STRANGER4, port)] {
            passes_as(&filter, "the port beside it", &frame, Pass::Unguarded);
        }
    }
}

#[test]
fn a_port_at_more_addresses_than_are_looked_through_is_refused_and_not_half_guarded() {
    let mut settings = settings();
    settings.services = (1..=9)
        .map(|number| guarded_at("tcp/443", &format!("203.0.113.{number}")))
        .collect();
    needs_root!();
    let Err(error) = Filter::unattached(&settings, &[]) else {
        panic!("nine addresses were taken");
    };
    assert!(error.to_string().contains("tcp/443"), "{error}");
    settings.services.pop();
    let filter = load(&settings);
    for number in 1..=8 {
        let frame = from(STRANGER4)
            .to(&format!("203.0.113.{number}"))
            .tcp(40000, 443, 2);
        is_dropped(&filter, "a stranger", &frame, Reason::SourceNotAllowlisted);
    }
}
