//! Drop events: a sample of what was dropped, with the beginning of its frame.

use std::net::IpAddr;

use spinegate_common::{Reason, event::SNAPSHOT};

use crate::packets::*;

#[test]
fn drops_are_reported_with_their_reason_within_the_budget() {
    let mut settings = settings();
    settings.events_per_second = 3;
    let mut filter = filter!(&settings);
    let mut events = filter.events().expect("a ring buffer").expect("the only reader");
    assert!(filter.events().expect("a ring buffer").is_none());
    let frame = syn(STRANGER4, 443);
    is_dropped(&filter, "a stranger", &frame, Reason::SourceNotAllowlisted);
    let event = events.next().expect("an event");
    assert_eq!(event.reason, Reason::SourceNotAllowlisted);
    assert_eq!(filter.service_name(event.service), "tcp/443");
    assert_eq!(
        (event.source, event.source_port),
        (STRANGER4.parse::<IpAddr>().expect("an address"), 40000)
    );
    assert_eq!(
        (event.destination, event.destination_port),
        (EDGE4.parse::<IpAddr>().expect("an address"), 443)
    );
    assert_eq!((event.protocol, event.tcp_flags), (6, 2));
    assert!(!event.monitored);
    filter.test(&frame, 1000).expect("a test run");
    let reported = events.count();
    let lost = filter.counters().expect("counters").lost_events;
    assert!(
        reported < 1000 && reported as u64 + lost == 1000,
        "{reported} reported, {lost} lost"
    );
}

#[test]
fn an_event_has_the_frames_beginning_and_its_whole_length() {
    let mut settings = settings();
    settings.events_per_second = 1_000_000;
    settings.services[1].mode = Some(spinegate::config::ServiceMode::Monitor);
    let mut filter = filter!(&settings);
    let mut events = filter.events().expect("a ring buffer").expect("the only reader");
    for length in [0, 1, SNAPSHOT - 55, SNAPSHOT - 54, SNAPSHOT - 53, 1400, 8900] {
        let payload: Vec<u8> = (0..=255).cycle().take(length).collect();
        let frame = from(STRANGER4).tcp_with(1, 443, 2, &payload);
        filter.test(&frame, 1).expect("a test run");
        let event = events.next().expect("an event");
        assert_eq!(event.length as usize, frame.len());
        assert_eq!(event.frame, frame[..frame.len().min(SNAPSHOT)]);
    }
    filter.test(&syn(STRANGER6, 636), 1).expect("a test run");
    let event = events.next().expect("an event");
    assert!(event.monitored);
    assert_eq!(event.source, STRANGER6.parse::<IpAddr>().expect("an address"));
    filter.test(&syn(LISTED4, 443), 1).expect("a test run");
    filter.explain(&syn(STRANGER4, 443)).expect("an explanation");
    assert_eq!(
        events.next(),
        None,
        "what passes is no event, nor what is only explained"
    );
    for length in 14..34 {
        filter
            .test(&syn(STRANGER4, 443)[..length], 1)
            .expect("a test run");
        let event = events.next().expect("an event");
        assert_eq!(event.reason, Reason::PacketTruncated);
        assert_eq!(event.frame.len(), length);
        assert!(event.source.is_unspecified());
    }
    assert_eq!(filter.counters().expect("counters").lost_events, 0);
}
