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

/// The binary of a package's test target under tests/.
pub(crate) fn test_binary(package: &str, target: &str) -> Result<PathBuf> {
    let output = cargo()?
        .args([
            "test",
            "--no-run",
            "--quiet",
            "--message-format=json",
            "--package",
            package,
            "--test",
            target,
        ])
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        bail!("building the test {target} of {package} failed");
    }
    executable(&String::from_utf8_lossy(&output.stdout), target)
        .with_context(|| format!("cargo built no test {target} of {package}"))
}

/// The binary of a test target among cargo's messages; with it, cargo builds the package's programs.
fn executable(messages: &str, target: &str) -> Option<PathBuf> {
    messages.lines().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let built = message.get("target")?;
        let is_it = built.get("name")?.as_str() == Some(target)
            && built
                .get("kind")?
                .as_array()?
                .iter()
                .any(|kind| kind.as_str() == Some("test"));
        is_it
            .then(|| message.get("executable")?.as_str().map(PathBuf::from))
            .flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::executable;

    #[test]
    fn the_test_is_told_from_the_program_of_the_same_package() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"filter","kind":["bin"]},"executable":"/t/filter"}
{"reason":"compiler-artifact","target":{"name":"filter","kind":["test"]},"executable":"/t/deps/filter-1"}
{"reason":"build-finished","success":true}"#;
        let found = executable(messages, "filter").expect("a test");
        assert_eq!(found.to_string_lossy(), "/t/deps/filter-1");
        assert!(executable(messages, "other").is_none());
    }
}
