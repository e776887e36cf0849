//! A command's end of the socket: a call, and its answer or answers.

use std::{
    io,
    os::unix::net::UnixStream as Blocking,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::{Buf as _, Bytes, BytesMut};
use http::header;
use http_body_util::{BodyExt as _, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, runtime::Runtime, time::timeout};

use super::{Request, Response, wire};

/// Longer than the agent may take, so that its own answer arrives.
const PATIENCE: Duration = Duration::from_secs(40);
/// No agent answers with more: the allowlist and the verdicts are bounded by their maps.
const MAX_ANSWER: usize = 256 << 20;
/// Nor with a longer line.
const MAX_LINE: usize = 1 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("the agent is not running; start it with `spinegate run`")]
    NotRunning,
    /// The socket is not for this user.
    #[error(
        "{socket} may not be opened by this user; run the command as root, or as a member of `control.group`"
    )]
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
    let place = Place(socket.to_owned());
    let runtime = place.runtime()?;
    let answering = async {
        let answer = place.ask(&request).await?;
        let is_whole = answer.headers().get(header::CONTENT_TYPE) == Some(&wire::JSON);
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| place.broke_off(error.as_ref()))?.to_bytes();
        if !is_whole {
            return Err(place.fault("it is no JSON"));
        }
        place.parse(&body)
    };
    runtime.block_on(async {
        let late = || place.broken(io::ErrorKind::TimedOut.into());
        timeout(PATIENCE, answering).await.unwrap_or_else(|_| Err(late()))
    })
}

/// Makes a request that has many answers, the next of which may be long in coming.
///
/// # Errors
/// If there is no agent.
pub fn stream(socket: &Path, request: Request) -> Result<Answers, ClientError> {
    let place = Place(socket.to_owned());
    let runtime = place.runtime()?;
    let answer = runtime.block_on(place.ask(&request))?;
    let begins = answer.status().is_success();
    Ok(Answers {
        place,
        body: answer.into_body(),
        unread: BytesMut::new(),
        runtime,
        begins,
    })
}

/// The answers to one call.
#[derive(Debug)]
pub struct Answers {
    place: Place,
    body: Incoming,
    unread: BytesMut,
    runtime: Runtime,
    begins: bool,
}

impl Answers {
    /// Waits for the next answer.
    ///
    /// # Errors
    /// If there is no sound one. What the agent refuses is an answer: [`Response::Error`].
    pub fn receive(&mut self) -> Result<Response, ClientError> {
        if std::mem::take(&mut self.begins) {
            return Ok(Response::EventsBegin);
        }
        let line = self.runtime.block_on(line(&mut self.body, &mut self.unread));
        match line {
            Ok(Some(line)) => self.place.parse(&line),
            Ok(None) => Err(self.place.stopped()),
            Err(error) => Err(self.place.broke_off(error.as_ref())),
        }
    }
}

type Fault = Box<dyn std::error::Error + Send + Sync>;

/// The next line of a body; none at its end.
async fn line(body: &mut Incoming, unread: &mut BytesMut) -> Result<Option<Bytes>, Fault> {
    loop {
        if let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
            let line = unread.split_to(end).freeze();
            unread.advance(1);
            return Ok(Some(line));
        }
        if unread.len() > MAX_LINE {
            return Err("a line has no end".into());
        }
        match body.frame().await {
            Some(frame) => {
                if let Ok(data) = frame?.into_data() {
                    unread.extend_from_slice(&data);
                }
            }
            None if unread.is_empty() => return Ok(None),
            None => return Ok(Some(unread.split().freeze())),
        }
    }
}

/// The socket that is called.
#[derive(Debug)]
struct Place(PathBuf);

impl Place {
    fn runtime(&self) -> Result<Runtime, ClientError> {
        let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
        built.map_err(|error| self.broken(error))
    }

    async fn ask(&self, request: &Request) -> Result<http::Response<Incoming>, ClientError> {
        // In the blocking way: where many call at once it waits for its turn.
        let stream = Blocking::connect(&self.0).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NotRunning,
            io::ErrorKind::PermissionDenied => ClientError::Denied {
                socket: self.0.clone(),
            },
            _ => self.broken(error),
        })?;
        let stream = stream
            .set_nonblocking(true)
            .and_then(|()| UnixStream::from_std(stream));
        let stream = stream.map_err(|error| self.broken(error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.broke_off(&error))?;
        // It is driven whenever an answer is waited for. What becomes of it is told by the answer.
        drop(tokio::spawn(connection));
        let request = wire::write(request).map_err(|error| self.fault(error.to_string()))?;
        sender
            .send_request(request)
            .await
            .map_err(|error| match error.is_parse() {
                true => self.fault(format!("it is no HTTP: {error}")),
                false => self.broke_off(&error),
            })
    }

    fn parse(&self, body: &[u8]) -> Result<Response, ClientError> {
        serde_json::from_slice(body).map_err(|error| self.fault(error.to_string()))
    }

    /// The agent has gone away in the middle, or the system has something to say.
    fn broke_off(&self, error: &(dyn std::error::Error + 'static)) -> ClientError {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<io::Error>()
                && let Some(code) = error.raw_os_error()
            {
                return self.broken(io::Error::from_raw_os_error(code));
            }
            cause = error.source();
        }
        self.stopped()
    }

    fn stopped(&self) -> ClientError {
        self.fault("it broke off: the agent is stopping, or busy with other commands")
    }

    fn broken(&self, error: io::Error) -> ClientError {
        ClientError::Broken {
            socket: self.0.clone(),
            error,
        }
    }

    fn fault(&self, fault: impl Into<String>) -> ClientError {
        ClientError::Answer {
            socket: self.0.clone(),
            fault: fault.into(),
        }
    }
}
