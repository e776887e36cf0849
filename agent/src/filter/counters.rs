//! What the filter has counted, summed over the CPUs.

use std::collections::BTreeMap;

use aya::maps::PerCpuArray;
use spinegate_common::{Count, EventBudget, Layer, Pass, Reason};

use super::{FilterError, object::Object};

/// Packets and bytes of one outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    /// Packets since the maps were made.
    pub packets: u64,
    /// Their bytes, from the Ethernet header on.
    pub bytes: u64,
}

/// All counters.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counters {
    /// Dropped, by reason.
    pub drops: BTreeMap<&'static str, Tally>,
    /// What monitor mode would have dropped, by reason.
    pub would_drops: BTreeMap<&'static str, Tally>,
    /// Passed, by outcome.
    pub passes: BTreeMap<&'static str, Tally>,
    /// Drop events that were only counted: over the budget, or the ring buffer was full.
    pub lost_events: u64,
}

pub(super) fn read(object: &Object) -> Result<Counters, FilterError> {
    let budgets: PerCpuArray<_, EventBudget> = object.map("EVENT_BUDGET")?;
    let budgets = budgets
        .get(&0, 0)
        .map_err(|error| FilterError::map("EVENT_BUDGET", error))?;
    Ok(Counters {
        drops: by_reason(object, "DROPS")?,
        would_drops: by_reason(object, "WOULD_DROPS")?,
        passes: tallies(
            object,
            "PASSES",
            Pass::ALL.map(|pass| (pass as u32, pass.as_str())),
        )?,
        lost_events: budgets.iter().map(|budget| budget.lost).sum(),
    })
}

fn by_reason(object: &Object, name: &'static str) -> Result<BTreeMap<&'static str, Tally>, FilterError> {
    let filter = Reason::ALL
        .iter()
        .filter(|reason| reason.layer() == Layer::Filter);
    tallies(
        object,
        name,
        filter.map(|reason| (u32::from(*reason as u8), reason.as_str())),
    )
}

fn tallies(
    object: &Object,
    name: &'static str,
    entries: impl IntoIterator<Item = (u32, &'static str)>,
) -> Result<BTreeMap<&'static str, Tally>, FilterError> {
    let counters: PerCpuArray<_, Count> = object.map(name)?;
    let mut tallies = BTreeMap::new();
    for (index, code) in entries {
        let counts = counters
            .get(&index, 0)
            .map_err(|error| FilterError::map(name, error))?;
        let tally = counts.iter().fold(Tally::default(), |sum, count| Tally {
            packets: sum.packets + count.packets,
            bytes: sum.bytes + count.bytes,
        });
        tallies.insert(code, tally);
    }
    Ok(tallies)
}
