//! What the filter counts.

/// Packets and bytes of one outcome, kept per CPU.
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
    /// Nothing guards its destination port (scope `services`).
    Unguarded = 0,
    /// Control traffic that the host's network needs: ARP, neighbour discovery, MLD, DHCP, ICMP errors (scope `host`).
    Control = 1,
    /// Its source is on the allowlist.
    Allowlisted = 2,
    /// A later fragment from a source on some allowlist.
    Fragment = 3,
    /// Monitor mode: it would have been dropped; the reason's would-drop counter says why.
    Monitored = 4,
}

impl Pass {
    /// Every outcome, in the order of the numbers.
    pub const ALL: [Self; 5] = [
        Self::Unguarded,
        Self::Control,
        Self::Allowlisted,
        Self::Fragment,
        Self::Monitored,
    ];
    /// The size of an array indexed by outcome.
    pub const SLOTS: u32 = 8;

    /// The outcome's code, as printed.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unguarded => "unguarded",
            Self::Control => "control",
            Self::Allowlisted => "allowlisted",
            Self::Fragment => "fragment",
            Self::Monitored => "monitored",
        }
    }
}

#[cfg(feature = "user")]
mod user {
    use super::Count;

    // SAFETY: `repr(C)`, two `u64`s, no padding, every bit pattern is a value.
    unsafe impl aya::Pod for Count {}
}
