//! Removes all that a lab of a name has left, whoever started it and however it ended.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{Files, claim::Claim, settings};
use crate::{netns::Network, wait::wait_until};

/// Brings the lab of a name down. Gives what was removed; nothing, if nothing was there.
///
/// # Errors
/// Another process is using the lab, or something of it can't be removed.
pub fn down(name: &str, folder: &Path) -> Result<Vec<String>> {
    let folder = std::path::absolute(folder)?;
    let claim = Claim::take(name, &folder)?;
    let removed = sweep(name, &folder)?;
    claim.release();
    Ok(removed)
}

/// Processes first, for they hold all the rest; then pins, then namespaces, then files.
pub(super) fn sweep(name: &str, folder: &Path) -> Result<Vec<String>> {
    let files = Files::in_folder(folder);
    let network = Network::named(name);
    let mut removed = Vec::new();

    let mut processes = network.processes()?;
    processes.extend(files.pids().into_iter().filter(|pid| works_in(*pid, folder)));
    processes.sort_unstable();
    processes.dedup();
    for pid in processes {
        match kill(Pid::from_raw(pid), Signal::SIGKILL) {
            Ok(()) => removed.push(format!("process {pid}")),
            Err(Errno::ESRCH) => {}
            Err(error) => return Err(error).context(format!("can't kill process {pid}")),
        }
    }
    wait_until("the lab's processes to end", Duration::from_secs(5), || {
        Ok(network.processes()?.is_empty())
    })?;

    let pins = settings::pins(name);
    if pins.exists() {
        remove_pins(&pins)?;
        removed.push(format!("pins {}", pins.display()));
    }
    removed.extend(
        network
            .down()?
            .into_iter()
            .map(|namespace| format!("namespace {namespace}")),
    );
    if files.remove()? {
        removed.push(format!("folder {}", folder.display()));
    }
    Ok(removed)
}

fn remove_pins(folder: &PathBuf) -> Result<()> {
    fs::remove_dir_all(folder).with_context(|| format!("can't remove the pins in {}", folder.display()))
}

/// Whether a process was started with a file of the folder: a number from a file alone may by now be another's.
fn works_in(pid: i32, folder: &Path) -> bool {
    let Ok(command) = fs::read(format!("/proc/{pid}/cmdline")) else {
        return false;
    };
    let folder = folder.as_os_str().as_encoded_bytes();
    command
        .split(|byte| *byte == 0)
        .any(|argument| argument.starts_with(folder))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Run;

    #[test]
    fn a_process_is_the_labs_only_if_it_was_started_with_one_of_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("followed");
        fs::write(&file, "").unwrap();
        let mut child = Run::new("tail").arg("-f").arg(&file).command().spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        wait_until("tail to be running", Duration::from_secs(5), || {
            Ok(works_in(pid, folder.path()))
        })
        .unwrap();
        assert!(!works_in(pid, Path::new("/somewhere/else")));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!works_in(pid, folder.path()));
    }
}
