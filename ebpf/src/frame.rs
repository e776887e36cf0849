//! The packet's bytes in the kernel.

use core::arch::asm;

use aya_ebpf::{EbpfContext as _, helpers::generated::bpf_xdp_get_buff_len, programs::XdpContext};
use spinegate_common::packet::Frame;

/// An XDP frame. Its headers are read in its first buffer: drivers fill that one first, with 256 bytes at the least.
///
/// Pointers, not numbers: LLVM regroups sums of numbers, and then the verifier no longer sees that the address which
/// is read is the one that was checked.
pub(crate) struct KernelFrame<'context> {
    start: *const u8,
    end: *const u8,
    context: &'context XdpContext,
}

/// No header that the parser can reach begins further in; the verifier wants a bound on every offset.
const MAX_OFFSET: usize = 0x3fff;

impl<'context> KernelFrame<'context> {
    #[inline(always)]
    pub(crate) fn new(context: &'context XdpContext) -> Self {
        Self {
            start: context.data() as *const u8,
            end: context.data_end() as *const u8,
            context,
        }
    }
}

impl KernelFrame<'_> {
    /// The length of its first buffer.
    #[inline(always)]
    pub(crate) fn linear(&self) -> u64 {
        (self.end as usize - self.start as usize) as u64
    }
}

impl Frame for KernelFrame<'_> {
    #[inline(always)]
    fn reaches(&self, end: usize) -> bool {
        if end as u64 <= self.linear() {
            return true;
        }
        // SAFETY: the helper only wants the context that the program was called with.
        let length = unsafe { bpf_xdp_get_buff_len(self.context.as_ptr().cast()) };
        end as u64 <= length
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
        let mut bytes = [0; N];
        let mut done = 0;
        // SAFETY: all `N` bytes lie between the frame's start and end, as just checked (and as the verifier checks
        // again), and no load begins where it would not end among them.
        unsafe {
            while done + 4 <= N {
                put(&mut bytes, done, load_u32(first.wrapping_add(done)).to_ne_bytes());
                done += 4;
            }
            if done + 2 <= N {
                put(&mut bytes, done, load_u16(first.wrapping_add(done)).to_ne_bytes());
                done += 2;
            }
            if done < N {
                put(&mut bytes, done, [*first.wrapping_add(done)]);
            }
        }
        Some(bytes)
    }
}

#[inline(always)]
fn put<const N: usize, const M: usize>(bytes: &mut [u8; N], at: usize, word: [u8; M]) {
    for (place, byte) in bytes.iter_mut().skip(at).zip(word) {
        *place = byte;
    }
}

/// The word at an address that need not be aligned. The kernel allows such loads from packets; the compiler, told that
/// there is no alignment, would put the word together from single bytes.
///
/// # Safety
/// Four bytes at the address must be readable.
#[inline(always)]
unsafe fn load_u32(address: *const u8) -> u32 {
    let word: u64;
    // SAFETY: the caller's promise; the instruction reads these bytes and nothing else.
    unsafe {
        asm!("{word} = *(u32 *)({address} + 0)", word = out(reg) word, address = in(reg) address,
            options(readonly, nostack, preserves_flags));
    }
    word as u32
}

/// As [`load_u32`], of two bytes.
///
/// # Safety
/// Two bytes at the address must be readable.
#[inline(always)]
unsafe fn load_u16(address: *const u8) -> u16 {
    let word: u64;
    // SAFETY: the caller's promise; the instruction reads these bytes and nothing else.
    unsafe {
        asm!("{word} = *(u16 *)({address} + 0)", word = out(reg) word, address = in(reg) address,
            options(readonly, nostack, preserves_flags));
    }
    word as u16
}
