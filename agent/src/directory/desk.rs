//! What is known of one fetched source, and how the fetching goes.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use super::{order::Order, records::Aside, store::Stamp};
use crate::{
    clock::{boot_time, unix_seconds},
    config::Fqdns,
    registry::{Snapshot, Source, Systems},
};

/// One fetched source.
#[derive(Debug)]
pub(super) struct Desk {
    origin: String,
    rule: Fqdns,
    snapshot: Option<Arc<Snapshot>>,
    /// How old the snapshot was when it was taken, and the time since boot then.
    taken: (Duration, Duration),
    /// Whether the snapshot was found too old; it is then only what the next one is held against.
    ended: bool,
    pub(super) stamp: Option<Stamp>,
    aside: Aside,
    pub(super) due: SystemTime,
    pub(super) failures: u32,
    failed: u64,
    pub(super) last_error: Option<String>,
    pub(super) held: Option<String>,
    /// Held while it is fetched.
    pub(super) fetching: Arc<tokio::sync::Mutex<()>>,
}

/// How it goes with a source of the registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryStatus {
    /// `file`, `ldap` or `sds`.
    pub source: String,
    /// What it is: a file, or what is asked where.
    pub origin: String,
    /// `fresh`, `overdue` (nothing of it counts any more), `none` (it gave nothing yet), or `listed` for a file.
    pub state: String,
    /// Its systems.
    pub systems: usize,
    /// When its snapshot was fetched: RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetched: Option<String>,
    /// The same in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetched_timestamp: Option<u64>,
    /// When that ends to count unless it is fetched again: RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<String>,
    /// The same in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_timestamp: Option<u64>,
    /// Records that were not taken over.
    pub set_aside: usize,
    /// Why, for the first of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set_aside_examples: Vec<String>,
    /// Failures in a row.
    pub failures: u32,
    /// Failures since the agent's start.
    pub failures_total: u64,
    /// What went wrong last, unless it went well since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Why a snapshot waits for the operator's word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// When it is fetched next: RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<String>,
}

impl Desk {
    /// A source of which nothing is known yet, to be asked at once.
    pub(super) fn new(order: &Order, source: Source, now: SystemTime) -> Self {
        Self {
            origin: order.origin(source),
            rule: order.settings().fqdns,
            snapshot: None,
            taken: (Duration::ZERO, boot_time()),
            ended: false,
            stamp: None,
            aside: Aside::default(),
            due: now,
            failures: 0,
            failed: 0,
            last_error: None,
            held: None,
            fetching: Arc::default(),
        }
    }

    /// Whether it is that of the same source in another configuration.
    pub(super) fn serves(&self, order: &Order, source: Source) -> bool {
        self.origin == order.origin(source) && self.rule == order.settings().fqdns
    }

    /// Has the snapshot last as long as the configuration says now.
    pub(super) fn renew(&mut self, order: &Order, source: Source, now: SystemTime) {
        if let (Some(snapshot), Some(stamp)) = (&self.snapshot, &self.stamp) {
            self.snapshot = Some(Arc::new(Snapshot {
                source,
                systems: Arc::clone(&snapshot.systems),
                life: Some(order.life(source, stamp)),
            }));
        }
        self.due = self.due.min(now + order.interval(source));
    }

    /// Takes a snapshot in place of the last one.
    pub(super) fn take(&mut self, snapshot: Arc<Snapshot>, stamp: Stamp, aside: Aside, now: SystemTime) {
        self.taken = (now.duration_since(stamp.fetched).unwrap_or_default(), boot_time());
        self.ended = false;
        self.snapshot = Some(snapshot);
        // Changes alone don't show what is gone.
        if stamp.full == stamp.fetched {
            self.held = None;
        }
        self.stamp = Some(stamp);
        self.aside = aside;
    }

    /// What the next snapshot is held against.
    pub(super) fn known(&self) -> Option<Arc<Systems>> {
        self.snapshot
            .as_ref()
            .map(|snapshot| Arc::clone(&snapshot.systems))
    }

    /// What requests are judged by.
    pub(super) fn in_force(&self) -> Option<Arc<Snapshot>> {
        self.snapshot.clone().filter(|_| !self.ended)
    }

    /// Ends the snapshot if it is too old by the time since boot. Gives whether that is news.
    pub(super) fn end_if_overdue(&mut self, boot: Duration) -> bool {
        let life = self.snapshot.as_ref().and_then(|snapshot| snapshot.life);
        let lasts = life.and_then(|life| life.ends.duration_since(life.fetched).ok());
        let (age, since) = self.taken;
        let age = age + boot.saturating_sub(since);
        let overdue = lasts.is_some_and(|lasts| age >= lasts);
        let news = overdue && !self.ended;
        self.ended |= overdue;
        news
    }

    pub(super) fn succeeded(&mut self, due: SystemTime) {
        self.failures = 0;
        self.last_error = None;
        self.due = due;
    }

    pub(super) fn failed(&mut self, fault: String) {
        self.failures = self.failures.saturating_add(1);
        self.failed += 1;
        self.last_error = Some(fault);
    }

    pub(super) fn status(&self, source: Source, order: &Order, now: SystemTime) -> DirectoryStatus {
        let life = self.snapshot.as_ref().and_then(|snapshot| snapshot.life);
        let state = match life {
            None => "none",
            Some(life) if self.ended || !life.lasts_at(now) => "overdue",
            Some(_) => "fresh",
        };
        let shown = |time| humantime::format_rfc3339_seconds(time).to_string();
        DirectoryStatus {
            source: source.to_string(),
            origin: order.origin(source),
            state: state.to_owned(),
            systems: self
                .snapshot
                .as_ref()
                .map_or(0, |snapshot| snapshot.systems.len()),
            fetched: life.map(|life| shown(life.fetched)),
            fetched_timestamp: life.map(|life| unix_seconds(life.fetched)),
            ends: life.map(|life| shown(life.ends)),
            ends_timestamp: life.map(|life| unix_seconds(life.ends)),
            set_aside: self.aside.count,
            set_aside_examples: self.aside.examples.clone(),
            failures: self.failures,
            failures_total: self.failed,
            last_error: self.last_error.clone(),
            held: self.held.clone(),
            next_attempt: Some(shown(self.due)),
        }
    }
}

impl DirectoryStatus {
    pub(super) fn listed(order: &Order, systems: usize) -> Self {
        Self {
            source: Source::File.to_string(),
            origin: order.origin(Source::File),
            state: "listed".to_owned(),
            systems,
            ..Self::default()
        }
    }
}
