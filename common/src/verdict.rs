//! Verdicts on sources, as they stand in the maps.

use crate::Reason;

/// What a verdict says of its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum VerdictKind {
    /// Its packets to guarded services are dropped.
    Deny = 1,
    /// It has authenticated, or an operator vouches for it: its handshakes have a generous budget.
    Trust = 2,
}

impl VerdictKind {
    /// The kind with this number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Deny),
            2 => Some(Self::Trust),
            _ => None,
        }
    }
}

/// Who reached a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum VerdictOrigin {
    /// The agent, from what a source did.
    Agent = 1,
    /// An operator. The agent never replaces it.
    Operator = 2,
}

impl VerdictOrigin {
    /// The origin with this number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Agent),
            2 => Some(Self::Operator),
            _ => None,
        }
    }
}

/// A value of the verdict maps. The key is the source as in [`crate::packet::Packet::source`], or a prefix of it.
///
/// All times are nanoseconds of the boot-time clock, which counts suspended time and can't be set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct VerdictValue {
    /// Until when packets are dropped, by this verdict or by one on a prefix that covers it.
    pub deny_until: u64,
    /// Until when the source is trusted, by this verdict or by one on a prefix that covers it.
    pub trust_until: u64,
    /// When this verdict itself ends.
    pub expires: u64,
    /// Packets that it decided on; the kernel half counts them.
    pub hits: u64,
    /// The state of the handshake budget of a trusted source; the kernel half's.
    pub handshakes: u64,
    kind: u8,
    reason: u8,
    origin: u8,
    padding: [u8; 5],
}

impl VerdictValue {
    /// A verdict that ends at `expires`.
    #[must_use]
    pub const fn new(kind: VerdictKind, reason: Reason, origin: VerdictOrigin, expires: u64) -> Self {
        let (deny_until, trust_until) = match kind {
            VerdictKind::Deny => (expires, 0),
            VerdictKind::Trust => (0, expires),
        };
        Self {
            deny_until,
            trust_until,
            expires,
            hits: 0,
            handshakes: 0,
            kind: kind as u8,
            reason: reason as u8,
            origin: origin as u8,
            padding: [0; 5],
        }
    }

    /// What it says; none if the value is not a verdict.
    #[must_use]
    pub const fn kind(&self) -> Option<VerdictKind> {
        VerdictKind::from_number(self.kind)
    }

    /// Whether it has not ended at `now`.
    #[must_use]
    pub const fn is_in_force(&self, now: u64) -> bool {
        now < self.expires
    }

    /// The reason that tipped the scales.
    #[must_use]
    pub const fn reason(&self) -> Option<Reason> {
        Reason::from_number(self.reason)
    }

    /// Whether an operator ordered it.
    #[must_use]
    pub const fn is_order(&self) -> bool {
        self.origin == VerdictOrigin::Operator as u8
    }
}

#[cfg(feature = "user")]
mod user {
    // SAFETY: `repr(C)`, integers only, the padding is a field, every bit pattern is a value.
    unsafe impl aya::Pod for super::VerdictValue {}
}
