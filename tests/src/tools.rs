//! The Python tools that `cargo xtask setup` installs, of the versions in `tests/probes/requirements.txt`.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

/// A program of the tools' virtual environment, such as `python`.
///
/// # Errors
/// It is not installed.
pub fn program(name: &str) -> Result<PathBuf> {
    let cache = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME is set, so the tools can't be found")?;
    let program = cache.join("spinegate/tools/bin").join(name);
    ensure!(
        program.exists(),
        "{} is not there: `cargo xtask setup` installs it",
        program.display()
    );
    Ok(program)
}

/// The folder of the probes' source.
#[must_use]
pub fn probes() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("probes")
}
