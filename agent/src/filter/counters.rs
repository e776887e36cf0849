//! What the filter has counted, summed over the CPUs.

use std::{borrow::Cow, collections::BTreeMap};

use aya::maps::PerCpuArray;
use spinegate_common::{
    Count, Layer, Outcome, Pass, Reason,
    count::OUTCOMES,
    event::{CpuWords, Reports},
    policy::service,
};

use super::{
    FilterError,
    object::Object,
    policy::numbers::{Numbered, Numbers},
};
use crate::config::Source;

/// Packets and bytes of one outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Tally {
    /// Packets since the maps were made.
    pub packets: u64,
    /// Their bytes, from the Ethernet header on.
    pub bytes: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }
}

/// Tallies of everything that can become of a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Outcomes {
    /// Dropped, by reason.
    pub drops: BTreeMap<Cow<'static, str>, Tally>,
    /// What monitor mode would have dropped, by reason.
    pub would_drops: BTreeMap<Cow<'static, str>, Tally>,
    /// Passed, by outcome.
    pub passes: BTreeMap<Cow<'static, str>, Tally>,
}

impl Outcomes {
    fn all_zero() -> Self {
        let reasons = || {
            let filter = Reason::ALL
                .iter()
                .filter(|reason| reason.layer() == Layer::Filter);
            filter
                .map(|reason| (reason.as_str().into(), Tally::default()))
                .collect()
        };
        Self {
            drops: reasons(),
            would_drops: reasons(),
            passes: Pass::ALL
                .map(|pass| (pass.as_str().into(), Tally::default()))
                .into(),
        }
    }

    fn add(&mut self, outcome: Outcome, tally: Tally) {
        let (tallies, name) = match outcome {
            Outcome::Dropped(reason) => (&mut self.drops, reason.as_str()),
            Outcome::WouldDrop(reason) => (&mut self.would_drops, reason.as_str()),
            Outcome::Passed(pass) => (&mut self.passes, pass.as_str()),
        };
        *tallies.entry(name.into()).or_default() += tally;
    }
}

/// All counters.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counters {
    /// Of all services together.
    pub all: Outcomes,
    /// Of each service by its name, as far as anything was counted there.
    pub services: BTreeMap<String, Outcomes>,
    /// Drop events that were only counted: over the budget, or the ring buffer was full.
    pub lost_events: u64,
}

pub(super) fn read(object: &Object, numbers: &Numbers) -> Result<Counters, FilterError> {
    const OUTCOME_MAP: &str = "OUTCOMES";
    let names: BTreeMap<u8, String> = names(numbers).collect();
    let mut all = Outcomes::all_zero();
    let mut services: BTreeMap<String, Outcomes> = BTreeMap::new();
    for (number, name) in names {
        for outcome in outcomes() {
            let tally = sum(
                object,
                OUTCOME_MAP,
                u32::from(number) * OUTCOMES + outcome.number(),
            )?;
            if tally.packets > 0 {
                all.add(outcome, tally);
                services.entry(name.clone()).or_default().add(outcome, tally);
            }
        }
    }
    Ok(Counters {
        all,
        services,
        lost_events: lost_events(object)?,
    })
}

/// Drop events that were only counted.
pub(super) fn lost_events(object: &Object) -> Result<u64, FilterError> {
    const NAME: &str = "CPUS";
    let cpus: PerCpuArray<_, CpuWords> = object.map(NAME)?;
    let cpus = cpus.get(&0, 0).map_err(|error| FilterError::map(NAME, error))?;
    Ok(cpus.iter().map(|cpu| Reports::of(cpu).lost).sum())
}

/// What the entry of a source let pass; none where entries with counters of their own have run out.
pub(super) fn of_source(
    object: &Object,
    numbers: &Numbers,
    source: &Source,
) -> Result<Option<Tally>, FilterError> {
    match numbers.of(source.cidr) {
        0 => Ok(None),
        number => sum(object, "ENTRY_COUNTS", number).map(Some),
    }
}

/// The name of a service's number.
pub(super) fn service_name(numbers: &Numbers, number: u32) -> String {
    u8::try_from(number)
        .ok()
        .and_then(|number| names(numbers).find(|(other, _)| *other == number))
        .map_or_else(|| format!("service {number}"), |(_, name)| name)
}

fn names(numbers: &Numbers) -> impl Iterator<Item = (u8, String)> {
    let fixed = [
        (service::NONE as u8, "none".to_owned()),
        (service::HOST as u8, "host".to_owned()),
        (service::FRAGMENT as u8, "fragments".to_owned()),
    ];
    let numbered = numbers.services().map(|(number, key)| {
        let name = match key {
            Numbered::Service(service, None) => service.to_string(),
            Numbered::Service(service, Some(address)) => format!("{service} at {address}"),
            Numbered::Reply(service) => format!("replies from {service}"),
        };
        (number, name)
    });
    fixed.into_iter().chain(numbered)
}

fn outcomes() -> impl Iterator<Item = Outcome> {
    (0..OUTCOMES)
        .filter_map(Outcome::from_number)
        .filter(|outcome| match outcome {
            Outcome::Dropped(reason) | Outcome::WouldDrop(reason) => reason.layer() == Layer::Filter,
            Outcome::Passed(_) => true,
        })
}

fn sum(object: &Object, name: &'static str, index: u32) -> Result<Tally, FilterError> {
    let counts: PerCpuArray<_, Count> = object.map(name)?;
    let counts = counts
        .get(&index, 0)
        .map_err(|error| FilterError::map(name, error))?;
    let mut tally = Tally::default();
    for count in counts.iter() {
        tally += Tally {
            packets: count.packets,
            bytes: count.bytes,
        };
    }
    Ok(tally)
}
