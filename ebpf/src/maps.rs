//! The maps, and the questions that the decision asks them. The agent writes them all but the counters and the events.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    btf_maps::{Array, ArrayOfMaps, HashMap, LpmTrie, PerCpuArray, RingBuf, lpm_trie::Key},
    macros::btf_map,
};
use spinegate_common::{
    Count, EventBudget, Pass, Reason, VerdictValue,
    packet::{Network, Packet},
    policy::{self, Control, SCOPE_BITS, Source4, Source6},
};

const SOURCES: usize = 1 << 20;
const VERDICTS_MAX: usize = 1 << 16;
const EVENT_BYTES: usize = 1 << 18;
const NO_PREALLOC: usize = BPF_F_NO_PREALLOC as usize;

/// One word: see [`Control`].
#[btf_map]
pub(crate) static CONTROL: Array<u64, 1> = Array::new();

/// Per generation: port of a protocol to scope.
#[btf_map]
pub(crate) static SERVICES: ArrayOfMaps<
    Array<u32, { policy::SERVICE_SLOTS as usize }>,
    { policy::SLOTS as usize },
> = ArrayOfMaps::new();

/// Per generation: the allowlist's IPv4 prefixes in each scope.
#[btf_map]
pub(crate) static ALLOW4: ArrayOfMaps<LpmTrie<Source4, u32, SOURCES>, { policy::SLOTS as usize }> =
    ArrayOfMaps::new();

/// Per generation: the allowlist's IPv6 prefixes in each scope.
#[btf_map]
pub(crate) static ALLOW6: ArrayOfMaps<LpmTrie<Source6, u32, SOURCES>, { policy::SLOTS as usize }> =
    ArrayOfMaps::new();

/// Source to verdict; apart from the generations, so that a policy swap loses none.
#[btf_map]
pub(crate) static VERDICTS: HashMap<[u8; 16], VerdictValue, VERDICTS_MAX, NO_PREALLOC> = HashMap::new();

/// Dropped, by reason.
#[btf_map]
pub(crate) static DROPS: PerCpuArray<Count, { Reason::SLOTS as usize }> = PerCpuArray::new();

/// Would have been dropped if the mode were not monitor, by reason.
#[btf_map]
pub(crate) static WOULD_DROPS: PerCpuArray<Count, { Reason::SLOTS as usize }> = PerCpuArray::new();

/// Passed, by outcome.
#[btf_map]
pub(crate) static PASSES: PerCpuArray<Count, { Pass::SLOTS as usize }> = PerCpuArray::new();

/// Sampled drops for the agent, each a `DropEvent`. (libbpf refuses a ring buffer whose definition names a value type.)
#[btf_map]
pub(crate) static EVENTS: RingBuf<(), EVENT_BYTES> = RingBuf::new();

/// What each CPU may still report.
#[btf_map]
pub(crate) static EVENT_BUDGET: PerCpuArray<EventBudget, 1> = PerCpuArray::new();

/// The word in force.
#[inline(always)]
pub(crate) fn control() -> Option<Control> {
    Control::decode(*CONTROL.get(0)?)
}

/// The scope of an entry in the table of services.
#[inline(always)]
pub(crate) fn service(slot: u32, entry: u32) -> u32 {
    match SERVICES.get_value(slot, &entry) {
        Some(scope) => *scope,
        // A slot that holds no table guards everything with a scope that no source is in.
        None => u32::MAX,
    }
}

/// Whether the packet's source is on the allowlist of a scope.
#[inline(always)]
pub(crate) fn is_allowlisted(slot: u32, scope: u32, packet: &Packet) -> bool {
    let scope = scope.to_be_bytes();
    if packet.network == Network::Ipv4 {
        let [.., a, b, c, d] = packet.source;
        let key = Key::new(
            SCOPE_BITS + 32,
            Source4 {
                scope,
                address: [a, b, c, d],
            },
        );
        ALLOW4.get_value_ptr_mut(slot, &key).is_some()
    } else {
        let key = Key::new(
            SCOPE_BITS + 128,
            Source6 {
                scope,
                address: packet.source,
            },
        );
        ALLOW6.get_value_ptr_mut(slot, &key).is_some()
    }
}

/// The verdict on a source, expired or not.
#[inline(always)]
pub(crate) fn verdict(source: &[u8; 16]) -> Option<&'static VerdictValue> {
    // SAFETY: only the agent writes the map, and it replaces a value as a whole; a value that is freed under our
    // eyes stays readable until this program ends (RCU).
    unsafe { VERDICTS.get(source) }
}
