//! Keeps a flood of refused connections from becoming a flood of audit lines: so many a second are written, the others are
//! counted and told with the next line.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use spinegate_common::Reason;

/// Lines a second of each reason.
const LINES: u32 = 20;
const WINDOW: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Burst(Mutex<HashMap<Reason, Window>>);

#[derive(Debug)]
struct Window {
    begun: Instant,
    written: u32,
    skipped: u64,
}

impl Burst {
    /// Whether to write a line, and then how many were not written since the last one.
    pub(super) fn line(&self, reason: Reason, now: Instant) -> Option<u64> {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let window = windows.entry(reason).or_insert(Window {
            begun: now,
            written: 0,
            skipped: 0,
        });
        if now.saturating_duration_since(window.begun) >= WINDOW {
            window.begun = now;
            window.written = 0;
        }
        if window.written >= LINES {
            window.skipped += 1;
            return None;
        }
        window.written += 1;
        Some(std::mem::take(&mut window.skipped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_written_is_told_with_the_next_line() {
        let (burst, now) = (Burst::default(), Instant::now());
        let lines = (0..100).filter(|_| burst.line(Reason::ConnectionLimit, now).is_some());
        assert_eq!(lines.count(), LINES as usize);
        assert_eq!(burst.line(Reason::UnauthenticatedLimit, now), Some(0));
        assert_eq!(
            burst.line(Reason::ConnectionLimit, now + WINDOW),
            Some(100 - u64::from(LINES))
        );
        assert_eq!(burst.line(Reason::ConnectionLimit, now + WINDOW), Some(0));
    }
}
