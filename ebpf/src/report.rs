//! Counters for every packet, events for a sample of the dropped ones.

use aya_ebpf::{btf_maps::PerCpuArray, helpers::generated::bpf_ktime_get_boot_ns, programs::XdpContext};
use spinegate_common::{Count, DropEvent, Pass, Reason, packet::Packet, policy::Control};

use crate::maps;

#[inline(always)]
pub(crate) fn passed(context: &XdpContext, pass: Pass) {
    count(&maps::PASSES, pass as u32, length(context));
}

#[inline(always)]
pub(crate) fn monitored(context: &XdpContext, control: Control, packet: &Packet, reason: Reason) {
    count(&maps::WOULD_DROPS, reason as u32, length(context));
    count(&maps::PASSES, Pass::Monitored as u32, length(context));
    event(context, control, packet, reason, true);
}

#[inline(always)]
pub(crate) fn dropped(context: &XdpContext, control: Option<Control>, packet: &Packet, reason: Reason) {
    count(&maps::DROPS, reason as u32, length(context));
    if let Some(control) = control {
        event(context, control, packet, reason, false);
    }
    #[cfg(feature = "log")]
    aya_log_ebpf::debug!(
        context,
        "drop: reason {} protocol {}",
        reason as u8,
        packet.protocol
    );
}

#[inline(always)]
fn length(context: &XdpContext) -> u64 {
    (context.data_end() - context.data()) as u64
}

#[inline(always)]
fn count<const ENTRIES: usize>(counters: &PerCpuArray<Count, ENTRIES>, index: u32, bytes: u64) {
    if let Some(count) = counters.get_ptr_mut(index) {
        // SAFETY: the entry is this CPU's own, and XDP programs on one CPU don't interrupt each other.
        unsafe {
            (*count).packets += 1;
            (*count).bytes += bytes;
        }
    }
}

#[inline(always)]
fn event(context: &XdpContext, control: Control, packet: &Packet, reason: Reason, monitored: bool) {
    let Some(budget) = maps::EVENT_BUDGET.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    // SAFETY: the entry is this CPU's own, and XDP programs on one CPU don't interrupt each other.
    let budget = unsafe { &mut *budget };
    if !budget.take(now, control.events_per_second) {
        budget.lost += 1;
        return;
    }
    match maps::EVENTS.reserve_untyped::<DropEvent>(0) {
        Some(mut entry) => {
            let interface = context.ingress_ifindex() as u32;
            entry.write(DropEvent::new(
                packet,
                reason,
                monitored,
                now,
                interface,
                length(context) as u32,
            ));
            entry.submit(0);
        }
        None => budget.lost += 1,
    }
}
