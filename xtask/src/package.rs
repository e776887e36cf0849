//! `cargo xtask package`: the Debian package, by cargo-deb from what agent/Cargo.toml lists.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{
    build,
    command::{output, program},
    host, setup,
};

/// A version that is before every other one.
const PREVIOUS: &str = "0.0.1-1";

/// How the agent is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Build {
    /// As it is meant to run: optimised, with an OpenSSL of its own.
    Release,
    /// For tests of the package: as the suites run it, with the system's OpenSSL.
    Quick,
}

impl Build {
    const fn profile(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Quick => "dev",
        }
    }
}

/// `cargo xtask package`
pub(crate) fn run(quick: bool) -> Result<()> {
    let build = if quick { Build::Quick } else { Build::Release };
    ready(build)?;
    let package = make(build, None)?;
    println!("{}", package.display());
    Ok(())
}

/// What the suite of the package installs: one to begin with, and one to upgrade to. Gives their folder.
pub(crate) fn for_the_suite() -> Result<PathBuf> {
    let folder = folder().join("suite");
    fs::create_dir_all(&folder)?;
    ready(Build::Quick)?;
    for (name, version) in [("previous.deb", Some(PREVIOUS)), ("current.deb", None)] {
        fs::rename(make(Build::Quick, version)?, folder.join(name))?;
    }
    Ok(folder)
}

/// Builds all that a package holds.
fn ready(how: Build) -> Result<()> {
    let binary = match how {
        Build::Release => build::release(&[build::VENDORED_OPENSSL])?,
        Build::Quick => build::binaries()?.agent,
    };
    describe(&binary).context("having the program write its manual pages and completions")
}

fn make(how: Build, version: Option<&str>) -> Result<PathBuf> {
    let mut deb = program(&setup::cargo_deb()?.to_string_lossy(), ["--no-build", "--quiet"]);
    deb.current_dir(host::root())
        .args(["--package", "spinegate", "--profile", how.profile()])
        .arg("--output")
        .arg(folder().join(""));
    if how == Build::Quick {
        // Compressing takes longer than all the rest.
        deb.arg("--fast");
    }
    if let Some(version) = version {
        deb.args(["--deb-version", version]);
    }
    let printed = output(&mut deb)?;
    let package = printed.lines().last().context("cargo-deb named no package")?;
    Ok(PathBuf::from(package))
}

/// Has the program write what the package holds besides it.
fn describe(binary: &Path) -> Result<()> {
    let (man, completions) = (folder().join("man"), folder().join("completions"));
    for folder in [&man, &completions] {
        // Pages of commands that are no more.
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    let name = binary.to_string_lossy();
    output(program(&name, ["man"]).arg(&man))?;
    for (shell, file) in [
        ("bash", "spinegate"),
        ("zsh", "_spinegate"),
        ("fish", "spinegate.fish"),
    ] {
        let script = output(&mut program(&name, ["completions", shell]))?;
        fs::write(completions.join(file), script)?;
    }
    Ok(())
}

/// What agent/Cargo.toml names.
fn folder() -> PathBuf {
    host::root().join("target/package")
}
