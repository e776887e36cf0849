//! What the agent's processes give up: user, capabilities, files, system calls.
//!
//! All of this is of a thread and not of a process, so it is done while there is one thread alone.

mod account;
mod calls;
mod capabilities;
mod files;
mod folders;

use std::{fs, io, path::PathBuf};

use rustix::process::DumpableBehavior;

pub use files::Reach;

use crate::config::Config;

/// Why a process can't give up what it must not have.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// It is another user, and may not become this one.
    #[error(
        "`run.user` is the user {uid}, and only root can become another user: start the agent as root, or as that user"
    )]
    NotRoot {
        /// The user.
        uid: u32,
    },
    /// The agent's user can't do with a file what the agent must.
    #[error("{path}: the user {user} may not {action} it: {mend}")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The user.
        user: u32,
        /// read or write
        action: &'static str,
        /// What to do.
        mend: String,
    },
    /// The system refused.
    #[error("{step}: {error}; the agent runs as root, or with the capabilities of its systemd unit")]
    Step {
        /// What was tried.
        step: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// It has threads that would keep what is given up.
    #[error("{0} threads are running already: this is a fault of the agent's; `run.user` can't be held to")]
    Threads(usize),
}

impl SandboxError {
    fn step(step: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Step { step, error }
    }
}

/// Gives up for good what the worker does not need once its sockets are bound. Says what this kernel could not take.
///
/// # Errors
/// The worker must not go on then.
pub fn enter_worker(config: &Config, reach: &Reach) -> Result<Vec<String>, SandboxError> {
    match fs::read_dir("/proc/self/task").map(Iterator::count) {
        Ok(1) => {}
        Ok(threads) => return Err(SandboxError::Threads(threads)),
        Err(error) => return Err(SandboxError::step("counting threads")(error)),
    }
    let mut missing = Vec::new();
    let account = account::Account::of(&config.run)?;
    folders::make(config, account.as_ref())?;
    if let Some(account) = &account {
        account.become_it()?;
    }
    capabilities::keep(rustix::thread::CapabilitySet::empty())?;
    seal()?;
    folders::check(config, account.as_ref())?;
    missing.extend(reach.restrict()?);
    missing.extend(calls::restrict()?);
    if rustix::process::geteuid().is_root() {
        missing.push(
            "the agent serves the network as root, though without capabilities: name a user of its own in `run.user`".to_owned(),
        );
    }
    Ok(missing)
}

/// Gives up what the keeper does not need: it keeps what it takes to load and attach the filter.
///
/// # Errors
/// The keeper must not go on then.
pub fn enter_keeper() -> Result<(), SandboxError> {
    use rustix::thread::CapabilitySet as Set;
    capabilities::keep(Set::BPF | Set::NET_ADMIN | Set::PERFMON)?;
    seal()
}

/// No program that is started has more, and no other process of the user looks into this one.
fn seal() -> Result<(), SandboxError> {
    rustix::thread::set_no_new_privs(true)
        .map_err(|error| SandboxError::step("giving up new privileges")(error.into()))?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| SandboxError::step("keeping the memory from other processes")(error.into()))
}
