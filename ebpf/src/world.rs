//! What a decision depends on, as the maps have it.

use core::arch::asm;

use aya_ebpf::{
    btf_maps::lpm_trie::Key,
    helpers::generated::{bpf_ktime_get_boot_ns, bpf_ktime_get_coarse_ns},
};
use spinegate_common::{
    Budget, Standing, VerdictValue, World,
    packet::Address,
    policy::{HEAD_PAGES, Head},
    tree::{Page, tag},
};

use crate::maps;

/// The maps. What is judged for real uses up budgets and is counted on verdicts; what is only explained is not.
pub(crate) struct KernelWorld<const REAL: bool> {
    /// The state of this CPU's budget for control traffic.
    control: *mut u64,
}

/// A clock for rates: as coarse as the kernel's tick, and as cheap as reading memory. It stands still while the host is
/// suspended, as packets do.
#[inline(always)]
pub(crate) fn coarse_time() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_coarse_ns() }
}

impl<const REAL: bool> KernelWorld<REAL> {
    #[inline(always)]
    pub(crate) const fn new(control: *mut u64) -> Self {
        Self { control }
    }

    #[inline(always)]
    fn spend(budget: &Budget, word: *mut u64) -> bool {
        // SAFETY: the pointer leads to an aligned word of a map's value, which stays readable and writable until this
        // program ends (RCU). Other CPUs may write to it meanwhile; volatile accesses are of whole words.
        let (found, write) = unsafe { (word.read_volatile(), |next| word.write_volatile(next)) };
        match budget.spend(found, coarse_time()) {
            Some(next) if REAL => {
                write(next);
                true
            }
            next => next.is_some(),
        }
    }
}

/// Adds one to a word that other CPUs add to as well.
#[inline(always)]
fn increment(word: *mut u64) {
    // SAFETY: callers pass the address of an aligned word in a map's value that a look-up found; the kernel verifies
    // that too. The instruction adds to it and touches nothing else.
    unsafe { asm!("lock *(u64 *)({word} + 0) += {one}", word = in(reg) word, one = in(reg) 1_u64) };
}

#[inline(always)]
fn standing(verdict: *mut VerdictValue) -> Standing<*mut VerdictValue> {
    // SAFETY: the pointer comes from a map look-up: the value stays readable until this program ends (RCU), and the
    // agent replaces values as a whole.
    let (deny_until, trust_until) = unsafe { ((*verdict).deny_until, (*verdict).trust_until) };
    Standing {
        deny_until,
        trust_until,
        verdict,
    }
}

impl<const REAL: bool> World for KernelWorld<REAL> {
    type Verdict = *mut VerdictValue;

    #[inline(always)]
    fn head_page<'head>(&self, head: &'head Head, page: u32) -> Option<&'head Page> {
        let mut page = u64::from(page);
        // The compiler knows the bound and would check it on another register than the one that it adds to the address;
        // here the verifier sees it, and the compiler does not look in.
        //
        // SAFETY: the instruction changes the register and nothing else.
        unsafe {
            asm!("{page} &= {mask}", page = inout(reg) page, mask = const HEAD_PAGES - 1, options(pure, nomem))
        };
        // SAFETY: the index is smaller than the number of pages.
        Some(unsafe { &*head.pages.as_ptr().wrapping_add(page as usize) })
    }

    #[inline(always)]
    fn page(&self, slot: u32, page: u32) -> Option<&Page> {
        maps::PAGES.get_value(slot, &page)
    }

    #[inline(always)]
    fn leaf6(&self, slot: u32, address: &Address) -> u32 {
        let key = Key::new(128, *address);
        match maps::PREFIXES6.get_value_ptr_mut(slot, &key) {
            // SAFETY: the value stays readable until this program ends (RCU), and nothing ever writes to it.
            Some(leaf) => unsafe { *leaf },
            None => tag::NOTHING,
        }
    }

    #[inline(always)]
    fn verdict(&self, source: &Address) -> Option<Standing<Self::Verdict>> {
        maps::VERDICTS.get_ptr_mut(source).map(standing)
    }

    #[inline(always)]
    fn prefix_verdict(&self, source: &Address) -> Option<Standing<Self::Verdict>> {
        let key = Key::new(128, *source);
        maps::PREFIX_VERDICTS
            .get(&key)
            .map(|verdict| standing(verdict.0.get()))
    }

    #[inline(always)]
    fn hit(&self, verdict: Self::Verdict) {
        if REAL {
            // SAFETY: the address of a field of a value that a look-up found.
            increment(unsafe { &raw mut (*verdict).hits });
        }
    }

    #[inline(always)]
    fn spend_trusted(&self, verdict: Self::Verdict, budget: &Budget) -> bool {
        self.hit(verdict);
        // SAFETY: the address of a field of a value that a look-up found.
        Self::spend(budget, unsafe { &raw mut (*verdict).handshakes })
    }

    #[inline(always)]
    fn spend_untrusted(&self, source: &Address, budget: &Budget) -> bool {
        if let Some(word) = maps::UNTRUSTED.get_ptr_mut(source) {
            return Self::spend(budget, word);
        }
        let Some(first) = budget.spend(0, coarse_time()) else {
            return false;
        };
        // If another CPU was first with this source, its word stays: one handshake more than the budget, once.
        const NO_REPLACE: u64 = 1;
        !REAL
            || maps::UNTRUSTED.insert(source, first, NO_REPLACE).is_ok()
            || maps::UNTRUSTED.get_ptr(source).is_some()
    }

    #[inline(always)]
    fn spend_control(&self, budget: &Budget) -> bool {
        Self::spend(budget, self.control)
    }

    #[inline(always)]
    fn boot_time(&self) -> u64 {
        // SAFETY: the helper has no preconditions.
        unsafe { bpf_ktime_get_boot_ns() }
    }
}
