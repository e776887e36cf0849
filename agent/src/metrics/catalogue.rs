//! Every family of metrics: its name, type, unit, labels and meaning. `docs/metrics.md` is written from it.
//!
//! A name is `spinegate_`, what is measured, the base unit where there is one, and `_total` for what only grows. Labels come
//! from enums and the configuration alone.

use prometheus_client::{metrics::MetricType, registry::Unit};

/// The beginning of every name.
pub(super) const PREFIX: &str = "spinegate";

/// A family of metrics.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    /// Without [`PREFIX`], unit and suffix.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    measure: Measure,
    pub(super) labels: &'static [&'static str],
    pub(super) help: &'static str,
}

/// What a family's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It only grows, from 0 at the agent's start.
    Counter,
    Gauge,
    Histogram,
    /// Always 1: the labels tell.
    Info,
}

/// What the values are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measure {
    Plain,
    Seconds,
    Bytes,
}

impl Family {
    /// The name as it is scraped; of a histogram without the suffixes of its parts.
    #[must_use]
    pub fn full_name(&self) -> String {
        let unit = self
            .unit()
            .map_or_else(String::new, |unit| format!("_{}", unit.as_str()));
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        format!("{PREFIX}_{}{unit}{suffix}", self.name)
    }

    pub(super) const fn unit(&self) -> Option<Unit> {
        match self.measure {
            Measure::Plain => None,
            Measure::Seconds => Some(Unit::Seconds),
            Measure::Bytes => Some(Unit::Bytes),
        }
    }
}

impl Kind {
    pub(super) const fn metric_type(self) -> MetricType {
        match self {
            Self::Counter => MetricType::Counter,
            Self::Gauge => MetricType::Gauge,
            Self::Histogram => MetricType::Histogram,
            Self::Info => MetricType::Info,
        }
    }

    #[cfg(test)]
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }
}

macro_rules! families {
    ($($constant:ident = $kind:ident, $measure:ident, $name:literal, [$($label:literal),*], $help:literal;)+) => {
        $(pub(super) const $constant: Family = Family {
            name: $name,
            kind: Kind::$kind,
            measure: Measure::$measure,
            labels: &[$($label),*],
            help: $help,
        };)+

        /// Every family, in the order in which they are written.
        pub const FAMILIES: &[&Family] = &[$(&$constant,)+];
    };
}

families! {
    BUILD = Info, Plain, "build", ["version", "openssl"],
        "The agent's version and the OpenSSL that it runs on";
    START = Gauge, Seconds, "start_timestamp", [],
        "When the agent started, since 1970";
    CLOCK = Gauge, Seconds, "clock_timestamp", [],
        "The gateway's clock at the scrape, since 1970: certificates, CRLs and JWTs are judged by it";
    READY = Gauge, Plain, "ready", ["need"],
        "Whether each thing holds without which no request can be served, as /readyz tells";
    RELOADS = Counter, Plain, "reloads", ["outcome"],
        "Attempts to take over another configuration, by how they ended";
    LOG_SUPPRESSED = Counter, Plain, "log_suppressed", [],
        "Lines that the agent's log left out because there were too many like them";

    FILTER_ATTACHED = Gauge, Plain, "filter_attached", ["interface"],
        "Whether the filter holds the XDP slot of each interface of the configuration";
    FILTER_ENFORCING = Gauge, Plain, "filter_enforcing", [],
        "Whether the filter drops; 0 in monitor mode and where it is off";
    FILTER_PACKETS = Counter, Plain, "filter_packets", ["outcome", "reason"],
        "Packets, by what the filter did and why";
    FILTER_BYTES = Counter, Bytes, "filter", ["outcome", "reason"],
        "Their bytes, from the Ethernet header on";
    FILTER_SERVICE_PACKETS = Counter, Plain, "filter_service_packets", ["service", "outcome", "reason"],
        "The same packets by guarded service, for services that anything was counted for";
    FILTER_LOST_EVENTS = Counter, Plain, "filter_lost_events", [],
        "Drop events that the filter only counted";

    CONNECTIONS = Gauge, Plain, "connections", [],
        "Connections open now";
    CONNECTIONS_LIMIT = Gauge, Plain, "connections_limit", [],
        "How many may be open at once";
    CONNECTIONS_INVALIDATED = Counter, Plain, "connections_invalidated", [],
        "Open connections cut off because the client's certificate no longer passed";
    CONNECTIONS_RETIRED = Counter, Plain, "connections_retired", ["reason"],
        "Connections closed in order because they had served for long enough";
    HANDSHAKES = Counter, Plain, "handshakes", ["outcome", "reason"],
        "TLS handshakes, by how they ended; the reason is empty where they were accepted";
    HANDSHAKE_FEATURES = Counter, Plain, "handshake_features", ["feature"],
        "Accepted handshakes that have it: EMS (RFC 7627), EtM (RFC 7366), a resumed session";
    HANDSHAKE_QUEUE = Gauge, Plain, "handshake_queue_length", [],
        "Handshakes that wait for a thread to do their arithmetic";
    HANDSHAKE_QUEUE_LIMIT = Gauge, Plain, "handshake_queue_limit", [],
        "How many of them that have not begun may wait before some are shed";
    HANDSHAKE_THREADS = Gauge, Plain, "handshake_threads", [],
        "Threads for the arithmetic of handshakes";
    HANDSHAKE_THREADS_BUSY = Gauge, Plain, "handshake_threads_busy", [],
        "Those of them that are at work";

    REFUSALS = Counter, Plain, "refusals", ["reason", "side"],
        "Refused connections and requests, by reason and by whose doing that is";
    REQUESTS = Counter, Plain, "requests", ["decision"],
        "Decided requests";
    REQUESTS_UNDER_WAY = Gauge, Plain, "requests_under_way", [],
        "Requests whose answer is not yet handed over";
    ACTIONS = Counter, Plain, "actions", ["action", "decision"],
        "Decided requests that are known to be one of the NRL's, by what they do; a supersede has its own name";
    SHADOWED = Counter, Plain, "shadowed", ["reason"],
        "Requests in shadow that were passed on, by the reason for which they would have been refused";
    SHADOW = Gauge, Plain, "shadow", [],
        "Whether any request is in shadow, so that permission is only tried on it";
    ANSWERS_BROKEN = Counter, Plain, "answers_broken", [],
        "Answers of upstreams that broke off on their way to the client";

    UPSTREAM_REQUESTS = Counter, Plain, "upstream_requests", ["upstream", "outcome"],
        "Requests to each upstream since the last reload, by how they ended; upstreams are numbered from 1 as in the configuration";
    UPSTREAM_EJECTIONS = Counter, Plain, "upstream_ejections", ["upstream"],
        "How often each upstream was ejected since the last reload";
    UPSTREAM_UP = Gauge, Plain, "upstream_up", ["upstream"],
        "Whether each upstream is given requests while there is a choice";
    UPSTREAM_OUTSTANDING = Gauge, Plain, "upstream_outstanding", ["upstream"],
        "Requests under way at each upstream";
    UPSTREAM_IDLE = Gauge, Plain, "upstream_idle_connections", ["upstream"],
        "Connections to each upstream that are kept for later requests";
    UPSTREAM_LATENCY = Histogram, Seconds, "upstream_latency", ["upstream"],
        "From a request to an upstream to the head of its answer, connecting included";

    VERDICTS = Gauge, Plain, "verdicts", [],
        "Verdicts in force";
    VERDICTS_ISSUED = Counter, Plain, "verdicts_issued", [],
        "Deny verdicts that failures led to";
    CONTROL_REFUSED = Counter, Plain, "control_refused", ["reason"],
        "Callers of the control socket who were refused, and orders that were not even tried";

    REGISTRY_SYSTEMS = Gauge, Plain, "registry_systems", ["source"],
        "Systems of each source of the registry";
    REGISTRY_FETCHED = Gauge, Seconds, "registry_fetched_timestamp", ["source"],
        "When the snapshot of each fetched source is from, since 1970";
    REGISTRY_ENDS = Gauge, Seconds, "registry_ends_timestamp", ["source"],
        "When the snapshot of each fetched source no longer counts, since 1970";
    REGISTRY_HELD = Gauge, Plain, "registry_held", ["source"],
        "Whether a snapshot waits for the operator's word because so many systems are gone";
    REGISTRY_FAILURES = Counter, Plain, "registry_failures", ["source"],
        "Attempts to fetch a source of the registry that put nothing in force";

    EXPIRY = Gauge, Seconds, "expiry_timestamp", ["kind"],
        "When the first certificate or CRL of each kind ends, since 1970";
    CRLS = Gauge, Plain, "crls", ["state"],
        "CRLs in force, by whether they are fresh, past their end and still accepted, or too old";
    CRL_AGE = Gauge, Seconds, "crl_age", [],
        "How long ago the oldest CRL in force was issued";

    AUDIT_LINES = Counter, Plain, "audit_lines", [],
        "Lines that the audit log took, checkpoints included";
    AUDIT_FAILURES = Counter, Plain, "audit_write_failures", [],
        "Records that the audit log could not take";
    AUDIT_UNSYNCED = Gauge, Plain, "audit_unsynced_lines", [],
        "Lines on their way to the disk, with audit.durability fsync";
    AUDIT_CHECKPOINT = Gauge, Seconds, "audit_checkpoint_timestamp", [],
        "When the chain of the audit log was last signed, since 1970; absent before that";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_scheme() {
        let mut names: Vec<_> = FAMILIES.iter().map(|family| family.full_name()).collect();
        for name in &names {
            assert!(
                name.chars().all(|c| c.is_ascii_lowercase() || c == '_') && !name.contains("__"),
                "{name}"
            );
        }
        for family in FAMILIES {
            let name = family.full_name();
            assert_eq!(
                name.contains("_timestamp"),
                name.ends_with("_timestamp_seconds"),
                "{name}"
            );
            assert!(!family.name.ends_with("_total"), "{name}");
            assert!(
                !family.help.ends_with('.') && !family.help.contains('|'),
                "{name}"
            );
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), FAMILIES.len());
    }

    #[test]
    fn a_name_has_its_unit_and_its_suffix() {
        assert_eq!(FILTER_BYTES.full_name(), "spinegate_filter_bytes_total");
        assert_eq!(BUILD.full_name(), "spinegate_build_info");
        assert_eq!(UPSTREAM_LATENCY.full_name(), "spinegate_upstream_latency_seconds");
    }
}
