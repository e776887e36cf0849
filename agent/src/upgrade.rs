//! From the running agent to one of a newer program: the old one is asked what it runs, and the new one is started beside it.

use std::{
    env, io,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    control::{self, ClientError, Request, Response},
    program::ProgramFile,
};

/// How long a new agent may take until it serves.
const PATIENCE: Duration = Duration::from_secs(80);
const PAUSE: Duration = Duration::from_millis(100);

/// Why no new agent has taken over. The old one goes on.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// The running agent.
    #[error(transparent)]
    Agent(#[from] ClientError),
    /// The new one can't be started.
    #[error("a new agent can't be started: {0}; the old one goes on")]
    Start(#[from] io::Error),
    /// The new one has ended.
    #[error("the new agent has ended ({0}), and the old one goes on; the new one's log says why")]
    Ended(ExitStatus),
    /// The new one does not serve.
    #[error("the new agent (process {pid}) has not served within {} s; `spinegate status` shows who does", PATIENCE.as_secs())]
    Late {
        /// Its process.
        pid: u32,
    },
}

/// Whether the agent behind a socket runs another file than this process does. An agent whose answer is not understood does.
///
/// # Errors
/// If there is no agent, or it can't be asked.
pub fn is_due(socket: &Path) -> Result<bool, UpgradeError> {
    let mine = ProgramFile::of_this_process()?;
    match control::call(socket, Request::Status) {
        Ok(Response::Status(status)) => Ok(status.program != Some(mine)),
        Ok(_) | Err(ClientError::Answer { .. }) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Starts this process's program as an agent that takes over, and waits until it serves. Gives its process.
///
/// # Errors
/// If it does not; the old one then goes on.
pub fn take_over(config: &Path, socket: &Path) -> Result<u32, UpgradeError> {
    let mut agent = Command::new(env::current_exe()?)
        .arg("--config")
        .arg(config)
        .args(["run", "--take-over"])
        .stdin(Stdio::null())
        .spawn()?;
    serving(&mut agent, socket)?;
    Ok(agent.id())
}

fn serving(agent: &mut Child, socket: &Path) -> Result<(), UpgradeError> {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        if let Some(status) = agent.try_wait()? {
            return Err(UpgradeError::Ended(status));
        }
        // The old one answers until it has stood down; while it does, its answer may not be understood.
        if let Ok(Response::Status(status)) = control::call(socket, Request::Status)
            && status.pid == agent.id()
        {
            return Ok(());
        }
        thread::sleep(PAUSE);
    }
    Err(UpgradeError::Late { pid: agent.id() })
}
