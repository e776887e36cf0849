//! Where a lab keeps what.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

/// Marks a folder as a lab's, which may be removed with all it holds.
const MARKER: &str = ".spinegate-lab";
/// `sockaddr_un` holds 108 bytes with the final zero.
const SOCKET_PATH_LIMIT: usize = 107;

/// The folder of a lab.
#[derive(Clone, Debug)]
pub struct Files {
    folder: PathBuf,
}

impl Files {
    /// The folder of a lab that may or may not be there.
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// Makes the folder.
    ///
    /// # Errors
    /// It holds something that is no lab's, or can't be made, or its path is too long for a socket in it.
    pub fn make(folder: &Path) -> Result<Self> {
        let files = Self::in_folder(folder);
        let socket = files.socket();
        if socket.as_os_str().len() > SOCKET_PATH_LIMIT {
            bail!(
                "{} is longer than a socket's path may be ({SOCKET_PATH_LIMIT} bytes): use a shorter --dir",
                socket.display()
            );
        }
        fs::create_dir_all(folder).with_context(|| format!("can't make {}", folder.display()))?;
        if !files.is_lab() && fs::read_dir(folder)?.next().is_some() {
            bail!(
                "{} is not empty and no lab's folder: choose another --dir",
                folder.display()
            );
        }
        fs::write(files.folder.join(MARKER), "")?;
        Ok(files)
    }

    /// Whether the folder is there and a lab's.
    #[must_use]
    pub fn is_lab(&self) -> bool {
        self.folder.join(MARKER).exists()
    }

    /// Removes the folder, if it is a lab's.
    ///
    /// # Errors
    /// It can't be removed.
    pub fn remove(&self) -> Result<bool> {
        if !self.is_lab() {
            return Ok(false);
        }
        fs::remove_dir_all(&self.folder)
            .with_context(|| format!("can't remove {}", self.folder.display()))?;
        Ok(true)
    }

    /// The folder itself.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// `lab.json`: where everything is.
    #[must_use]
    pub fn record(&self) -> PathBuf {
        self.folder.join("lab.json")
    }

    /// The folder of certificates, keys and CRLs.
    #[must_use]
    pub fn pki(&self) -> PathBuf {
        self.folder.join("pki")
    }

    /// The agent's configuration.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.folder.join("spinegate.toml")
    }

    /// The systems that the agent knows.
    #[must_use]
    pub fn registry(&self) -> PathBuf {
        self.folder.join("registry.toml")
    }

    /// The sources that the operator added.
    #[must_use]
    pub fn sources(&self) -> PathBuf {
        self.folder.join("sources.json")
    }

    /// The agent's control socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.join("control.sock")
    }

    /// The agent's audit log.
    #[must_use]
    pub fn audit(&self) -> PathBuf {
        self.folder.join("audit.jsonl")
    }

    /// The record locator's database.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.folder.join("pointers.sqlite")
    }

    /// What a process of the lab printed.
    #[must_use]
    pub fn log(&self, process: &str) -> PathBuf {
        self.folder.join(format!("{process}.log"))
    }

    /// The number of a process of the lab.
    #[must_use]
    pub fn pid(&self, process: &str) -> PathBuf {
        self.folder.join(format!("{process}.pid"))
    }

    /// The numbers of the processes that the lab started, whether or not they still run.
    #[must_use]
    pub fn pids(&self) -> Vec<i32> {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return Vec::new();
        };
        entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "pid"))
            .filter_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_folder_that_a_lab_made_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        let foreign = parent.path().join("foreign");
        fs::create_dir(&foreign).unwrap();
        fs::write(foreign.join("thesis.txt"), "years of work").unwrap();
        assert!(
            Files::make(&foreign)
                .unwrap_err()
                .to_string()
                .contains("not empty")
        );
        assert!(!Files::in_folder(&foreign).remove().unwrap());
        assert!(foreign.join("thesis.txt").exists());

        let own = Files::make(&parent.path().join("own")).unwrap();
        assert!(own.remove().unwrap() && !own.folder().exists());
    }

    #[test]
    fn a_folder_too_deep_for_a_socket_is_refused() {
        let error = Files::make(&Path::new("/tmp").join("x".repeat(120)))
            .unwrap_err()
            .to_string();
        assert!(error.contains("shorter --dir"), "{error}");
    }
}
