//! The XDP program: which packets of the host's interfaces reach its network stack.
#![no_std]
#![no_main]
// Atomic additions: the compiler's own atomics leave BPF out.
#![feature(asm_experimental_arch)]
#![allow(
    missing_docs,
    reason = "the xdp attribute moves the hook into a module of its own, without its docs"
)]

mod footing;
mod frame;
mod maps;
mod report;
mod world;

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS},
    macros::xdp,
    programs::XdpContext,
};
use spinegate_common::{
    Judgement, judge,
    policy::{Control, Head},
};

use crate::{frame::KernelFrame, world::KernelWorld};

/// The hook. What can't be judged is dropped; nothing leaves by another way than these two. The decision itself, step
/// by step, is `decide` in `common/src/decision.rs`.
#[xdp(frags)]
fn spinegate(context: XdpContext) -> u32 {
    let frame = KernelFrame::new(&context);
    let Some((control_budget, reports, packet)) = maps::cpu() else {
        return XDP_DROP;
    };
    let Some((control, head)) = policy() else {
        report::count(&frame, &Judgement::UNCONFIGURED, packet);
        return XDP_DROP;
    };
    let world = KernelWorld::<true>::new(control_budget);
    let judgement = judge(&frame, &world, control, head, packet);
    report::count(&frame, &judgement, packet);
    if !judgement.outcome.passes() || judgement.is_monitored() {
        report::event(&context, &frame, &judgement, packet, reports, head);
    }
    action(&judgement)
}

/// The same decision without a trace: nothing is counted, reported or used up. It is attached to nothing; the agent runs
/// it on packets that an operator asks about.
#[xdp(frags)]
fn spinegate_explain(context: XdpContext) -> u32 {
    let frame = KernelFrame::new(&context);
    let Some((control_budget, _, packet)) = maps::cpu() else {
        return XDP_DROP;
    };
    let Some((control, head)) = policy() else {
        report::explain(&Judgement::UNCONFIGURED);
        return XDP_DROP;
    };
    let world = KernelWorld::<false>::new(control_budget);
    let judgement = judge(&frame, &world, control, head, packet);
    report::explain(&judgement);
    action(&judgement)
}

/// The policy in force.
#[inline(always)]
fn policy() -> Option<(Control, &'static Head)> {
    let control = Control::decode(*maps::CONTROL.get(0)?)?;
    let head = maps::head(control.slot)?;
    Some((control, head))
}

#[inline(always)]
const fn action(judgement: &Judgement) -> u32 {
    if judgement.outcome.passes() {
        XDP_PASS
    } else {
        XDP_DROP
    }
}
