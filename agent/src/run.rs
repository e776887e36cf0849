//! Starting the agent, and taking off what it leaves pinned.

use crate::config::{Filter, Loaded};

/// Why the agent does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Something it needs refuses, or it ended in failure.
    #[error("{message}")]
    Refused {
        /// What, and the mend.
        message: String,
    },
    /// The kernel or a privilege is missing.
    #[error("{message}")]
    Privilege {
        /// What, and the mend.
        message: String,
    },
}

/// Runs the agent until it is told to stop.
///
/// # Errors
/// A build that holds no filter and no gateway refuses: it would guard nothing.
pub fn run(_loaded: Loaded) -> Result<(), RunError> {
    Err(without("run"))
}

/// Takes the filter off its interfaces and removes its pins. Returns the interfaces' names.
///
/// # Errors
/// A build that holds no filter refuses.
pub fn detach(_filter: &Filter) -> Result<Vec<String>, RunError> {
    Err(without("detach"))
}

fn without(verb: &str) -> RunError {
    let message = format!("this build holds no filter and no gateway to {verb}; use one that does");
    RunError::Refused { message }
}
