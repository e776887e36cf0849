//! Building what the benchmarks beside other proxies run: agents, which differ in their OpenSSL, and the benchmarks themselves.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    build::{self, VENDORED_OPENSSL},
    command, host, setup,
};

/// What the program that measures is built with.
const PROFILE: &str = "measure";

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
    let vendored = agent(&[VENDORED_OPENSSL], "spinegate-vendored-openssl")?;
    #[rustfmt::skip]
    command::run(build::cargo()?.args(["build", "--quiet", "--profile", PROFILE, "--package", "spinegate-tests",
        "--example", "bench-proxies", "--features", VENDORED_OPENSSL]))?;
    let mut command = Command::new(host::target().join(PROFILE).join("examples/bench-proxies"));
    command
        .arg(subject)
        .arg("--agent")
        .arg(vendored)
        .arg("--peers")
        .arg(setup::peers()?);
    Ok(command)
}

/// An agent, as it is shipped but for its OpenSSL. All are built into the same place, so each is kept under a name of its own.
fn agent(features: &[&str], name: &str) -> Result<PathBuf> {
    let built = build::release(features)?;
    let kept = built.with_file_name(name);
    fs::copy(&built, &kept).with_context(|| format!("making {}", kept.display()))?;
    Ok(kept)
}
