//! Keeps a flood of refusals from becoming a flood of audit lines: so many a second of each kind are written, the others are
//! counted and told with the next line.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use spinegate_common::budget::Budget;

/// Lines a second of each kind.
const LINES: u32 = 20;
const BUDGET: Budget = Budget::new(LINES, LINES);

/// Lines by their kinds, of which there are few.
#[derive(Debug)]
pub(crate) struct Burst<K> {
    begun: Instant,
    kinds: Mutex<HashMap<K, Lines>>,
}

#[derive(Debug, Default)]
struct Lines {
    /// The state of the budget, in nanoseconds since `begun`.
    word: u64,
    skipped: u64,
}

impl<K: Eq + Hash> Burst<K> {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            begun: now,
            kinds: Mutex::default(),
        }
    }

    /// Whether to write a line, and then how many were not written since the last one.
    pub(crate) fn line(&self, kind: K, now: Instant) -> Option<u64> {
        let now = now.saturating_duration_since(self.begun).as_nanos();
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = kinds.entry(kind).or_default();
        match BUDGET.spend(lines.word, u64::try_from(now).unwrap_or(u64::MAX)) {
            Some(word) => {
                lines.word = word;
                Some(std::mem::take(&mut lines.skipped))
            }
            None => {
                lines.skipped += 1;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use spinegate_common::Reason;

    use super::*;

    #[test]
    fn what_is_not_written_is_told_with_the_next_line() {
        const WINDOW: Duration = Duration::from_secs(1);
        let now = Instant::now();
        let burst = Burst::new(now);
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
