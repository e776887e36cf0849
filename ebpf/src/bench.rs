//! Programs that the benchmark drives the filter and its peers with. The agent knows nothing of them.
#![no_std]
#![no_main]
#![allow(
    missing_docs,
    reason = "the xdp attribute moves the hook into a module of its own, without its docs"
)]

mod footing;

use aya_ebpf::{
    bindings::xdp_action::{XDP_ABORTED, XDP_DROP},
    btf_maps::{Array, ProgramArray},
    helpers::generated::bpf_redirect,
    macros::{btf_map, xdp},
    programs::XdpContext,
};

const ADDRESSES_MAX: usize = 1 << 20;
const CHECKSUM: usize = 24;
const SOURCE: usize = 26;
/// The last four bytes of an IPv6 source, which has no checksum of its own.
const SOURCE6: usize = 34;

/// Sources, in network order.
#[btf_map]
static ADDRESSES: Array<u32, ADDRESSES_MAX> = Array::new();

/// The next source.
#[btf_map]
static NEXT: Array<u32, 1> = Array::new();

/// The program that is measured.
#[btf_map]
static TARGET: ProgramArray<1> = ProgramArray::new();

/// The interface that frames are sent to.
#[btf_map]
static INTERFACE: Array<u32, 1> = Array::new();

/// What every program costs.
#[xdp(frags)]
fn empty(_context: XdpContext) -> u32 {
    XDP_DROP
}

/// Gives the frame the next source, and hands it to the program that is measured.
#[xdp(frags)]
fn vary(context: XdpContext) -> u32 {
    if change_source(&context).is_some() {
        // SAFETY: the map holds programs of this kind alone, as the kernel checks.
        unsafe { TARGET.tail_call(&context, 0) };
    }
    XDP_ABORTED
}

/// Sends the frame out of an interface.
#[xdp]
fn send(context: XdpContext) -> u32 {
    if change_source(&context).is_none() {
        return XDP_ABORTED;
    }
    match INTERFACE.get(0) {
        // SAFETY: the helper has no preconditions.
        Some(interface) => (unsafe { bpf_redirect(*interface, 0) }) as u32,
        None => XDP_ABORTED,
    }
}

#[inline(always)]
fn change_source(context: &XdpContext) -> Option<()> {
    let next = NEXT.get_ptr_mut(0)?;
    // SAFETY: the pointer comes from a map look-up, and the benchmark runs one program at a time.
    let number = unsafe {
        let number = *next;
        *next = number.wrapping_add(1);
        number
    };
    let address = ADDRESSES.get(number & (ADDRESSES_MAX as u32 - 1))?;
    let (start, end) = (context.data() as *mut u8, context.data_end() as *mut u8);
    if start.wrapping_add(SOURCE + 4) > end {
        return None;
    }
    // SAFETY: the two bytes lie within the frame, as just checked.
    let ethertype = unsafe { start.wrapping_add(12).cast::<[u8; 2]>().read() };
    if ethertype == [0x86, 0xdd] {
        if start.wrapping_add(SOURCE6 + 4) > end {
            return None;
        }
        // SAFETY: the four bytes lie within the frame, as just checked.
        unsafe {
            start
                .wrapping_add(SOURCE6)
                .cast::<[u8; 4]>()
                .write(address.to_ne_bytes())
        };
        return Some(());
    }
    // SAFETY: all that is read and written lies within the frame, as just checked.
    unsafe {
        let source = start.wrapping_add(SOURCE).cast::<[u8; 4]>();
        let checksum = start.wrapping_add(CHECKSUM).cast::<[u8; 2]>();
        let changed = changed_checksum(
            u16::from_be_bytes(checksum.read()),
            u32::from_be_bytes(source.read()),
            u32::from_be(*address),
        );
        source.write(address.to_ne_bytes());
        checksum.write(changed.to_be_bytes());
    }
    Some(())
}

/// The header's checksum after one of its addresses has changed (RFC 1624 section 3).
#[inline(always)]
const fn changed_checksum(checksum: u16, old: u32, new: u32) -> u16 {
    let mut sum = (!checksum) as u32;
    sum += (!(old >> 16) & 0xffff) + (!old & 0xffff) + (new >> 16) + (new & 0xffff);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}
