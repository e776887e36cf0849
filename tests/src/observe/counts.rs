//! The agent's counters of connections.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::Value;

use crate::{json::at, lab::Agent};

/// How many handshakes were accepted, and how many connections and requests refused, by reason. Zeros are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<String, u64>);

impl Counts {
    /// What accepted handshakes are counted under, beside the reasons of the refused.
    pub const ACCEPTED: &str = "accepted";

    /// The counters by now.
    ///
    /// # Errors
    /// As [`Agent::json`].
    pub fn read(agent: &Agent) -> Result<Self> {
        let stats = agent.json(&["stats"])?;
        let refusals = at(&stats, "/refusals").as_object().into_iter().flatten();
        let refusals = refusals.map(|(reason, count)| (reason.as_str(), count));
        let accepted = (Self::ACCEPTED, at(&stats, "/handshakes/accepted"));
        Ok(refusals
            .chain([accepted])
            .filter_map(|(name, count)| Some((name, Value::as_u64(count)?)))
            .collect())
    }

    /// What was counted after an earlier reading.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let counts = self
            .0
            .iter()
            .map(|(name, count)| (name.as_str(), count - earlier.of(name)));
        counts.collect()
    }

    /// The count of a reason.
    #[must_use]
    pub fn of(&self, reason: &str) -> u64 {
        self.0.get(reason).copied().unwrap_or(0)
    }

    /// All of them together.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.0.values().sum()
    }
}

impl<'n> FromIterator<(&'n str, u64)> for Counts {
    fn from_iter<I: IntoIterator<Item = (&'n str, u64)>>(counts: I) -> Self {
        let some = counts.into_iter().filter(|(_, count)| *count > 0);
        Self(some.map(|(name, count)| (name.to_owned(), count)).collect())
    }
}
