//! The maps. The agent writes them all but the counters, the budgets and the events.

use core::cell::UnsafeCell;

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    btf_maps::{Array, ArrayOfMaps, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf},
    macros::btf_map,
};
use spinegate_common::{
    Count, VerdictValue,
    decision::TALLIES,
    event::{Cpu, Reports},
    packet::{Address, Packet},
    policy::{Head, HeadWords, SLOTS},
    tree::{Page, Source6},
};

const SOURCES_MAX: usize = 1 << 20;
const VERDICTS_MAX: usize = 1 << 20;
const UNTRUSTED_MAX: usize = 1 << 16;
const EVENTS_BYTES: usize = 1 << 19;
/// The agent makes this map as large as `filter.max_sources` says.
const ENTRIES: usize = 1 << 16;
const NO_PREALLOC: usize = BPF_F_NO_PREALLOC as usize;
/// BPF_F_INNER_MAP: generations may differ in size.
const ANY_SIZE: usize = 1 << 12;

/// One word: see [`spinegate_common::policy::Control`].
#[btf_map]
pub(crate) static CONTROL: Array<u64, 1> = Array::new();

/// Per generation: what has a fixed size.
#[btf_map]
pub(crate) static HEADS: ArrayOfMaps<Array<HeadWords, 1>, { SLOTS as usize }> = ArrayOfMaps::new();

/// Per generation: the tree of IPv4 prefixes, and all grants.
#[btf_map]
pub(crate) static PAGES: ArrayOfMaps<Array<Page, 1, ANY_SIZE>, { SLOTS as usize }> = ArrayOfMaps::new();

/// Per generation: the IPv6 prefixes, each with its leaf.
#[btf_map]
pub(crate) static PREFIXES6: ArrayOfMaps<
    LpmTrie<Source6, u32, SOURCES_MAX, NO_PREALLOC>,
    { SLOTS as usize },
> = ArrayOfMaps::new();

/// Address to verdict; apart from the generations, so that a policy swap loses none.
#[btf_map]
pub(crate) static VERDICTS: HashMap<Address, VerdictValue, VERDICTS_MAX, NO_PREALLOC> = HashMap::new();

/// A verdict that the program writes hits into.
#[repr(transparent)]
pub(crate) struct SharedVerdict(pub(crate) UnsafeCell<VerdictValue>);

/// Prefix to verdict.
#[btf_map]
pub(crate) static PREFIX_VERDICTS: LpmTrie<Address, SharedVerdict, VERDICTS_MAX, NO_PREALLOC> =
    LpmTrie::new();

/// The handshake budgets of sources that are not trusted. Only allowlisted sources get here, and what is evicted has
/// its whole burst again, so a flood from many addresses takes nothing from anyone.
#[btf_map]
pub(crate) static UNTRUSTED: LruHashMap<Address, u64, UNTRUSTED_MAX> = LruHashMap::new();

/// What became of the packets, by service and outcome.
#[btf_map]
pub(crate) static OUTCOMES: PerCpuArray<Count, { TALLIES as usize }> = PerCpuArray::new();

/// What each entry of the allowlist let pass.
#[btf_map]
pub(crate) static ENTRY_COUNTS: PerCpuArray<Count, ENTRIES> = PerCpuArray::new();

/// Sampled drops for the agent, each a `DropEvent`. (libbpf refuses a ring buffer whose definition names a value type.)
#[btf_map]
pub(crate) static EVENTS: RingBuf<(), EVENTS_BYTES> = RingBuf::new();

/// What belongs to one CPU. The packet that it is judging is there and not on the stack, where the verifier would tell
/// each combination of header fields apart and judge every one of them separately; what is in a map it does not know.
#[btf_map]
pub(crate) static CPUS: PerCpuArray<Cpu, 1> = PerCpuArray::new();

/// What the second program says of the last packet that it was run on: outcome, service, entry.
#[btf_map]
pub(crate) static EXPLAINED: Array<[u32; 4], 1> = Array::new();

/// The parts of what belongs to this CPU, the packet cleared.
#[inline(always)]
pub(crate) fn cpu() -> Option<(*mut u64, &'static mut Reports, &'static mut Packet)> {
    let cpu = CPUS.get_ptr_mut(0)?;
    // SAFETY: the entry is this CPU's own, XDP programs on one CPU don't interrupt each other, and each asks once. The
    // parts don't overlap.
    let (control, reports, packet) =
        unsafe { (&raw mut (*cpu).control, &mut (*cpu).reports, &mut (*cpu).packet) };
    *packet = Packet::default();
    Some((control, reports, packet))
}

/// The head of a generation.
#[inline(always)]
pub(crate) fn head(slot: u32) -> Option<&'static Head> {
    let words: *const HeadWords = HEADS.get_value(slot, &0)?;
    // SAFETY: as long as a head, aligned like one, and every bit pattern is one; only the agent writes to it, before it
    // is in a slot.
    Some(unsafe { &*words.cast::<Head>() })
}
