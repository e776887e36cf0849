//! What is counted outside of [`Counters`](super::Counters), at the moment of a scrape.

use std::{collections::BTreeMap, time::SystemTime};

use prometheus_client::metrics::histogram::Histogram;

use super::Readiness;
use crate::{
    control::{CrlStatus, FilterStats, UpstreamStatus},
    directory::DirectoryStatus,
    tls::{ExpiryKind, HandshakeLoad},
};

/// How the agent is.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Since when it runs.
    pub started: Option<SystemTime>,
    /// Whether it can serve.
    pub readiness: Readiness,
    /// Lines that the log left out.
    pub log_suppressed: u64,
    /// The interfaces of the configuration, and whether the filter is attached to each.
    pub interfaces: Vec<(String, bool)>,
    /// Whether the filter drops.
    pub enforcing: bool,
    /// The kernel's counters; none where there is no filter, or it can't be read: no number is better than a wrong zero.
    pub filter: Option<FilterStats>,
    /// Connections open now.
    pub connections: usize,
    /// `gateway.max_connections`
    pub connections_limit: usize,
    /// What the threads for handshakes have to do.
    pub handshakes: HandshakeLoad,
    /// Requests whose answer is not handed over yet.
    pub requests_under_way: usize,
    /// Whether anything is in shadow.
    pub in_shadow: bool,
    /// Each upstream, in the order of the configuration.
    pub upstreams: Vec<UpstreamObserved>,
    /// Verdicts in force.
    pub verdicts: u64,
    /// How it goes with each source of the registry.
    pub registry: Vec<DirectoryStatus>,
    /// When the first of each kind ends, in seconds since 1970; a kind of which nothing ends is left out.
    pub expiries: BTreeMap<ExpiryKind, i64>,
    /// The CRLs in force.
    pub crls: Vec<CrlStatus>,
    /// The audit log.
    pub audit: AuditObserved,
}

/// An upstream.
#[derive(Clone, Debug)]
pub struct UpstreamObserved {
    /// How it is.
    pub status: UpstreamStatus,
    /// From a request to the head of its answer, in seconds.
    pub latency: Histogram,
}

/// How it goes with the audit log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuditObserved {
    /// Lines that it took since the agent's start.
    pub lines: u64,
    /// Records that it could not take.
    pub failures: u64,
    /// Lines on their way to the disk.
    pub unsynced: u64,
    /// When the chain was last signed, in seconds since 1970.
    pub checkpoint_timestamp: Option<u64>,
}
