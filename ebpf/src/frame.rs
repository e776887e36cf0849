//! The packet's bytes in the kernel.

use aya_ebpf::programs::XdpContext;
use spinegate_common::packet::Frame;

/// The linear part of an XDP frame: everything, for a program without multi-buffer support.
///
/// Pointers, not numbers: LLVM regroups sums of numbers, and then the verifier no longer sees that the address which
/// is read is the one that was checked.
pub(crate) struct KernelFrame {
    start: *const u8,
    end: *const u8,
}

/// No header that the parser can reach begins further in; the verifier wants a bound on every offset.
const MAX_OFFSET: usize = 0x3fff;

impl KernelFrame {
    #[inline(always)]
    pub(crate) fn new(context: &XdpContext) -> Self {
        Self {
            start: context.data() as *const u8,
            end: context.data_end() as *const u8,
        }
    }
}

impl Frame for KernelFrame {
    #[inline(always)]
    fn length(&self) -> usize {
        self.end as usize - self.start as usize
    }

    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        if offset > MAX_OFFSET {
            return None;
        }
        let first = self.start.wrapping_add(offset);
        if first.wrapping_add(N) > self.end {
            return None;
        }
        // SAFETY: all `N` bytes lie between the frame's start and end, as just checked (and as the verifier checks
        // again); a byte array has no alignment.
        Some(unsafe { first.cast::<[u8; N]>().read_unaligned() })
    }
}
