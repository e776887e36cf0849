//! The agent's end of the socket.

use std::{future::Future, io, os::fd::AsFd as _, path::Path, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Semaphore,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use super::{
    Answer, BindError, Call, ErrorFeed, Errors, Estate, Failure, FailureKind, Feed, Inheritance, Journal,
    Request, Response, VERSION, hand_over, socket::Socket,
};

/// The longest line that a client may send, in bytes: a request to be explained may have a body of some size.
pub const MAX_LINE: u64 = 4 << 20;
/// Clients served at once.
const MAX_CLIENTS: usize = 16;
/// How long a client may take to send a line, or to take an answer.
const CLIENT_LIMIT: Duration = Duration::from_secs(10);
/// How long the agent may take over a request.
const WORK_LIMIT: Duration = Duration::from_secs(30);
/// The pause after a failed accept: out of file descriptors is out of them for a while.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who is at the other end, as the kernel knows (`SO_PEERCRED`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The effective user.
    pub uid: u32,
    /// The process, where the kernel tells.
    pub pid: Option<i32>,
}

/// What the agent can do for an operator.
pub trait Operations: Send + Sync + 'static {
    /// Carries a request out, and writes what changes something to the audit log under the peer's name.
    fn perform(&self, peer: Peer, request: Request)
    -> impl Future<Output = Result<Response, Failure>> + Send;

    /// What [`Request::HandOver`] gives away; nothing that it may change changes while it is held.
    fn hand_over(&self) -> impl Future<Output = Result<Estate<'_>, Failure>> + Send;

    /// Leaves everything to the successor.
    fn stand_down(
        &self,
        peer: Peer,
        estate: Estate<'_>,
    ) -> impl Future<Output = Result<Response, Failure>> + Send;

    /// What [`Request::Events`] is answered from.
    fn journal(&self) -> &Journal;

    /// What [`Request::Errors`] is answered from.
    fn errors(&self) -> &Errors;
}

/// The listening socket.
#[derive(Debug)]
pub struct Server {
    own: Arc<Own>,
}

/// What every client's task has of the server.
#[derive(Debug)]
struct Own {
    listener: UnixListener,
    /// Removes the socket at the end.
    socket: Socket,
    uid: u32,
    /// One successor at a time.
    succession: Semaphore,
}

impl Server {
    /// Listens on a socket of mode 0660; makes its folder, and replaces the socket of a dead agent. Needs a runtime.
    ///
    /// # Errors
    /// If another agent is running, or the system refuses.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let (socket, listener) = Socket::bind(path)?;
        Self::over(path, socket, listener)
    }

    /// Goes on with the socket of the agent before this one. Gives the other sockets of that back.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn inherit(
        path: &Path,
        inheritance: Inheritance,
    ) -> Result<(Self, Vec<std::os::fd::OwnedFd>), BindError> {
        let Inheritance {
            lock,
            control,
            sockets,
        } = inheritance;
        let server = Self::over(path, Socket::inherit(path, lock), control.into())?;
        Ok((server, sockets))
    }

    fn over(
        path: &Path,
        socket: Socket,
        listener: std::os::unix::net::UnixListener,
    ) -> Result<Self, BindError> {
        let listener = UnixListener::from_std(listener).map_err(|error| BindError::Io {
            path: path.to_owned(),
            error,
        })?;
        let own = Own {
            listener,
            socket,
            uid: nix::unistd::geteuid().as_raw(),
            succession: Semaphore::new(1),
        };
        Ok(Self { own: Arc::new(own) })
    }

    /// The agent before this one has stood down: the socket goes when this one ends.
    pub fn own(&self) {
        self.own.socket.leave(false);
    }

    /// Serves until `stop`; then waits for the requests under way and removes the socket.
    pub async fn serve<O: Operations>(self, operations: Arc<O>, stop: CancellationToken) {
        let slots = Arc::new(Semaphore::new(MAX_CLIENTS));
        let clients = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.own.listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!(%error, "The control socket accepts no client.");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
                // Not answered: an answer would need a slot of its own.
                debug!("A client of the control socket was turned away: {MAX_CLIENTS} are connected.");
                continue;
            };
            let (operations, own, stop) = (Arc::clone(&operations), Arc::clone(&self.own), stop.clone());
            clients.spawn(async move {
                if let Err(error) = client(stream, &own, operations.as_ref(), &stop).await {
                    debug!(%error, "A client of the control socket was dropped.");
                }
                drop(slot);
            });
        }
        clients.close();
        clients.wait().await;
    }
}

async fn client<O: Operations>(
    stream: UnixStream,
    own: &Own,
    operations: &O,
    stop: &CancellationToken,
) -> io::Result<()> {
    let credentials = stream.peer_cred()?;
    let peer = Peer {
        uid: credentials.uid(),
        pid: credentials.pid(),
    };
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        if !may_order(peer.uid, own.uid) {
            return send(&mut writer, Err(not_allowed(peer.uid))).await;
        }
        let line = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            line = timeout(CLIENT_LIMIT, read_line(&mut reader)) => line??,
        };
        let line = match line {
            Line::End => return Ok(()),
            Line::TooLong => return send(&mut writer, Err(too_long())).await,
            Line::Whole(line) => line,
        };
        let response = match parse(&line) {
            Ok(Request::Events(wanted)) => match operations.journal().feed(&wanted) {
                Ok(feed) => {
                    send(&mut writer, Ok(Response::EventsBegin)).await?;
                    relay(Source::Events(feed), &mut reader, &mut writer, stop).await?;
                    let lost_events = operations.journal().lost();
                    Ok(Response::EventsEnd { lost_events })
                }
                Err(failure) => Err(failure),
            },
            Ok(Request::Errors(wanted)) => match operations.errors().feed(&wanted) {
                Ok(feed) => {
                    send(&mut writer, Ok(Response::EventsBegin)).await?;
                    relay(Source::Errors(feed), &mut reader, &mut writer, stop).await?;
                    Ok(Response::EventsEnd { lost_events: 0 })
                }
                Err(failure) => Err(failure),
            },
            Ok(Request::HandOver) => {
                return succeed(own, operations, peer, (&mut reader, &mut writer), stop).await;
            }
            Ok(Request::StandDown) => Err(no_successor()),
            Ok(request) => answer(request, peer, operations).await,
            Err(failure) => Err(failure),
        };
        send(&mut writer, response).await?;
    }
}

async fn send(writer: &mut OwnedWriteHalf, response: Result<Response, Failure>) -> io::Result<()> {
    let line = line_of(response.unwrap_or_else(Response::Error))?;
    timeout(CLIENT_LIMIT, writer.write_all(&line)).await?
}

fn line_of(response: Response) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(&Answer {
        version: VERSION,
        response,
    })?;
    line.push(b'\n');
    Ok(line)
}

/// What a caller follows.
enum Source {
    Events(Feed),
    Errors(ErrorFeed),
}

impl Source {
    async fn next(&mut self) -> Option<Response> {
        match self {
            Self::Events(feed) => feed.next().await,
            Self::Errors(feed) => feed.next().await,
        }
    }
}

/// Sends events until there are no more, the client goes away or makes another call, or the agent stops.
async fn relay(
    mut feed: Source,
    reader: &mut BufReader<OwnedReadHalf>,
    writer: &mut OwnedWriteHalf,
    stop: &CancellationToken,
) -> io::Result<()> {
    loop {
        let response = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            response = feed.next() => response,
            // Another call, or the end: the line is left for the one who reads calls.
            more = reader.fill_buf() => more.map(|_| None)?,
        };
        let Some(response) = response else {
            return Ok(());
        };
        let line = line_of(response)?;
        // Without a limit: a client that is slow loses events and is told so, but may stay, as a pager does.
        tokio::select! {
            biased;
            sent = writer.write_all(&line) => sent?,
            () = stop.cancelled() => return Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

/// Gives a successor what this agent listens on, and stands down when it says so. If it goes away instead, nothing has
/// happened.
async fn succeed<O: Operations>(
    own: &Own,
    operations: &O,
    peer: Peer,
    (reader, writer): (&mut BufReader<OwnedReadHalf>, &mut OwnedWriteHalf),
    stop: &CancellationToken,
) -> io::Result<()> {
    let Ok(_permit) = own.succession.try_acquire() else {
        return send(writer, Err(succession_under_way())).await;
    };
    let estate = match timeout(WORK_LIMIT, operations.hand_over()).await {
        Ok(Ok(estate)) => estate,
        Ok(Err(failure)) => return send(writer, Err(failure)).await,
        Err(_) => return send(writer, Err(succession_under_way())).await,
    };
    let given = [own.socket.lock(), own.listener.as_fd()].into_iter();
    let given: Vec<_> = given
        .chain(estate.sockets.iter().map(|socket| socket.as_fd()))
        .collect();
    let line = line_of(Response::Done("these are the sockets".to_owned()))?;
    hand_over::send(writer.as_ref(), &line, &given).await?;
    // It loads the filter's program now, among other things.
    let line = tokio::select! {
        () = stop.cancelled() => {
            // This agent ends of itself: the successor goes on with what it has, the socket's name with it.
            own.socket.leave(true);
            return Ok(());
        }
        line = timeout(WORK_LIMIT, read_line(reader)) => line??,
    };
    if let Line::Whole(line) = line
        && let Ok(Request::StandDown) = parse(&line)
    {
        let response = operations.stand_down(peer, estate).await;
        if response.is_ok() {
            own.socket.leave(true);
        }
        return send(writer, response).await;
    }
    Ok(())
}

/// The socket's mode lets a group connect, for later roles; who may order is decided here.
const fn may_order(uid: u32, own_uid: u32) -> bool {
    uid == 0 || uid == own_uid
}

async fn answer<O: Operations>(request: Request, peer: Peer, operations: &O) -> Result<Response, Failure> {
    let verb = request.verb();
    timeout(WORK_LIMIT, operations.perform(peer, request))
        .await
        .unwrap_or_else(|_| {
            let message = format!("`{verb}` was not done within {} s", WORK_LIMIT.as_secs());
            Err(Failure::new(
                FailureKind::Internal,
                message,
                "see the agent's log, and try again",
            ))
        })
}

fn parse(line: &[u8]) -> Result<Request, Failure> {
    /// Read first, so that a call of another version is told so and not called malformed.
    #[derive(serde::Deserialize)]
    struct Version {
        version: u32,
    }
    #[derive(serde::Deserialize)]
    struct Versionless {
        request: Request,
    }
    let usage = |message: String, mend: &str| Failure::new(FailureKind::Usage, message, mend);
    let malformed = |error: serde_json::Error| {
        usage(
            format!("the call is not understood: {error}"),
            "use the `spinegate` command of the running agent",
        )
    };
    let Version { version } = serde_json::from_slice(line).map_err(malformed)?;
    // An upgrade is between versions.
    if let Ok(Versionless { request }) = serde_json::from_slice(line)
        && matches!(request, Request::HandOver | Request::StandDown)
    {
        return Ok(request);
    }
    if version != VERSION {
        let message = format!("the call is of protocol version {version}, the agent speaks {VERSION}");
        return Err(usage(
            message,
            "use the `spinegate` command of the running agent, or restart the agent",
        ));
    }
    serde_json::from_slice(line)
        .map(|call: Call| call.request)
        .map_err(malformed)
}

enum Line {
    Whole(Vec<u8>),
    TooLong,
    End,
}

async fn read_line(reader: &mut BufReader<OwnedReadHalf>) -> io::Result<Line> {
    let mut line = Vec::new();
    reader.take(MAX_LINE + 1).read_until(b'\n', &mut line).await?;
    Ok(match line.last() {
        Some(b'\n') => Line::Whole(line),
        Some(_) if line.len() as u64 > MAX_LINE => Line::TooLong,
        // Half a line and no more: the client has gone.
        _ => Line::End,
    })
}

fn too_long() -> Failure {
    let message = format!("the call is longer than {MAX_LINE} bytes");
    Failure::new(FailureKind::Usage, message, "ask for less in one call")
}

fn not_allowed(uid: u32) -> Failure {
    let message = format!("user {uid} may not give orders to this agent");
    Failure::new(
        FailureKind::Refused,
        message,
        "run the command as root, or as the agent's own user",
    )
}

fn no_successor() -> Failure {
    Failure::new(
        FailureKind::Usage,
        "no sockets were handed over on this connection",
        "use `spinegate run --take-over`",
    )
}

fn succession_under_way() -> Failure {
    Failure::new(
        FailureKind::Refused,
        "another agent is taking over, or a change is under way",
        "try again when it is done",
    )
}

#[cfg(test)]
mod tests;
