//! Strikes: they weigh by reason, fade with time, and end in sentences that grow with each repetition.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use spinegate_common::Reason;

use super::weight::weight;
use crate::config::{self, SourceKind};

/// Sources with strikes that are remembered. Only sources that the filter lets through can have any, so the bound
/// matters only to allowlists of whole networks.
const REMEMBERED: usize = 1 << 16;
/// Strikes that have faded below this are forgotten.
const FADED: f64 = 0.1;

/// Decides, without a clock of its own, when a source has failed too often.
#[derive(Debug)]
pub struct Judge {
    settings: config::Verdicts,
    records: HashMap<IpAddr, Record>,
}

/// What follows from too many strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sentence {
    /// How long the source is denied.
    pub ttl: Duration,
    /// The failure that tipped the scales.
    pub reason: Reason,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    strikes: f64,
    updated: Instant,
    sentences: u32,
    released: Instant,
}

impl Judge {
    /// Begins with no strikes.
    #[must_use]
    pub fn new(settings: config::Verdicts) -> Self {
        Self {
            settings,
            records: HashMap::new(),
        }
    }

    /// Takes other settings; strikes are kept.
    pub fn replace(&mut self, settings: config::Verdicts) {
        self.settings = settings;
    }

    /// Counts a failure, and says the sentence if it tips the scales; the source then begins anew with no strikes.
    pub fn fail(
        &mut self,
        source: IpAddr,
        kind: SourceKind,
        reason: Reason,
        now: Instant,
    ) -> Option<Sentence> {
        let weight = weight(reason, kind);
        if weight == 0 {
            return None;
        }
        let settings = &self.settings;
        let threshold = match kind {
            SourceKind::Proxy => settings.proxy_threshold,
            SourceKind::System => settings.system_threshold,
        };
        let half_life = settings.half_life;
        let record = self.record_of(source, now);
        record.strikes = record.faded(half_life, now) + f64::from(weight);
        record.updated = now;
        // Fading leaves the sum a hair below a whole number when failures come quickly one after another.
        if record.strikes.round() < f64::from(threshold.max(1)) {
            return None;
        }
        Some(self.condemn(source, reason, now))
    }

    /// Says the sentence whatever the source's strikes are.
    pub fn condemn(&mut self, source: IpAddr, reason: Reason, now: Instant) -> Sentence {
        let (first, longest) = (self.settings.ttl, self.settings.ttl_max);
        let record = self.record_of(source, now);
        let well_behaved = now.saturating_duration_since(record.released);
        if well_behaved > longest {
            record.sentences = 0;
        }
        let ttl = first.saturating_mul(1_u32.checked_shl(record.sentences).unwrap_or(u32::MAX));
        let ttl = ttl.min(longest);
        record.sentences = record.sentences.saturating_add(1);
        record.strikes = 0.0;
        record.released = now + ttl;
        Sentence { ttl, reason }
    }

    fn record_of(&mut self, source: IpAddr, now: Instant) -> &mut Record {
        if self.records.len() >= REMEMBERED && !self.records.contains_key(&source) {
            self.make_room(now);
        }
        let fresh = Record {
            strikes: 0.0,
            updated: now,
            sentences: 0,
            released: now,
        };
        self.records.entry(source).or_insert(fresh)
    }

    /// Forgets a source's strikes and sentences.
    pub fn forget(&mut self, source: IpAddr) {
        self.records.remove(&source);
    }

    /// Forgets what has faded.
    pub fn sweep(&mut self, now: Instant) {
        let settings = &self.settings;
        self.records.retain(|_, record| {
            record.faded(settings.half_life, now) >= FADED
                || now.saturating_duration_since(record.released) <= settings.ttl_max && record.sentences > 0
        });
    }

    /// Drops what has faded, and if nothing has, the lightest record.
    fn make_room(&mut self, now: Instant) {
        self.sweep(now);
        if self.records.len() < REMEMBERED {
            return;
        }
        let half_life = self.settings.half_life;
        let lightest = self
            .records
            .iter()
            .min_by(|(_, a), (_, b)| {
                (a.sentences, a.faded(half_life, now))
                    .partial_cmp(&(b.sentences, b.faded(half_life, now)))
                    .unwrap_or(std::cmp::Ordering::Equal)
            })
            .map(|(source, _)| *source);
        if let Some(lightest) = lightest {
            self.records.remove(&lightest);
        }
    }
}

impl Record {
    fn faded(&self, half_life: Duration, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(self.updated);
        self.strikes * 0.5_f64.powf(elapsed.as_secs_f64() / half_life.as_secs_f64().max(f64::EPSILON))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    fn settings() -> config::Verdicts {
        config::Verdicts {
            system_threshold: 4,
            proxy_threshold: 8,
            half_life: Duration::from_secs(60),
            ttl: Duration::from_secs(10),
            ttl_max: Duration::from_secs(35),
        }
    }

    fn failures_until_sentence(
        judge: &mut Judge,
        kind: SourceKind,
        reason: Reason,
        now: Instant,
    ) -> Option<(u32, Duration)> {
        (1..=50).find_map(|count| {
            judge
                .fail(SOURCE, kind, reason, now)
                .map(|sentence| (count, sentence.ttl))
        })
    }

    #[test]
    fn a_system_is_denied_at_its_threshold_and_longer_each_time_up_to_the_ceiling() {
        let (mut judge, now) = (Judge::new(settings()), Instant::now());
        let sentences: Vec<_> = (0..4)
            .map(|_| {
                failures_until_sentence(&mut judge, SourceKind::System, Reason::InteractionNotAllowed, now)
            })
            .collect();
        let seconds = |seconds| Some((4, Duration::from_secs(seconds)));
        assert_eq!(sentences, [seconds(10), seconds(20), seconds(35), seconds(35)]);
    }

    #[test]
    fn sentences_shorten_again_after_good_behaviour() {
        let (mut judge, now) = (Judge::new(settings()), Instant::now());
        for _ in 0..2 {
            failures_until_sentence(&mut judge, SourceKind::System, Reason::NotOwner, now);
        }
        let later = now + Duration::from_secs(20 + 36);
        let sentence = failures_until_sentence(&mut judge, SourceKind::System, Reason::NotOwner, later);
        assert_eq!(sentence, Some((2, Duration::from_secs(10))));
    }

    #[test]
    fn what_a_system_does_behind_a_proxy_never_denies_the_proxy() {
        let (mut judge, now) = (Judge::new(settings()), Instant::now());
        for reason in Reason::ALL {
            use spinegate_common::Layer;
            let sentence = failures_until_sentence(&mut judge, SourceKind::Proxy, *reason, now);
            judge.forget(SOURCE);
            if !matches!(reason.layer(), Layer::Handshake | Layer::Certificate) {
                assert_eq!(sentence, None, "{}", reason.as_str());
            }
        }
        let own = failures_until_sentence(&mut judge, SourceKind::Proxy, Reason::ChainUnknownCa, now);
        assert_eq!(own, Some((4, Duration::from_secs(10))));
    }

    #[test]
    fn packets_and_our_own_faults_never_count() {
        let (mut judge, now) = (Judge::new(settings()), Instant::now());
        for reason in [
            Reason::SourceNotAllowlisted,
            Reason::VerdictDeny,
            Reason::PeerClosed,
            Reason::CrlStale,
            Reason::CrlMissing,
            Reason::UpstreamUnreachable,
            Reason::ConnectionLimit,
            Reason::PointerChanged,
            Reason::VersionMismatch,
        ] {
            let sentence = failures_until_sentence(&mut judge, SourceKind::System, reason, now);
            assert_eq!(sentence, None, "{}", reason.as_str());
        }
    }

    #[test]
    fn strikes_fade_by_half_in_each_half_life() {
        let (mut judge, now) = (Judge::new(settings()), Instant::now());
        for _ in 0..3 {
            assert_eq!(
                judge.fail(SOURCE, SourceKind::System, Reason::TlsVersion, now),
                None
            );
        }
        let later = now + Duration::from_secs(120);
        assert_eq!(
            judge.fail(SOURCE, SourceKind::System, Reason::TlsVersion, later),
            None
        );
        assert_eq!(
            judge.fail(SOURCE, SourceKind::System, Reason::TlsVersion, later),
            None
        );
        assert!(
            judge
                .fail(SOURCE, SourceKind::System, Reason::TlsVersion, later)
                .is_some()
        );
        judge.sweep(later + Duration::from_secs(3600));
        assert!(judge.records.is_empty());
    }

    #[test]
    fn memory_is_bounded_whoever_fails() {
        let (mut judge, now) = (Judge::new(settings()), Instant::now());
        let (heavy, kind) = (SOURCE, SourceKind::System);
        judge.fail(heavy, kind, Reason::CertificateRevoked, now);
        for number in 0..=REMEMBERED as u32 {
            let light = IpAddr::from(std::net::Ipv6Addr::from(u128::from(number) + 1));
            judge.fail(light, kind, Reason::TlsVersion, now);
        }
        assert!(judge.records.len() <= REMEMBERED);
        assert!(
            judge.fail(heavy, kind, Reason::TlsVersion, now).is_some(),
            "the heavier record was kept"
        );
    }
}
