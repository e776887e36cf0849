//! The worker's end.

use std::{
    io,
    net::{IpAddr, Shutdown},
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt as _},
    },
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::{Duration, SystemTime},
};

use ipnet::IpNet;
use serde::de::DeserializeOwned;
use spinegate_common::packet;
use tokio_util::sync::CancellationToken;

use super::{
    fingerprint::fingerprint,
    protocol::{
        ADDRESSES, Call, DROPS, Dropped, Figures, Interfaces, KeeperError, MAX_ANSWER, MAX_CALL, VERSION,
    },
    wire,
};
use crate::{
    config::{self, Source},
    filter::{Attachment, Counters, Explained, NewVerdict, Tally, Verdict},
    sources::{Entry, Sources},
};

/// How long the keeper may take to end: it finishes the call under way.
const FAREWELL: Duration = Duration::from_secs(5);

/// The keeper, as the worker sees it. It ends when this is dropped, and leaves everything in force.
#[derive(Debug)]
pub struct Keeper {
    stream: Mutex<UnixStream>,
    pid: u32,
    /// Until somebody [watches](Keeper::watch) it.
    child: Mutex<Option<Child>>,
    gone: CancellationToken,
    ended: Mutex<Option<mpsc::Receiver<()>>>,
}

impl Keeper {
    /// Starts the keeper of a configuration. Must come before the worker gives up what the keeper needs.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn start(config: &Path) -> Result<Self, KeeperError> {
        let failed = |error: io::Error| {
            KeeperError::Privilege(format!("the filter's keeper can't be started: {error}"))
        };
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        // By this name the running program is found whatever has become of its file.
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0("spinegate")
            .arg("--config")
            .arg(config)
            .arg("keeper")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null());
        // What systemd has for the service is the worker's.
        for name in [
            "LISTEN_FDS",
            "LISTEN_PID",
            "LISTEN_FDNAMES",
            "NOTIFY_SOCKET",
            "WATCHDOG_USEC",
            "WATCHDOG_PID",
        ] {
            command.env_remove(name);
        }
        let child = command.spawn().map_err(failed)?;
        drop(command);
        let pid = child.id();
        let keeper = Self {
            stream: Mutex::new(ours),
            pid,
            child: Mutex::new(Some(child)),
            gone: CancellationToken::new(),
            ended: Mutex::new(None),
        };
        keeper.ask::<()>(&Call::Hello { version: VERSION })?;
        Ok(keeper)
    }

    /// Its process.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Begins to wait for its end, on a thread: not before the worker is in its sandbox.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn watch(&self) -> io::Result<()> {
        let Some(mut child) = lock(&self.child).take() else {
            return Ok(());
        };
        let (end, ended) = mpsc::channel();
        *lock(&self.ended) = Some(ended);
        let noticed = self.gone.clone();
        thread::Builder::new()
            .name("keeper-watch".to_owned())
            .spawn(move || {
                let _ = child.wait();
                noticed.cancel();
                let _ = end.send(());
            })?;
        Ok(())
    }

    /// Returns when it has ended.
    pub async fn gone(&self) {
        self.gone.cancelled().await;
    }

    /// Puts the filter in force; false if the configuration has it off.
    ///
    /// # Errors
    /// As [`crate::filter::Filter::open`], and if the files do not say what was read in them.
    pub fn open(&self, config: &config::Filter, sources: &Sources) -> Result<bool, KeeperError> {
        let expected = fingerprint(config, &sources.all());
        self.ask(&Call::Open { expected })
    }

    /// Puts in force what the files say now; on trial, if there is an end to that.
    ///
    /// # Errors
    /// The old policy stays in force.
    pub fn apply(
        &self,
        config: &config::Filter,
        sources: &Sources,
        trial_until: Option<SystemTime>,
    ) -> Result<(), KeeperError> {
        let expected = fingerprint(config, &sources.all());
        self.ask(&Call::Apply {
            expected,
            trial_until,
        })
    }

    /// Keeps the configuration that is on trial.
    ///
    /// # Errors
    /// If the keeper has gone.
    pub fn keep_trial(&self) -> Result<(), KeeperError> {
        self.ask(&Call::KeepTrial)
    }

    /// Goes back to what was in force before the trial.
    ///
    /// # Errors
    /// If there is no trial, or the filter refuses.
    pub fn go_back(&self) -> Result<(), KeeperError> {
        self.ask(&Call::GoBack)
    }

    /// Adds an operator's source to the allowlist and its file.
    ///
    /// # Errors
    /// File and filter are as before.
    pub fn add_source(&self, source: &Source) -> Result<(), KeeperError> {
        self.ask(&Call::AddSource(Entry::from(source)))
    }

    /// Removes an operator's source.
    ///
    /// # Errors
    /// File and filter are as before.
    pub fn remove_source(&self, cidr: IpNet) -> Result<(), KeeperError> {
        self.ask(&Call::RemoveSource { cidr })
    }

    /// Takes out operators' sources whose time is over.
    ///
    /// # Errors
    /// File and filter are as before.
    pub fn drop_ended_sources(&self) -> Result<(), KeeperError> {
        self.ask(&Call::DropEndedSources)
    }

    /// As [`crate::filter::Filter::attach`]. Gives where the filter is attached.
    ///
    /// # Errors
    /// Names the first interface that could not be attached to, and the mend.
    pub fn attach(&self) -> Result<Vec<Attachment>, KeeperError> {
        self.ask(&Call::Attach)
    }

    /// The same, unless an operator has taken the filter off.
    ///
    /// # Errors
    /// As [`Keeper::attach`].
    pub fn reattach(&self) -> Result<(), KeeperError> {
        self.ask(&Call::Reattach)
    }

    /// As [`crate::filter::Filter::detach`].
    ///
    /// # Errors
    /// If a pin can't be removed.
    pub fn detach(&self) -> Result<Vec<String>, KeeperError> {
        self.ask(&Call::Detach)
    }

    /// How the filter is attached.
    ///
    /// # Errors
    /// If the keeper has gone.
    pub fn interfaces(&self) -> Result<Interfaces, KeeperError> {
        self.ask(&Call::Interfaces)
    }

    /// What the filter has counted.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn counters(&self) -> Result<Counters, KeeperError> {
        self.ask(&Call::Counters)
    }

    /// Drop events that were only counted.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn lost_events(&self) -> Result<u64, KeeperError> {
        self.ask(&Call::LostEvents)
    }

    /// What entries of the allowlist let pass, one by one.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn passed(&self, entries: &[IpNet]) -> Result<Vec<Option<Tally>>, KeeperError> {
        let mut passed = Vec::with_capacity(entries.len());
        for some in entries.chunks(ADDRESSES) {
            let entries = some.to_vec();
            passed.extend(self.ask::<Vec<Option<Tally>>>(&Call::Passed { entries })?);
        }
        Ok(passed)
    }

    /// Reaches a verdict, from the next packet on; false if one stands that it does not replace.
    ///
    /// # Errors
    /// If the map is full, or the kernel or the keeper refuses it.
    pub fn judge(&self, source: IpNet, verdict: NewVerdict) -> Result<bool, KeeperError> {
        self.ask(&Call::Judge { source, verdict })
    }

    /// Lifts a verdict; false if there was none in force.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn lift(&self, source: IpNet) -> Result<bool, KeeperError> {
        self.ask(&Call::Lift { source })
    }

    /// The verdicts in force.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn verdicts(&self) -> Result<Vec<Verdict>, KeeperError> {
        self.ask(&Call::Verdicts)
    }

    /// The verdict on the very same address or prefix.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn verdict_on(&self, source: IpNet) -> Result<Option<Verdict>, KeeperError> {
        self.ask(&Call::VerdictOn { source })
    }

    /// The verdicts that an address is judged by.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn verdicts_over(&self, address: IpAddr) -> Result<Vec<Verdict>, KeeperError> {
        self.ask(&Call::VerdictsOver { address })
    }

    /// Deletes verdicts that have expired.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn forget_expired(&self) -> Result<usize, KeeperError> {
        self.ask(&Call::ForgetExpired)
    }

    /// Sampled drops that have not been asked for yet, and whether there may be more.
    ///
    /// # Errors
    /// If the keeper has gone.
    pub fn drops(&self) -> Result<(Vec<Dropped>, bool), KeeperError> {
        let drops: Vec<_> = self.ask(&Call::Drops)?;
        let more = drops.len() == DROPS;
        Ok((drops, more))
    }

    /// As [`crate::filter::Filter::explain`].
    ///
    /// # Errors
    /// If the kernel refuses the frame.
    pub fn explain(&self, frame: &[u8]) -> Result<Explained, KeeperError> {
        let mut explained: Explained = self.ask(&Call::Explain {
            frame: frame.to_vec(),
        })?;
        // Where the parser stops is the outcome's reason, and what came before it is filled in.
        let _ = packet::parse(&frame, &mut explained.packet);
        Ok(explained)
    }

    /// Figures for the status.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn figures(&self) -> Result<Figures, KeeperError> {
        self.ask(&Call::Figures)
    }

    fn ask<T: DeserializeOwned>(&self, call: &Call) -> Result<T, KeeperError> {
        let mut stream = lock(&self.stream);
        wire::send(&mut *stream, call, MAX_CALL).map_err(KeeperError::gone)?;
        let answer = wire::receive(&mut *stream, MAX_ANSWER)
            .and_then(|answer| answer.ok_or_else(|| io::ErrorKind::UnexpectedEof.into()))
            .map_err(KeeperError::gone)?;
        drop(stream);
        wire::parse::<Result<T, KeeperError>>(&answer).map_err(KeeperError::gone)?
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let stream = self.stream.get_mut().unwrap_or_else(PoisonError::into_inner);
        // It may have gone already.
        let _ = stream.shutdown(Shutdown::Both);
        if let Some(ended) = lock(&self.ended).take() {
            let _ = ended.recv_timeout(FAREWELL);
        }
        if let Some(mut child) = lock(&self.child).take() {
            let _ = child.wait();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
