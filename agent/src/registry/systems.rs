//! The systems of one source, packed: a million of them take a hundred megabytes, and one is found with a cache line or two.

use std::{
    collections::{BTreeSet, HashMap},
    hash::{BuildHasher as _, RandomState},
    ops::{Deref, DerefMut},
    sync::Arc,
};

use rustc_hash::FxBuildHasher;

use super::texts::{TextAt, Texts};
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
    /// Each is where the hash of its ASID says, or in the first slot after that which was vacant. A third of them stays so.
    slots: Box<[Slot]>,
    /// Keyed: no source can choose ASIDs that come to lie on each other.
    hasher: RandomState,
    /// The slots that are taken, in the order of their ASIDs.
    order: Box<[u32]>,
    in_shadow: usize,
    interactions: Box<[Interactions]>,
    fqdns: Texts,
    names: Texts,
}

/// A system, its texts as positions in the tables. Two slots are one cache line.
#[derive(Clone, Debug)]
#[repr(align(32))]
struct Slot {
    /// The ASID, and below it whether it is active and whether it is in shadow.
    key: u64,
    ods: OdsCode,
    interactions: SetAt,
    fqdn: Option<TextAt>,
    name: Option<TextAt>,
}

/// The key of a slot without a system: greater than that of any ASID.
const VACANT: u64 = u64::MAX;
const ACTIVE: u64 = 1 << 1;
const SHADOW: u64 = 1;

/// Where a set of interactions is among those of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetAt(u32);

/// A system as its snapshot has it: nothing of it is copied.
#[derive(Clone, Copy, Debug)]
pub struct Registered<'s> {
    asid: Asid,
    systems: &'s Systems,
    slot: &'s Slot,
}

/// Takes systems one by one, and packs them.
#[derive(Debug, Default)]
pub struct Packer {
    slots: Vec<Slot>,
    interactions: Vec<Interactions>,
    sets: HashMap<Interactions, SetAt, FxBuildHasher>,
    fqdns: Texts,
    names: Texts,
}

impl Slot {
    const fn asid(&self) -> u64 {
        self.key >> 2
    }

    /// One without a system, of the same size.
    fn vacant(&self) -> Self {
        Self {
            key: VACANT,
            ..self.clone()
        }
    }
}

impl<'s> Registered<'s> {
    /// Its identity.
    #[must_use]
    pub const fn asid(&self) -> &Asid {
        &self.asid
    }

    /// The organisation that it works for.
    #[must_use]
    pub const fn ods(&self) -> &'s OdsCode {
        &self.slot.ods
    }

    /// An interaction ID, if it is associated with it.
    #[must_use]
    pub fn interaction(&self, id: &str) -> Option<&'s InteractionId> {
        self.interactions()?.get(id)
    }

    fn interactions(&self) -> Option<&'s Interactions> {
        self.systems.interactions.get(self.slot.interactions.0 as usize)
    }

    /// The name that its certificate must have, if it connects with one of its own.
    #[must_use]
    pub fn fqdn(&self) -> Option<&'s str> {
        let at = self.slot.fqdn?;
        // A text that is not there is no certificate's name.
        Some(self.systems.fqdns.get(at).unwrap_or_default())
    }

    /// What the operator calls it.
    #[must_use]
    pub fn name(&self) -> Option<&'s str> {
        self.systems.names.get(self.slot.name?)
    }

    /// Whether it has access.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        self.slot.key & ACTIVE != 0
    }

    /// Whether its permissions are only tried.
    #[must_use]
    pub const fn is_in_shadow(&self) -> bool {
        self.slot.key & SHADOW != 0
    }

    /// A copy that is no part of a snapshot.
    #[must_use]
    pub fn to_system(&self) -> Option<System> {
        Some(System {
            asid: self.asid,
            ods: self.ods().clone(),
            interactions: self.interactions()?.clone(),
            name: self.name().map(Into::into),
            fqdn: self.fqdn().map(Fqdn::parse).transpose().ok()?,
            active: self.is_active(),
            shadow: self.is_in_shadow(),
        })
    }
}

impl Systems {
    /// The system with an ASID.
    #[must_use]
    pub fn find(&self, asid: &Asid) -> Option<Registered<'_>> {
        Some(Registered {
            asid: *asid,
            systems: self,
            slot: self.slot(asid.number())?,
        })
    }

    /// A copy of the system with an ASID.
    #[must_use]
    pub fn get(&self, asid: &Asid) -> Option<System> {
        self.find(asid)?.to_system()
    }

    /// Whether there is a system with an ASID.
    #[must_use]
    pub fn contains(&self, asid: &Asid) -> bool {
        self.slot(asid.number()).is_some()
    }

    /// Every system, in the order of their ASIDs.
    pub fn iter(&self) -> impl Iterator<Item = System> {
        self.after(None)
    }

    /// The systems whose ASIDs come after one, in their order; all without one.
    pub fn after(&self, asid: Option<&Asid>) -> impl Iterator<Item = System> {
        let begin = asid.map_or(0, |asid| {
            let number = asid.number();
            let comes = |at: &u32| {
                self.slots
                    .get(*at as usize)
                    .is_some_and(|slot| slot.asid() <= number)
            };
            self.order.partition_point(comes)
        });
        self.order
            .get(begin..)
            .unwrap_or_default()
            .iter()
            .filter_map(|at| {
                let slot = self.slots.get(*at as usize)?;
                let asid = Asid::from_number(slot.asid())?;
                let registered = Registered {
                    asid,
                    systems: self,
                    slot,
                };
                registered.to_system()
            })
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// How many of them are in shadow.
    #[must_use]
    pub const fn in_shadow(&self) -> usize {
        self.in_shadow
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// How many of these systems none of the others, other sources' or an older snapshot's, has.
    #[must_use]
    pub fn missing_in(&self, others: &[&Self]) -> usize {
        let missing = |slot: &&Slot| !others.iter().any(|other| other.slot(slot.asid()).is_some());
        match others {
            [] => self.len(),
            _ => self.taken().filter(missing).count(),
        }
    }

    fn taken(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().filter(|slot| slot.key != VACANT)
    }

    fn slot(&self, asid: u64) -> Option<&Slot> {
        let mut at = place(&self.hasher, asid, self.slots.len());
        loop {
            let slot = self.slots.get(at)?;
            if slot.asid() == asid {
                return Some(slot);
            }
            if slot.key == VACANT {
                return None;
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }
}

/// Where a system is looked for first. There is a power of two of slots, or none.
fn place(hasher: &RandomState, asid: u64, slots: usize) -> usize {
    hasher.hash_one(asid) as usize & slots.saturating_sub(1)
}

impl Packer {
    /// Takes one more system. Whoever packs sees to it that no ASID comes twice; of two, the first stays.
    pub fn push(&mut self, system: System) {
        let interactions = self.interactions(system.interactions);
        let fqdn = system.fqdn.map(|fqdn| self.fqdn(&fqdn));
        let name = system.name.map(|name| self.names.push(&name));
        self.slots.push(Slot {
            key: key(&system.asid, system.active, system.shadow),
            ods: system.ods,
            interactions,
            fqdn,
            name,
        });
    }

    /// Takes one more active system without a name, whose texts are there already.
    pub fn push_packed(&mut self, asid: &Asid, ods: OdsCode, interactions: SetAt, fqdn: Option<TextAt>) {
        self.slots.push(Slot {
            key: key(asid, true, false),
            ods,
            interactions,
            fqdn,
            name: None,
        });
    }

    /// Takes a set of interactions, once for all systems that have it.
    pub fn interactions(&mut self, set: Interactions) -> SetAt {
        if let Some(at) = self.sets.get(&set) {
            return *at;
        }
        // So many sets as a position can't tell don't fit into memory; of such a position there is none.
        let at = SetAt(u32::try_from(self.interactions.len()).unwrap_or(u32::MAX));
        self.interactions.push(set.clone());
        self.sets.insert(set, at);
        at
    }

    /// Takes an FQDN.
    pub fn fqdn(&mut self, fqdn: &Fqdn) -> TextAt {
        self.fqdns.push(fqdn.as_str())
    }

    /// All of them.
    #[must_use]
    pub fn finish(self) -> Systems {
        let mut systems = self.slots;
        systems.sort_by_key(Slot::asid);
        systems.dedup_by_key(|slot| slot.asid());
        let mut packed = Systems {
            in_shadow: systems.iter().filter(|slot| slot.key & SHADOW != 0).count(),
            interactions: self.interactions.into(),
            fqdns: self.fqdns.finish(),
            names: self.names.finish(),
            ..Systems::default()
        };
        let Some(first) = systems.first() else {
            return packed;
        };
        let room = (systems.len() + systems.len() / 2 + 1).next_power_of_two();
        let mut slots = Vec::with_capacity(room);
        in_huge_pages(&slots);
        slots.resize(room, first.vacant());
        let mut order = Vec::with_capacity(systems.len());
        for system in systems {
            let mut at = place(&packed.hasher, system.asid(), room);
            while slots.get(at).is_some_and(|slot| slot.key != VACANT) {
                at = (at + 1) & (room - 1);
            }
            // A position that does not fit is that of no slot: there are not so many in any memory.
            order.push(u32::try_from(at).unwrap_or(u32::MAX));
            if let Some(slot) = slots.get_mut(at) {
                *slot = system;
            }
        }
        packed.slots = slots.into();
        packed.order = order.into();
        packed
    }
}

/// Asks for pages of two megabytes, with which the kernel finds a slot of a million without looking up where its page is.
/// Without them all is as it is with them, but slower.
fn in_huge_pages(slots: &Vec<Slot>) {
    const PAGE: usize = 4096;
    let memory: *const u8 = slots.as_ptr().cast();
    let before = memory.align_offset(PAGE);
    // Whole pages only: what shares one with others' memory stays as it is.
    let length = (slots.capacity() * size_of::<Slot>()).saturating_sub(before) / PAGE * PAGE;
    let memory = memory.wrapping_add(before).cast_mut().cast();
    // SAFETY: the memory is the vector's own, and the advice changes neither what is in it nor who may have it.
    let advised = unsafe { rustix::mm::madvise(memory, length, rustix::mm::Advice::LinuxHugepage) };
    if let Err(error) = advised {
        tracing::debug!(%error, "the registry is in small pages");
    }
}

fn key(asid: &Asid, active: bool, shadow: bool) -> u64 {
    let flags = if active { ACTIVE } else { 0 } | if shadow { SHADOW } else { 0 };
    asid.number() << 2 | flags
}

impl FromIterator<System> for Systems {
    fn from_iter<I: IntoIterator<Item = System>>(systems: I) -> Self {
        let mut packer = Packer::default();
        systems.into_iter().for_each(|system| packer.push(system));
        packer.finish()
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
        assert_eq!(systems.interactions.len(), 1);
        assert_eq!(size_of::<Slot>(), 32);
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
