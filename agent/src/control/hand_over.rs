//! From one agent to its successor: the listening sockets and the lock go over the control socket (`SCM_RIGHTS`), so that
//! not for a moment does nobody listen.
//!
//! An upgrade is between versions, so these two calls are the same in all of them: a JSON object a line, as everything was
//! asked before there was HTTP, and told from that by its first byte. Descriptors come with a byte of the stream, which no
//! layer of HTTP in between should have to know of.

use std::{
    io::{self, BufRead as _, BufReader, IoSlice, IoSliceMut, Write as _},
    mem::MaybeUninit,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::net::UnixStream as BlockingStream,
    },
    path::Path,
    time::Duration,
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::{io::Interest, net::UnixStream};

use super::{Failure, FailureKind};

/// What the calls say of their version. Nothing hangs on it any more.
const VERSION: u32 = 6;
/// What begins a call, and no HTTP method.
pub(super) const FIRST_BYTE: u8 = b'{';

/// Sockets that can go over at once, the control socket and its lock among them.
const MOST: usize = 64;
/// How long the predecessor may take over each of its answers.
const PATIENCE: Duration = Duration::from_secs(40);

/// What the agent gives to its successor.
pub struct Estate<'a> {
    /// Its listening TCP sockets.
    pub sockets: Vec<OwnedFd>,
    /// What stands still until the successor has taken over or gone: dropped then.
    pub still: Box<dyn Send + 'a>,
}

impl std::fmt::Debug for Estate<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Estate")
            .field("sockets", &self.sockets)
            .finish_non_exhaustive()
    }
}

/// What one agent has another do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub(super) enum Step {
    /// Give its listening sockets. It goes on as before until [`Step::StandDown`] comes on the same connection; until that
    /// ends, nobody can change anything.
    HandOver,
    /// The successor serves: accept no more, finish all that is under way, and end.
    StandDown,
}

/// Reads a line: a step, or else what whoever sent it can be told. That is the command of an agent before HTTP, which
/// prints what is wrong.
pub(super) fn read(line: &[u8]) -> Result<Step, Vec<u8>> {
    #[derive(Deserialize)]
    struct Call {
        request: Step,
    }
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    if let Ok(Call { request }) = serde_json::from_slice(line) {
        return Ok(request);
    }
    let version = serde_json::from_slice(line).map_or(VERSION, |call: Versioned| call.version);
    let failure = Failure::new(
        FailureKind::Usage,
        concat!(
            "the agent is of version ",
            env!("CARGO_PKG_VERSION"),
            ", and speaks HTTP here"
        ),
        "use the `spinegate` command of the running agent, or restart the agent",
    );
    Err(line_of(version, &refusal(&failure)))
}

/// The line that an answer is.
pub(super) fn answer(answer: &Result<String, Failure>) -> Vec<u8> {
    match answer {
        Ok(done) => line_of(VERSION, &json!({ "answer": "done", "body": done })),
        Err(failure) => line_of(VERSION, &refusal(failure)),
    }
}

fn refusal(failure: &Failure) -> serde_json::Value {
    // Kinds that came later are refusals to whoever does not know them.
    let kind = match failure.kind {
        FailureKind::Usage => "usage",
        FailureKind::NotFound => "not_found",
        FailureKind::Internal => "internal",
        FailureKind::Refused | FailureKind::Forbidden | FailureKind::Busy => "refused",
    };
    json!({ "answer": "error", "body": { "kind": kind, "message": failure.message, "mend": failure.mend } })
}

fn line_of(version: u32, response: &serde_json::Value) -> Vec<u8> {
    format!("{}\n", json!({ "version": version, "response": response })).into_bytes()
}

/// Sends an answer with descriptors at its first byte.
pub(super) async fn send(stream: &UnixStream, line: &[u8], sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
    if sockets.len() > MOST {
        return Err(io::Error::other(format!("more than {MOST} sockets")));
    }
    let sent = stream
        .async_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            control.push(SendAncillaryMessage::ScmRights(sockets));
            let sent = rustix::net::sendmsg(
                stream.as_fd(),
                &[IoSlice::new(line)],
                &mut control,
                SendFlags::NOSIGNAL,
            );
            Ok(sent?)
        })
        .await?;
    // A fresh connection takes a line of this length at once.
    if sent < line.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    Ok(())
}

/// An agent that is about to be taken over from: it goes on as before until it is told to stand down, or for good if that
/// never happens.
#[derive(Debug)]
pub struct Predecessor {
    stream: BlockingStream,
}

/// What came from a predecessor.
#[derive(Debug)]
pub struct Inheritance {
    pub(super) lock: OwnedFd,
    pub(super) control: OwnedFd,
    /// Its listening TCP sockets.
    pub sockets: Vec<OwnedFd>,
}

/// Why nothing can be taken over.
#[derive(Debug, thiserror::Error)]
pub enum HandOverError {
    /// The agent will not.
    #[error("the running agent does not hand over: {0}")]
    Refused(String),
    /// The connection broke, or the answer is not understood.
    #[error(
        "the running agent does not hand over: {0}; restart it instead, the filter stays in force meanwhile"
    )]
    Broken(#[from] io::Error),
}

/// As much of an answer as all versions have in common.
#[derive(Deserialize)]
struct Reply {
    response: Said,
}

#[derive(Deserialize)]
struct Said {
    answer: String,
    #[serde(default)]
    body: serde_json::Value,
}

impl Predecessor {
    /// Asks the agent behind a socket for what it listens on; none if there is no agent.
    ///
    /// # Errors
    /// If it refuses, or gives no sound answer.
    pub fn ask(socket: &Path) -> Result<Option<(Self, Inheritance)>, HandOverError> {
        let stream = match BlockingStream::connect(socket) {
            Ok(stream) => stream,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        call(&stream, Step::HandOver)?;
        let (line, sockets) = receive(&stream)?;
        understand(&line)?;
        let mut sockets = sockets.into_iter();
        match (sockets.next(), sockets.next()) {
            (Some(lock), Some(control)) => {
                let inheritance = Inheritance {
                    lock,
                    control,
                    sockets: sockets.collect(),
                };
                Ok(Some((Self { stream }, inheritance)))
            }
            _ => Err(io::Error::other("its sockets did not come with its answer").into()),
        }
    }

    /// Has it stop accepting, finish what is under way, and end. Gives its answer; none if it has ended before.
    ///
    /// # Errors
    /// If it refuses, or does not answer in time.
    pub fn stand_down(self) -> Result<Option<String>, HandOverError> {
        let mut line = Vec::new();
        let asked = call(&self.stream, Step::StandDown)
            .and_then(|()| BufReader::new(&self.stream).read_until(b'\n', &mut line));
        match asked {
            // It is gone: nothing of it is in the way.
            Ok(0) => Ok(None),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                ) =>
            {
                Ok(None)
            }
            Ok(_) => understand(&line).map(Some),
            Err(error) => Err(error.into()),
        }
    }
}

fn call(mut stream: &BlockingStream, step: Step) -> io::Result<()> {
    let call = json!({ "version": VERSION, "request": step });
    stream.write_all(format!("{call}\n").as_bytes())
}

/// Reads a line and the descriptors that come with its first byte.
fn receive(stream: &BlockingStream) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut line = vec![0; 1 << 16];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(
        stream,
        &mut [IoSliceMut::new(&mut line)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    line.truncate(received.bytes);
    let sockets = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
            _ => None,
        })
        .flatten()
        .collect();
    if !line.ends_with(b"\n") {
        BufReader::new(stream).read_until(b'\n', &mut line)?;
    }
    Ok((line, sockets))
}

fn understand(line: &[u8]) -> Result<String, HandOverError> {
    let Reply { response } = serde_json::from_slice(line).map_err(io::Error::from)?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    match (response.answer.as_str(), &response.body) {
        ("done", said) => Ok(text(said)),
        ("error", failure) => {
            let part = |name: &str| failure.get(name).map(text).unwrap_or_default();
            Err(HandOverError::Refused(format!(
                "{}; {}",
                part("message"),
                part("mend")
            )))
        }
        (other, _) => Err(io::Error::other(format!("the answer {other:?} is not understood")).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_calls_are_what_they_were_in_every_version() {
        for (line, step) in [
            (r#"{"version":6,"request":{"verb":"hand_over"}}"#, Step::HandOver),
            (
                r#"{"version":99,"request":{"verb":"stand_down"}}"#,
                Step::StandDown,
            ),
        ] {
            assert_eq!(read(line.as_bytes()), Ok(step));
        }
        assert_eq!(
            answer(&Ok("x".to_owned())),
            b"{\"response\":{\"answer\":\"done\",\"body\":\"x\"},\"version\":6}\n"
        );
    }

    #[test]
    fn a_command_from_before_http_is_told_so_in_its_own_version() {
        let told = read(br#"{"version":5,"request":{"verb":"status"}}"#).unwrap_err();
        let told: serde_json::Value = serde_json::from_slice(&told).unwrap();
        assert_eq!(told["version"], 5);
        assert_eq!(told["response"]["body"]["kind"], "usage");
        let mend = told["response"]["body"]["mend"].as_str().unwrap();
        assert!(
            mend.contains("`spinegate` command of the running agent"),
            "{mend}"
        );
        assert!(read(b"{nonsense").is_err());
    }
}
