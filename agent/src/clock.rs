//! The clock that nobody can set, and the one that says what time it is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

/// The time since boot, suspended time included: what `bpf_ktime_get_boot_ns` counts.
#[must_use]
pub fn boot_time() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map(Duration::from)
        .unwrap_or_default()
}

/// Whole seconds since 1970; 0 for a time before.
#[must_use]
pub fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
