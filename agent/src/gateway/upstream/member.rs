//! One upstream: its kept connections, its health, and how many requests are under way there.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use prometheus_client::metrics::histogram::Histogram;

use super::{
    address::Address,
    connection::Connection,
    health::{Health, State},
};
use crate::config;

/// Seconds: from a locator in the same rack to one that is about to time out.
const LATENCIES: [f64; 9] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// An upstream.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) address: Address,
    settings: Settings,
    health: Mutex<Health>,
    idle: Mutex<Vec<Connection>>,
    outstanding: AtomicUsize,
    answered: AtomicU64,
    /// From a request to the head of its answer.
    pub(super) latency: Histogram,
}

/// What applies to each upstream.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) health: config::Health,
    pub(super) max_requests: usize,
    pub(super) max_idle: usize,
    pub(super) keep_alive: Duration,
}

/// A request's place at an upstream, given back when this is dropped.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) member: Arc<Member>,
}

impl Member {
    pub(super) fn new(address: Address, settings: Settings) -> Self {
        Self {
            address,
            settings,
            health: Mutex::default(),
            idle: Mutex::default(),
            outstanding: AtomicUsize::new(0),
            answered: AtomicU64::new(0),
            latency: Histogram::new(LATENCIES),
        }
    }

    pub(super) fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is given requests while there is a choice.
    pub(super) fn is_eligible(&self, now: Instant) -> bool {
        match self.health().state(now) {
            State::Up => true,
            State::Trial => self.outstanding() == 0,
            State::Ejected(_) | State::Down => false,
        }
    }

    /// A place for one more request, if there is one.
    pub(super) fn lease(self: &Arc<Self>) -> Option<Lease> {
        let more = |held: usize| (held < self.settings.max_requests).then_some(held + 1);
        self.outstanding
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()?;
        Some(Lease {
            member: Arc::clone(self),
        })
    }

    pub(super) fn outstanding(&self) -> usize {
        self.outstanding.load(Ordering::Relaxed)
    }

    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    pub(super) fn succeeded(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        let mut health = self.health();
        let was_out = !matches!(health.state(Instant::now()), State::Up | State::Down);
        health.succeeded();
        drop(health);
        if was_out {
            tracing::info!(upstream = %self.address, "the upstream answers again");
        }
    }

    pub(super) fn failed(&self, error: &dyn fmt::Display) {
        let (error, now) = (error.to_string(), Instant::now());
        let mut health = self.health();
        let before = health.state(now);
        health.failed(&self.settings.health, now, &error, fastrand::f64());
        let after = health.state(now);
        drop(health);
        if let (State::Up | State::Trial, State::Ejected(span)) = (before, after) {
            tracing::warn!(upstream = %self.address, error, ?span, "the upstream is ejected");
        }
    }

    /// What came of asking it. Gives whether that changed its state.
    pub(super) fn asked(&self, answer: Result<(), &str>) -> bool {
        let now = Instant::now();
        let mut health = self.health();
        let before = health.state(now);
        health.asked(&self.settings.health, now, answer);
        health.state(now) != before
    }

    /// A kept connection, the latest first: it is the least likely to be closed by the other end.
    pub(super) fn take(&self) -> Option<Connection> {
        loop {
            let mut connection = self.kept().pop()?;
            if self.is_fresh(&mut connection) {
                return Some(connection);
            }
            connection.close();
        }
    }

    pub(super) fn keep(&self, connection: Connection) {
        let mut kept = self.kept();
        if kept.len() < self.settings.max_idle {
            kept.push(connection);
        } else {
            drop(kept);
            connection.close();
        }
    }

    /// Closes all kept connections: one of them was closed by the other end, and the others are no younger.
    pub(super) fn forget(&self) {
        let forgotten = std::mem::take(&mut *self.kept());
        forgotten.into_iter().for_each(Connection::close);
    }

    /// Closes kept connections whose time is over.
    pub(super) fn sweep(&self) {
        let over: Vec<_> = self
            .kept()
            .extract_if(.., |connection| !self.is_fresh(connection))
            .collect();
        over.into_iter().for_each(Connection::close);
    }

    fn is_fresh(&self, connection: &mut Connection) -> bool {
        connection.idle_since.elapsed() < self.settings.keep_alive && connection.is_ready()
    }

    pub(super) fn idle(&self) -> usize {
        self.kept().len()
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.member.outstanding.fetch_sub(1, Ordering::Relaxed);
    }
}
