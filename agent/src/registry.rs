//! The registry: which systems there are, whose they are and what they may do (R1), as an immutable snapshot.

mod load;

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
    sync::Arc,
};

use crate::{
    config::Problem,
    nrl::{Asid, Fqdn, InteractionId, OdsCode},
};

/// The systems by ASID. A snapshot: a reload makes another one, and a request is judged by one from beginning
/// to end.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    systems: HashMap<Asid, Arc<System>>,
}

/// A registered system: one ASID is one system of one organisation (NRL "Retrieval through the SSP" page).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct System {
    /// `asid`: its identity, unique in the registry.
    pub asid: Asid,
    /// `ods`: the organisation that it works for.
    pub ods: OdsCode,
    /// `interactions`: what it may do. IDs are compared exactly; both IDs of an interaction only if both are
    /// listed.
    pub interactions: BTreeSet<InteractionId>,
    /// `name`: what the operator calls it.
    pub name: Option<String>,
    /// `fqdn`: the name that its certificate must have, where it connects with a certificate of its own.
    pub fqdn: Option<Fqdn>,
    /// `active`: whether it has access. Default true.
    pub active: bool,
}

impl Registry {
    /// Loads `registry.toml`.
    ///
    /// # Errors
    /// Everything that is wrong with the file, in the order of its lines; each key begins with `file:line: `.
    pub fn load(path: &Path) -> Result<Self, Vec<Problem>> {
        load::load(path)
    }

    /// The system with an ASID.
    #[must_use]
    pub fn system(&self, asid: &Asid) -> Option<&Arc<System>> {
        self.systems.get(asid)
    }

    /// Every system, in no particular order.
    pub fn systems(&self) -> impl Iterator<Item = &Arc<System>> {
        self.systems.values()
    }

    /// How many systems there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.systems.len()
    }

    /// Whether there are none, so that nobody has access.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.systems.is_empty()
    }
}

#[cfg(test)]
impl Registry {
    /// A snapshot of these systems, for the tests of the rooms that ask one.
    pub(crate) fn of(systems: impl IntoIterator<Item = System>) -> Self {
        Self {
            systems: systems
                .into_iter()
                .map(|system| (system.asid, Arc::new(system)))
                .collect(),
        }
    }
}
