//! What became of a packet, and how it is counted.

use crate::Reason;

/// Packets and bytes, kept per CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Count {
    /// Packets since the map was made.
    pub packets: u64,
    /// Their bytes, from the Ethernet header on.
    pub bytes: u64,
}

/// Why a packet passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Pass {
    /// Nothing guards its destination (scope `services`).
    Unguarded = 0,
    /// Control traffic that the host's network needs: ARP, neighbour discovery, MLD, DHCP, ICMP errors (scope `host`).
    Control = 1,
    /// Its source is on the allowlist.
    Allowlisted = 2,
    /// A later fragment from a source on some allowlist.
    Fragment = 3,
    /// One of the operator's failsafe entries, which nothing overrides.
    Failsafe = 4,
    /// An answer to this host from a source that may answer from that port (scope `host`).
    Reply = 5,
}

impl Pass {
    /// Every way to pass, in the order of the numbers.
    pub const ALL: [Self; 6] = [
        Self::Unguarded,
        Self::Control,
        Self::Allowlisted,
        Self::Fragment,
        Self::Failsafe,
        Self::Reply,
    ];

    /// The code, as printed.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unguarded => "unguarded",
            Self::Control => "control",
            Self::Allowlisted => "allowlisted",
            Self::Fragment => "fragment",
            Self::Failsafe => "failsafe",
            Self::Reply => "reply",
        }
    }

    /// What it means, in one sentence.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Unguarded => "Nothing guards its destination.",
            Self::Control => "It is control traffic that the host's network needs.",
            Self::Allowlisted => "Its source is on the allowlist of the service.",
            Self::Fragment => "It is a later fragment, and its source is on some allowlist.",
            Self::Failsafe => "A failsafe entry covers it.",
            Self::Reply => "It is an answer from a port that its source may answer from.",
        }
    }
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Dropped, for the reason.
    Dropped(Reason),
    /// Passed, as monitor mode has it, but it would have been dropped for the reason.
    WouldDrop(Reason),
    /// Passed.
    Passed(Pass),
}

/// Outcomes that one service can have; a multiple of what is in use.
pub const OUTCOMES: u32 = 128;
/// Reasons that the filter can give: their numbers are smaller than this.
const REASONS: u32 = 32;

impl Outcome {
    /// Its place among a service's counters.
    #[inline(always)]
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Dropped(reason) => reason as u32 & (REASONS - 1),
            Self::WouldDrop(reason) => REASONS + (reason as u32 & (REASONS - 1)),
            Self::Passed(pass) => 2 * REASONS + pass as u32,
        }
    }

    /// The outcome with this number, if there is one.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        let reason = |number: u32| Reason::from_number(u8::try_from(number).ok()?);
        match number {
            0..REASONS => reason(number).map(Self::Dropped),
            REASONS..64 => reason(number - REASONS).map(Self::WouldDrop),
            _ => Pass::ALL
                .get(usize::try_from(number).ok()?.checked_sub(64)?)
                .map(|pass| Self::Passed(*pass)),
        }
    }

    /// Whether the packet goes on to the network stack.
    #[inline(always)]
    #[must_use]
    pub const fn passes(self) -> bool {
        !matches!(self, Self::Dropped(_))
    }
}

#[cfg(feature = "user")]
mod user {
    use super::Count;

    // SAFETY: `repr(C)`, two `u64`s, no padding, every bit pattern is a value.
    unsafe impl aya::Pod for Count {}
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{OUTCOMES, Outcome, Pass, REASONS};
    use crate::{Layer, Reason};

    #[test]
    fn each_outcome_has_a_number_of_its_own() {
        let reasons = Reason::ALL
            .iter()
            .filter(|reason| reason.layer() == Layer::Filter);
        let mut outcomes: std::vec::Vec<_> = Pass::ALL.into_iter().map(Outcome::Passed).collect();
        for reason in reasons {
            assert!((*reason as u32) < REASONS, "{}", reason.as_str());
            outcomes.extend([Outcome::Dropped(*reason), Outcome::WouldDrop(*reason)]);
        }
        let numbers: BTreeSet<_> = outcomes.iter().map(|outcome| outcome.number()).collect();
        assert_eq!(numbers.len(), outcomes.len());
        for outcome in outcomes {
            assert!(outcome.number() < OUTCOMES);
            assert_eq!(Outcome::from_number(outcome.number()), Some(outcome));
        }
        assert_eq!(Outcome::from_number(0), None);
        assert_eq!(Outcome::from_number(OUTCOMES), None);
    }
}
