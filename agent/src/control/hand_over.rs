//! From one agent to its successor: the listening sockets and the lock go over the control socket (`SCM_RIGHTS`), so that
//! not for a moment does nobody listen.
//!
//! These two calls are the same in every version of the protocol: an upgrade is between versions.

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
use serde::Deserialize;
use tokio::{io::Interest, net::UnixStream};

use super::{Request, VERSION};

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
        call(&stream, &Request::HandOver)?;
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
        let asked = call(&self.stream, &Request::StandDown)
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

fn call(mut stream: &BlockingStream, request: &Request) -> io::Result<()> {
    let call = serde_json::json!({ "version": VERSION, "request": request });
    let mut line = serde_json::to_vec(&call)?;
    line.push(b'\n');
    stream.write_all(&line)
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
