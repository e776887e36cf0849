//! A server under measurement: what it is, the CPU time that it has used, the memory that it holds.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{
    time::{ClockId, clock_gettime},
    unistd::Pid,
};
use spinegate_tests::{
    command::Run,
    lab::{Background, Files},
    wait::wait_for,
};

use crate::isolation::SERVER_CORE;

const PATIENCE: Duration = Duration::from_secs(20);

/// A running server. It ends when dropped.
pub(crate) struct Server {
    /// What the report calls it.
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    process: Option<Background>,
}

impl Server {
    /// Starts a server on its core, and waits until it accepts connections.
    pub(crate) fn start(name: &'static str, port: u16, files: &Files, run: &Run) -> Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut process = Background::start(name, run, files)?;
        wait_for("a server to accept connections", PATIENCE, || {
            process.must_run()?;
            Ok(TcpStream::connect(address).ok())
        })
        .with_context(|| process.tail())?;
        Ok(Self {
            name,
            address,
            process: Some(process),
        })
    }

    /// The CPU time that it and its workers have used, threads that have ended included.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let mut sum = Duration::ZERO;
        for process in self.processes()? {
            let clock = ClockId::pid_cpu_clock_id(process)?;
            sum += Duration::from(clock_gettime(clock)?);
        }
        Ok(sum)
    }

    /// Its share of the memory (PSS) with its workers', in KiB.
    pub(crate) fn memory(&self) -> Result<f64> {
        let mut sum = 0.0;
        for process in self.processes()? {
            let path = format!("/proc/{process}/smaps_rollup");
            let text = fs::read_to_string(&path).with_context(|| path.clone())?;
            let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
            let size = line.and_then(|line| line.split_whitespace().next());
            sum += size
                .with_context(|| format!("{path} has no Pss"))?
                .parse::<f64>()?;
        }
        Ok(sum)
    }

    fn processes(&self) -> Result<Vec<Pid>> {
        let process = self.process.as_ref().context("the server has ended")?;
        let master = process.id();
        let children = fs::read_to_string(format!("/proc/{master}/task/{master}/children"))?;
        let mut all = vec![Pid::from_raw(i32::try_from(master)?)];
        for child in children.split_whitespace() {
            all.push(Pid::from_raw(child.parse()?));
        }
        Ok(all)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            // Asked and not killed, so that workers end too; some die of the signal, which is an error to others.
            let _ = process.stop(PATIENCE);
        }
    }
}

/// A program that is to run on the servers' core.
pub(crate) fn on_server_core(program: impl AsRef<std::ffi::OsStr>) -> Run {
    Run::new("taskset")
        .args(["--cpu-list", &SERVER_CORE.to_string()])
        .arg(program)
}
