use prometheus_client::metrics::histogram::Histogram;

use super::*;
use crate::{
    authz::Action,
    control::{CrlStatus, UpstreamStatus},
    metrics::{FAMILIES, Readiness},
    nrl::Interaction,
    tls::{ExpiryKind, HandshakeLoad, Session},
};

fn tally(packets: u64) -> Tally {
    Tally {
        packets,
        bytes: packets * 60,
    }
}

/// An agent of which everything is known.
fn busy() -> Observed {
    let mut filter = FilterStats {
        lost_events: 9,
        ..FilterStats::default()
    };
    filter.drops.insert("source_not_allowlisted".to_owned(), tally(7));
    filter.passes.insert("allowlisted".to_owned(), tally(3));
    let service = ServiceStats {
        passes: [("allowlisted".to_owned(), tally(3))].into(),
        ..ServiceStats::default()
    };
    filter.services.insert("tcp/443".to_owned(), service);
    let latency = Histogram::new([0.005, 1.0]);
    latency.observe(0.5);
    Observed {
        started: Some(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000)),
        readiness: Readiness::of([(Need::Upstream, "none".to_owned())]),
        log_suppressed: 11,
        interfaces: vec![("eth0".to_owned(), true), ("eth1".to_owned(), false)],
        enforcing: true,
        filter: Some(filter),
        connections: 5,
        connections_limit: 4096,
        handshakes: HandshakeLoad {
            waiting: 2,
            limit: 1000,
            threads: 3,
            busy: 1,
        },
        requests_under_way: 6,
        in_shadow: true,
        upstreams: vec![UpstreamObserved {
            status: UpstreamStatus {
                address: "http://127.0.0.1:8080".to_owned(),
                state: "ejected".to_owned(),
                outstanding: 3,
                idle: 8,
                answered: 4,
                failures: 5,
                ejections: 1,
                ..UpstreamStatus::default()
            },
            latency,
        }],
        verdicts: 4,
        registry: vec![DirectoryStatus {
            source: "ldap".to_owned(),
            systems: 7,
            fetched_timestamp: Some(1_700_000_000),
            ends_timestamp: Some(1_700_086_400),
            failures_total: 3,
            held: Some("half of them are gone".to_owned()),
            ..DirectoryStatus::default()
        }],
        expiries: BTreeMap::from([(ExpiryKind::OwnCertificate, 1_900_000_000), (ExpiryKind::Crl, -1)]),
        crls: [("fresh", 60), ("grace", 90)].map(crl).into(),
        audit: AuditObserved {
            lines: 12,
            failures: 2,
            unsynced: 1,
            checkpoint_timestamp: Some(1_700_000_000),
        },
    }
}

fn crl((state, age_seconds): (&str, u64)) -> CrlStatus {
    CrlStatus {
        issuer: String::new(),
        scope: String::new(),
        number: None,
        this_update: String::new(),
        age_seconds,
        next_update: None,
        state: state.to_owned(),
        entries: 0,
        source: String::new(),
        kept: None,
    }
}

#[test]
fn the_text_has_every_family_with_its_counts() {
    let counters = Arc::new(Counters::new());
    counters.handshake_refused(Reason::CertificateMissing);
    counters.handshake_accepted(&Session {
        extended_master_secret: true,
        encrypt_then_mac: true,
        ..Session::default()
    });
    counters.request_allowed();
    counters.action_decided(Action::Supersede, false);
    counters.action_decided(Action::Plain(Interaction::Delete), true);
    counters.request_shadowed(Reason::NotOwner);
    counters.connection_retired(Reason::ConnectionAge);
    counters.verdict_issued();
    counters.operator_rebuffed(&crate::control::Rebuff::ReadOnly("reload"));
    counters.reloaded(true);
    let exporter = Exporter::new(counters, busy);
    let text = exporter.text().unwrap();
    for line in [
        "spinegate_refusals_total{reason=\"certificate_missing\",side=\"client\"} 1",
        "spinegate_refusals_total{reason=\"not_owner\",side=\"client\"} 0",
        "spinegate_refusals_total{reason=\"upstream_reset\",side=\"upstream\"} 0",
        "spinegate_connections_retired_total{reason=\"connection_age\"} 1",
        "spinegate_connections_retired_total{reason=\"connection_requests\"} 0",
        "spinegate_answers_broken_total 0",
        "spinegate_upstream_requests_total{upstream=\"1\",outcome=\"answered\"} 4",
        "spinegate_upstream_requests_total{upstream=\"1\",outcome=\"failed\"} 5",
        "spinegate_upstream_outstanding{upstream=\"1\"} 3",
        "spinegate_upstream_up{upstream=\"1\"} 0",
        "spinegate_registry_systems{source=\"ldap\"} 7",
        "spinegate_registry_fetched_timestamp_seconds{source=\"ldap\"} 1700000000",
        "spinegate_registry_ends_timestamp_seconds{source=\"ldap\"} 1700086400",
        "spinegate_registry_held{source=\"ldap\"} 1",
        "spinegate_registry_failures_total{source=\"ldap\"} 3",
        "spinegate_requests_total{decision=\"allow\"} 1",
        "spinegate_requests_total{decision=\"refuse\"} 0",
        "spinegate_actions_total{action=\"supersede\",decision=\"allow\"} 1",
        "spinegate_actions_total{action=\"create\",decision=\"allow\"} 0",
        "spinegate_actions_total{action=\"delete\",decision=\"refuse\"} 1",
        "spinegate_requests_total{decision=\"shadow\"} 1",
        "spinegate_shadowed_total{reason=\"not_owner\"} 1",
        "spinegate_shadow 1",
        "spinegate_handshakes_total{outcome=\"accepted\",reason=\"\"} 1",
        "spinegate_handshakes_total{outcome=\"refused\",reason=\"certificate_missing\"} 1",
        "spinegate_handshakes_total{outcome=\"refused\",reason=\"crl_stale\"} 0",
        "spinegate_start_timestamp_seconds 1600000000",
        "spinegate_ready{need=\"upstream\"} 0",
        "spinegate_ready{need=\"filter\"} 1",
        "spinegate_reloads_total{outcome=\"done\"} 1",
        "spinegate_log_suppressed_total 11",
        "spinegate_filter_attached{interface=\"eth0\"} 1",
        "spinegate_filter_attached{interface=\"eth1\"} 0",
        "spinegate_filter_enforcing 1",
        "spinegate_filter_bytes_total{outcome=\"drop\",reason=\"source_not_allowlisted\"} 420",
        "spinegate_filter_service_packets_total{service=\"tcp/443\",outcome=\"pass\",reason=\"allowlisted\"} 3",
        "spinegate_connections 5",
        "spinegate_handshake_queue_length 2",
        "spinegate_handshake_threads_busy 1",
        "spinegate_requests_under_way 6",
        "spinegate_upstream_ejections_total{upstream=\"1\"} 1",
        "spinegate_upstream_idle_connections{upstream=\"1\"} 8",
        "spinegate_upstream_latency_seconds_bucket{le=\"0.005\",upstream=\"1\"} 0",
        "spinegate_upstream_latency_seconds_bucket{le=\"1.0\",upstream=\"1\"} 1",
        "spinegate_upstream_latency_seconds_sum{upstream=\"1\"} 0.5",
        "spinegate_verdicts 4",
        "spinegate_crls{state=\"stale\"} 0",
        "spinegate_crls{state=\"grace\"} 1",
        "spinegate_crl_age_seconds 90",
        "spinegate_audit_lines_total 12",
        "spinegate_audit_unsynced_lines 1",
        "spinegate_audit_checkpoint_timestamp_seconds 1700000000",
        "spinegate_verdicts_issued_total 1",
        "spinegate_control_refused_total{reason=\"control_read_only\"} 1",
        "spinegate_control_refused_total{reason=\"control_no_role\"} 0",
        "spinegate_audit_write_failures_total 2",
        "spinegate_filter_packets_total{outcome=\"drop\",reason=\"source_not_allowlisted\"} 7",
        "spinegate_filter_packets_total{outcome=\"would_drop\",reason=\"source_not_allowlisted\"} 0",
        "spinegate_filter_packets_total{outcome=\"pass\",reason=\"allowlisted\"} 3",
        "spinegate_filter_lost_events_total 9",
        "# TYPE spinegate_expiry_timestamp_seconds gauge",
        "spinegate_expiry_timestamp_seconds{kind=\"own_certificate\"} 1900000000",
        "spinegate_expiry_timestamp_seconds{kind=\"crl\"} -1",
        "# EOF",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line} is not in\n{text}"
        );
    }
}

#[test]
fn a_filter_that_cannot_be_read_has_no_numbers() {
    let text = Exporter::new(Arc::new(Counters::new()), Observed::default)
        .text()
        .unwrap();
    assert!(!text.contains("filter_packets") && !text.contains("expiry"));
}

#[test]
fn a_code_that_no_enum_has_is_never_a_label() {
    let exporter = Exporter::new(Arc::new(Counters::new()), || {
        let mut filter = FilterStats::default();
        filter.drops.insert("from_elsewhere".to_owned(), tally(1));
        Observed {
            filter: Some(filter),
            ..Observed::default()
        }
    });
    assert!(!exporter.text().unwrap().contains("from_elsewhere"));
}

#[test]
fn the_catalogue_is_what_is_written_and_in_its_order() {
    let text = Exporter::new(Arc::new(Counters::new()), busy)
        .plain_text()
        .unwrap();
    let written: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let listed: Vec<_> = FAMILIES.iter().map(|family| family.full_name()).collect();
    assert_eq!(written, listed);
}

#[test]
fn upstreams_are_told_apart_by_number_and_not_by_address() {
    let text = Exporter::new(Arc::new(Counters::new()), busy).text().unwrap();
    assert!(!text.contains("127.0.0.1"), "{text}");
}
