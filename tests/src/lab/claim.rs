//! A lab's name belongs to one folder, and to one process at a time.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use super::Files;

/// The right to bring the lab of a name up or down, held until dropped.
#[derive(Debug)]
pub(super) struct Claim {
    path: PathBuf,
    _lock: File,
}

impl Claim {
    /// Claims a name for a folder.
    ///
    /// # Errors
    /// Another process holds it, or a lab of that name is up in another folder.
    pub(super) fn take(name: &str, folder: &Path) -> Result<Self> {
        let path = PathBuf::from(format!("/run/spinegate-lab-{name}.claim"));
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(|| format!("can't write {}: labs need root", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("another process is using lab {name}: wait for its end, or give yours another --name")
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).context(format!("can't lock {}", path.display()));
            }
        }
        let mut owner = String::new();
        file.read_to_string(&mut owner)?;
        let owner = Path::new(owner.trim());
        if owner != folder && Files::in_folder(owner).is_lab() {
            bail!(
                "lab {name} is up in {}: bring it down with --dir of that folder, or give yours another --name",
                owner.display()
            );
        }
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(folder.as_os_str().as_encoded_bytes())?;
        Ok(Self { path, _lock: file })
    }

    /// Forgets the folder: no lab of this name is up any more.
    pub(super) fn release(&self) {
        let _ = fs::remove_file(&self.path);
    }
}
