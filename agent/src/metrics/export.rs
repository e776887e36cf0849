//! The counters as OpenMetrics text.
//!
//! Labels come from enums and the configuration alone: whatever clients send, the number of time series is fixed.

use std::{collections::BTreeMap, fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::{Registry, Unit},
};
use spinegate_common::{Layer, Pass, Reason};

use super::{Counters, plain::plain};
use crate::{
    control::{FilterStats, Tally, UpstreamStatus},
    directory::DirectoryStatus,
    tls::ExpiryKind,
};

/// What is counted outside of [`Counters`], at the moment of a scrape.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The kernel's counters; none where there is no filter, or it can't be read: no number is better than a wrong zero.
    pub filter: Option<FilterStats>,
    /// Records that the audit log could not take.
    pub audit_write_failures: u64,
    /// Whether anything is in shadow.
    pub in_shadow: bool,
    /// How each upstream is.
    pub upstreams: Vec<UpstreamStatus>,
    /// How it goes with each source of the registry.
    pub registry: Vec<DirectoryStatus>,
    /// When the first of each kind ends, in seconds since 1970; a kind of which nothing ends is left out.
    pub expiries: BTreeMap<ExpiryKind, i64>,
}

/// Writes the metrics down when asked.
#[derive(Debug)]
pub struct Exporter {
    registry: Registry,
}

impl Exporter {
    /// Exports the agent's counters and, at each scrape, what `observe` sees.
    #[must_use]
    pub fn new(counters: Arc<Counters>, observe: impl Fn() -> Observed + Send + Sync + 'static) -> Self {
        let mut registry = Registry::with_prefix("spinegate");
        registry.register_collector(Box::new(Everything {
            counters,
            observe: Box::new(observe),
        }));
        Self { registry }
    }

    /// The metrics as OpenMetrics 1.0 text.
    ///
    /// # Errors
    /// Never, as far as writing to a string goes; the signature is the encoder's.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// The same in the form of Prometheus 0.0.4.
    ///
    /// # Errors
    /// As [`Self::text`].
    pub fn plain_text(&self) -> Result<String, fmt::Error> {
        Ok(plain(&self.text()?))
    }
}

struct Everything {
    counters: Arc<Counters>,
    observe: Box<dyn Fn() -> Observed + Send + Sync>,
}

impl fmt::Debug for Everything {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Everything")
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

impl Collector for Everything {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let counters = &self.counters;
        let observed = (self.observe)();
        let (allowed, refused) = counters.decided_requests();

        let refusals: Vec<_> = counters
            .refusals()
            .map(|(reason, count)| {
                let labels = [("reason", reason.as_str()), ("side", reason.side().as_str())];
                (labels, count)
            })
            .collect();
        family(
            &mut encoder,
            "refusals",
            "Refused connections and requests, by reason and by whose doing that is",
            &refusals,
        )?;
        let requests = [
            ([("decision", "allow")], allowed),
            ([("decision", "refuse")], refused),
            ([("decision", "shadow")], counters.shadowed_requests()),
        ];
        family(&mut encoder, "requests", "Decided requests", &requests)?;
        let actions: Vec<_> = counters
            .decided_actions()
            .flat_map(|(action, allowed, refused)| {
                [("allow", allowed), ("refuse", refused)].map(|(decision, count)| {
                    let labels = [("action", action.as_str()), ("decision", decision)];
                    (labels, count)
                })
            })
            .collect();
        family(
            &mut encoder,
            "actions",
            "Decided requests that are known to be one of the NRL's, by what they do; a supersede has its own name",
            &actions,
        )?;
        let shadowed: Vec<_> = counters
            .shadowed()
            .map(|(reason, count)| ([("reason", reason.as_str())], count))
            .collect();
        family(
            &mut encoder,
            "shadowed",
            "Requests in shadow that were passed on, by the reason for which they would have been refused",
            &shadowed,
        )?;
        let gauge = encoder.encode_descriptor(
            "shadow",
            "Whether any request is in shadow, so that permission is only tried on it",
            None,
            MetricType::Gauge,
        )?;
        ConstGauge::new(u64::from(observed.in_shadow)).encode(gauge)?;
        let handshakes = [
            ([("outcome", "accepted")], counters.accepted_handshakes()),
            ([("outcome", "refused")], counters.refused_handshakes()),
        ];
        family(
            &mut encoder,
            "handshakes",
            "TLS handshakes, by how they ended",
            &handshakes,
        )?;
        let features = counters
            .handshake_features()
            .map(|(feature, count)| ([("feature", feature)], count));
        family(
            &mut encoder,
            "handshake_features",
            "Accepted handshakes that have it: EMS (RFC 7627), EtM (RFC 7366), a resumed session",
            &features,
        )?;
        single(
            &mut encoder,
            "connections_invalidated",
            "Open connections cut off because the client's certificate no longer passed",
            counters.invalidated_connections(),
        )?;
        let retired: Vec<_> = counters
            .retired_connections()
            .map(|(reason, count)| ([("reason", reason.as_str())], count))
            .collect();
        family(
            &mut encoder,
            "connections_retired",
            "Connections closed in order because they had served for long enough",
            &retired,
        )?;
        single(
            &mut encoder,
            "answers_broken",
            "Answers of upstreams that broke off on their way to the client",
            counters.broken_answers(),
        )?;
        upstreams(&mut encoder, &observed.upstreams)?;
        registry(&mut encoder, &observed.registry)?;
        single(
            &mut encoder,
            "verdicts_issued",
            "Deny verdicts that failures led to",
            counters.issued_verdicts(),
        )?;
        let rebuffs: Vec<_> = counters
            .operators_rebuffed()
            .map(|(kind, count)| ([("kind", kind)], count))
            .collect();
        family(
            &mut encoder,
            "control_refused",
            "Callers of the control socket without a role, orders of those who may only look, and malformed ones",
            &rebuffs,
        )?;
        single(
            &mut encoder,
            "audit_write_failures",
            "Records that the audit log could not take",
            observed.audit_write_failures,
        )?;
        if !observed.expiries.is_empty() {
            ends(&mut encoder, &observed.expiries)?;
        }
        if let Some(filter) = &observed.filter {
            let packets = packets(filter);
            family(
                &mut encoder,
                "filter_packets",
                "Packets, by what the filter did and why",
                &packets,
            )?;
            single(
                &mut encoder,
                "filter_lost_events",
                "Drop events that the filter only counted",
                filter.lost_events,
            )?;
        }
        Ok(())
    }
}

/// By their addresses in the configuration.
fn upstreams(encoder: &mut DescriptorEncoder<'_>, upstreams: &[UpstreamStatus]) -> fmt::Result {
    let answers: Vec<_> = upstreams
        .iter()
        .flat_map(|upstream| {
            [("answered", upstream.answered), ("failed", upstream.failures)].map(|(outcome, count)| {
                let labels = [("upstream", upstream.address.as_str()), ("outcome", outcome)];
                (labels, count)
            })
        })
        .collect();
    family(
        encoder,
        "upstream_requests",
        "Requests to each upstream since the last reload, by how they ended",
        &answers,
    )?;
    let gauges = [
        (
            "upstream_outstanding",
            "Requests under way at each upstream",
            (|upstream| upstream.outstanding as u64) as fn(&UpstreamStatus) -> u64,
        ),
        (
            "upstream_up",
            "Whether each upstream is given requests while there is a choice",
            |upstream| u64::from(upstream.state == "up"),
        ),
    ];
    for (name, help, value) in gauges {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for upstream in upstreams {
            let labels = [("upstream", upstream.address.as_str())];
            ConstGauge::new(value(upstream)).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

/// By the words of the sources, of which there are three.
fn registry(encoder: &mut DescriptorEncoder<'_>, sources: &[DirectoryStatus]) -> fmt::Result {
    type Value = fn(&DirectoryStatus) -> Option<u64>;
    let gauges: [(&str, &str, Option<&Unit>, Value); 4] = [
        (
            "registry_systems",
            "Systems of each source of the registry",
            None,
            |source| Some(source.systems as u64),
        ),
        (
            "registry_fetched_timestamp",
            "When the snapshot of each fetched source is from, since 1970",
            Some(&Unit::Seconds),
            |source| source.fetched_timestamp,
        ),
        (
            "registry_ends_timestamp",
            "When the snapshot of each fetched source no longer counts, since 1970",
            Some(&Unit::Seconds),
            |source| source.ends_timestamp,
        ),
        (
            "registry_held",
            "Whether a snapshot waits for the operator's word because so many systems are gone",
            None,
            |source| Some(u64::from(source.held.is_some())),
        ),
    ];
    for (name, help, unit, value) in gauges {
        let found = sources.iter().filter_map(|source| Some((source, value(source)?)));
        let found: Vec<_> = found.collect();
        if found.is_empty() {
            continue;
        }
        let mut family = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        for (source, value) in found {
            ConstGauge::new(value).encode(family.encode_family(&[("source", source.source.as_str())])?)?;
        }
    }
    let failures: Vec<_> = sources
        .iter()
        .map(|source| ([("source", source.source.as_str())], source.failures_total))
        .collect();
    family(
        encoder,
        "registry_failures",
        "Attempts to fetch a source of the registry that put nothing in force",
        &failures,
    )
}

type Labels<const N: usize> = [(&'static str, &'static str); N];

/// A row for every reason and outcome that there is; what the map holds beside them is not shown.
fn packets(filter: &FilterStats) -> Vec<(Labels<2>, u64)> {
    let of =
        |tallies: &BTreeMap<String, Tally>, code: &str| tallies.get(code).map_or(0, |tally| tally.packets);
    let reasons = || {
        Reason::ALL
            .iter()
            .filter(|reason| reason.layer() == Layer::Filter)
            .map(|reason| reason.as_str())
    };
    let row = |outcome, tallies, code| ([("outcome", outcome), ("reason", code)], of(tallies, code));
    let drops = reasons().map(|code| row("drop", &filter.drops, code));
    let would_drops = reasons().map(|code| row("would_drop", &filter.would_drops, code));
    let passes = Pass::ALL
        .iter()
        .map(|pass| row("pass", &filter.passes, pass.as_str()));
    drops.chain(would_drops).chain(passes).collect()
}

fn family<const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    rows: &[([(&str, &str); N], u64)],
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, count) in rows {
        ConstCounter::new(*count).encode(family.encode_family(labels)?)?;
    }
    Ok(())
}

fn ends(encoder: &mut DescriptorEncoder<'_>, expiries: &BTreeMap<ExpiryKind, i64>) -> fmt::Result {
    let help = "When the first certificate or CRL of each kind ends, since 1970";
    let mut family =
        encoder.encode_descriptor("expiry_timestamp", help, Some(&Unit::Seconds), MetricType::Gauge)?;
    for (kind, end) in expiries {
        ConstGauge::new(*end).encode(family.encode_family(&[("kind", kind.as_str())])?)?;
    }
    Ok(())
}

fn single(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, count: u64) -> fmt::Result {
    ConstCounter::new(count).encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{authz::Action, nrl::Interaction, tls::Session};

    fn tally(packets: u64) -> Tally {
        Tally {
            packets,
            bytes: packets * 60,
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
        let exporter = Exporter::new(counters, || {
            let mut filter = FilterStats {
                lost_events: 9,
                ..FilterStats::default()
            };
            filter.drops.insert("source_not_allowlisted".to_owned(), tally(7));
            filter.passes.insert("allowlisted".to_owned(), tally(3));
            Observed {
                filter: Some(filter),
                audit_write_failures: 2,
                in_shadow: true,
                upstreams: vec![UpstreamStatus {
                    address: "http://127.0.0.1:8080".to_owned(),
                    state: "ejected".to_owned(),
                    outstanding: 3,
                    answered: 4,
                    failures: 5,
                    ..UpstreamStatus::default()
                }],
                registry: vec![DirectoryStatus {
                    source: "ldap".to_owned(),
                    systems: 7,
                    fetched_timestamp: Some(1_700_000_000),
                    ends_timestamp: Some(1_700_086_400),
                    failures_total: 3,
                    held: Some("half of them are gone".to_owned()),
                    ..DirectoryStatus::default()
                }],
                expiries: BTreeMap::from([
                    (ExpiryKind::OwnCertificate, 1_900_000_000),
                    (ExpiryKind::Crl, -1),
                ]),
            }
        });
        let text = exporter.text().unwrap();
        for line in [
            "spinegate_refusals_total{reason=\"certificate_missing\",side=\"client\"} 1",
            "spinegate_refusals_total{reason=\"not_owner\",side=\"client\"} 0",
            "spinegate_refusals_total{reason=\"upstream_reset\",side=\"upstream\"} 0",
            "spinegate_connections_retired_total{reason=\"connection_age\"} 1",
            "spinegate_connections_retired_total{reason=\"connection_requests\"} 0",
            "spinegate_answers_broken_total 0",
            "spinegate_upstream_requests_total{upstream=\"http://127.0.0.1:8080\",outcome=\"answered\"} 4",
            "spinegate_upstream_requests_total{upstream=\"http://127.0.0.1:8080\",outcome=\"failed\"} 5",
            "spinegate_upstream_outstanding{upstream=\"http://127.0.0.1:8080\"} 3",
            "spinegate_upstream_up{upstream=\"http://127.0.0.1:8080\"} 0",
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
            "spinegate_handshakes_total{outcome=\"accepted\"} 1",
            "spinegate_handshakes_total{outcome=\"refused\"} 1",
            "spinegate_verdicts_issued_total 1",
            "spinegate_control_refused_total{kind=\"read_only\"} 1",
            "spinegate_control_refused_total{kind=\"no_role\"} 0",
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
}
