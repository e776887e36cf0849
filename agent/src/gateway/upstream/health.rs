//! What is known of an upstream's health: from its answers to clients' requests, and from what it is asked for in between.
//! Pure: the time and the dice are passed in.

use std::time::{Duration, Instant};

use crate::config;

/// An upstream's health.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// In a row.
    failures: u32,
    /// In a row: since the last success.
    ejections: u32,
    ejected_until: Option<Instant>,
    /// What it was asked for in between says that it is down.
    down: bool,
    passed: u32,
    missed: u32,
    failed_at: Option<Instant>,
    last_error: Option<String>,
    all_failures: u64,
    all_ejections: u64,
}

/// What an upstream is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Requests.
    Up,
    /// One request, on whose outcome the next state depends.
    Trial,
    /// None for so long, as others are there.
    Ejected(Duration),
    /// None until it answers what it is asked for, as others are there.
    Down,
}

impl State {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Trial => "trial",
            Self::Ejected(_) => "ejected",
            Self::Down => "down",
        }
    }
}

impl Health {
    pub(super) fn state(&self, now: Instant) -> State {
        if self.down {
            return State::Down;
        }
        match self.ejected_until {
            None => State::Up,
            Some(until) if until <= now => State::Trial,
            Some(until) => State::Ejected(until - now),
        }
    }

    /// When it last failed; the least of all where it never did.
    pub(super) const fn failed_at(&self) -> Option<Instant> {
        self.failed_at
    }

    pub(super) const fn all_failures(&self) -> u64 {
        self.all_failures
    }

    pub(super) const fn all_ejections(&self) -> u64 {
        self.all_ejections
    }

    pub(super) fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    /// A whole answer came.
    pub(super) const fn succeeded(&mut self) {
        self.failures = 0;
        self.ejections = 0;
        self.ejected_until = None;
    }

    /// No answer came, or none of its own. `roll` is random, from 0 to 1.
    pub(super) fn failed(&mut self, settings: &config::Health, now: Instant, error: &str, roll: f64) {
        self.failures = self.failures.saturating_add(1);
        self.note(now, error);
        let eject = match self.ejected_until {
            None => self.failures >= settings.eject_after,
            // The trial has failed. What fails while it is ejected was sent for want of a better one, and says nothing new.
            Some(until) => until <= now,
        };
        if eject {
            self.ejections = self.ejections.saturating_add(1);
            self.all_ejections = self.all_ejections.saturating_add(1);
            self.ejected_until = Some(now + ejection(settings, self.ejections, roll));
        }
    }

    /// What came of asking it.
    pub(super) fn asked(&mut self, settings: &config::Health, now: Instant, answer: Result<(), &str>) {
        match answer {
            Ok(()) => {
                self.missed = 0;
                self.passed = self.passed.saturating_add(1);
                if self.down && self.passed >= settings.healthy_after {
                    self.down = false;
                    self.succeeded();
                }
            }
            Err(error) => {
                self.passed = 0;
                self.missed = self.missed.saturating_add(1);
                self.note(now, error);
                self.down |= self.missed >= settings.unhealthy_after;
            }
        }
    }

    fn note(&mut self, now: Instant, error: &str) {
        self.all_failures = self.all_failures.saturating_add(1);
        self.failed_at = Some(now);
        self.last_error = Some(error.to_owned());
    }
}

/// Twice as long each time, up to the longest, give or take a quarter: gateways that saw one fault together don't come back
/// together.
fn ejection(settings: &config::Health, ejections: u32, roll: f64) -> Duration {
    let doubled = 2_u32.saturating_pow(ejections.saturating_sub(1));
    settings
        .eject_time
        .saturating_mul(doubled)
        .min(settings.eject_time_max)
        .mul_f64(0.75 + 0.5 * roll)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::upstream::testing::health as settings;

    const HALF: f64 = 0.5;

    fn fail(health: &mut Health, times: u32, now: Instant) {
        for _ in 0..times {
            health.failed(&settings(), now, "reset", HALF);
        }
    }

    #[test]
    fn failures_in_a_row_eject_and_a_success_between_them_does_not() {
        let (mut health, now) = (Health::default(), Instant::now());
        fail(&mut health, 2, now);
        health.succeeded();
        fail(&mut health, 2, now);
        assert_eq!(health.state(now), State::Up);
        fail(&mut health, 1, now);
        assert_eq!(health.state(now), State::Ejected(Duration::from_secs(1)));
        assert_eq!((health.all_failures(), health.last_error()), (5, Some("reset")));
    }

    #[test]
    fn each_failed_trial_ejects_for_twice_as_long_up_to_the_longest_and_a_good_one_ends_it() {
        let (mut health, mut now) = (Health::default(), Instant::now());
        fail(&mut health, 3, now);
        for seconds in [1, 2, 4, 8, 8] {
            let span = Duration::from_secs(seconds);
            assert_eq!(health.state(now), State::Ejected(span));
            // Meanwhile nothing makes it longer.
            fail(&mut health, 1, now);
            assert_eq!(health.state(now), State::Ejected(span));
            now += span;
            assert_eq!(health.state(now), State::Trial);
            fail(&mut health, 1, now);
        }
        health.succeeded();
        assert_eq!(health.state(now), State::Up);
        fail(&mut health, 3, now);
        assert_eq!(health.state(now), State::Ejected(Duration::from_secs(1)));
    }

    #[test]
    fn the_time_is_jittered_by_a_quarter_either_way() {
        for (roll, millis) in [(0.0, 750), (0.5, 1000), (1.0, 1250)] {
            assert_eq!(ejection(&settings(), 1, roll), Duration::from_millis(millis));
        }
        assert_eq!(ejection(&settings(), u32::MAX, 0.5), settings().eject_time_max);
    }

    #[test]
    fn what_it_is_asked_for_takes_it_down_and_up_after_so_many_in_a_row() {
        let (mut health, now) = (Health::default(), Instant::now());
        let mut ask = |answer, state| {
            health.asked(&settings(), now, answer);
            assert_eq!(health.state(now), state);
        };
        ask(Err("500"), State::Up);
        ask(Ok(()), State::Up);
        ask(Err("500"), State::Up);
        ask(Err("500"), State::Down);
        ask(Ok(()), State::Down);
        ask(Ok(()), State::Up);
    }
}
