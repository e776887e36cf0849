//! The filter's policy as it stands in the maps.
//!
//! A policy is one generation: a [`Head`], the [`crate::tree`] of IPv4 prefixes and a trie of IPv6 prefixes, in one of
//! two slots. [`Control`] names the slot in force, so that a policy changes between two packets and never within one.

use crate::{Budget, packet::protocol, tree::Page};

/// The version of the maps' layout; a part of the path where they are pinned. Raise it with every change of a key, a
/// value or a map.
pub const LAYOUT: u32 = 2;

/// Slots for generations.
pub const SLOTS: u32 = 2;

/// The word that the program reads first for each packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control {
    /// The slot whose policy is in force, 0 or 1.
    pub slot: u32,
    /// Whether there may be verdicts on single addresses. Without any, no packet pays for the look-up.
    pub verdicts: bool,
    /// Whether there may be verdicts on prefixes.
    pub prefix_verdicts: bool,
    /// Counts the policies since the maps were made, modulo 2^40.
    pub generation: u64,
}

impl Control {
    const CONFIGURED: u64 = 1;
    const SLOT: u64 = 1 << 1;
    const VERDICTS: u64 = 1 << 2;
    const PREFIX_VERDICTS: u64 = 1 << 3;
    const GENERATION_SHIFT: u32 = 24;

    /// The word for the map.
    #[must_use]
    pub const fn encode(self) -> u64 {
        let mut word = Self::CONFIGURED;
        if self.slot != 0 {
            word |= Self::SLOT;
        }
        if self.verdicts {
            word |= Self::VERDICTS;
        }
        if self.prefix_verdicts {
            word |= Self::PREFIX_VERDICTS;
        }
        word | self.generation << Self::GENERATION_SHIFT
    }

    /// What a word of the map says; none if no policy has been written.
    #[inline(always)]
    #[must_use]
    pub const fn decode(word: u64) -> Option<Self> {
        if word & Self::CONFIGURED == 0 {
            return None;
        }
        Some(Self {
            slot: (word & Self::SLOT != 0) as u32,
            verdicts: word & Self::VERDICTS != 0,
            prefix_verdicts: word & Self::PREFIX_VERDICTS != 0,
            generation: word >> Self::GENERATION_SHIFT,
        })
    }
}

/// Services by number. A number is a bit in a source's grant and a row of counters, so it stays the service's own from
/// one policy to the next.
pub mod service {
    /// Not guarded, or not told yet.
    pub const NONE: u32 = 0;
    /// Everything that no service covers, when the whole host is guarded.
    pub const HOST: u32 = 1;
    /// Later fragments, whose ports are unknown.
    pub const FRAGMENT: u32 = 2;
    /// The first of the configuration's services, and of the ports that sources may answer from.
    pub const FIRST: u32 = 3;
    /// Numbers end before this.
    pub const END: u32 = 64;
}

/// Failsafe entries that a policy can hold.
pub const FAILSAFES: usize = 32;
/// Ports whose service depends on the destination address.
pub const GROUPS: usize = 64;
/// Destination addresses in all groups together.
pub const DESTINATIONS: usize = 128;
/// Destination addresses of one group.
pub const GROUP_DESTINATIONS: usize = 8;

/// Everything of a policy that has a fixed size.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Head {
    /// Not 0: every inbound packet is guarded, not only those to the services.
    pub host: u64,
    /// The services that are in monitor mode, a bit each; bit 0 stands for what is judged before a service is known.
    pub monitor: u64,
    /// The services of TCP, then of UDP: one of them must be granted to a source whose later fragments are to pass.
    pub fragments: [u64; 2],
    /// Drop events that a CPU may report.
    pub events: Budget,
    /// Control traffic that a CPU lets through.
    pub control: Budget,
    /// TCP SYNs of a source that has not authenticated yet.
    pub untrusted: Budget,
    /// TCP SYNs of a trusted source.
    pub trusted: Budget,
    /// How many of the failsafe entries are in use.
    pub failsafes: u64,
    /// What passes whatever else is said of it.
    pub failsafe: [Failsafe; FAILSAFES],
    /// Ports whose service depends on the destination address.
    pub groups: [Group; GROUPS],
    /// Their destination addresses.
    pub destinations: [Destination; DESTINATIONS],
    /// By [`port_index`] of the destination port: a service, or [`service::END`] and the number of a group.
    pub ports: [u8; PORTS],
    /// By [`port_index`] of the source port: the number that grants an answer from it.
    pub replies: [u8; PORTS],
    /// Where the [`crate::tree`] begins: a leaf for each value of an address' upper half.
    pub root: [u32; ROOT],
    /// Its first pages. In most policies there are no more, and no packet looks for them elsewhere.
    pub pages: [Page; HEAD_PAGES],
}

/// A head as the maps have it: see [`Page`] for why.
pub type HeadWords = [u64; size_of::<Head>() / 8];

/// Entries of a table by protocol and port.
pub const PORTS: usize = 2 << 16;
/// Entries of the tree's root.
pub const ROOT: usize = 1 << 16;
/// Pages of a policy that are in its head: 1 MiB, as much as 10 000 networks all over the address space take.
pub const HEAD_PAGES: usize = 256;

/// Where a port stands in a table of [`PORTS`] entries; none for protocols without ports.
#[inline(always)]
#[must_use]
pub const fn port_index(protocol: u8, port: u16) -> Option<usize> {
    match protocol {
        protocol::TCP => Some(port as usize),
        protocol::UDP => Some(1 << 16 | port as usize),
        _ => None,
    }
}

/// A source prefix and a destination that always pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Failsafe {
    /// The halves of the prefix' address, host bits zero.
    pub network: [u64; 2],
    /// Ones where the prefix is fixed.
    pub mask: [u64; 2],
    /// The protocol's number; 0: any.
    pub protocol: u8,
    /// Must be zero.
    pub padding: [u8; 5],
    /// The destination port; 0: any.
    pub port: u16,
}

impl Failsafe {
    /// An entry that is not in use.
    pub const NOTHING: Self = Self {
        network: [0; 2],
        mask: [0; 2],
        protocol: 0,
        padding: [0; 5],
        port: 0,
    };
}

/// The destinations of one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Group {
    /// The first of them.
    pub first: u8,
    /// How many.
    pub length: u8,
    /// The service of every other destination; [`service::NONE`] if it is not guarded.
    pub otherwise: u8,
    /// Must be zero.
    pub padding: u8,
}

impl Group {
    /// A group that is not in use.
    pub const NOTHING: Self = Self {
        first: 0,
        length: 0,
        otherwise: 0,
        padding: 0,
    };
}

/// A destination of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Destination {
    /// The halves of the address.
    pub address: [u64; 2],
    /// The service at it.
    pub service: u64,
}

impl Destination {
    /// A destination that is not in use.
    pub const NOTHING: Self = Self {
        address: [0; 2],
        service: 0,
    };
}

#[cfg(feature = "user")]
mod user {
    // SAFETY: `repr(C)`, integers only, the padding is a field, every bit pattern is a value.
    unsafe impl aya::Pod for super::Head {}
    // SAFETY: as above, so zeros are a value: a policy that guards nothing and allows nothing.
    unsafe impl bytemuck::Zeroable for super::Head {}
}

#[cfg(test)]
mod tests {
    use super::{Control, Destination, Failsafe, Group, Head};

    #[test]
    fn the_control_word_round_trips_and_zero_means_unconfigured() {
        assert_eq!(Control::decode(0), None);
        for bits in 0..8_u32 {
            let control = Control {
                slot: bits & 1,
                verdicts: bits & 2 != 0,
                prefix_verdicts: bits & 4 != 0,
                generation: (1 << 40) - 1,
            };
            assert_eq!(Control::decode(control.encode()), Some(control));
        }
    }

    #[test]
    fn the_layouts_have_no_hidden_padding() {
        assert_eq!(size_of::<Failsafe>(), 40);
        assert_eq!(size_of::<Group>(), 4);
        assert_eq!(size_of::<Destination>(), 24);
        let parts =
            4 * 8 + 4 * 16 + 8 + 32 * 40 + 64 * 4 + 128 * 24 + 2 * (2 << 16) + 4 * (1 << 16) + (1 << 20);
        assert_eq!(size_of::<Head>(), parts);
    }
}
