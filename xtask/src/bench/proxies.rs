//! Building what the benchmarks beside other proxies run: agents, which differ in their OpenSSL, and the benchmarks themselves.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use crate::{build, command, host, setup};

/// The agents are what a package holds.
const AGENT: &str = "release";
const PROGRAM: &str = "measure";
const VENDORED: &str = "vendored-openssl";

/// The handshakes' benchmark, ready to be started.
pub(super) fn handshake() -> Result<Command> {
    let system = agent(&[], "spinegate-system-openssl")?;
    let mut command = measuring("handshake")?;
    command.arg("--agent-system").arg(system);
    Ok(command)
}

/// The requests' benchmark, ready to be started.
pub(super) fn gateway() -> Result<Command> {
    measuring("gateway")
}

fn measuring(subject: &str) -> Result<Command> {
    let vendored = agent(&["--features", VENDORED], "spinegate-vendored-openssl")?;
    #[rustfmt::skip]
    build(PROGRAM, &["--package", "spinegate-tests", "--example", "bench-proxies", "--features", VENDORED])?;
    let mut command = Command::new(folder(PROGRAM).join("examples/bench-proxies"));
    command
        .arg(subject)
        .arg("--agent")
        .arg(vendored)
        .arg("--peers")
        .arg(setup::peers()?);
    Ok(command)
}

/// An agent. All are built into the same place, so each is kept under a name of its own.
fn agent(features: &[&str], name: &str) -> Result<PathBuf> {
    build(
        AGENT,
        &[&["--package", "spinegate", "--bin", "spinegate"], features].concat(),
    )?;
    let kept = folder(AGENT).join(name);
    fs::copy(folder(AGENT).join("spinegate"), &kept).with_context(|| format!("making {}", kept.display()))?;
    Ok(kept)
}

fn build(profile: &str, what: &[&str]) -> Result<()> {
    let mut cargo = build::cargo()?;
    command::run(cargo.args(["build", "--quiet", "--profile", profile]).args(what))
}

fn folder(profile: &str) -> PathBuf {
    host::target().join(profile)
}
