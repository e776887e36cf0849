//! The decision on a packet, as a list of steps of which the first that applies decides.
//!
//! Steps that few packets take are functions of their own in the kernel too: what the verifier has to follow in their
//! loops ends where they return.
//!
//! The kernel half runs it over its maps, tests and `spinegate` run it over a [`World`] in memory: the very same code.

use crate::{
    Budget, Count, Outcome, Pass, Reason,
    count::OUTCOMES,
    packet::{self, Address, Fragment, Frame, Network, Packet, protocol},
    policy::{Control, GROUP_DESTINATIONS, Head, port_index, service},
    tree::{self, Page},
};

/// Everything that a decision depends on besides the packet.
pub trait World {
    /// Names a verdict that was found.
    type Verdict: Copy;

    /// A page of the policy, of those in its head.
    fn head_page<'head>(&self, head: &'head Head, page: u32) -> Option<&'head Page>;
    /// A page of the policy, of those behind the ones in its head.
    fn page(&self, slot: u32, page: u32) -> Option<&Page>;
    /// The leaf of an IPv6 address.
    fn leaf6(&self, slot: u32, address: &Address) -> u32;
    /// The verdict on an address.
    fn verdict(&self, source: &Address) -> Option<Standing<Self::Verdict>>;
    /// The verdict on the longest prefix of an address that has one.
    fn prefix_verdict(&self, source: &Address) -> Option<Standing<Self::Verdict>>;
    /// Counts a packet that a verdict decided on.
    fn hit(&self, verdict: Self::Verdict);
    /// Takes a handshake out of a trusted source's budget; false if it is used up.
    fn spend_trusted(&self, verdict: Self::Verdict, budget: &Budget) -> bool;
    /// Takes a handshake out of the budget of a source that is not trusted; false if it is used up.
    fn spend_untrusted(&self, source: &Address, budget: &Budget) -> bool;
    /// Takes a packet out of the budget for control traffic; false if it is used up.
    fn spend_control(&self, budget: &Budget) -> bool;
    /// Nanoseconds since boot, suspended time included.
    fn boot_time(&self) -> u64;
}

/// What the verdicts on an address or a prefix say, with all that covers a prefix already taken into account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing<V> {
    /// Until when its packets are dropped (boot time, ns); 0: not at all.
    pub deny_until: u64,
    /// Until when it is trusted; 0: not at all.
    pub trust_until: u64,
    /// The verdict itself.
    pub verdict: V,
}

/// What became of a packet, and whose counters it goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// What became of it.
    pub outcome: Outcome,
    /// The service that guards its destination, or one of the other numbers of [`service`].
    pub service: u32,
    /// The counter of the allowlist's entry that let it pass; 0: none.
    pub entry: u32,
}

impl Judgement {
    /// What there is to say before there is a policy.
    pub const UNCONFIGURED: Self = Self {
        outcome: Outcome::Dropped(Reason::FilterUnconfigured),
        service: service::NONE,
        entry: 0,
    };

    /// Whether only monitor mode let it pass.
    #[inline(always)]
    #[must_use]
    pub const fn is_monitored(&self) -> bool {
        matches!(self.outcome, Outcome::WouldDrop(_))
    }

    /// Its place among the counters.
    #[inline(always)]
    #[must_use]
    pub const fn tally(&self) -> u32 {
        (self.service & (service::END - 1)) * OUTCOMES + self.outcome.number()
    }
}

/// Counters of all services and outcomes.
pub const TALLIES: u32 = service::END * OUTCOMES;
const _: () = assert!(size_of::<Count>() == 16);

/// Judges a frame.
#[inline(always)]
pub fn judge<F: Frame, W: World>(
    frame: &F,
    world: &W,
    control: Control,
    head: &Head,
    packet: &mut Packet,
) -> Judgement {
    let mut judgement = Judgement::UNCONFIGURED;
    let decided = decide(
        frame,
        world,
        control,
        head,
        packet,
        &mut judgement.service,
        &mut judgement.entry,
    );
    judgement.outcome = match decided {
        Ok(pass) => Outcome::Passed(pass),
        Err(reason) if head.monitor >> judgement.service & 1 != 0 => Outcome::WouldDrop(reason),
        Err(reason) => Outcome::Dropped(reason),
    };
    judgement
}

#[inline(always)]
fn decide<F: Frame, W: World>(
    frame: &F,
    world: &W,
    control: Control,
    head: &Head,
    packet: &mut Packet,
    service: &mut u32,
    entry: &mut u32,
) -> Result<Pass, Reason> {
    packet::parse(frame, packet)?;
    if head.host != 0 && is_control_traffic(packet) {
        return match world.spend_control(&head.control) {
            true => Ok(Pass::Control),
            false => Err(Reason::ControlRate),
        };
    }
    if head.failsafes != 0 && is_failsafe(head, packet) {
        return Ok(Pass::Failsafe);
    }
    let needed = guarding(head, packet, service)?;
    if needed == 0 {
        return Ok(Pass::Unguarded);
    }

    let trusted = match standing(world, control, packet) {
        Stands::Denied => return Err(Reason::VerdictDeny),
        Stands::Trusted(verdict) => Some(verdict),
        Stands::Unknown => None,
    };

    let leaf = match packet.network {
        Network::Ipv4 => tree::find(world, control.slot, head, packet.source.number4()),
        _ => world.leaf6(control.slot, &packet.source),
    };
    let later = packet.fragment == Fragment::Later;
    match tree::granted(world, control.slot, head, leaf, needed) {
        Some(counter) => *entry = counter,
        None if later => return Err(Reason::FragmentNotAllowlisted),
        None => {
            let answer = answered(head, packet, *service);
            if answer == 0 {
                return Err(Reason::SourceNotAllowlisted);
            }
            let counter = tree::granted(world, control.slot, head, leaf, answer);
            *entry = counter.ok_or(Reason::SourceNotAllowlisted)?;
            return Ok(Pass::Reply);
        }
    }
    if later {
        return Ok(Pass::Fragment);
    }

    if packet.opens_connection() {
        let within = match trusted {
            Some(verdict) => world.spend_trusted(verdict, &head.trusted),
            None => world.spend_untrusted(&packet.source, &head.untrusted),
        };
        if !within {
            return Err(Reason::HandshakeBudget);
        }
    }
    Ok(Pass::Allowlisted)
}

/// The services one of which a source must be granted, a bit each; none if nothing guards the packet's destination.
#[inline(always)]
fn guarding(head: &Head, packet: &Packet, service: &mut u32) -> Result<u64, Reason> {
    let host = if head.host != 0 {
        service::HOST
    } else {
        service::NONE
    };
    match packet.network {
        Network::Ipv4 | Network::Ipv6 => {}
        Network::Arp => {
            *service = host;
            return Ok(u64::from(head.host != 0) << service::HOST);
        }
        Network::Other | Network::Unknown if head.host != 0 => {
            *service = host;
            return Err(Reason::EthertypeUnknown);
        }
        Network::Other | Network::Unknown => return Ok(0),
    }
    if packet.fragment == Fragment::Later {
        return Ok(guarding_fragments(head, packet, service));
    }
    let mut found = match port_index(packet.protocol, packet.destination_port) {
        Some(index) => u32::from(head.ports.get(index).copied().unwrap_or_default()),
        None => service::NONE,
    };
    if found >= service::END {
        found = at_destination(head, found - service::END, packet);
    }
    if found == service::NONE {
        found = host;
    }
    *service = found;
    Ok(if found == service::NONE {
        0
    } else {
        1 << (found & 63)
    })
}

#[inline(always)]
fn guarding_fragments(head: &Head, packet: &Packet, service: &mut u32) -> u64 {
    let [tcp, udp] = head.fragments;
    let mut needed = match packet.protocol {
        protocol::TCP => tcp,
        protocol::UDP => udp,
        // A later fragment's first header may be an extension header (RFC 8200 section 4.5): anything may stand behind.
        next if packet::is_extension(next) => tcp | udp,
        _ => 0,
    };
    if needed != 0 {
        *service = service::FRAGMENT;
    } else if head.host != 0 {
        *service = service::HOST;
    }
    if head.host != 0 {
        needed |= 1 << service::HOST;
    }
    needed
}

/// The service of a port that several share by their destination addresses.
#[inline(never)]
fn at_destination(head: &Head, group: u32, packet: &Packet) -> u32 {
    let Some(group) = head.groups.get(group as usize) else {
        return service::NONE;
    };
    let address = packet.destination.halves();
    for position in 0..GROUP_DESTINATIONS {
        if position >= usize::from(group.length) {
            break;
        }
        if let Some(destination) = head.destinations.get(usize::from(group.first) + position)
            && destination.address == address
        {
            return destination.service as u32 & (service::END - 1);
        }
    }
    u32::from(group.otherwise) & (service::END - 1)
}

/// Whether a failsafe entry covers the packet. A later fragment has no ports, so its source alone decides.
#[inline(never)]
fn is_failsafe(head: &Head, packet: &Packet) -> bool {
    const ONES: u64 = u32::MAX as u64;
    const MAPPED: u64 = 0xffff;
    if !matches!(packet.network, Network::Ipv4 | Network::Ipv6) {
        return false;
    }
    let [upper, lower] = packet.source.halves();
    // IPv4's addresses lie in IPv6's space, but an entry is for its own family: one for IPv4 fixes 96 bits or more.
    let is_mapped = upper == 0 && lower >> 32 == MAPPED;
    let is_v4 = matches!(packet.network, Network::Ipv4);
    for (position, entry) in (0_u64..).zip(&head.failsafe) {
        if position >= head.failsafes {
            break;
        }
        let covers = upper & entry.mask[0] == entry.network[0] && lower & entry.mask[1] == entry.network[1];
        let reaches = packet.fragment == Fragment::Later
            || (entry.protocol == 0 || entry.protocol == packet.protocol)
                && (entry.port == 0 || entry.port == packet.destination_port);
        let is_for_family = !is_mapped || (entry.mask[1] >> 32 == ONES) == is_v4;
        if covers && reaches && is_for_family {
            return true;
        }
    }
    false
}

/// The grant that an answer from the packet's source port needs, as a bit; none if it can't be an answer.
#[inline(always)]
fn answered(head: &Head, packet: &Packet, service: u32) -> u64 {
    const FIRST_UNPRIVILEGED: u16 = 1024;
    if service != service::HOST || packet.destination_port < FIRST_UNPRIVILEGED || packet.opens_connection() {
        return 0;
    }
    match port_index(packet.protocol, packet.source_port).and_then(|index| head.replies.get(index)) {
        Some(number) if *number != 0 => 1 << (number & 63),
        _ => 0,
    }
}

enum Stands<V> {
    Unknown,
    Trusted(V),
    Denied,
}

/// What the verdicts say. Of several that cover a source, a denial wins: no trust opens what is denied.
#[inline(always)]
fn standing<W: World>(world: &W, control: Control, packet: &Packet) -> Stands<W::Verdict> {
    if !control.verdicts && !control.prefix_verdicts {
        return Stands::Unknown;
    }
    let mut stands = Stands::Unknown;
    if control.verdicts
        && let Some(found) = world.verdict(&packet.source)
    {
        let now = world.boot_time();
        if now < found.deny_until {
            world.hit(found.verdict);
            return Stands::Denied;
        }
        if now < found.trust_until {
            stands = Stands::Trusted(found.verdict);
        }
    }
    if control.prefix_verdicts
        && let Some(found) = world.prefix_verdict(&packet.source)
    {
        let now = world.boot_time();
        if now < found.deny_until {
            world.hit(found.verdict);
            return Stands::Denied;
        }
        if now < found.trust_until && matches!(stands, Stands::Unknown) {
            stands = Stands::Trusted(found.verdict);
        }
    }
    stands
}

/// What a host can't do without when all its inbound packets are guarded.
#[inline(never)]
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
