//! Running programs: with a time limit, and never leaving their children behind.

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader, Read},
    os::unix::process::CommandExt as _,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

/// How a bounded program ended.
pub(crate) enum Ended {
    /// By itself.
    Exit(ExitStatus),
    /// It was still running at its time limit, and was killed with its children.
    TimedOut,
}

impl Ended {
    /// Whether it ended by itself with exit code 0.
    pub(crate) fn is_success(&self) -> bool {
        matches!(self, Self::Exit(status) if status.success())
    }
}

/// A program with arguments.
pub(crate) fn program<I, S>(name: &str, arguments: I) -> Command
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let mut command = Command::new(name);
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs a program to its end, showing what it prints; an error if it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("running {}", describe(command)))?;
    if !status.success() {
        bail!("{} failed: {status}", describe(command));
    }
    Ok(())
}

/// What a program prints; an error if it fails, with what it said about it.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("running {}", describe(command)))?;
    if !output.status.success() {
        bail!(
            "{} failed: {}",
            describe(command),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a program can be run and succeeds; it prints nothing.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Runs a program, hands each line of its output to `line`, and kills it with its children at the time limit.
pub(crate) fn bounded(command: &mut Command, limit: Duration, mut line: impl FnMut(&str)) -> Result<Ended> {
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let mut child = command
        .spawn()
        .with_context(|| format!("running {}", describe(command)))?;
    let (sender, lines) = mpsc::channel();
    for stream in [child.stdout.take().map(boxed), child.stderr.take().map(boxed)]
        .into_iter()
        .flatten()
    {
        let sender = sender.clone();
        thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                // The receiver is gone only when the program has been killed.
                let _ = sender.send(String::from_utf8_lossy(&line).into_owned());
            }
        });
    }
    drop(sender);
    let end = Instant::now() + limit;
    loop {
        match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(text) => line(&text),
            Err(mpsc::RecvTimeoutError::Timeout) => return kill(child),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    // Output closed: it ends now, or has left its streams to nobody.
    while Instant::now() < end {
        if let Some(status) = child.try_wait()? {
            return Ok(Ended::Exit(status));
        }
        thread::sleep(Duration::from_millis(20));
    }
    kill(child)
}

fn kill(mut child: Child) -> Result<Ended> {
    let group = Pid::from_raw(i32::try_from(child.id())?);
    // It may have ended in this very moment.
    let _ = killpg(group, Signal::SIGTERM);
    thread::sleep(Duration::from_secs(2));
    let _ = killpg(group, Signal::SIGKILL);
    child.wait()?;
    Ok(Ended::TimedOut)
}

fn boxed(stream: impl Read + Send + 'static) -> Box<dyn Read + Send> {
    Box::new(stream)
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_outlives_its_limit_is_killed_with_its_children() {
        let begun = Instant::now();
        let mut lines = Vec::new();
        let mut command = program("sh", ["-c", "echo one; sleep 60 & wait"]);
        let ended = bounded(&mut command, Duration::from_millis(300), |line| {
            lines.push(line.to_owned())
        });
        assert!(matches!(ended, Ok(Ended::TimedOut)));
        assert!(begun.elapsed() < Duration::from_secs(20));
        assert_eq!(lines, ["one"]);
    }

    #[test]
    fn both_streams_are_read_line_by_line() {
        let mut lines = Vec::new();
        let mut command = program("sh", ["-c", "echo one; echo two >&2; exit 3"]);
        let ended = bounded(&mut command, Duration::from_secs(20), |line| {
            lines.push(line.to_owned())
        });
        assert!(matches!(ended, Ok(Ended::Exit(status)) if status.code() == Some(3)));
        lines.sort();
        assert_eq!(lines, ["one", "two"]);
    }
}
