//! Drop events, sampled by the filter.

use crate::{Reason, packet::Packet};

/// One dropped packet, or one that monitor mode would have dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct DropEvent {
    /// When: nanoseconds of the boot-time clock.
    pub time: u64,
    /// The interface's index.
    pub interface: u32,
    /// The frame's length in bytes.
    pub length: u32,
    /// As in [`Packet::source`].
    pub source: [u8; 16],
    /// As in [`Packet::destination`].
    pub destination: [u8; 16],
    /// TCP's or UDP's, 0 where there is none.
    pub source_port: u16,
    /// TCP's or UDP's, 0 where there is none.
    pub destination_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// TCP's flags.
    pub tcp_flags: u8,
    reason: u8,
    monitored: u8,
}

impl DropEvent {
    /// The event of a packet.
    #[inline(always)]
    #[must_use]
    pub const fn new(
        packet: &Packet,
        reason: Reason,
        monitored: bool,
        time: u64,
        interface: u32,
        length: u32,
    ) -> Self {
        Self {
            time,
            interface,
            length,
            source: packet.source,
            destination: packet.destination,
            source_port: packet.source_port,
            destination_port: packet.destination_port,
            protocol: packet.protocol,
            tcp_flags: packet.tcp_flags,
            reason: reason as u8,
            monitored: monitored as u8,
        }
    }

    /// Why it was dropped.
    #[must_use]
    pub const fn reason(&self) -> Option<Reason> {
        Reason::from_number(self.reason)
    }

    /// Whether monitor mode let it pass.
    #[must_use]
    pub const fn monitored(&self) -> bool {
        self.monitored != 0
    }

    /// The event in the ring buffer's bytes; none if they are not one.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| -> Option<[u8; 4]> { bytes.get(at..at + 4)?.try_into().ok() };
        let half =
            |at: usize| -> Option<u16> { Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?)) };
        Some(Self {
            time: u64::from_ne_bytes(bytes.get(..8)?.try_into().ok()?),
            interface: u32::from_ne_bytes(word(8)?),
            length: u32::from_ne_bytes(word(12)?),
            source: bytes.get(16..32)?.try_into().ok()?,
            destination: bytes.get(32..48)?.try_into().ok()?,
            source_port: half(48)?,
            destination_port: half(50)?,
            protocol: *bytes.get(52)?,
            tcp_flags: *bytes.get(53)?,
            reason: *bytes.get(54)?,
            monitored: *bytes.get(55)?,
        })
    }
}

/// What a CPU may still report in this second, and what it could not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct EventBudget {
    /// When the second began: nanoseconds of the boot-time clock.
    pub window: u64,
    /// Events reported in it.
    pub used: u64,
    /// Events that were not reported, since the map was made: over the budget, or the ring buffer was full.
    pub lost: u64,
}

impl EventBudget {
    /// Takes one event of the second in which `now` (ns) lies; false if none is left.
    #[inline(always)]
    pub fn take(&mut self, now: u64, per_second: u16) -> bool {
        if now.wrapping_sub(self.window) >= 1_000_000_000 {
            self.window = now;
            self.used = 0;
        }
        if self.used >= per_second as u64 {
            return false;
        }
        self.used += 1;
        true
    }
}

#[cfg(feature = "user")]
mod user {
    // SAFETY: `repr(C)`, three `u64`s, no padding, every bit pattern is a value.
    unsafe impl aya::Pod for super::EventBudget {}
}

#[cfg(test)]
mod tests {
    use super::{DropEvent, EventBudget};
    use crate::{Reason, packet::Packet};

    #[test]
    fn a_budget_ends_and_begins_again_with_the_next_second() {
        let mut budget = EventBudget::default();
        assert!(budget.take(5_000_000_000, 2));
        assert!(budget.take(5_000_000_001, 2));
        assert!(!budget.take(5_999_999_999, 2));
        assert!(budget.take(6_000_000_000, 2));
        assert!(!budget.take(9_000_000_000, 0));
    }

    #[test]
    fn bytes_that_are_too_short_are_no_event() {
        assert_eq!(size_of::<DropEvent>(), 56);
        assert_eq!(DropEvent::from_bytes(&[0; 55]), None);
        let event = DropEvent::from_bytes(&[0; 56]);
        assert_eq!(event.and_then(|event| event.reason()), None);
        let made = DropEvent::new(&Packet::default(), Reason::VerdictDeny, true, 1, 2, 3);
        assert_eq!(made.reason(), Some(Reason::VerdictDeny));
        assert!(made.monitored());
    }
}
