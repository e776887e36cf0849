//! The XDP program: which packets of the host's interfaces reach its network stack.
#![no_std]
#![no_main]
#![allow(
    missing_docs,
    reason = "the xdp attribute moves the hook into a module of its own, without its docs"
)]

mod frame;
mod maps;
mod report;

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS},
    helpers::generated::bpf_ktime_get_boot_ns,
    macros::xdp,
    programs::XdpContext,
};
use spinegate_common::{
    Pass, Reason,
    packet::{self, Fragment, Network, Packet, protocol},
    policy::{Control, scope, service_slot},
};

use crate::frame::KernelFrame;

/// The hook. What can't be judged is dropped; nothing leaves by another way than these two.
#[xdp]
fn spinegate(context: XdpContext) -> u32 {
    let mut packet = Packet::default();
    let control = maps::control();
    let judged = match control {
        Some(control) => judge(&KernelFrame::new(&context), control, &mut packet),
        None => Err(Reason::FilterUnconfigured),
    };
    match (judged, control) {
        (Ok(pass), _) => {
            report::passed(&context, pass);
            XDP_PASS
        }
        (Err(reason), Some(control)) if control.monitor => {
            report::monitored(&context, control, &packet, reason);
            XDP_PASS
        }
        (Err(reason), control) => {
            report::dropped(&context, control, &packet, reason);
            XDP_DROP
        }
    }
}

/// The decision: the first step that applies decides.
#[inline(always)]
fn judge(frame: &KernelFrame, control: Control, packet: &mut Packet) -> Result<Pass, Reason> {
    packet::parse(frame, packet)?;
    let Some(scope) = guarding_scope(control, packet)? else {
        return Ok(Pass::Unguarded);
    };
    if control.host && is_control_traffic(packet) {
        return Ok(Pass::Control);
    }
    if has_deny_verdict(packet) {
        return Err(Reason::VerdictDeny);
    }
    if packet.fragment == Fragment::Later {
        return match maps::is_allowlisted(control.slot, scope::FRAGMENT, packet) {
            true => Ok(Pass::Fragment),
            false => Err(Reason::FragmentNotAllowlisted),
        };
    }
    match maps::is_allowlisted(control.slot, scope, packet) {
        true => Ok(Pass::Allowlisted),
        false => Err(Reason::SourceNotAllowlisted),
    }
}

/// The scope that guards the packet's destination; none if nothing does.
#[inline(always)]
fn guarding_scope(control: Control, packet: &Packet) -> Result<Option<u32>, Reason> {
    match packet.network {
        Network::Ipv4 | Network::Ipv6 => {}
        Network::Arp => return Ok(control.host.then_some(scope::HOST)),
        Network::Other | Network::Unknown if control.host => return Err(Reason::EthertypeUnknown),
        Network::Other | Network::Unknown => return Ok(None),
    }
    // A later fragment's first header may be an extension header (RFC 8200 section 4.5): TCP may stand behind it.
    let protocol = match packet.fragment {
        Fragment::Later if packet::is_extension(packet.protocol) => protocol::TCP,
        _ => packet.protocol,
    };
    let service = match service_slot(protocol, packet.destination_port) {
        Some(slot) => maps::service(control.slot, slot),
        None => scope::UNGUARDED,
    };
    match service {
        scope::UNGUARDED if control.host => Ok(Some(scope::HOST)),
        scope::UNGUARDED => Ok(None),
        service => Ok(Some(service)),
    }
}

/// What a host can't do without when all its inbound packets are guarded.
#[inline(always)]
fn is_control_traffic(packet: &Packet) -> bool {
    const LINK_LOCAL_HOP_LIMIT: u8 = 255;
    match (packet.network, packet.protocol) {
        (Network::Arp, _) => true,
        _ if packet.fragment == Fragment::Later => false,
        // Destination unreachable (with it, path MTU discovery), time exceeded, parameter problem: RFC 792.
        (Network::Ipv4, protocol::ICMP) => matches!(packet.icmp_type, 3 | 11 | 12),
        (Network::Ipv6, protocol::ICMPV6) => match packet.icmp_type {
            // Errors: RFC 4443 section 3.
            1..=4 => true,
            // Multicast listener discovery: RFC 3810 section 5.
            130..=132 | 143 => packet.hop_limit == 1,
            // Neighbour discovery never crosses a router: RFC 4861 section 7.1.
            133..=137 => packet.hop_limit == LINK_LOCAL_HOP_LIMIT,
            _ => false,
        },
        // A DHCP server's answers: RFC 2131 section 4.1, RFC 8415 section 7.2.
        (Network::Ipv4, protocol::UDP) => packet.source_port == 67 && packet.destination_port == 68,
        (Network::Ipv6, protocol::UDP) => packet.source_port == 547 && packet.destination_port == 546,
        _ => false,
    }
}

#[inline(always)]
fn has_deny_verdict(packet: &Packet) -> bool {
    match maps::verdict(&packet.source) {
        // SAFETY: the helper has no preconditions.
        Some(verdict) => verdict.denies(unsafe { bpf_ktime_get_boot_ns() }),
        None => false,
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
