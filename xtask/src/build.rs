//! Building the workspace's binaries with the environment that the kernel half needs.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{command::run, host, setup};

/// The binaries of the lab: the agent, the record locator and the lab itself.
pub(crate) struct Binaries {
    pub(crate) agent: PathBuf,
    pub(crate) locator: PathBuf,
    pub(crate) lab: PathBuf,
}

/// Cargo in the repository's root.
pub(crate) fn cargo() -> Result<Command> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(host::root())
        .env("PATH", setup::path()?)
        .stdin(Stdio::null());
    Ok(cargo)
}

/// Builds what the lab runs.
pub(crate) fn binaries() -> Result<Binaries> {
    run(cargo()?.args([
        "build",
        "--quiet",
        "--package",
        "spinegate",
        "--package",
        "spinegate-tests",
        "--bins",
    ]))?;
    let binary = |name: &str| host::target().join("debug").join(name);
    Ok(Binaries {
        agent: binary("spinegate"),
        locator: binary("record-locator"),
        lab: binary("spinegate-lab"),
    })
}

/// The test binary that cargo builds with these arguments.
pub(crate) fn test_binary(arguments: &[&str]) -> Result<PathBuf> {
    let output = cargo()?
        .args(["test", "--no-run", "--quiet", "--message-format=json"])
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        bail!("building the tests {} failed", arguments.join(" "));
    }
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    let executable = messages.lines().rev().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        message.get("executable")?.as_str().map(PathBuf::from)
    });
    executable.with_context(|| format!("cargo built no test binary for {}", arguments.join(" ")))
}
