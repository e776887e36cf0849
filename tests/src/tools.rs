//! The tools that `cargo xtask setup` keeps: those in Python, of the versions in `tests/probes/requirements.txt`, and the
//! LDAP server and others, unpacked from their packages.

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
    installed(&Path::new("tools/bin").join(name))
}

/// The folder of a Debian package of the LDAP server's, as it was unpacked.
///
/// # Errors
/// It is not there.
pub fn directory(package: &str) -> Result<PathBuf> {
    installed(&Path::new("directory").join(package))
}

/// A program of another unpacked package, such as `nginx/usr/sbin/nginx`.
///
/// # Errors
/// It is not there.
pub fn peer(path: &str) -> Result<PathBuf> {
    installed(&Path::new("peers").join(path))
}

/// What setup keeps under a path in its cache.
///
/// # Errors
/// It is not there.
pub fn installed(path: &Path) -> Result<PathBuf> {
    let cache = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME is set, so the tools can't be found")?;
    let path = cache.join("spinegate").join(path);
    ensure!(
        path.exists(),
        "{} is not there: `cargo xtask setup` installs it",
        path.display()
    );
    Ok(path)
}

/// The folder of the probes' source.
#[must_use]
pub fn probes() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("probes")
}
