//! When something is fetched again.

use std::time::Duration;

/// However short a CRL's life is.
const SHORTEST: Duration = Duration::from_secs(60);
/// After a first failure, and twice as long after each further one.
const FIRST_RETRY: Duration = Duration::from_secs(30);
const LONGEST_RETRY: Duration = Duration::from_secs(3600);

/// The pause after a CRL came that is valid for so long: between half and four fifths of that, so that a failure leaves time
/// for another attempt, and at the latest after `interval`. `roll` is random, from 0 to 1, so that not all gateways ask at
/// once.
pub(super) fn after_success(remaining: Duration, interval: Duration, roll: f64) -> Duration {
    let by_life = remaining.mul_f64(0.5 + 0.3 * roll);
    by_life.min(jittered(interval, roll)).max(SHORTEST)
}

/// The interval less up to a fifth of it.
pub(crate) fn jittered(interval: Duration, roll: f64) -> Duration {
    interval.mul_f64(0.8 + 0.2 * roll)
}

/// The pause after so many failures in a row, or after a CRL that is overdue already.
pub(crate) fn after_failure(failures: u32, interval: Duration, roll: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let pause = FIRST_RETRY.saturating_mul(1 << doublings);
    pause.min(LONGEST_RETRY).min(interval).mul_f64(0.5 + 0.5 * roll)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_crl_is_fetched_again_in_the_second_half_of_its_life() {
        let day = HOUR * 24;
        assert_eq!(after_success(day, day * 7, 0.0), HOUR * 12);
        assert_eq!(after_success(day, day * 7, 1.0), day.mul_f64(0.8));
        assert_eq!(after_success(day, HOUR * 6, 1.0), HOUR * 6);
        assert_eq!(after_success(day, HOUR * 6, 0.0), (HOUR * 6).mul_f64(0.8));
        assert_eq!(after_success(Duration::from_secs(1), HOUR, 0.5), SHORTEST);
    }

    #[test]
    fn failures_are_retried_ever_more_rarely() {
        let pause = |failures| after_failure(failures, HOUR * 6, 1.0).as_secs();
        assert_eq!([1, 2, 3, 7, 8, 1000].map(pause), [30, 60, 120, 1920, 3600, 3600]);
        assert_eq!(after_failure(1, HOUR, 0.0).as_secs(), 15);
        assert_eq!(after_failure(9, Duration::from_secs(60), 1.0).as_secs(), 60);
    }
}
