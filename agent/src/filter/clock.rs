//! The clock that verdicts and temporary sources end by.

use std::time::SystemTime;

use super::policy::compile::Now;
use crate::clock;

/// Both clocks.
pub(super) fn now() -> Now {
    Now {
        wall: SystemTime::now(),
        boot: boot_time(),
    }
}

/// The time since boot in nanoseconds, as maps have it.
pub(super) fn boot_time() -> u64 {
    u64::try_from(clock::boot_time().as_nanos()).unwrap_or(u64::MAX)
}
