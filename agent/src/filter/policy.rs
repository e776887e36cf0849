//! The policy: compiled from the configuration into a generation, and put in force by one write.

pub(super) mod compile;
pub(super) mod numbers;
mod tree;

use aya::{
    maps::{Array, ArrayOfMaps, LpmTrie, MapData, MapError, PerCpuArray, PerCpuValues, lpm_trie::Key},
    util::nr_cpus,
};
use rustc_hash::FxHashSet;
use spinegate_common::{
    Count,
    count::OUTCOMES,
    policy::{Control, Head},
    tree::{Page, Source6},
};

use self::{compile::Compiled, numbers::Numbers};
use super::{FilterError, object::Object};
use crate::config::Source;

const NO_PREALLOC: u32 = 1;
/// BPF_F_INNER_MAP: generations may differ in size.
const ANY_SIZE: u32 = 1 << 12;
const PREFIXES6: u32 = 1 << 20;

/// Puts a policy in force between two packets, and gives its number. The one that it takes the place of is freed.
pub(super) fn put_in_force(object: &mut Object, compiled: &Compiled) -> Result<u64, FilterError> {
    let current = control(object)?;
    let slot = current.map_or(0, |control| 1 - control.slot);
    let generation = current.map_or(1, |control| control.generation + 1) & ((1 << 40) - 1);

    let maps = Maps::make(compiled)?;
    maps.install(object, slot)?;
    let word = Control {
        slot,
        verdicts: current.is_some_and(|control| control.verdicts),
        prefix_verdicts: current.is_some_and(|control| control.prefix_verdicts),
        generation,
    };
    set_control(object, word)?;

    // Writing to a map of maps returns when every program that runs now has ended. So after this, no packet is being
    // judged by the other slot any more, and what it holds can be let go of. The kernel frees it on a thread of its own.
    set_inner(object, "HEADS", slot, &maps.head)?;
    let closed = Maps::make(&Compiled::closed())?;
    set_inner(object, "PAGES", 1 - slot, &closed.pages)?;
    set_inner(object, "PREFIXES6", 1 - slot, &closed.prefixes6)?;
    Ok(generation)
}

/// Takes numbers from entries that are no longer in the policy, with what they have counted. Numbers that services have
/// taken over begin at zero: what was counted in the moment since the policy came into force is lost.
pub(super) fn retire(
    object: &mut Object,
    numbers: &mut Numbers,
    sources: &[Source],
) -> Result<(), FilterError> {
    for number in numbers.handed_on() {
        let first = u32::from(number) * OUTCOMES;
        clear(object, "OUTCOMES", first..first + OUTCOMES)?;
    }
    if numbers.len() > sources.len() {
        let kept: FxHashSet<_> = sources.iter().map(|source| source.cidr).collect();
        let gone = numbers.retire(|cidr| kept.contains(cidr));
        clear(object, "ENTRY_COUNTS", gone.iter().copied())?;
        numbers.reuse(gone);
    }
    numbers.save()
}

/// Sets counters to zero.
fn clear(
    object: &mut Object,
    name: &'static str,
    places: impl IntoIterator<Item = u32>,
) -> Result<(), FilterError> {
    let refused = |error| FilterError::map(name, error);
    let cpus = nr_cpus().map_err(|(_, error)| refused(MapError::IoError(error)))?;
    let mut counts: PerCpuArray<_, Count> = object.map_mut(name)?;
    for place in places {
        let zero = PerCpuValues::try_from(vec![Count::default(); cpus]).map_err(MapError::IoError);
        zero.and_then(|zero| counts.set(place, zero, 0))
            .map_err(refused)?;
    }
    Ok(())
}

/// The word in force; none before the first policy.
pub(super) fn control(object: &Object) -> Result<Option<Control>, FilterError> {
    let control: Array<_, u64> = object.map("CONTROL")?;
    let word = control
        .get(&0, 0)
        .map_err(|error| FilterError::map("CONTROL", error))?;
    Ok(Control::decode(word))
}

/// Writes the word.
pub(super) fn set_control(object: &mut Object, word: Control) -> Result<(), FilterError> {
    let mut control: Array<_, u64> = object.map_mut("CONTROL")?;
    control
        .set(0, word.encode(), 0)
        .map_err(|error| FilterError::map("CONTROL", error))
}

/// The maps of a generation.
struct Maps {
    head: Array<MapData, Head>,
    pages: Array<MapData, Page>,
    prefixes6: LpmTrie<MapData, Source6, u32>,
}

impl Maps {
    fn make(compiled: &Compiled) -> Result<Self, FilterError> {
        let heads = |error| FilterError::map("HEADS", error);
        let mut head = Array::create(1, 0).map_err(heads)?;
        // By reference: it is too large for the stack.
        let value: &Head = &compiled.head;
        head.set(0, value, 0).map_err(heads)?;

        let paging = |error| FilterError::map("PAGES", error);
        // A map has one element at the least.
        let length = u32::try_from(compiled.pages.len().max(1)).unwrap_or(u32::MAX);
        let mut pages = Array::create(length, ANY_SIZE).map_err(paging)?;
        for (number, page) in (0..).zip(&compiled.pages) {
            pages.set(number, page, 0).map_err(paging)?;
        }

        let trie = |error| FilterError::map("PREFIXES6", error);
        let mut prefixes6 = LpmTrie::create(PREFIXES6, NO_PREALLOC).map_err(trie)?;
        for (address, length, leaf) in &compiled.prefixes6 {
            let key = Key::new(u32::from(*length), *address);
            prefixes6.insert(&key, *leaf, 0).map_err(trie)?;
        }
        Ok(Self {
            head,
            pages,
            prefixes6,
        })
    }

    fn install(&self, object: &mut Object, slot: u32) -> Result<(), FilterError> {
        set_inner(object, "HEADS", slot, &self.head)?;
        set_inner(object, "PAGES", slot, &self.pages)?;
        set_inner(object, "PREFIXES6", slot, &self.prefixes6)
    }
}

fn set_inner<M>(object: &mut Object, name: &'static str, slot: u32, inner: &M) -> Result<(), FilterError>
where
    M: aya::maps::InnerMap,
{
    let mut outer: ArrayOfMaps<&mut MapData, M> = object.map_mut(name)?;
    outer
        .set(slot, inner, 0)
        .map_err(|error| FilterError::map(name, error))
}
