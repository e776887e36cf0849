//! The folders that the worker writes to: made for its user where they are missing, and looked at where they are there.
//! What is there already is never given away: by a name that it may write itself, a process in wrong hands could have
//! itself given anything.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nix::{
    fcntl::AtFlags,
    unistd::{AccessFlags, access, fchownat},
};

use super::{SandboxError, account::Account};
use crate::config::Config;

/// Makes the folders that are missing, and gives what was made to the account.
pub(super) fn make(config: &Config, account: Option<&Account>) -> Result<(), SandboxError> {
    for folder in config.folders() {
        let failed = SandboxError::step("making the agent's folders");
        make_folder(folder, account).map_err(|error| {
            failed(io::Error::new(
                error.kind(),
                format!("{}: {error}", folder.display()),
            ))
        })?;
    }
    Ok(())
}

fn make_folder(folder: &Path, account: Option<&Account>) -> io::Result<()> {
    let mut missing: Vec<&Path> = folder
        .ancestors()
        .take_while(|path| !path.as_os_str().is_empty() && !path.exists())
        .collect();
    while let Some(path) = missing.pop() {
        match fs::create_dir(path) {
            Ok(()) => {
                if let Some(account) = account {
                    give(path, account)?;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn give(path: &Path, account: &Account) -> io::Result<()> {
    let here = nix::fcntl::AT_FDCWD;
    Ok(fchownat(
        here,
        path,
        Some(account.uid),
        Some(account.gid),
        AtFlags::AT_SYMLINK_NOFOLLOW,
    )?)
}

/// Fails at the first file that the worker could not read or write as the user that it is now.
pub(super) fn check(config: &Config, account: Option<&Account>) -> Result<(), SandboxError> {
    let Some(account) = account else { return Ok(()) };
    let may = |path: &Path, mode, action, mend: &dyn Fn(String) -> String| {
        if !path.exists() || access(path, mode).is_ok() {
            return Ok(());
        }
        Err(SandboxError::File {
            path: path.to_owned(),
            user: account.uid.as_raw(),
            action,
            mend: mend(path.display().to_string()),
        })
    };
    let group = account.gid;
    for file in config.files() {
        may(file, AccessFlags::R_OK, "read", &|path| {
            format!("`chgrp {group} {path}` and `chmod g+r {path}`, and see to its folders")
        })?;
    }
    let own = [config.audit.file.clone(), config.audit.key.clone()];
    let folders = config.folders().into_iter().map(Path::to_owned);
    for path in own.into_iter().chain(folders.collect::<Vec<PathBuf>>()) {
        may(&path, AccessFlags::R_OK | AccessFlags::W_OK, "write", &|path| {
            format!("`chown -R {}:{group} {path}`", account.uid)
        })?;
    }
    Ok(())
}
