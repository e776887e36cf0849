//! Verdicts on sources, as they stand in the map.

use crate::Reason;

/// What a verdict says of its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum VerdictKind {
    /// Its packets to guarded services are dropped.
    Deny = 1,
}

/// Who reached a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum VerdictOrigin {
    /// The agent, from failures.
    Agent = 1,
    /// An operator. The agent never replaces it.
    Operator = 2,
}

/// A value of the verdict map. The key is the source as in [`crate::packet::Packet::source`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct VerdictValue {
    /// When it ends: nanoseconds of the boot-time clock, which counts suspended time and can't be set.
    pub expires: u64,
    kind: u8,
    reason: u8,
    origin: u8,
    padding: [u8; 5],
}

impl VerdictValue {
    /// A verdict that ends at `expires` (boot-time clock, ns).
    #[must_use]
    pub const fn new(kind: VerdictKind, reason: Reason, origin: VerdictOrigin, expires: u64) -> Self {
        Self {
            expires,
            kind: kind as u8,
            reason: reason as u8,
            origin: origin as u8,
            padding: [0; 5],
        }
    }

    /// Whether it denies at `now` (boot-time clock, ns).
    #[inline(always)]
    #[must_use]
    pub const fn denies(&self, now: u64) -> bool {
        self.kind == VerdictKind::Deny as u8 && now < self.expires
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
