//! A command's end of the socket: one call, one answer.

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
    let broken = |error| ClientError::Broken {
        socket: socket.to_owned(),
        error,
    };
    let fault = |fault: String| ClientError::Answer {
        socket: socket.to_owned(),
        fault,
    };
    let mut stream = UnixStream::connect(socket).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NotRunning,
        io::ErrorKind::PermissionDenied => ClientError::Denied {
            socket: socket.to_owned(),
        },
        _ => broken(error),
    })?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(broken)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(broken)?;

    let mut line = serde_json::to_vec(&Call {
        version: VERSION,
        request,
    })
    .map_err(|error| broken(error.into()))?;
    line.push(b'\n');
    let sent = stream.write_all(&line);
    let mut answer = Vec::new();
    let read = BufReader::new(stream.take(MAX_ANSWER)).read_until(b'\n', &mut answer);
    if !answer.ends_with(b"\n") {
        // A peer that is turned away may be answered before it has sent all.
        sent.and(read.map(drop)).map_err(broken)?;
        return Err(fault(
            "it broke off: the agent is stopping, or busy with other commands".to_owned(),
        ));
    }
    let answer: Answer = serde_json::from_slice(&answer).map_err(|error| fault(error.to_string()))?;
    if answer.version != VERSION {
        return Err(fault(format!(
            "protocol version {}, not {VERSION}",
            answer.version
        )));
    }
    Ok(answer.response)
}
