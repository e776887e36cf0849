//! A small disk for the agent's audit log, to be filled.

use std::{fs, path::PathBuf};

use anyhow::{Result, ensure};

use crate::{
    command::Run,
    lab::{Lab, section},
    netns::Host,
};

/// A disk that the agent alone sees, and that ends with it.
#[derive(Debug)]
pub struct SmallDisk {
    /// Where this process finds it.
    folder: PathBuf,
}

impl SmallDisk {
    /// Starts the agent anew, with its audit log on such a disk.
    ///
    /// # Errors
    /// It can't be set up, or the agent does not start.
    pub fn under(lab: &mut Lab) -> Result<Self> {
        let folder = lab.files().folder().join("small");
        fs::create_dir_all(&folder)?;
        let log = folder.join("audit.jsonl").display().to_string();
        lab.configure(|table| {
            section(table, "audit").insert("file".to_owned(), log.into());
        })?;
        lab.stop_agent()?;
        let run = Run::inside(&lab.network().namespace(Host::Edge), "unshare")
            .args(["--mount", "sh", "-c"])
            .arg("mount -t tmpfs -o size=256k none \"$0\" && exec \"$@\"")
            .arg(&folder)
            .arg(lab.binary())
            .arg("--config")
            .arg(lab.files().config())
            .arg("run");
        lab.start_agent_by(&run)?;
        let root = PathBuf::from(format!("/proc/{}/root", lab.agent_process()?.id()));
        Ok(Self {
            folder: root.join(folder.strip_prefix("/")?),
        })
    }

    /// The audit log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.folder.join("audit.jsonl")
    }

    /// Fills it.
    ///
    /// # Errors
    /// There is room left.
    pub fn fill(&self) -> Result<()> {
        let filled = fs::write(self.filler(), vec![0; 1 << 20]);
        ensure!(filled.is_err(), "the disk is not full");
        Ok(())
    }

    /// Makes room again.
    ///
    /// # Errors
    /// It was not filled.
    pub fn make_room(&self) -> Result<()> {
        Ok(fs::remove_file(self.filler())?)
    }

    fn filler(&self) -> PathBuf {
        self.folder.join("filler")
    }
}
