//! Drop events, sampled by the filter, each with the beginning of its frame.

use crate::{
    Judgement, Outcome, Reason,
    packet::{self, Frame, Packet},
};

/// Bytes of a frame that an event holds at the most.
pub const SNAPSHOT: usize = 128;

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
    /// How many of them are in [`Self::frame`].
    pub captured: u16,
    reason: u8,
    monitored: u8,
    /// The service, by number.
    pub service: u32,
    /// The frame's first bytes, then zeros.
    pub frame: [u8; SNAPSHOT],
}

/// The size of an event in the ring buffer.
pub const EVENT_BYTES: usize = size_of::<DropEvent>();
const HEADER: usize = EVENT_BYTES - SNAPSHOT;

impl DropEvent {
    /// An event without its frame; none if the packet was not one to drop.
    #[inline(always)]
    #[must_use]
    pub const fn new(judgement: &Judgement, time: u64, interface: u32, length: u32) -> Option<Self> {
        let (reason, monitored) = match judgement.outcome {
            Outcome::Dropped(reason) => (reason, 0),
            Outcome::WouldDrop(reason) => (reason, 1),
            Outcome::Passed(_) => return None,
        };
        Some(Self {
            time,
            interface,
            length,
            captured: 0,
            reason: reason as u8,
            monitored,
            service: judgement.service,
            frame: [0; SNAPSHOT],
        })
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

    /// The captured bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        let captured = usize::from(self.captured).min(self.length as usize);
        self.frame.get(..captured).unwrap_or(&self.frame)
    }

    /// The frame's headers, as far as they were captured.
    #[must_use]
    pub fn packet(&self) -> Packet {
        let mut packet = Packet::default();
        let frame = Captured {
            bytes: self.bytes(),
            length: self.length as usize,
        };
        // What the parser stumbled over is the event's reason, and what came before it is filled in.
        let _ = packet::parse(&frame, &mut packet);
        packet
    }

    /// The event in the ring buffer's bytes; none if they are not one.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let word =
            |at: usize| -> Option<u32> { Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?)) };
        Some(Self {
            time: u64::from_ne_bytes(bytes.get(..8)?.try_into().ok()?),
            interface: word(8)?,
            length: word(12)?,
            captured: u16::from_ne_bytes(bytes.get(16..18)?.try_into().ok()?),
            reason: *bytes.get(18)?,
            monitored: *bytes.get(19)?,
            service: word(20)?,
            frame: bytes.get(HEADER..EVENT_BYTES)?.try_into().ok()?,
        })
    }
}

/// The beginning of a frame that was longer.
#[derive(Clone, Copy, Debug)]
pub struct Captured<'frame> {
    /// The bytes that were captured.
    pub bytes: &'frame [u8],
    /// The frame's own length.
    pub length: usize,
}

impl Frame for Captured<'_> {
    fn reaches(&self, end: usize) -> bool {
        end <= self.length
    }

    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.bytes.read(offset)
    }
}

/// What belongs to one CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Cpu {
    /// What it has left to report, and what it could not report.
    pub reports: Reports,
    /// The state of its budget for control traffic.
    pub control: u64,
    /// The packet that it is judging.
    pub packet: Packet,
}

/// A [`Cpu`] as the agent reads it.
pub type CpuWords = [u64; size_of::<Cpu>() / 8];

impl Reports {
    /// What a CPU says of its reports.
    #[must_use]
    pub const fn of(cpu: &CpuWords) -> Self {
        let [budget, tick, lost, ..] = *cpu;
        Self { budget, tick, lost }
    }
}

/// What a CPU has left to report, and what it could not report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Reports {
    /// The state of the budget for events.
    pub budget: u64,
    /// The kernel's tick in which the budget was used up. Until it ends no clock is asked.
    pub tick: u64,
    /// Events that were not reported, since the map was made: over the budget, or the ring buffer was full.
    pub lost: u64,
}

#[cfg(test)]
mod tests {
    use super::{DropEvent, EVENT_BYTES, HEADER};
    use crate::{Judgement, Outcome, Pass, Reason, packet::Address};

    fn judged(outcome: Outcome) -> Judgement {
        Judgement {
            outcome,
            service: 3,
            entry: 0,
        }
    }

    #[test]
    fn bytes_that_are_too_short_are_no_event() {
        assert_eq!((HEADER, EVENT_BYTES), (24, 152));
        assert_eq!(DropEvent::from_bytes(&[0; EVENT_BYTES - 1]), None);
        let event = DropEvent::from_bytes(&[0; EVENT_BYTES]);
        assert_eq!(event.and_then(|event| event.reason()), None);
    }

    #[test]
    fn a_captured_beginning_shows_the_headers_of_a_longer_frame() {
        let mut event = DropEvent::new(&judged(Outcome::WouldDrop(Reason::VerdictDeny)), 1, 2, 1514).unwrap();
        assert!(event.monitored());
        assert_eq!(event.reason(), Some(Reason::VerdictDeny));
        event.frame[12] = 8;
        event.frame[14..18].copy_from_slice(&[0x45, 0, 0x05, 0xdc]);
        event.frame[23] = 6;
        event.frame[26..30].copy_from_slice(&[192, 0, 2, 7]);
        event.frame[36..38].copy_from_slice(&443_u16.to_be_bytes());
        event.frame[46] = 0x50;
        event.captured = 128;
        let packet = event.packet();
        assert_eq!(packet.source, Address::v4([192, 0, 2, 7]));
        assert_eq!(packet.destination_port, 443);
        event.captured = 30;
        assert_eq!(
            event.packet().source,
            Address::default(),
            "the IP header was not captured whole"
        );
    }

    #[test]
    fn what_passed_is_no_event() {
        assert_eq!(
            DropEvent::new(&judged(Outcome::Passed(Pass::Unguarded)), 1, 2, 60),
            None
        );
    }
}
