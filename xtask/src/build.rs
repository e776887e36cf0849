//! Building the workspace's binaries with the environment that the kernel half needs.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{command::run, host, setup};

/// The agent's feature that has OpenSSL built with it.
pub(crate) const VENDORED_OPENSSL: &str = "vendored-openssl";

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

/// Builds the agent as it is shipped: optimised, with the OpenSSL that it is told to have, and without this machine's paths in
/// what is compiled for the host. The kernel half's line numbers, and OpenSSL's own folders, name some.
pub(crate) fn release(features: &[&str]) -> Result<PathBuf> {
    let mut cargo = cargo()?;
    cargo.args([
        "build",
        "--quiet",
        "--release",
        "--package",
        "spinegate",
        "--bins",
    ]);
    cargo.args(["--features", &features.join(",")]);
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let flags: Vec<_> = [(home, "cargo"), (Some(host::root()), "spinegate")]
        .into_iter()
        .filter_map(|(folder, name)| Some(format!("--remap-path-prefix={}={name}", folder?.display())))
        .collect();
    // Cargo's own separator: a path may have blanks.
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    run(&mut cargo)?;
    Ok(host::target().join("release").join("spinegate"))
}

/// Builds the tests of a package, and runs none.
pub(crate) fn tests(package: &str) -> Result<()> {
    run(cargo()?.args(["test", "--no-run", "--quiet", "--package", package]))
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
