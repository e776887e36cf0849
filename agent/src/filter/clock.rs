//! The clock that verdicts and temporary sources end by.

use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};

use super::policy::compile::Now;

/// Both clocks.
pub(super) fn now() -> Now {
    Now {
        wall: SystemTime::now(),
        boot: boot_time(),
    }
}

/// Nanoseconds since boot, suspended time included: what `bpf_ktime_get_boot_ns` counts.
pub(super) fn boot_time() -> u64 {
    let since_boot = clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map(Duration::from)
        .unwrap_or_default();
    u64::try_from(since_boot.as_nanos()).unwrap_or(u64::MAX)
}
