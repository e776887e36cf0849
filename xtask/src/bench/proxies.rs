//! Building what the benchmarks beside other proxies run: agents, which differ in their OpenSSL, and the benchmarks themselves.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use crate::{build, command, host, setup};

const PROFILE: &str = "measure";
const VENDORED: &str = "vendored-openssl";

/// The handshakes' benchmark, ready to be started.
pub(super) fn handshake() -> Result<Command> {
    // Both agents are built into the same place, so each is kept under a name of its own.
    build(&["--package", "spinegate", "--bin", "spinegate"])?;
    let system = keep("spinegate-system-openssl")?;
    let mut command = measuring("handshake")?;
    command.arg("--agent-system").arg(system);
    Ok(command)
}

/// The requests' benchmark, ready to be started.
pub(super) fn gateway() -> Result<Command> {
    measuring("gateway")
}

fn measuring(subject: &str) -> Result<Command> {
    #[rustfmt::skip]
    build(&["--package", "spinegate", "--bin", "spinegate", "--package", "spinegate-tests", "--example",
        "bench-proxies", "--features", &format!("spinegate/{VENDORED},spinegate-tests/{VENDORED}")])?;
    let vendored = keep("spinegate-vendored-openssl")?;
    let mut command = Command::new(folder().join("examples/bench-proxies"));
    command
        .arg(subject)
        .arg("--agent")
        .arg(vendored)
        .arg("--peers")
        .arg(setup::peers()?);
    Ok(command)
}

fn build(what: &[&str]) -> Result<()> {
    let mut cargo = build::cargo()?;
    command::run(cargo.args(["build", "--quiet", "--profile", PROFILE]).args(what))
}

fn keep(name: &str) -> Result<PathBuf> {
    let kept = folder().join(name);
    fs::copy(folder().join("spinegate"), &kept).with_context(|| format!("making {}", kept.display()))?;
    Ok(kept)
}

fn folder() -> PathBuf {
    host::target().join(PROFILE)
}
