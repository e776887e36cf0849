//! Namespaces of this run's own: its loopback is nobody else's, and the kernel ends every process in them with this one.

use std::{
    env, fs,
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
    thread,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::{Pid, geteuid, getpid},
};
use spinegate_tests::command::Run;

/// The core of the servers.
pub(crate) const SERVER_CORE: usize = 0;
/// The core of everything else.
const LOAD_CORE: usize = 1;

/// The cores of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cores {
    /// Core 0, which it has for itself.
    One,
    /// Core 1 as well, which it shares with its load.
    Two,
}

impl Cores {
    pub(crate) const fn count(self) -> u32 {
        match self {
            Self::One => 1,
            Self::Two => 2,
        }
    }

    /// As `taskset` takes them.
    pub(crate) const fn list(self) -> &'static str {
        match self {
            Self::One => "0",
            Self::Two => "0,1",
        }
    }
}

/// Each of ten thousand connections is a descriptor. More than twice as many need a privilege that containers lack.
const DESCRIPTORS: u32 = 20_000;

/// Whether this process is the first of its namespaces.
pub(crate) fn is_isolated() -> bool {
    getpid() == Pid::from_raw(1)
}

/// Becomes a process that runs this one again, as the first of new namespaces.
pub(crate) fn run_again() -> Result<ExitCode> {
    if !geteuid().is_root() {
        bail!("this needs root, for namespaces of its own");
    }
    let cores = thread::available_parallelism()?.get();
    ensure!(
        cores > LOAD_CORE,
        "this needs two cores: one for the servers, one for their load"
    );
    let error = Command::new("prlimit")
        .arg(format!("--nofile={DESCRIPTORS}:"))
        .args([
            "unshare",
            "--net",
            "--pid",
            "--mount-proc",
            "--fork",
            "--kill-child",
        ])
        .arg(env::current_exe().context("can't tell where this program is")?)
        .args(env::args_os().skip(1))
        .exec();
    Err(error).context("running `prlimit` and `unshare` of util-linux")
}

/// Sets the namespaces up, and leaves core 0 to the servers.
pub(crate) fn prepare() -> Result<()> {
    Run::new("ip").args(["link", "set", "lo", "up"]).success()?;
    fs::write("/proc/sys/net/ipv4/ip_local_port_range", "2000 65000").context("more ports for clients")?;
    stay_on(LOAD_CORE)
}

/// Keeps the thread, and what it starts from now on, on a core.
pub(crate) fn stay_on(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &cores).with_context(|| format!("staying on core {core}"))
}
