//! A process that stays while the lab is up: its log, its number, its end.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::Files;
use crate::{command::Run, wait::wait_for};

const TAIL_LINES: usize = 30;

/// A running process of a lab.
#[derive(Debug)]
pub struct Background {
    name: String,
    child: Child,
    log: PathBuf,
    pid: PathBuf,
}

impl Background {
    /// Starts a program that outlives this process if the lab is left up. What it prints goes to a log of its name.
    ///
    /// # Errors
    /// It can't be started.
    pub fn start(name: &str, run: &Run, files: &Files) -> Result<Self> {
        let (log, pid) = (files.log(name), files.pid(name));
        let output = File::create(&log).with_context(|| format!("can't write {}", log.display()))?;
        let child = run
            .command()
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // Ctrl-C is for the one who watches; the lab ends the process itself.
            .process_group(0)
            .spawn()
            .with_context(|| format!("can't start `{run}`"))?;
        fs::write(&pid, child.id().to_string())?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
            pid,
        })
    }

    /// Fails if the process has ended.
    ///
    /// # Errors
    /// It has; the message says how.
    pub fn must_run(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended at once ({status})", self.name),
        }
    }

    /// Kills the process, which can do nothing about it.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        let _ = fs::remove_file(&self.pid);
        Ok(())
    }

    /// Asks the process to end, and waits for it.
    ///
    /// # Errors
    /// It did not end within the limit, or its exit status was not 0.
    pub fn stop(self, limit: Duration) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        self.ended(limit)
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// The process has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(i32::try_from(self.child.id())?), signal)?)
    }

    /// Waits for the process's end, which something else brings about.
    ///
    /// # Errors
    /// It did not end within the limit, or its exit status was not 0.
    pub fn ended(mut self, limit: Duration) -> Result<()> {
        let what = format!("{} to end", self.name);
        let status = wait_for(&what, limit, || Ok(self.child.try_wait()?)).with_context(|| self.tail())?;
        let _ = fs::remove_file(&self.pid);
        if !status.success() {
            bail!("{} ended with {status}\n{}", self.name, self.tail());
        }
        Ok(())
    }

    /// What the lab calls the process.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process's number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All that the process has printed.
    ///
    /// # Errors
    /// The log can't be read.
    pub fn log(&self) -> Result<String> {
        let bytes = fs::read(&self.log).with_context(|| format!("can't read {}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The end of the log, for an error message.
    #[must_use]
    pub fn tail(&self) -> String {
        let log = self.log().unwrap_or_else(|error| error.to_string());
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines
            .get(lines.len().saturating_sub(TAIL_LINES)..)
            .unwrap_or_default()
            .join("\n");
        format!("the last lines of {}:\n{tail}", self.log.display())
    }
}
