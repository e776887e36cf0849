//! From failures to verdicts, and the only hand that writes verdicts into the filter.

mod judge;
mod weight;

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use spinegate_common::{Reason, VerdictOrigin};

pub use self::judge::{Judge, Sentence};
use crate::{
    config::{self, Source, SourceKind},
    filter::{Filter, FilterError, Verdict},
};

/// The filter as its writers share it; none where `filter.mode` is off.
pub type SharedFilter = Arc<Mutex<Option<Filter>>>;

/// The verdicts of a running agent.
pub struct Verdicts {
    judge: Mutex<Judge>,
    sources: ArcSwap<Vec<Source>>,
    filter: SharedFilter,
}

/// Why an order about a verdict can't be carried out.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// There is no filter to carry it out.
    #[error("the filter is off, so a verdict would have no effect: set `filter.mode` to enforce or monitor")]
    FilterOff,
    /// The kernel refused.
    #[error(transparent)]
    Filter(#[from] FilterError),
}

impl Verdicts {
    /// Judges by the settings; `sources` tells proxies from systems.
    #[must_use]
    pub fn new(settings: config::Verdicts, sources: Vec<Source>, filter: SharedFilter) -> Self {
        Self {
            judge: Mutex::new(Judge::new(settings)),
            sources: ArcSwap::from_pointee(sources),
            filter,
        }
    }

    /// Takes over settings and sources after a reload; strikes are kept.
    pub fn replace(&self, settings: config::Verdicts, sources: Vec<Source>) {
        lock(&self.judge).replace(settings);
        self.sources.store(Arc::new(sources));
    }

    /// Counts a failure of an established connection. When that tips the scales, the source is denied from its next
    /// packet on, and the sentence is returned.
    ///
    /// # Errors
    /// If the kernel refuses the verdict; the source is then not denied.
    pub fn fail(
        &self,
        source: IpAddr,
        reason: Reason,
        now: Instant,
    ) -> Result<Option<Sentence>, FilterError> {
        let source = source.to_canonical();
        let Some(sentence) = lock(&self.judge).fail(source, self.kind(source), reason, now) else {
            return Ok(None);
        };
        let mut filter = lock(&self.filter);
        let Some(filter) = filter.as_mut() else {
            return Ok(None);
        };
        // A verdict that is in force stays: an operator's always wins, and our own ends when it was said to end.
        if filter.verdict_on(source)?.is_some() {
            return Ok(None);
        }
        filter.deny(source, sentence.ttl, reason, VerdictOrigin::Agent)?;
        Ok(Some(sentence))
    }

    /// Denies a source by an operator's order, whatever verdict there was.
    ///
    /// # Errors
    /// If there is no filter, or the kernel refuses.
    pub fn order(&self, source: IpAddr, ttl: Duration) -> Result<(), OrderError> {
        let mut filter = lock(&self.filter);
        let filter = filter.as_mut().ok_or(OrderError::FilterOff)?;
        Ok(filter.deny(source, ttl, Reason::OperatorOrder, VerdictOrigin::Operator)?)
    }

    /// Lifts the verdict on a source and forgets its strikes; false if no verdict was in force.
    ///
    /// # Errors
    /// If there is no filter, or the kernel refuses.
    pub fn lift(&self, source: IpAddr) -> Result<bool, OrderError> {
        lock(&self.judge).forget(source.to_canonical());
        let mut filter = lock(&self.filter);
        Ok(filter.as_mut().ok_or(OrderError::FilterOff)?.lift(source)?)
    }

    /// The verdicts in force.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn list(&self) -> Result<Vec<Verdict>, FilterError> {
        lock(&self.filter)
            .as_ref()
            .map_or(Ok(Vec::new()), Filter::verdicts)
    }

    /// Deletes what has expired from the map, and strikes that have faded from memory.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn sweep(&self, now: Instant) -> Result<(), FilterError> {
        lock(&self.judge).sweep(now);
        if let Some(filter) = lock(&self.filter).as_mut() {
            filter.forget_expired()?;
        }
        Ok(())
    }

    fn kind(&self, address: IpAddr) -> SourceKind {
        let sources = self.sources.load();
        let covering = sources.iter().filter(|source| source.cidr.contains(&address));
        covering
            .max_by_key(|source| source.cidr.prefix_len())
            .map_or(SourceKind::System, |source| source.kind)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
