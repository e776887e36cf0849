//! The filter's policy as it stands in the maps.
//!
//! A policy is one generation: a table of services and two tries of sources, in one of two slots. [`Control`] names the
//! slot in force, in the same 64-bit word as everything else that a packet's judgement depends on, so that a policy
//! changes between two packets and never within one.

use crate::packet::protocol;

/// The version of the maps' layout; a part of the path where they are pinned. Raise it with every change of a key, a value or a map.
pub const LAYOUT: u32 = 1;

/// Slots for generations.
pub const SLOTS: u32 = 2;

/// The word that the program reads first for each packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control {
    /// The slot whose policy is in force, 0 or 1.
    pub slot: u32,
    /// Count what would be dropped, and pass it.
    pub monitor: bool,
    /// Guard every inbound packet, not only the services.
    pub host: bool,
    /// Drop events that one CPU may report in a second.
    pub events_per_second: u16,
    /// Counts the policies since the maps were made, modulo 2^40.
    pub generation: u64,
}

impl Control {
    const CONFIGURED: u64 = 1;
    const SLOT: u64 = 1 << 1;
    const MONITOR: u64 = 1 << 2;
    const HOST: u64 = 1 << 3;
    const EVENTS_SHIFT: u32 = 8;
    const GENERATION_SHIFT: u32 = 24;

    /// The word for the map.
    #[must_use]
    pub const fn encode(self) -> u64 {
        let mut word = Self::CONFIGURED;
        if self.slot != 0 {
            word |= Self::SLOT;
        }
        if self.monitor {
            word |= Self::MONITOR;
        }
        if self.host {
            word |= Self::HOST;
        }
        word | (self.events_per_second as u64) << Self::EVENTS_SHIFT
            | self.generation << Self::GENERATION_SHIFT
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
            monitor: word & Self::MONITOR != 0,
            host: word & Self::HOST != 0,
            events_per_second: (word >> Self::EVENTS_SHIFT) as u16,
            generation: word >> Self::GENERATION_SHIFT,
        })
    }
}

/// What a source is allowed to reach. Services are numbered from [`scope::FIRST_SERVICE`] in each generation.
pub mod scope {
    /// Not guarded: the value of a port that no service names.
    pub const UNGUARDED: u32 = 0;
    /// Later fragments, whose ports are unknown: every source is in it.
    pub const FRAGMENT: u32 = 1;
    /// Everything but the services, when the whole host is guarded.
    pub const HOST: u32 = 2;
    /// The first service.
    pub const FIRST_SERVICE: u32 = 3;
}

/// Entries of the table of services: a port of TCP or UDP to its scope.
pub const SERVICE_SLOTS: u32 = 2 << 16;

/// Where a service stands in the table; none for protocols without ports.
/// Port 0 stands for the protocol's later fragments, and is guarded where any of its ports is.
#[inline(always)]
#[must_use]
pub const fn service_slot(protocol: u8, port: u16) -> Option<u32> {
    match protocol {
        protocol::TCP => Some(port as u32),
        protocol::UDP => Some(1 << 16 | port as u32),
        _ => None,
    }
}

/// Bits of a trie key before the address: the scope is matched whole.
pub const SCOPE_BITS: u32 = 32;

/// A key of the IPv4 trie: the scope, then the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Source4 {
    /// See [`scope`]; big-endian, as the trie compares bytes.
    pub scope: [u8; 4],
    /// The address in network order.
    pub address: [u8; 4],
}

/// A key of the IPv6 trie: the scope, then the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Source6 {
    /// See [`scope`]; big-endian, as the trie compares bytes.
    pub scope: [u8; 4],
    /// The address in network order.
    pub address: [u8; 16],
}

#[cfg(feature = "user")]
mod user {
    use super::{Source4, Source6};

    // SAFETY: `repr(C)`, bytes only, no padding, every bit pattern is a value.
    unsafe impl aya::Pod for Source4 {}
    // SAFETY: as for `Source4`.
    unsafe impl aya::Pod for Source6 {}
}

#[cfg(test)]
mod tests {
    use super::Control;

    #[test]
    fn the_control_word_round_trips_and_zero_means_unconfigured() {
        assert_eq!(Control::decode(0), None);
        for bits in 0..8_u32 {
            let control = Control {
                slot: bits & 1,
                monitor: bits & 2 != 0,
                host: bits & 4 != 0,
                events_per_second: u16::MAX,
                generation: (1 << 40) - 1,
            };
            assert_eq!(Control::decode(control.encode()), Some(control));
        }
    }
}
