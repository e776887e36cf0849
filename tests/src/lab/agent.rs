//! The agent's command line, as an operator uses it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{
    command::{Finished, Run},
    json::at,
};

/// The binary and the control socket to reach a running agent by.
#[derive(Clone, Debug)]
pub struct Agent {
    binary: PathBuf,
    socket: PathBuf,
    session: String,
}

impl Agent {
    /// The command line of an agent that listens on a socket.
    #[must_use]
    pub fn new(binary: &Path, socket: &Path) -> Self {
        Self {
            binary: binary.to_owned(),
            socket: socket.to_owned(),
            // Whoever runs the suites over SSH is not the operator whom the lab's agent must not cut off.
            session: String::new(),
        }
    }

    /// The command line in an SSH session, as sshd describes it: client's address and port, server's address and port.
    #[must_use]
    pub fn in_session(self, session: impl Into<String>) -> Self {
        Self {
            session: session.into(),
            ..self
        }
    }

    /// Runs a command to its end, whatever its exit code.
    ///
    /// # Errors
    /// The binary can't be started.
    pub fn output(&self, arguments: &[&str]) -> Result<Finished> {
        self.run(arguments).output()
    }

    /// Runs a command that has to succeed, and gives what it printed.
    ///
    /// # Errors
    /// Its exit code was not 0.
    pub fn order(&self, arguments: &[&str]) -> Result<String> {
        self.run(arguments).success()
    }

    /// Runs a reading command with `--json`, and gives what it printed.
    ///
    /// # Errors
    /// Its exit code was not 0, or it did not print JSON.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let printed = self.run(arguments).arg("--json").success()?;
        serde_json::from_str(&printed).with_context(|| format!("`{arguments:?} --json` printed {printed:?}"))
    }

    /// The deny verdict in force on a source, if there is one.
    ///
    /// # Errors
    /// As [`Agent::json`].
    pub fn verdict_on(&self, source: &str) -> Result<Option<Value>> {
        let verdicts = self.json(&["verdicts", "list"])?;
        let verdicts = verdicts
            .as_array()
            .context("`verdicts list --json` printed no list")?;
        Ok(verdicts
            .iter()
            .find(|verdict| *at(verdict, "/source") == source && *at(verdict, "/kind") == "deny")
            .cloned())
    }

    /// How many packets the filter dropped for a reason.
    ///
    /// # Errors
    /// As [`Agent::json`].
    pub fn drops(&self, reason: &str) -> Result<u64> {
        let stats = self.json(&["stats"])?;
        Ok(at(&stats, &format!("/filter/drops/{reason}/packets"))
            .as_u64()
            .unwrap_or(0))
    }

    fn run(&self, arguments: &[&str]) -> Run {
        Run::new(&self.binary)
            .arg("--socket")
            .arg(&self.socket)
            .args(arguments)
            .env("SSH_CONNECTION", &self.session)
    }
}
