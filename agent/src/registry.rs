//! The registry: which systems there are, whose they are and what they may do (R1), as immutable snapshots.

mod load;
mod source;
mod systems;
mod texts;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;

use crate::{config::Problem, nrl::Asid};

pub use source::Source;
pub use systems::{Interactions, Packer, Registered, SetAt, System, Systems};
pub use texts::{TextAt, Texts};

/// How far a clock may be set back after a snapshot came, before that one counts as from a time that is still to come.
const CLOCK_SLACK: Duration = Duration::from_secs(60);

/// Loads `registry.toml`.
///
/// # Errors
/// Everything that is wrong with the file, in the order of its lines; each key begins with `file:line: `.
pub fn load(path: &Path) -> Result<Systems, Vec<Problem>> {
    load::load(path)
}

/// The snapshots in force, of each source one. The first that has an ASID decides: nothing is joined from two. A change
/// makes another registry, and a request is judged by one from beginning to end.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    snapshots: Vec<Arc<Snapshot>>,
    len: usize,
}

/// What a source knew at a time.
#[derive(Debug)]
pub struct Snapshot {
    /// Whose it is.
    pub source: Source,
    /// What it knows.
    pub systems: Arc<Systems>,
    /// When it was fetched and when it ends; none for what does not age.
    pub life: Option<Life>,
}

/// From when to when a snapshot counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// When it was fetched.
    pub fetched: SystemTime,
    /// When it ends unless it is fetched again.
    pub ends: SystemTime,
}

/// The registry in force. It changes while requests are under way; each of them takes it once.
#[derive(Debug, Default)]
pub struct InForce(ArcSwap<Registry>);

impl InForce {
    /// What a request that begins now is judged by.
    #[must_use]
    pub fn load(&self) -> Arc<Registry> {
        self.0.load_full()
    }

    /// Judges every further request by another registry, on open connections too. Gives the one that was in force.
    pub fn replace(&self, registry: Arc<Registry>) -> Arc<Registry> {
        self.0.swap(registry)
    }
}

impl Life {
    /// Whether it lasts at a time. A clock that was set back to before the fetch tells nothing of the age.
    #[must_use]
    pub fn lasts_at(&self, now: SystemTime) -> bool {
        now < self.ends && self.fetched <= now + CLOCK_SLACK
    }
}

impl Snapshot {
    /// A snapshot that does not age.
    #[must_use]
    pub fn lasting(source: Source, systems: Systems) -> Self {
        Self {
            source,
            systems: Arc::new(systems),
            life: None,
        }
    }

    /// Whether it counts at a time.
    #[must_use]
    pub fn counts_at(&self, now: SystemTime) -> bool {
        self.life.is_none_or(|life| life.lasts_at(now))
    }
}

impl Registry {
    /// Joins snapshots, in the order of their precedence.
    #[must_use]
    pub fn new(snapshots: Vec<Arc<Snapshot>>) -> Self {
        let of_source = |(position, snapshot): (usize, &Arc<Snapshot>)| {
            let above = snapshots.get(..position).unwrap_or_default();
            let above: Vec<&Systems> = above.iter().map(|other| &*other.systems).collect();
            snapshot.systems.missing_in(&above)
        };
        let len = snapshots.iter().enumerate().map(of_source).sum();
        Self { snapshots, len }
    }

    /// How many systems are in shadow.
    #[must_use]
    pub fn in_shadow(&self) -> usize {
        self.snapshots
            .iter()
            .map(|snapshot| snapshot.systems.in_shadow())
            .sum()
    }

    /// The same with another system in the place of the one with its ASID, for requests that are not made.
    #[must_use]
    pub fn with(&self, system: System) -> Self {
        let is_known = |snapshot: &Arc<Snapshot>| snapshot.systems.contains(&system.asid);
        let len = self.len + usize::from(!self.snapshots.iter().any(is_known));
        let systems = std::iter::once(system).collect();
        let other = Arc::new(Snapshot::lasting(Source::File, systems));
        // Its systems are not counted again: there may be a million of them.
        let snapshots = std::iter::once(other).chain(self.snapshots.iter().cloned());
        Self {
            snapshots: snapshots.collect(),
            len,
        }
    }

    /// The system with an ASID, as the first snapshot knows it that counts at a time and knows it at all.
    #[must_use]
    pub fn system(&self, asid: &Asid, now: SystemTime) -> Option<Registered<'_>> {
        self.snapshots
            .iter()
            .filter(|snapshot| snapshot.counts_at(now))
            .find_map(|snapshot| snapshot.systems.find(asid))
    }

    /// The snapshots, in the order of their precedence.
    #[must_use]
    pub fn snapshots(&self) -> &[Arc<Snapshot>] {
        &self.snapshots
    }

    /// The systems after an ASID, in the order of their ASIDs, each as the source has it that decides at a time; at most so
    /// many.
    #[must_use]
    pub fn page(&self, after: Option<&Asid>, limit: usize, now: SystemTime) -> Vec<(Source, System)> {
        let counting = self.snapshots.iter().filter(|snapshot| snapshot.counts_at(now));
        let mut next: Vec<_> = counting
            .map(|snapshot| (snapshot.source, snapshot.systems.after(after).peekable()))
            .collect();
        let mut page = Vec::new();
        while page.len() < limit {
            let asids = next.iter_mut().filter_map(|(_, rest)| Some(rest.peek()?.asid));
            let Some(least) = asids.min() else { break };
            let mut decides = None;
            for (source, rest) in &mut next {
                if let Some(system) = rest.next_if(|system| system.asid == least) {
                    decides.get_or_insert((*source, system));
                }
            }
            page.extend(decides);
        }
        page
    }

    /// How many systems there are, in whatever snapshot.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none, so that nobody has access.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
impl Registry {
    /// A snapshot of these systems, for the tests of the rooms that ask one.
    pub(crate) fn of(systems: impl IntoIterator<Item = System>) -> Self {
        let systems = systems.into_iter().collect();
        Self::new(vec![Arc::new(Snapshot::lasting(Source::File, systems))])
    }
}

#[cfg(test)]
mod tests;
