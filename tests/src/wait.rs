//! Waits for something to become true, bounded in time.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// Tries until a value is there, and gives it.
///
/// # Errors
/// `attempt` failed, or it gave nothing within the limit; `what` names what was waited for.
pub fn wait_for<T>(what: &str, limit: Duration, mut attempt: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let begin = Instant::now();
    loop {
        if let Some(value) = attempt()? {
            return Ok(value);
        }
        if begin.elapsed() > limit {
            bail!("waited {limit:?} in vain for {what}");
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Tries until a condition holds.
///
/// # Errors
/// As [`wait_for`].
pub fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    wait_for(what, limit, || Ok(condition()?.then_some(())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_ends_when_the_condition_holds_and_when_it_never_does() {
        let mut attempts = 0;
        wait_until("three attempts", Duration::from_secs(5), || {
            attempts += 1;
            Ok(attempts == 3)
        })
        .unwrap();
        let error = wait_until("the impossible", Duration::ZERO, || Ok(false)).unwrap_err();
        assert!(error.to_string().contains("the impossible"));
    }
}
