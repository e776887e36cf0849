//! From failures to verdicts, and the only hand that writes verdicts into the filter.

mod judge;
mod kinds;
mod weight;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use ipnet::IpNet;
use spinegate_common::{Reason, VerdictKind, VerdictOrigin};

pub use self::judge::{Judge, Sentence};
use self::kinds::Kinds;
use crate::{
    config::{Config, Source, SourceKind},
    filter::{NewVerdict, Verdict},
    keeper::{Keeper, KeeperError},
};

/// The filter as its writers share it; none where `filter.mode` is off.
pub type SharedFilter = Option<Arc<Keeper>>;

/// The verdicts of a running agent.
pub struct Verdicts {
    judge: Mutex<Judge>,
    trust_ttl: ArcSwap<Duration>,
    kinds: ArcSwap<Kinds>,
    filter: SharedFilter,
    /// Until when a trust that was given here is new enough: each handshake would ask the keeper otherwise.
    trusted: Mutex<HashMap<IpAddr, Instant>>,
}

/// Sources that are remembered as trusted.
const REMEMBERED: usize = 1 << 14;

/// Why an order about a verdict can't be carried out.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// There is no filter to carry it out.
    #[error("the filter is off, so a verdict would have no effect: set `filter.mode` to enforce or monitor")]
    FilterOff,
    /// The kernel or the filter's keeper refused.
    #[error(transparent)]
    Filter(#[from] KeeperError),
}

impl Verdicts {
    /// Judges by the settings; `sources` tells proxies from systems.
    #[must_use]
    pub fn new(config: &Config, sources: &[Source], filter: SharedFilter) -> Self {
        Self {
            judge: Mutex::new(Judge::new(config.verdict.clone())),
            trust_ttl: ArcSwap::from_pointee(config.filter.handshake.trust_ttl),
            kinds: ArcSwap::from_pointee(Kinds::of(sources)),
            filter,
            trusted: Mutex::default(),
        }
    }

    /// Takes over settings and sources after a reload; strikes are kept.
    pub fn replace(&self, config: &Config, sources: &[Source]) {
        lock(&self.judge).replace(config.verdict.clone());
        lock(&self.trusted).clear();
        self.trust_ttl.store(Arc::new(config.filter.handshake.trust_ttl));
        self.kinds.store(Arc::new(Kinds::of(sources)));
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
    ) -> Result<Option<Sentence>, KeeperError> {
        let source = source.to_canonical();
        match lock(&self.judge).fail(source, self.kind_of(source), reason, now) {
            Some(sentence) => self.deny(source, sentence),
            None => Ok(None),
        }
    }

    fn deny(&self, source: IpAddr, sentence: Sentence) -> Result<Option<Sentence>, KeeperError> {
        let Some(filter) = &self.filter else {
            return Ok(None);
        };
        let verdict = NewVerdict {
            kind: VerdictKind::Deny,
            reason: sentence.reason,
            origin: VerdictOrigin::Agent,
            ttl: sentence.ttl,
        };
        let mut trusted = lock(&self.trusted);
        trusted.remove(&source);
        let reached = filter.judge(source.into(), verdict)?;
        Ok(reached.then_some(sentence))
    }

    /// A source used a certificate that is revoked: a system is denied at once, a proxy gets its strikes, since others
    /// behind it may hold good certificates.
    ///
    /// # Errors
    /// As [`Verdicts::fail`].
    pub fn condemn(
        &self,
        source: IpAddr,
        reason: Reason,
        now: Instant,
    ) -> Result<Option<Sentence>, KeeperError> {
        let source = source.to_canonical();
        match self.kind_of(source) {
            SourceKind::Proxy => self.fail(source, reason, now),
            SourceKind::System => {
                // Several connections of one client are cut off at once: it is for one offence.
                let mut judge = lock(&self.judge);
                let Some(filter) = &self.filter else {
                    return Ok(None);
                };
                if filter.verdict_on(source.into())?.is_some_and(is_settled) {
                    return Ok(None);
                }
                let sentence = judge.condemn(source, reason, now);
                self.deny(source, sentence)
            }
        }
    }

    /// Which kind of source an address is.
    #[must_use]
    pub fn kind_of(&self, address: IpAddr) -> SourceKind {
        self.kinds.load().of_address(address)
    }

    /// Trusts a source for a time because a client behind it has authenticated: its handshakes have a generous budget
    /// from the next packet on. A trust that is new enough is left alone, as is every other verdict.
    ///
    /// # Errors
    /// If the kernel refuses the verdict; the source then keeps its small budget.
    pub fn trust(&self, source: IpAddr) -> Result<(), KeeperError> {
        let ttl = **self.trust_ttl.load();
        let source = source.to_canonical();
        let Some(filter) = &self.filter else {
            return Ok(());
        };
        let now = Instant::now();
        // Held until the verdict is reached, so that what is lifted meanwhile is not remembered.
        let mut trusted = lock(&self.trusted);
        if trusted.get(&source).is_some_and(|until| now < *until) {
            return Ok(());
        }
        let verdict = NewVerdict {
            kind: VerdictKind::Trust,
            reason: Reason::Authenticated,
            origin: VerdictOrigin::Agent,
            ttl,
        };
        // Where another one stands against it there is nothing more to do.
        if filter.judge(source.into(), verdict)? {
            if trusted.len() >= REMEMBERED {
                trusted.clear();
            }
            trusted.insert(source, now + ttl / 2);
        }
        Ok(())
    }

    /// Denies or trusts a source by an operator's order, whatever verdict there was.
    ///
    /// # Errors
    /// If there is no filter, or the kernel refuses.
    pub fn order(&self, source: IpNet, kind: VerdictKind, ttl: Duration) -> Result<(), OrderError> {
        let filter = self.filter.as_ref().ok_or(OrderError::FilterOff)?;
        let mut trusted = lock(&self.trusted);
        trusted.clear();
        let verdict = NewVerdict {
            kind,
            reason: Reason::OperatorOrder,
            origin: VerdictOrigin::Operator,
            ttl,
        };
        filter.judge(source, verdict)?;
        Ok(())
    }

    /// Lifts the verdict on a source and forgets its strikes; false if no verdict was in force.
    ///
    /// # Errors
    /// If there is no filter, or the kernel refuses.
    pub fn lift(&self, source: IpNet) -> Result<bool, OrderError> {
        if source.prefix_len() == source.max_prefix_len() {
            lock(&self.judge).forget(source.addr());
        }
        let filter = self.filter.as_ref().ok_or(OrderError::FilterOff)?;
        let mut trusted = lock(&self.trusted);
        trusted.clear();
        Ok(filter.lift(source)?)
    }

    /// Lifts every verdict on addresses and prefixes within a network, and says how many were in force.
    ///
    /// # Errors
    /// If there is no filter, or the kernel refuses; what was lifted before stays lifted.
    pub fn clear(&self, within: Option<IpNet>) -> Result<usize, OrderError> {
        let mut lifted = 0;
        for verdict in self.list()? {
            if within.is_none_or(|network| network.contains(&verdict.source)) && self.lift(verdict.source)? {
                lifted += 1;
            }
        }
        Ok(lifted)
    }

    /// The verdicts in force.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn list(&self) -> Result<Vec<Verdict>, KeeperError> {
        self.filter
            .as_ref()
            .map_or(Ok(Vec::new()), |filter| filter.verdicts())
    }

    /// Deletes what has expired from the map, and strikes that have faded from memory.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn sweep(&self, now: Instant) -> Result<(), KeeperError> {
        lock(&self.judge).sweep(now);
        if let Some(filter) = &self.filter {
            filter.forget_expired()?;
        }
        Ok(())
    }
}

/// Whether no sentence changes a verdict: a denial in force ends when it was said to end, and
/// what an operator said always wins.
fn is_settled(verdict: Verdict) -> bool {
    verdict.ordered || verdict.kind == VerdictKind::Deny
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
