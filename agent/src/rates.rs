//! Rates: what two readings of the agent's counters say about the time between them.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    time::Instant,
};

use serde::Serialize;

use crate::control::{DropReport, SourceEntry, Stats, Tally};

/// The counters at one time.
#[derive(Clone, Debug)]
pub struct Reading {
    /// When they were read.
    pub at: Instant,
    /// All that was counted.
    pub stats: Stats,
    /// What each source on the allowlist sent.
    pub sources: Vec<SourceEntry>,
    /// The latest sampled drops, from the oldest on.
    pub sampled: Vec<DropReport>,
}

/// What happened per second between two readings. What did not happen is left out; the most frequent comes first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rates {
    /// The time between the readings.
    pub seconds: f64,
    /// What became of packets, and why.
    pub filter: Vec<OutcomeRate>,
    /// The same by service.
    pub services: Vec<ServiceRate>,
    /// What passed, by the allowlist's entry.
    pub sources: Vec<SourceRate>,
    /// Whose packets were dropped, as far as drops were sampled.
    pub refused_sources: Vec<RefusedSource>,
    /// Drops that were not sampled, per second.
    pub lost_events: f64,
    /// Handshakes that ended with a verified client, per second.
    pub handshakes: f64,
    /// Connections refused before their first request, per second.
    pub handshakes_refused: f64,
    /// Requests passed on, per second.
    pub requests_allowed: f64,
    /// Requests refused, per second.
    pub requests_refused: f64,
    /// Why connections and requests were refused.
    pub refusals: Vec<ReasonRate>,
    /// What the decided requests were to do.
    pub actions: Vec<ActionRate>,
}

/// Refusals for one reason.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReasonRate {
    /// Its code.
    pub reason: String,
    /// Per second.
    pub count: f64,
}

/// Requests of one kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ActionRate {
    /// What they were to do.
    pub action: String,
    /// Allowed, per second.
    pub allowed: f64,
    /// Refused, per second.
    pub refused: f64,
}

/// Packets and bytes per second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rate {
    /// Packets per second.
    pub packets: f64,
    /// Bytes per second.
    pub bytes: f64,
}

/// The rate of one outcome.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OutcomeRate {
    /// `drop`, `would_drop` or `pass`.
    pub outcome: &'static str,
    /// The reason's code, or the way in which it passes.
    pub reason: String,
    /// How much of it.
    #[serde(flatten)]
    pub rate: Rate,
}

/// Packets per second of one service.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ServiceRate {
    /// Its name.
    pub service: String,
    /// Dropped.
    pub dropped: f64,
    /// What monitor mode would have dropped.
    pub would_drop: f64,
    /// Passed.
    pub passed: f64,
}

/// The rate of one entry of the allowlist.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SourceRate {
    /// Its addresses.
    pub cidr: String,
    /// Its name.
    pub name: String,
    /// How much of it.
    #[serde(flatten)]
    pub rate: Rate,
}

/// A source whose packets were dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RefusedSource {
    /// Its address; it may be forged.
    pub source: IpAddr,
    /// How many of its drops were sampled.
    pub sampled: u64,
    /// The reason of the last of them.
    pub reason: String,
}

impl Rates {
    /// What happened between two readings.
    #[must_use]
    pub fn between(before: &Reading, after: &Reading) -> Self {
        let seconds = after.at.saturating_duration_since(before.at).as_secs_f64();
        let per_second = |count: u64| {
            if seconds > 0.0 {
                count as f64 / seconds
            } else {
                0.0
            }
        };
        let rate = |tally: Tally| Rate {
            packets: per_second(tally.packets),
            bytes: per_second(tally.bytes),
        };
        let (old, new) = (&before.stats, &after.stats);

        let mut filter = Vec::new();
        for (outcome, before, after) in [
            ("drop", &old.filter.drops, &new.filter.drops),
            ("would_drop", &old.filter.would_drops, &new.filter.would_drops),
            ("pass", &old.filter.passes, &new.filter.passes),
        ] {
            filter.extend(grown(before, after).map(|(reason, tally)| OutcomeRate {
                outcome,
                reason: reason.clone(),
                rate: rate(tally),
            }));
        }
        filter.sort_by(|a, b| b.rate.packets.total_cmp(&a.rate.packets));

        let unseen = BTreeMap::new();
        let services = new.filter.services.iter().map(|(service, after)| {
            let before = old.filter.services.get(service);
            let packets = |before: Option<&BTreeMap<String, Tally>>, after: &BTreeMap<String, Tally>| {
                per_second(
                    grown(before.unwrap_or(&unseen), after)
                        .map(|(_, tally)| tally.packets)
                        .sum(),
                )
            };
            ServiceRate {
                service: service.clone(),
                dropped: packets(before.map(|before| &before.drops), &after.drops),
                would_drop: packets(before.map(|before| &before.would_drops), &after.would_drops),
                passed: packets(before.map(|before| &before.passes), &after.passes),
            }
        });
        let all = |service: &ServiceRate| service.dropped + service.would_drop + service.passed;
        let mut services: Vec<_> = services.filter(|service| all(service) > 0.0).collect();
        services.sort_by(|a, b| all(b).total_cmp(&all(a)));

        Self {
            seconds,
            filter,
            services,
            sources: sources(before, after, rate),
            refused_sources: refused_sources(before, after),
            lost_events: per_second(new.filter.lost_events.saturating_sub(old.filter.lost_events)),
            handshakes: per_second(new.handshakes.accepted.saturating_sub(old.handshakes.accepted)),
            handshakes_refused: per_second(new.handshakes.refused.saturating_sub(old.handshakes.refused)),
            requests_allowed: per_second(new.requests.allowed.saturating_sub(old.requests.allowed)),
            requests_refused: per_second(new.requests.refused.saturating_sub(old.requests.refused)),
            refusals: refusals(old, new, per_second),
            actions: actions(old, new, per_second),
        }
    }
}

fn refusals(old: &Stats, new: &Stats, per_second: impl Fn(u64) -> f64) -> Vec<ReasonRate> {
    let grown = new.refusals.iter().map(|(reason, count)| {
        let growth = count.saturating_sub(old.refusals.get(reason).copied().unwrap_or_default());
        (reason, growth)
    });
    let mut refusals: Vec<_> = grown
        .filter(|(_, growth)| *growth > 0)
        .map(|(reason, growth)| ReasonRate {
            reason: reason.clone(),
            count: per_second(growth),
        })
        .collect();
    refusals.sort_by(|a, b| b.count.total_cmp(&a.count));
    refusals
}

fn actions(old: &Stats, new: &Stats, per_second: impl Fn(u64) -> f64) -> Vec<ActionRate> {
    let mut actions: Vec<_> = new
        .actions
        .iter()
        .map(|(action, after)| {
            let before = old.actions.get(action).copied().unwrap_or_default();
            ActionRate {
                action: action.clone(),
                allowed: per_second(after.allowed.saturating_sub(before.allowed)),
                refused: per_second(after.refused.saturating_sub(before.refused)),
            }
        })
        .filter(|rate| rate.allowed + rate.refused > 0.0)
        .collect();
    actions.sort_by(|a, b| (b.allowed + b.refused).total_cmp(&(a.allowed + a.refused)));
    actions
}

/// What grew, and by how much. Counters that were made anew between the readings count from nothing.
fn grown<'after>(
    before: &BTreeMap<String, Tally>,
    after: &'after BTreeMap<String, Tally>,
) -> impl Iterator<Item = (&'after String, Tally)> {
    after.iter().filter_map(|(name, after)| {
        let growth = since(before.get(name).copied().unwrap_or_default(), *after);
        (growth.packets > 0).then_some((name, growth))
    })
}

fn since(before: Tally, after: Tally) -> Tally {
    Tally {
        packets: after.packets.saturating_sub(before.packets),
        bytes: after.bytes.saturating_sub(before.bytes),
    }
}

fn sources(before: &Reading, after: &Reading, rate: impl Fn(Tally) -> Rate) -> Vec<SourceRate> {
    let earlier: HashMap<_, _> = before
        .sources
        .iter()
        .map(|source| (source.cidr, source.passed.unwrap_or_default()))
        .collect();
    let mut sources: Vec<_> = after
        .sources
        .iter()
        .filter_map(|source| {
            // One that was not there before would bring what it counted under an older policy.
            let growth = since(*earlier.get(&source.cidr)?, source.passed?);
            (growth.packets > 0).then(|| SourceRate {
                cidr: source.cidr.to_string(),
                name: source.name.clone(),
                rate: rate(growth),
            })
        })
        .collect();
    sources.sort_by(|a, b| b.rate.packets.total_cmp(&a.rate.packets));
    sources
}

fn refused_sources(before: &Reading, after: &Reading) -> Vec<RefusedSource> {
    // Times are all written alike, so that their order is that of their texts.
    let seen = before.sampled.iter().map(|report| &report.time).max();
    let mut refused: BTreeMap<IpAddr, RefusedSource> = BTreeMap::new();
    for report in after.sampled.iter().filter(|report| Some(&report.time) > seen) {
        let Some(source) = report.source else {
            continue;
        };
        let entry = refused.entry(source).or_insert_with(|| RefusedSource {
            source,
            sampled: 0,
            reason: String::new(),
        });
        entry.sampled += 1;
        entry.reason.clone_from(&report.reason);
    }
    let mut refused: Vec<_> = refused.into_values().collect();
    refused.sort_by_key(|source| std::cmp::Reverse(source.sampled));
    refused
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        config::SourceKind,
        control::{Decided, Origin},
    };

    fn reading(at: Instant) -> Reading {
        Reading {
            at,
            stats: Stats::default(),
            sources: Vec::new(),
            sampled: Vec::new(),
        }
    }

    fn source(cidr: &str, packets: u64) -> SourceEntry {
        SourceEntry {
            cidr: cidr.parse().unwrap(),
            name: cidr.to_owned(),
            kind: SourceKind::System,
            services: Vec::new(),
            reply_ports: Vec::new(),
            expires: None,
            passed: Some(tally(packets)),
            origin: Origin::Configuration,
        }
    }

    fn tally(packets: u64) -> Tally {
        Tally {
            packets,
            bytes: packets * 60,
        }
    }

    fn report(time: &str, source: [u8; 4], reason: &str) -> DropReport {
        DropReport {
            time: time.to_owned(),
            reason: reason.to_owned(),
            monitored: false,
            service: "tcp/443".to_owned(),
            interface: 2,
            interface_name: None,
            length: 60,
            source: Some(source.into()),
            packet: String::new(),
            frame: String::new(),
        }
    }

    #[test]
    fn growth_is_divided_by_the_time_and_the_most_frequent_comes_first() {
        let begin = Instant::now();
        let (mut before, mut after) = (reading(begin), reading(begin + Duration::from_secs(2)));
        before.stats.filter.drops.insert("verdict_deny".into(), tally(10));
        after.stats.filter.drops.insert("verdict_deny".into(), tally(14));
        after
            .stats
            .filter
            .drops
            .insert("packet_truncated".into(), tally(20));
        after
            .stats
            .filter
            .passes
            .insert("allowlisted".into(), Tally::default());
        before.stats.refusals = [("not_owner".to_owned(), 1), ("asid_unknown".to_owned(), 5)].into();
        after.stats.refusals = [("not_owner".to_owned(), 5), ("asid_unknown".to_owned(), 5)].into();
        let decided = |allowed, refused| Decided { allowed, refused };
        before.stats.actions = [("read".to_owned(), decided(2, 2))].into();
        after.stats.actions = [
            ("read".to_owned(), decided(6, 2)),
            ("create".to_owned(), decided(0, 0)),
        ]
        .into();
        after.stats.handshakes.refused = 6;
        let service = after.stats.filter.services.entry("tcp/443".into()).or_default();
        service.drops.insert("verdict_deny".into(), tally(6));
        (before.stats.filter.lost_events, after.stats.filter.lost_events) = (5, 9);
        before.sources = vec![source("10.0.0.0/8", 100), source("192.0.2.0/24", 7)];
        after.sources = vec![
            source("10.0.0.0/8", 102),
            source("192.0.2.0/24", 7),
            source("::/0", 50),
        ];
        let rates = Rates::between(&before, &after);
        let filter: Vec<_> = rates
            .filter
            .iter()
            .map(|rate| {
                (
                    rate.outcome,
                    rate.reason.as_str(),
                    rate.rate.packets,
                    rate.rate.bytes,
                )
            })
            .collect();
        assert_eq!(
            filter,
            [
                ("drop", "packet_truncated", 10.0, 600.0),
                ("drop", "verdict_deny", 2.0, 120.0)
            ]
        );
        assert_eq!((rates.services[0].dropped, rates.services[0].passed), (3.0, 0.0));
        assert_eq!((rates.lost_events, rates.handshakes_refused), (2.0, 3.0));
        assert_eq!((rates.refusals.len(), rates.refusals[0].count), (1, 2.0));
        let read = ActionRate {
            action: "read".to_owned(),
            allowed: 2.0,
            refused: 0.0,
        };
        assert_eq!(rates.actions, [read]);
        assert_eq!(rates.sources.len(), 1);
        assert_eq!(
            (rates.sources[0].cidr.as_str(), rates.sources[0].rate.packets),
            ("10.0.0.0/8", 1.0)
        );
    }

    #[test]
    fn only_drops_that_are_new_count_for_their_source() {
        let begin = Instant::now();
        let (mut before, mut after) = (reading(begin), reading(begin + Duration::from_secs(1)));
        before.sampled = vec![report("2026-01-01T00:00:00.5Z", [10, 0, 0, 1], "verdict_deny")];
        after.sampled = before.sampled.clone();
        for (time, last) in [
            ("2026-01-01T00:00:00.6Z", 2),
            ("2026-01-01T00:00:00.7Z", 2),
            ("2026-01-01T00:00:00.8Z", 1),
        ] {
            after
                .sampled
                .push(report(time, [10, 0, 0, last], "source_not_allowlisted"));
        }
        let rates = Rates::between(&before, &after);
        let refused: Vec<_> = rates
            .refused_sources
            .iter()
            .map(|refused| (refused.source.to_string(), refused.sampled))
            .collect();
        assert_eq!(refused, [("10.0.0.2".to_owned(), 2), ("10.0.0.1".to_owned(), 1)]);
    }

    #[test]
    fn counters_that_were_made_anew_and_readings_at_one_time_give_no_rates() {
        let begin = Instant::now();
        let (mut before, after) = (reading(begin), reading(begin));
        before.stats.filter.drops.insert("verdict_deny".into(), tally(10));
        let rates = Rates::between(&before, &after);
        assert!(rates.filter.is_empty());
        assert_eq!(rates.handshakes, 0.0);
    }
}
