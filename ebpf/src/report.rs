//! Counters for every packet, events for a sample of the dropped ones.

use core::arch::asm;

use aya_ebpf::{
    EbpfContext as _,
    helpers::generated::{bpf_jiffies64, bpf_ktime_get_boot_ns, bpf_xdp_load_bytes},
    programs::XdpContext,
};
use spinegate_common::{
    Count, DropEvent, Judgement,
    event::{Reports, SNAPSHOT},
    packet::Packet,
    policy::Head,
};

use crate::{frame::KernelFrame, maps, world::coarse_time};

/// Counts the packet for its service and outcome, and for the entry of the allowlist that let it pass.
#[inline(always)]
pub(crate) fn count(frame: &KernelFrame, judgement: &Judgement, packet: &Packet) {
    let bytes = length(frame, packet);
    add(maps::OUTCOMES.get_ptr_mut(judgement.tally()), bytes);
    if judgement.entry != 0 {
        add(maps::ENTRY_COUNTS.get_ptr_mut(judgement.entry), bytes);
    }
}

/// Leaves the judgement where the agent reads it.
#[inline(always)]
pub(crate) fn explain(judgement: &Judgement) {
    if let Some(explained) = maps::EXPLAINED.get_ptr_mut(0) {
        // SAFETY: the pointer comes from a map look-up, and nothing else writes there while the agent asks.
        unsafe { *explained = [judgement.outcome.number(), judgement.service, judgement.entry, 0] };
    }
}

/// Reports a drop, if this CPU's budget allows.
#[inline(always)]
pub(crate) fn event(
    context: &XdpContext,
    frame: &KernelFrame,
    judgement: &Judgement,
    packet: &Packet,
    reports: &mut Reports,
    head: &Head,
) {
    // SAFETY: the helper has no preconditions; where there is a compiler for programs, it is a load from memory.
    let tick = unsafe { bpf_jiffies64() };
    if reports.tick == tick {
        reports.lost += 1;
        return;
    }
    match head.events.spend(reports.budget, coarse_time()) {
        Some(next) => reports.budget = next,
        None => {
            reports.tick = tick;
            reports.lost += 1;
            return;
        }
    }
    if !submit(context, judgement, length(frame, packet)) {
        reports.lost += 1;
    }
    #[cfg(feature = "log")]
    aya_log_ebpf::debug!(
        context,
        "drop: outcome {} protocol {}",
        judgement.outcome.number(),
        packet.protocol
    );
}

#[inline(always)]
fn submit(context: &XdpContext, judgement: &Judgement, length: u64) -> bool {
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let interface = context.ingress_ifindex() as u32;
    let Some(header) = DropEvent::new(judgement, now, interface, length as u32) else {
        return true;
    };
    let Some(mut entry) = maps::EVENTS.reserve_untyped::<DropEvent>(0) else {
        return false;
    };
    let event = entry.write(header);
    let mut captured = if length > SNAPSHOT as u64 {
        SNAPSHOT as u64
    } else {
        length
    };
    // Nothing changes here: it is between 1 and 128. But verifiers of older kernels don't know, and the compiler, which
    // does, would leave out anything that told them.
    //
    // SAFETY: the instructions change the register and nothing else.
    unsafe {
        asm!("{captured} += -1", "{captured} &= 127", "{captured} += 1", captured = inout(reg) captured,
            options(pure, nomem));
    }
    // SAFETY: the helper writes `captured` bytes, which the event has room for, or none.
    let copied = unsafe {
        bpf_xdp_load_bytes(
            context.as_ptr().cast(),
            0,
            event.frame.as_mut_ptr().cast(),
            captured as u32,
        )
    };
    if copied == 0 {
        event.captured = captured as u16;
    }
    entry.submit(0);
    true
}

/// The frame's length, as far as it is certain: of a frame in several buffers the first one and the IP packet are.
#[inline(always)]
fn length(frame: &KernelFrame, packet: &Packet) -> u64 {
    let end = u64::from(packet.end);
    if end > frame.linear() { end } else { frame.linear() }
}

#[inline(always)]
fn add(count: Option<*mut Count>, bytes: u64) {
    if let Some(count) = count {
        // SAFETY: the entry is this CPU's own, and XDP programs on one CPU don't interrupt each other.
        unsafe {
            (*count).packets += 1;
            (*count).bytes += bytes;
        }
    }
}
