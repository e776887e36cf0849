//! A command's end of the socket: a call, and its answer or answers.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Answer, Call, Request, Response, VERSION};

/// Longer than the agent may take, so that its own answer arrives.
const PATIENCE: Duration = Duration::from_secs(40);
/// No agent answers with more: the allowlist and the verdicts are bounded by their maps.
const MAX_ANSWER: u64 = 256 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("the agent is not running; start it with `spinegate run`")]
    NotRunning,
    /// The socket is not for this user.
    #[error("{socket} may not be opened by this user; run the command as root, or as the agent's own user")]
    Denied {
        /// The socket.
        socket: PathBuf,
    },
    /// The connection broke.
    #[error("{socket}: {error}; see the agent's log")]
    Broken {
        /// The socket.
        socket: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The agent's answer is not understood.
    #[error(
        "{socket} gave an answer that is not understood ({fault}); use the `spinegate` command of the running agent"
    )]
    Answer {
        /// The socket.
        socket: PathBuf,
        /// What is wrong with it.
        fault: String,
    },
}

/// Makes one request of the agent that serves the socket.
///
/// # Errors
/// If there is no agent, or no sound answer. What the agent refuses is an answer: [`Response::Error`].
pub fn call(socket: &Path, request: Request) -> Result<Response, ClientError> {
    Answers::to(socket, request, Some(PATIENCE))?.receive()
}

/// Makes a request that has many answers, the next of which may be long in coming.
///
/// # Errors
/// If there is no agent.
pub fn stream(socket: &Path, request: Request) -> Result<Answers, ClientError> {
    Answers::to(socket, request, None)
}

/// The answers to one call.
#[derive(Debug)]
pub struct Answers {
    socket: PathBuf,
    reader: BufReader<UnixStream>,
    /// Why the call could not be sent: a peer that is turned away may be answered before it has sent all.
    unsent: Option<io::Error>,
}

impl Answers {
    fn to(socket: &Path, request: Request, patience: Option<Duration>) -> Result<Self, ClientError> {
        let broken = |error| ClientError::Broken {
            socket: socket.to_owned(),
            error,
        };
        let mut stream = UnixStream::connect(socket).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NotRunning,
            io::ErrorKind::PermissionDenied => ClientError::Denied {
                socket: socket.to_owned(),
            },
            _ => broken(error),
        })?;
        stream.set_read_timeout(patience).map_err(broken)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(broken)?;
        let mut line = serde_json::to_vec(&Call {
            version: VERSION,
            request,
        })
        .map_err(|error| broken(error.into()))?;
        line.push(b'\n');
        let unsent = stream.write_all(&line).err();
        Ok(Self {
            socket: socket.to_owned(),
            reader: BufReader::new(stream),
            unsent,
        })
    }

    /// Waits for the next answer.
    ///
    /// # Errors
    /// If there is no sound one. What the agent refuses is an answer: [`Response::Error`].
    pub fn receive(&mut self) -> Result<Response, ClientError> {
        let mut answer = Vec::new();
        let read = self
            .reader
            .by_ref()
            .take(MAX_ANSWER)
            .read_until(b'\n', &mut answer);
        if !answer.ends_with(b"\n") {
            if let Some(error) = self.unsent.take().or(read.err()) {
                return Err(ClientError::Broken {
                    socket: self.socket.clone(),
                    error,
                });
            }
            return Err(self.fault("it broke off: the agent is stopping, or busy with other commands"));
        }
        let answer: Answer =
            serde_json::from_slice(&answer).map_err(|error| self.fault(error.to_string()))?;
        if answer.version != VERSION {
            return Err(self.fault(format!("protocol version {}, not {VERSION}", answer.version)));
        }
        Ok(answer.response)
    }

    fn fault(&self, fault: impl Into<String>) -> ClientError {
        ClientError::Answer {
            socket: self.socket.clone(),
            fault: fault.into(),
        }
    }
}
