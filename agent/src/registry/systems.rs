//! The systems of one source, packed: a million of them take some tens of megabytes, and one is found in a few cache lines.

use std::{
    collections::{BTreeSet, HashMap},
    ops::{Deref, DerefMut},
    sync::Arc,
};

use rustc_hash::FxBuildHasher;

use crate::nrl::{Asid, Fqdn, InteractionId, OdsCode};

/// A registered system: one ASID is one system of one organisation (NRL "Retrieval through the SSP" page). Its texts are
/// shared with the snapshot that it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct System {
    /// `asid`: its identity, unique in a source.
    pub asid: Asid,
    /// `ods`: the organisation that it works for.
    pub ods: OdsCode,
    /// `interactions`: what it may do. IDs are compared exactly; both IDs of an interaction only if both are
    /// listed.
    pub interactions: Interactions,
    /// `name`: what the operator calls it.
    pub name: Option<Arc<str>>,
    /// `fqdn`: the name that its certificate must have, where it connects with a certificate of its own.
    pub fqdn: Option<Fqdn>,
    /// `active`: whether it has access. Default true.
    pub active: bool,
    /// `mode`: whether its permissions are only tried. Default false.
    pub shadow: bool,
}

/// A set of interaction IDs; copies share it, since most systems have one of few sets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Interactions(Arc<BTreeSet<InteractionId>>);

impl Deref for Interactions {
    type Target = BTreeSet<InteractionId>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Interactions {
    fn deref_mut(&mut self) -> &mut Self::Target {
        Arc::make_mut(&mut self.0)
    }
}

impl FromIterator<InteractionId> for Interactions {
    fn from_iter<I: IntoIterator<Item = InteractionId>>(ids: I) -> Self {
        Self(Arc::new(ids.into_iter().collect()))
    }
}

/// The systems of one source, by ASID. They never change.
#[derive(Debug, Default)]
pub struct Systems {
    /// Where each is among the entries.
    index: HashMap<u64, u32, FxBuildHasher>,
    /// In the order of their ASIDs.
    entries: Box<[Entry]>,
    in_shadow: usize,
    interactions: Box<[Interactions]>,
    fqdns: Box<[Fqdn]>,
    names: Box<[Arc<str>]>,
}

/// A system, its texts as positions in the tables; [`NONE`] where there is none.
#[derive(Clone, Debug)]
struct Entry {
    asid: u64,
    ods: OdsCode,
    interactions: u32,
    fqdn: u32,
    name: u32,
    active: bool,
    shadow: bool,
}

const NONE: u32 = u32::MAX;

/// Takes systems one by one, and packs them.
#[derive(Debug, Default)]
pub struct Packer {
    entries: Vec<Entry>,
    interactions: Table<Interactions>,
    fqdns: Table<Fqdn>,
    names: Table<Arc<str>>,
}

/// Values that many systems share, each once.
#[derive(Debug)]
struct Table<T> {
    values: Vec<T>,
    positions: HashMap<T, u32, FxBuildHasher>,
}

impl Systems {
    /// The system with an ASID.
    #[must_use]
    pub fn get(&self, asid: &Asid) -> Option<System> {
        let position = *self.index.get(&asid.number())?;
        self.entries
            .get(position as usize)
            .and_then(|entry| self.unpack(entry))
    }

    /// Whether there is a system with an ASID.
    #[must_use]
    pub fn contains(&self, asid: &Asid) -> bool {
        self.index.contains_key(&asid.number())
    }

    /// Every system, in the order of their ASIDs.
    pub fn iter(&self) -> impl Iterator<Item = System> {
        self.entries.iter().filter_map(|entry| self.unpack(entry))
    }

    /// The systems whose ASIDs come after one, in their order; all without one.
    pub fn after(&self, asid: Option<&Asid>) -> impl Iterator<Item = System> {
        let begin = asid.map_or(0, |asid| {
            let number = asid.number();
            self.entries.partition_point(|entry| entry.asid <= number)
        });
        let rest = self.entries.get(begin..).unwrap_or_default();
        rest.iter().filter_map(|entry| self.unpack(entry))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many of them are in shadow.
    #[must_use]
    pub const fn in_shadow(&self) -> usize {
        self.in_shadow
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many of these systems none of the others, other sources' or an older snapshot's, has.
    #[must_use]
    pub fn missing_in(&self, others: &[&Self]) -> usize {
        let missing = |entry: &&Entry| !others.iter().any(|other| other.index.contains_key(&entry.asid));
        match others {
            [] => self.len(),
            _ => self.entries.iter().filter(missing).count(),
        }
    }

    fn unpack(&self, entry: &Entry) -> Option<System> {
        Some(System {
            asid: Asid::from_number(entry.asid)?,
            ods: entry.ods.clone(),
            interactions: self.interactions.get(entry.interactions as usize)?.clone(),
            name: self.names.get(entry.name as usize).cloned(),
            fqdn: self.fqdns.get(entry.fqdn as usize).cloned(),
            active: entry.active,
            shadow: entry.shadow,
        })
    }
}

impl Packer {
    /// Takes one more system. Whoever packs sees to it that no ASID comes twice; of two, the first stays.
    pub fn push(&mut self, system: System) {
        let entry = Entry {
            asid: system.asid.number(),
            ods: system.ods,
            interactions: self.interactions.position(system.interactions),
            fqdn: system.fqdn.map_or(NONE, |fqdn| self.fqdns.position(fqdn)),
            name: system.name.map_or(NONE, |name| self.names.position(name)),
            active: system.active,
            shadow: system.shadow,
        };
        self.entries.push(entry);
    }

    /// All of them.
    #[must_use]
    pub fn finish(self) -> Systems {
        let mut entries = self.entries;
        entries.sort_by_key(|entry| entry.asid);
        entries.dedup_by_key(|entry| entry.asid);
        let mut index = HashMap::with_capacity_and_hasher(entries.len(), FxBuildHasher);
        // A position that does not fit is that of no entry: the map's size is bounded by memory long before.
        let positions = (0..NONE).zip(&entries);
        index.extend(positions.map(|(position, entry)| (entry.asid, position)));
        Systems {
            in_shadow: entries.iter().filter(|entry| entry.shadow).count(),
            index,
            entries: entries.into(),
            interactions: self.interactions.values.into(),
            fqdns: self.fqdns.values.into(),
            names: self.names.values.into(),
        }
    }
}

impl FromIterator<System> for Systems {
    fn from_iter<I: IntoIterator<Item = System>>(systems: I) -> Self {
        let mut packer = Packer::default();
        systems.into_iter().for_each(|system| packer.push(system));
        packer.finish()
    }
}

impl<T: Clone + Eq + std::hash::Hash> Table<T> {
    fn position(&mut self, value: T) -> u32 {
        if let Some(position) = self.positions.get(&value) {
            return *position;
        }
        // So many values as a position can't tell don't fit into memory.
        let position = u32::try_from(self.values.len()).unwrap_or(NONE);
        self.values.push(value.clone());
        self.positions.insert(value, position);
        position
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            values: Vec::new(),
            positions: HashMap::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asid(number: u64) -> Asid {
        Asid::from_number(number).unwrap()
    }

    fn system(number: u64, ids: &[&str]) -> System {
        System {
            asid: asid(number),
            ods: OdsCode::parse("RR8").unwrap(),
            interactions: ids.iter().map(|id| InteractionId::parse(id).unwrap()).collect(),
            name: None,
            fqdn: number
                .is_multiple_of(2)
                .then(|| Fqdn::parse(&format!("s{}.nhs.uk", number % 4)).unwrap()),
            active: !number.is_multiple_of(3),
            shadow: number.is_multiple_of(5),
        }
    }

    #[test]
    fn what_was_packed_comes_back_as_it_was_in_the_order_of_asids() {
        let all: Vec<System> = (1..100)
            .rev()
            .map(|number| system(number, &["urn:a", "urn:b"]))
            .collect();
        let systems: Systems = all.iter().cloned().collect();
        assert_eq!((systems.len(), systems.in_shadow()), (99, 19));
        for system in &all {
            assert_eq!(systems.get(&system.asid).as_ref(), Some(system));
        }
        assert_eq!(systems.get(&asid(100)), None);
        let numbers: Vec<u64> = systems.iter().map(|system| system.asid.number()).collect();
        assert_eq!(numbers, (1..100).collect::<Vec<_>>());
        let after: Vec<u64> = systems
            .after(Some(&asid(97)))
            .map(|system| system.asid.number())
            .collect();
        assert_eq!(after, [98, 99]);
        assert_eq!((systems.interactions.len(), systems.fqdns.len()), (1, 2));
    }

    #[test]
    fn a_set_of_interactions_is_no_other_systems_though_they_share_it() {
        let systems: Systems = [system(1, &["urn:a"]), system(2, &["urn:a"])]
            .into_iter()
            .collect();
        let mut one = systems.get(&asid(1)).unwrap();
        one.interactions.clear();
        assert_eq!(systems.get(&asid(2)).unwrap().interactions.len(), 1);
        assert_eq!(systems.get(&asid(1)).unwrap().interactions.len(), 1);
    }

    #[test]
    fn missing_systems_are_counted() {
        let old: Systems = (0..10).map(|number| system(number, &[])).collect();
        let new: Systems = (5..50).map(|number| system(number, &[])).collect();
        assert_eq!((old.missing_in(&[&new]), new.missing_in(&[&new])), (5, 0));
    }
}
