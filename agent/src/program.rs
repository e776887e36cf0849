//! Which file a process runs: after an upgrade the running agent has one that is no longer in its place.

use std::{fs, io, os::unix::fs::MetadataExt as _};

use serde::{Deserialize, Serialize};

/// A file, whatever it is called by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramFile {
    /// The file system.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
}

impl ProgramFile {
    /// What this process runs.
    ///
    /// # Errors
    /// If there is no `/proc`.
    pub fn of_this_process() -> io::Result<Self> {
        let file = fs::metadata("/proc/self/exe")?;
        Ok(Self {
            device: file.dev(),
            inode: file.ino(),
        })
    }
}
