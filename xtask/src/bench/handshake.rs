//! Building what the handshakes' benchmark runs: two agents, which differ in their OpenSSL, and the benchmark itself.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{build, command, host, setup};

const PROFILE: &str = "measure";
const VENDORED: &str = "vendored-openssl";

/// The benchmark, ready to be started.
pub(super) fn measuring() -> Result<Command> {
    let folder = host::target().join(PROFILE);
    // Both are built into the same place, so each is kept under a name of its own.
    build(&["--package", "spinegate", "--bin", "spinegate"])?;
    let system = keep(&folder, "spinegate-system-openssl")?;
    #[rustfmt::skip]
    build(&["--package", "spinegate", "--bin", "spinegate", "--package", "spinegate-tests", "--example",
        "bench-handshake", "--features", &format!("spinegate/{VENDORED},spinegate-tests/{VENDORED}")])?;
    let vendored = keep(&folder, "spinegate-vendored-openssl")?;
    let mut command = Command::new(folder.join("examples/bench-handshake"));
    command
        .arg("--agent")
        .arg(vendored)
        .arg("--agent-system")
        .arg(system)
        .arg("--peers")
        .arg(setup::peers()?);
    Ok(command)
}

fn build(what: &[&str]) -> Result<()> {
    let mut cargo = build::cargo()?;
    command::run(cargo.args(["build", "--quiet", "--profile", PROFILE]).args(what))
}

fn keep(folder: &Path, name: &str) -> Result<PathBuf> {
    let kept = folder.join(name);
    fs::copy(folder.join("spinegate"), &kept).with_context(|| format!("making {}", kept.display()))?;
    Ok(kept)
}
