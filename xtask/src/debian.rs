//! Debian's packages that are fetched and unpacked, and never installed: what is not installed starts no service.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::command::{program, run};

/// Fetches a package and unpacks it into a folder, which is whole if it is there.
pub(crate) fn unpack(package: &str, folder: &Path) -> Result<()> {
    println!("fetching {package}");
    let draft = folder.with_file_name(format!("{package}.draft"));
    // What an interrupted download left.
    let _ = fs::remove_dir_all(&draft);
    fs::create_dir_all(&draft).with_context(|| format!("making {}", draft.display()))?;
    run(program("apt-get", ["download", "-qq", package]).current_dir(&draft))?;
    let archive = only_named(&draft, package)?;
    run(program("dpkg-deb", ["-x"]).arg(&archive).arg(&draft))?;
    fs::remove_file(&archive)?;
    fs::rename(&draft, folder).with_context(|| format!("making {}", folder.display()))
}

/// The only item whose file name begins with a prefix.
pub(crate) fn only_named(folder: &Path, prefix: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut named = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(prefix))
        });
    named
        .next()
        .with_context(|| format!("{} holds no {prefix}", folder.display()))
}
