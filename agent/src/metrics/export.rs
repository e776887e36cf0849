//! The counters as text: OpenMetrics, or the older form of Prometheus.
//!
//! Labels come from enums and the configuration alone: whatever clients send, the number of time series is fixed.

use std::{collections::BTreeMap, fmt, sync::Arc, time::SystemTime};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, prometheus_text, text},
    registry::Registry,
};
use spinegate_common::{Layer, Pass, Reason};

use super::{
    AuditObserved, Counters, Need, Observed, UpstreamObserved,
    catalogue::{self as all, Family},
    rows::Rows,
};
use crate::{
    clock::unix_seconds,
    control::{FilterStats, ServiceStats, Tally},
    directory::DirectoryStatus,
};

/// Writes the metrics down when asked.
#[derive(Debug)]
pub struct Exporter {
    registry: Registry,
}

impl Exporter {
    /// Exports the agent's counters and, at each scrape, what `observe` sees.
    #[must_use]
    pub fn new(counters: Arc<Counters>, observe: impl Fn() -> Observed + Send + Sync + 'static) -> Self {
        let mut registry = Registry::with_prefix(all::PREFIX);
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
        let mut text = String::new();
        prometheus_text::encode(&mut text, &self.registry)?;
        Ok(text)
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
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (mut rows, observed) = (Rows::new(encoder), (self.observe)());
        agent(&mut rows, &self.counters, &observed)?;
        filter(&mut rows, &observed)?;
        connections(&mut rows, &self.counters, &observed)?;
        requests(&mut rows, &self.counters, &observed)?;
        upstreams(&mut rows, &observed.upstreams)?;
        rows.one(&all::VERDICTS, observed.verdicts)?;
        rows.one(&all::VERDICTS_ISSUED, self.counters.issued_verdicts())?;
        let rebuffs = self.counters.operators_rebuffed();
        rows.all(
            &all::CONTROL_REFUSED,
            rebuffs.map(|(reason, count)| ([reason.as_str()], count)),
        )?;
        registry(&mut rows, &observed.registry)?;
        certificates(&mut rows, &observed)?;
        audit(&mut rows, observed.audit)
    }
}

fn agent(rows: &mut Rows<'_>, counters: &Counters, observed: &Observed) -> fmt::Result {
    let versions = [env!("CARGO_PKG_VERSION"), openssl::version::version()];
    rows.info(&all::BUILD, versions)?;
    rows.one(&all::START, seconds(observed.started))?;
    rows.one(&all::CLOCK, seconds(Some(SystemTime::now())))?;
    let needs = Need::ALL.map(|need| ([need.as_str()], u64::from(observed.readiness.has(need))));
    rows.all(&all::READY, needs)?;
    let (done, refused) = counters.reloads();
    rows.all(&all::RELOADS, [(["done"], done), (["refused"], refused)])?;
    rows.one(&all::LOG_SUPPRESSED, observed.log_suppressed)
}

/// Without numbers where there are none: no number is better than a wrong zero.
fn filter(rows: &mut Rows<'_>, observed: &Observed) -> fmt::Result {
    let interfaces = &observed.interfaces;
    rows.all(
        &all::FILTER_ATTACHED,
        interfaces
            .iter()
            .map(|(name, attached)| ([name.as_str()], u64::from(*attached))),
    )?;
    rows.one(&all::FILTER_ENFORCING, u64::from(observed.enforcing))?;
    let Some(filter) = &observed.filter else {
        return Ok(());
    };
    let counted = || outcomes(&filter.drops, &filter.would_drops, &filter.passes);
    let packets = counted().map(|(labels, tally)| (labels, tally.packets));
    rows.all(&all::FILTER_PACKETS, packets)?;
    let bytes = counted().map(|(labels, tally)| (labels, tally.bytes));
    rows.all(&all::FILTER_BYTES, bytes)?;
    rows.all(&all::FILTER_SERVICE_PACKETS, by_service(filter))?;
    rows.one(&all::FILTER_LOST_EVENTS, filter.lost_events)
}

type Tallies = BTreeMap<String, Tally>;

/// A row for every reason and outcome that there is; what the map holds beside them is not shown.
fn outcomes<'t>(
    drops: &'t Tallies,
    would_drops: &'t Tallies,
    passes: &'t Tallies,
) -> impl Iterator<Item = ([&'static str; 2], Tally)> + 't {
    let reasons = || {
        Reason::ALL
            .iter()
            .filter(|reason| reason.layer() == Layer::Filter)
            .map(|reason| reason.as_str())
    };
    let row = |outcome, tallies: &Tallies, code| {
        let tally = tallies.get(code).copied().unwrap_or_default();
        ([outcome, code], tally)
    };
    let drops = reasons().map(move |code| row("drop", drops, code));
    let would_drops = reasons().map(move |code| row("would_drop", would_drops, code));
    let passes = Pass::ALL
        .iter()
        .map(move |pass| row("pass", passes, pass.as_str()));
    drops.chain(would_drops).chain(passes)
}

/// What was never counted for a service is left out: of most reasons there is no packet anywhere.
fn by_service(filter: &FilterStats) -> impl Iterator<Item = ([&str; 3], u64)> {
    filter.services.iter().flat_map(|(service, stats)| {
        let ServiceStats {
            drops,
            would_drops,
            passes,
        } = stats;
        outcomes(drops, would_drops, passes)
            .filter(|(_, tally)| tally.packets > 0)
            .map(|([outcome, reason], tally)| ([service.as_str(), outcome, reason], tally.packets))
    })
}

fn connections(rows: &mut Rows<'_>, counters: &Counters, observed: &Observed) -> fmt::Result {
    rows.one(&all::CONNECTIONS, observed.connections as u64)?;
    rows.one(&all::CONNECTIONS_LIMIT, observed.connections_limit as u64)?;
    rows.one(&all::CONNECTIONS_INVALIDATED, counters.invalidated_connections())?;
    let retired = counters.retired_connections();
    rows.all(
        &all::CONNECTIONS_RETIRED,
        retired.map(|(reason, count)| ([reason.as_str()], count)),
    )?;
    let accepted = (["accepted", ""], counters.accepted_handshakes());
    let refused = counters.refused_handshakes();
    let refused = refused.map(|(reason, count)| (["refused", reason.as_str()], count));
    rows.all(&all::HANDSHAKES, std::iter::once(accepted).chain(refused))?;
    let features = counters.handshake_features();
    rows.all(
        &all::HANDSHAKE_FEATURES,
        features.map(|(feature, count)| ([feature], count)),
    )?;
    let load = observed.handshakes;
    rows.one(&all::HANDSHAKE_QUEUE, load.waiting as u64)?;
    rows.one(&all::HANDSHAKE_QUEUE_LIMIT, load.limit as u64)?;
    rows.one(&all::HANDSHAKE_THREADS, load.threads as u64)?;
    rows.one(&all::HANDSHAKE_THREADS_BUSY, load.busy as u64)
}

fn requests(rows: &mut Rows<'_>, counters: &Counters, observed: &Observed) -> fmt::Result {
    let refusals = counters.refusals();
    rows.all(
        &all::REFUSALS,
        refusals.map(|(reason, count)| ([reason.as_str(), reason.side().as_str()], count)),
    )?;
    let (allowed, refused) = counters.decided_requests();
    let decided = [
        (["allow"], allowed),
        (["refuse"], refused),
        (["shadow"], counters.shadowed_requests()),
    ];
    rows.all(&all::REQUESTS, decided)?;
    rows.one(&all::REQUESTS_UNDER_WAY, observed.requests_under_way as u64)?;
    let actions = counters.decided_actions().flat_map(|(action, allowed, refused)| {
        [("allow", allowed), ("refuse", refused)]
            .map(|(decision, count)| ([action.as_str(), decision], count))
    });
    rows.all(&all::ACTIONS, actions)?;
    let shadowed = counters.shadowed();
    rows.all(
        &all::SHADOWED,
        shadowed.map(|(reason, count)| ([reason.as_str()], count)),
    )?;
    rows.one(&all::SHADOW, u64::from(observed.in_shadow))?;
    rows.one(&all::ANSWERS_BROKEN, counters.broken_answers())
}

/// By their place in the configuration: an address is no label.
fn upstreams(rows: &mut Rows<'_>, upstreams: &[UpstreamObserved]) -> fmt::Result {
    type Value = fn(&UpstreamObserved) -> u64;
    let numbers: Vec<_> = (1..=upstreams.len()).map(|number| number.to_string()).collect();
    let numbered = || numbers.iter().map(String::as_str).zip(upstreams);
    let ended = numbered().flat_map(|(number, upstream)| {
        let status = &upstream.status;
        [("answered", status.answered), ("failed", status.failures)]
            .map(|(outcome, count)| ([number, outcome], count))
    });
    rows.all(&all::UPSTREAM_REQUESTS, ended)?;
    let values: [(&Family, Value); 4] = [
        (&all::UPSTREAM_EJECTIONS, |upstream| upstream.status.ejections),
        (&all::UPSTREAM_UP, |upstream| {
            u64::from(upstream.status.state == "up")
        }),
        (&all::UPSTREAM_OUTSTANDING, |upstream| {
            upstream.status.outstanding as u64
        }),
        (&all::UPSTREAM_IDLE, |upstream| upstream.status.idle as u64),
    ];
    for (family, value) in values {
        rows.all(
            family,
            numbered().map(|(number, upstream)| ([number], value(upstream))),
        )?;
    }
    let latencies = numbered().map(|(number, upstream)| ([number], &upstream.latency));
    rows.histograms(&all::UPSTREAM_LATENCY, latencies)
}

/// By the words of the sources, of which there are three.
fn registry(rows: &mut Rows<'_>, sources: &[DirectoryStatus]) -> fmt::Result {
    type Value = fn(&DirectoryStatus) -> Option<u64>;
    let values: [(&Family, Value); 5] = [
        (&all::REGISTRY_SYSTEMS, |source| Some(source.systems as u64)),
        (&all::REGISTRY_FETCHED, |source| source.fetched_timestamp),
        (&all::REGISTRY_ENDS, |source| source.ends_timestamp),
        (&all::REGISTRY_HELD, |source| {
            Some(u64::from(source.held.is_some()))
        }),
        (&all::REGISTRY_FAILURES, |source| Some(source.failures_total)),
    ];
    for (family, value) in values {
        let found = sources
            .iter()
            .filter_map(|source| Some(([source.source.as_str()], value(source)?)));
        rows.all(family, found)?;
    }
    Ok(())
}

fn certificates(rows: &mut Rows<'_>, observed: &Observed) -> fmt::Result {
    let expiries = observed.expiries.iter();
    rows.all(&all::EXPIRY, expiries.map(|(kind, end)| ([kind.as_str()], *end)))?;
    let crls = &observed.crls;
    let states = ["fresh", "grace", "stale"].map(|state| {
        let count = crls.iter().filter(|crl| crl.state == state).count();
        ([state], count as u64)
    });
    rows.all(&all::CRLS, states)?;
    let oldest = crls.iter().map(|crl| crl.age_seconds).max();
    rows.all(&all::CRL_AGE, oldest.map(|age| ([], age)))
}

fn audit(rows: &mut Rows<'_>, observed: AuditObserved) -> fmt::Result {
    rows.one(&all::AUDIT_LINES, observed.lines)?;
    rows.one(&all::AUDIT_FAILURES, observed.failures)?;
    rows.one(&all::AUDIT_UNSYNCED, observed.unsynced)?;
    let signed = observed.checkpoint_timestamp;
    rows.all(&all::AUDIT_CHECKPOINT, signed.map(|signed| ([], signed)))
}

fn seconds(time: Option<SystemTime>) -> u64 {
    time.map_or(0, unix_seconds)
}

#[cfg(test)]
mod tests;
