//! The steps of a story: what was expected, what was seen, whether that held.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use anyhow::{Result, bail};
use serde::Serialize;

/// A step that was played.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Step {
    number: usize,
    title: String,
    expected: String,
    observed: String,
    reason: Option<String>,
    held: bool,
}

/// What a step saw.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// In words.
    pub(super) observed: String,
    /// The reason code, as the audit log or the kernel's counters have it.
    pub(super) reason: Option<String>,
    /// Whether it is what was expected.
    pub(super) held: bool,
}

impl Seen {
    /// Something without a reason code.
    pub(super) fn plain(observed: impl Into<String>, held: bool) -> Self {
        Self {
            observed: observed.into(),
            reason: None,
            held,
        }
    }

    /// A refusal, which holds only if it is for the right reason.
    pub(super) fn refused(observed: impl Into<String>, reason: String, wanted: &str, held: bool) -> Self {
        Self {
            observed: observed.into(),
            held: held && reason == wanted,
            reason: Some(reason),
        }
    }
}

/// The story so far.
#[derive(Debug)]
pub(super) struct Story {
    steps: Vec<Step>,
    aloud: bool,
    interrupted: Arc<AtomicBool>,
}

impl Story {
    pub(super) fn new(aloud: bool, interrupted: Arc<AtomicBool>) -> Self {
        Self {
            steps: Vec::new(),
            aloud,
            interrupted,
        }
    }

    /// Prints a line, if the story is told aloud.
    pub(super) fn say(&self, line: &str) {
        if self.aloud {
            println!("{line}");
        }
    }

    /// Plays a step. What fails in it is what it saw; only Ctrl-C ends the story.
    pub(super) fn step(
        &mut self,
        title: impl Into<String>,
        expected: impl Into<String>,
        act: impl FnOnce() -> Result<Seen>,
    ) -> Result<()> {
        let seen = act().unwrap_or_else(|error| Seen::plain(format!("{error:#}"), false));
        if self.interrupted.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        let step = Step {
            number: self.steps.len() + 1,
            title: title.into(),
            expected: expected.into(),
            observed: seen.observed,
            reason: seen.reason,
            held: seen.held,
        };
        self.say(&step.to_string());
        self.steps.push(step);
        Ok(())
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }

    pub(super) fn held(&self) -> bool {
        self.steps.iter().all(|step| step.held)
    }

    pub(super) fn summary(&self, seconds: f32) -> String {
        let held = self.steps.iter().filter(|step| step.held).count();
        format!("\n{held} of {} steps held, in {seconds:.1} s.", self.steps.len())
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let verdict = if self.held { "held" } else { "NOT HELD" };
        writeln!(f, "{:>3}  {}  [{verdict}]", self.number, self.title)?;
        writeln!(f, "     expected  {}", self.expected)?;
        write!(f, "     observed  {}", self.observed)?;
        match &self.reason {
            Some(reason) => write!(f, "\n     reason    {reason}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_step_that_does_not_hold_spoils_the_story() {
        let mut story = Story::new(false, Arc::default());
        story
            .step("a", "b", || {
                Ok(Seen::refused("c", "expired".into(), "expired", true))
            })
            .unwrap();
        assert!(story.held());
        story
            .step("a", "b", || {
                Ok(Seen::refused("c", "expired".into(), "revoked", true))
            })
            .unwrap();
        assert!(!story.held());
        story.step("a", "b", || bail!("the lab burnt")).unwrap();
        assert_eq!(story.steps()[2].observed, "the lab burnt");
        assert!(story.summary(1.0).contains("1 of 3"));
    }

    #[test]
    fn ctrl_c_ends_the_story() {
        let interrupted = Arc::new(AtomicBool::new(true));
        let mut story = Story::new(false, interrupted);
        assert!(story.step("a", "b", || Ok(Seen::plain("c", true))).is_err());
    }
}
