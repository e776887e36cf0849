//! The lab and the demo: built, and run by the lab's own binary.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use crate::{build, host, word};

/// What can be done with the lab.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Action {
    /// Bring it up, and leave it up.
    Up,
    /// Remove all of it, also after a crash.
    Down,
    /// Say what there is of it.
    Status,
}

/// `cargo xtask lab`
pub(crate) fn run(action: Action) -> Result<ExitCode> {
    start(&[word(action)])
}

/// `cargo xtask demo`
pub(crate) fn demo(keep: bool, json: bool) -> Result<ExitCode> {
    let flags = [(keep, "--keep"), (json, "--json")];
    let mut arguments = vec!["demo".to_owned()];
    arguments.extend(
        flags
            .into_iter()
            .filter(|(given, _)| *given)
            .map(|(_, flag)| flag.to_owned()),
    );
    start(&arguments)
}

fn start(arguments: &[String]) -> Result<ExitCode> {
    if let Some(why) = host::obstacle() {
        eprintln!("xtask: {why}. `cargo xtask vm -- demo` plays the demo in a virtual machine instead.");
        return Ok(ExitCode::FAILURE);
    }
    let binaries = build::binaries()?;
    let status = Command::new(&binaries.lab)
        .arg("--agent")
        .arg(&binaries.agent)
        .arg("--locator")
        .arg(&binaries.locator)
        .arg("--dir")
        .arg(host::target().join("lab"))
        .args(arguments)
        .status()
        .with_context(|| format!("running {}", binaries.lab.display()))?;
    Ok(ExitCode::from(
        u8::try_from(status.code().unwrap_or(1)).unwrap_or(1),
    ))
}
