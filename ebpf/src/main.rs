//! The XDP program: which packets of the host's interfaces reach its network stack.
#![no_std]
#![no_main]
// Atomic additions: the compiler's own atomics leave BPF out.
#![feature(asm_experimental_arch)]
#![allow(
    missing_docs,
    reason = "the xdp attribute moves the hook into a module of its own, without its docs"
)]

mod frame;
mod maps;
mod report;
mod world;

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS},
    macros::xdp,
    programs::XdpContext,
};
use spinegate_common::{Judgement, World as _, judge, packet::Packet, policy::Head};

use crate::{
    frame::KernelFrame,
    world::{KernelWorld, control},
};

/// The hook. What can't be judged is dropped; nothing leaves by another way than these two. The decision itself, step
/// by step, is `decide` in `common/src/decision.rs`.
#[xdp(frags)]
fn spinegate(context: XdpContext) -> u32 {
    let frame = KernelFrame::new(&context);
    let Some(packet) = maps::packet() else {
        return XDP_DROP;
    };
    let (judgement, head) = decide::<true>(&frame, packet);
    report::count(&frame, &judgement, packet);
    if !judgement.outcome.passes() || judgement.is_monitored() {
        report::event(&context, &frame, &judgement, packet, head);
    }
    action(&judgement)
}

/// The same decision without a trace: nothing is counted, reported or used up. It is attached to nothing; the agent runs
/// it on packets that an operator asks about.
#[xdp(frags)]
fn spinegate_explain(context: XdpContext) -> u32 {
    let Some(packet) = maps::packet() else {
        return XDP_DROP;
    };
    let (judgement, _) = decide::<false>(&KernelFrame::new(&context), packet);
    report::explain(&judgement);
    action(&judgement)
}

#[inline(always)]
fn decide<const REAL: bool>(frame: &KernelFrame, packet: &mut Packet) -> (Judgement, Option<&'static Head>) {
    let world = &KernelWorld::<REAL>;
    let Some(control) = control() else {
        return (Judgement::UNCONFIGURED, None);
    };
    let Some(head) = world.head(control.slot) else {
        return (Judgement::UNCONFIGURED, None);
    };
    (judge(frame, world, control, head, packet), Some(head))
}

#[inline(always)]
const fn action(judgement: &Judgement) -> u32 {
    if judgement.outcome.passes() {
        XDP_PASS
    } else {
        XDP_DROP
    }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // The verifier refuses a program in which this can be reached.
    loop {}
}

// The kernel reads the licence here, before it lets a program call GPL-only helpers.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
