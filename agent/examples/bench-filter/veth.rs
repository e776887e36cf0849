//! Pairs of virtual interfaces: frames are sent out of one end and received at the other.

use std::fs;

use anyhow::{Context as _, Result};
use nix::{
    mount::{MsFlags, mount},
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use crate::{frames, shell};

pub(crate) struct Pair {
    pub(crate) name: String,
    pub(crate) receiver: u32,
    pub(crate) sender: u32,
}

impl Pair {
    pub(crate) fn make(name: &str) -> Result<Self> {
        let sender = format!("{name}-s");
        #[rustfmt::skip]
        let add = ["link", "add", name, "address", frames::MAC, "type", "veth", "peer", "name", &sender];
        shell::run("ip", &add)?;
        for end in [name, &sender] {
            shell::run("ip", &["link", "set", end, "up"])?;
            // Redirected frames are taken only by an end that polls, and it polls for GRO even without a program.
            shell::run("ethtool", &["-K", end, "gro", "on"])?;
        }
        Ok(Self {
            name: name.to_owned(),
            receiver: index(name)?,
            sender: index(&sender)?,
        })
    }

    /// Has a thread of the kernel's receive its frames, on a core of its own.
    pub(crate) fn receive_on(&self, cpu: usize) -> Result<()> {
        let sysfs = tempfile::tempdir()?;
        // The one that is there shows another namespace's interfaces.
        mount(
            Some("sysfs"),
            sysfs.path(),
            Some("sysfs"),
            MsFlags::empty(),
            None::<&str>,
        )?;
        let threaded = sysfs.path().join("class/net").join(&self.name).join("threaded");
        let written = fs::write(&threaded, "1");
        nix::mount::umount(sysfs.path())?;
        written.with_context(|| threaded.display().to_string())?;
        for thread in threads(&format!("napi/{}-", self.name))? {
            pin(thread, cpu)?;
        }
        Ok(())
    }
}

/// Keeps a thread on a core; 0 is the caller.
pub(crate) fn pin(thread: i32, cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(thread), &set).context("keeping a thread on a core")
}

/// The kernel's threads with a name that begins so.
fn threads(beginning: &str) -> Result<Vec<i32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if beginning.starts_with(name.trim_end()) && !name.trim_end().is_empty()
            || name.starts_with(beginning)
        {
            found.push(pid);
        }
    }
    Ok(found)
}

fn index(interface: &str) -> Result<u32> {
    nix::net::if_::if_nametoindex(interface).with_context(|| format!("the index of {interface}"))
}
