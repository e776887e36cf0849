//! How a command ends.

use std::{fmt, process::ExitCode};

use crate::{
    control::{self, ClientError, FailureKind},
    run::RunError,
    upgrade::UpgradeError,
};

/// The exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// Done.
    Done = 0,
    /// Refused, not found, or failed.
    Refused = 1,
    /// Bad usage or configuration.
    Usage = 2,
    /// The agent is not running.
    NotRunning = 3,
    /// The kernel or a privilege is missing.
    Privilege = 4,
}

/// Why a command was not done, with the mend.
#[derive(Debug)]
pub(super) struct Failure {
    exit: Exit,
    message: String,
}

impl Failure {
    pub(super) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
        }
    }

    pub(super) fn other_answer() -> Self {
        let message = "the agent answered something else than was asked; use the `spinegate` command of the running agent";
        Self::new(Exit::Refused, message)
    }

    pub(super) const fn exit(&self) -> Exit {
        self.exit
    }
}

/// Problems and the like, each on a line of its own.
pub(super) fn lines(problems: &[impl fmt::Display]) -> String {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let exit = match error {
            ClientError::NotRunning => Exit::NotRunning,
            ClientError::Denied { .. } => Exit::Privilege,
            ClientError::Broken { .. } | ClientError::Answer { .. } => Exit::Refused,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<control::Failure> for Failure {
    fn from(failure: control::Failure) -> Self {
        let exit = match failure.kind {
            FailureKind::Usage => Exit::Usage,
            FailureKind::Forbidden => Exit::Privilege,
            FailureKind::Refused | FailureKind::NotFound | FailureKind::Busy | FailureKind::Internal => {
                Exit::Refused
            }
        };
        Self::new(exit, failure.to_string())
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        let exit = match error {
            RunError::Configuration(_) => Exit::Usage,
            RunError::Refused { .. } => Exit::Refused,
            RunError::Privilege { .. } => Exit::Privilege,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<UpgradeError> for Failure {
    fn from(error: UpgradeError) -> Self {
        match error {
            UpgradeError::Agent(error) => error.into(),
            error => Self::new(Exit::Refused, error.to_string()),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_agent_refuses_ends_as_the_api_says() {
        for kind in FailureKind::ALL {
            let failure = Failure::from(control::Failure::new(kind, "m", "n"));
            assert_eq!(failure.exit() as u8, kind.exit_code(), "{kind:?}");
        }
    }
}
