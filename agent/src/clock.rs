//! The clock that nobody can set.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// The time since boot, suspended time included: what `bpf_ktime_get_boot_ns` counts.
#[must_use]
pub fn boot_time() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map(Duration::from)
        .unwrap_or_default()
}
