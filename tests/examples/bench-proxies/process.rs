//! A server under measurement: what it is, the CPU time that it has used, the memory that it holds.

use std::{
    ffi::OsStr,
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

use crate::isolation::Cores;

const PATIENCE: Duration = Duration::from_secs(20);

/// Where a server sits: one of its kind at a port, on these cores.
#[derive(Clone, Copy)]
pub(crate) struct Seat {
    /// What the report calls it.
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    pub(crate) cores: Cores,
}

impl Seat {
    /// What its files are called.
    pub(crate) fn file(&self) -> String {
        format!("{}-{}", self.name, self.port)
    }

    /// A program on its cores.
    pub(crate) fn run(&self, program: impl AsRef<OsStr>) -> Run {
        Run::new("taskset")
            .args(["--cpu-list", self.cores.list()])
            .arg(program)
    }
}

/// A running server. It ends when dropped.
pub(crate) struct Server {
    /// What the report calls it.
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) cores: Cores,
    process: Option<Background>,
}

impl Server {
    /// Starts a server on its cores, and waits until it accepts connections.
    pub(crate) fn start(seat: Seat, files: &Files, run: &Run) -> Result<Self> {
        let Seat { name, port, cores } = seat;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut process = Background::start(&seat.file(), run, files)?;
        wait_for("a server to accept connections", PATIENCE, || {
            process.must_run()?;
            Ok(TcpStream::connect(address).ok())
        })
        .with_context(|| process.tail())?;
        Ok(Self {
            name,
            address,
            cores,
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
