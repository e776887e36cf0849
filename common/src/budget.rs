//! Rates that are held per source or per CPU, as the generic cell rate algorithm: one word of state each.
//!
//! The word is the time at which the budget would be full again. It never lies further ahead than the burst allows, so
//! whoever has used up a budget waits at most one interval for the next unit, however much was refused meanwhile.
//! Words are read and written whole but not in one step: CPUs that spend from one word at the very same moment may let
//! one unit each pass for the price of one. That is less than locking would cost, and a budget only ever delays.

/// A rate with a burst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Budget {
    /// Nanoseconds from one unit to the next.
    pub interval: u64,
    /// How far ahead of the clock the word may lie: the interval times the burst less one.
    pub tolerance: u64,
}

impl Budget {
    /// A budget that refuses everything.
    pub const NONE: Self = Self {
        interval: u64::MAX >> 2,
        tolerance: 0,
    };

    /// `per_second` units a second, and `burst` (at least one) at once. Nothing at all if `per_second` is 0.
    #[must_use]
    pub const fn new(per_second: u32, burst: u32) -> Self {
        if per_second == 0 {
            return Self::NONE;
        }
        let interval = 1_000_000_000 / per_second as u64;
        let more = if burst > 1 { burst as u64 - 1 } else { 0 };
        Self {
            interval,
            tolerance: interval * more,
        }
    }

    /// The word after one more unit at `now`; none if the budget is used up.
    #[inline(always)]
    #[must_use]
    pub const fn spend(&self, word: u64, now: u64) -> Option<u64> {
        if self.interval >= Self::NONE.interval {
            return None;
        }
        let start = if word > now { word } else { now };
        if start - now > self.tolerance {
            return None;
        }
        Some(start + self.interval)
    }
}

#[cfg(test)]
mod tests {
    use super::Budget;

    const SECOND: u64 = 1_000_000_000;

    fn taken(budget: Budget, word: &mut u64, now: u64, tries: usize) -> usize {
        let mut taken = 0;
        for _ in 0..tries {
            if let Some(next) = budget.spend(*word, now) {
                *word = next;
                taken += 1;
            }
        }
        taken
    }

    #[test]
    fn a_burst_passes_at_once_and_then_the_rate() {
        let budget = Budget::new(10, 5);
        let mut word = 0;
        assert_eq!(taken(budget, &mut word, 100 * SECOND, 100), 5);
        assert_eq!(taken(budget, &mut word, 100 * SECOND + SECOND / 10, 100), 1);
        assert_eq!(taken(budget, &mut word, 100 * SECOND + SECOND / 10, 100), 0);
        assert_eq!(taken(budget, &mut word, 200 * SECOND, 100), 5);
    }

    #[test]
    fn a_flood_delays_by_no_more_than_one_interval() {
        let budget = Budget::new(2, 3);
        let mut word = 0;
        for moment in 0..1_000_000 {
            taken(budget, &mut word, SECOND + moment, 1);
        }
        assert_eq!(taken(budget, &mut word, SECOND + 1_000_000 + SECOND / 2, 1), 1);
    }

    #[test]
    fn a_rate_of_zero_gives_nothing() {
        let mut word = 0;
        assert_eq!(taken(Budget::new(0, 100), &mut word, SECOND, 10), 0);
        assert_eq!(taken(Budget::NONE, &mut word, u64::MAX >> 1, 10), 0);
    }
}
