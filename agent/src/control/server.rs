//! The agent's end of the socket: who is let in, and how many at once.

mod answer;
mod connection;
mod farewell;
mod pace;
mod succession;

use std::{
    future::Future,
    io,
    os::{fd::OwnedFd, unix::net::UnixListener as BlockingListener},
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};

use spinegate_common::Reason;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, error, warn};

use super::{
    Access, BindError, Errors, Estate, Failure, FailureKind, Inheritance, Journal, Peer, Request, Response,
    Role, access::Caller, hand_over, socket::Socket,
};
use crate::metrics::Pages;
use farewell::Farewell;

/// The largest body that a caller may send, in bytes: a request to be explained may have one of some size.
pub const MAX_BODY: u64 = 4 << 20;
/// The largest head, in bytes.
const MAX_HEAD: usize = 16 << 10;
/// Its header lines.
const MAX_HEADERS: usize = 64;
/// Callers of role `read` that are served at once.
const MAX_READERS: usize = 16;
/// Others, so that no reader can keep an operator out.
const MAX_WRITERS: usize = 16;
/// How long a caller may take to send a request, or to take an answer, and be silent between two.
const CALLER_LIMIT: Duration = Duration::from_secs(10);
/// How long the agent may take over a request.
const WORK_LIMIT: Duration = Duration::from_secs(30);
/// How long a caller that follows may take to read the end of it.
const END_LIMIT: Duration = Duration::from_secs(1);
/// The pause after a failed accept: out of file descriptors is out of them for a while.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How much the thread yields to those that serve requests (`nice`), and goes before those of the handshakes.
const NICE: i32 = 5;

/// What the agent can do for an operator.
pub trait Operations: Send + Sync + 'static {
    /// Who may what now.
    fn access(&self) -> Access;

    /// Carries a request out, and writes what changes something to the audit log under the peer's name.
    fn perform(&self, peer: Peer, request: Request)
    -> impl Future<Output = Result<Response, Failure>> + Send;

    /// Writes to the audit log what was not even tried.
    fn rebuffed(&self, peer: Peer, rebuff: &Rebuff);

    /// What a successor needs; nothing that it may change changes while it is held.
    fn hand_over(&self, peer: Peer) -> impl Future<Output = Result<Estate<'_>, Failure>> + Send;

    /// Leaves everything to the successor. Gives a sentence about that.
    fn stand_down(
        &self,
        peer: Peer,
        estate: Estate<'_>,
    ) -> impl Future<Output = Result<String, Failure>> + Send;

    /// What [`Request::Events`] is answered from.
    fn journal(&self) -> &Journal;

    /// What [`Request::Errors`] is answered from.
    fn errors(&self) -> &Errors;
}

/// What was not even tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rebuff {
    /// A user without any role has called.
    Stranger,
    /// A user who may only look gave this order.
    ReadOnly(&'static str),
    /// A user who is not the agent's wanted its sockets.
    TakeOver,
    /// This order was not understood.
    Malformed(&'static str, Failure),
    /// There was no place for this caller.
    Crowded,
}

impl Rebuff {
    /// What [`Rebuff::reason`] may be.
    pub const REASONS: [Reason; 5] = [
        Reason::ControlNoRole,
        Reason::ControlReadOnly,
        Reason::ControlTakeOver,
        Reason::ControlMalformed,
        Reason::ControlBusy,
    ];

    /// The reason for it.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Stranger => Reason::ControlNoRole,
            Self::ReadOnly(_) => Reason::ControlReadOnly,
            Self::TakeOver => Reason::ControlTakeOver,
            Self::Malformed(..) => Reason::ControlMalformed,
            Self::Crowded => Reason::ControlBusy,
        }
    }
}

/// A limit, as the documentation has it.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// Of what.
    pub what: &'static str,
    /// How many.
    pub value: u64,
    /// What comes of it beyond.
    pub beyond: &'static str,
}

/// All limits.
pub const LIMITS: &[Limit] = &[
    Limit {
        what: "connections of role `read` at once",
        value: MAX_READERS as u64,
        beyond: "503",
    },
    Limit {
        what: "other connections at once",
        value: MAX_WRITERS as u64,
        beyond: "503",
    },
    Limit {
        what: "bytes of a request's head",
        value: MAX_HEAD as u64,
        beyond: "431",
    },
    Limit {
        what: "header lines of a request",
        value: MAX_HEADERS as u64,
        beyond: "431",
    },
    Limit {
        what: "bytes of a body",
        value: MAX_BODY,
        beyond: "413",
    },
    Limit {
        what: "seconds to send a request, to take an answer, or to be silent between two",
        value: CALLER_LIMIT.as_secs(),
        beyond: "the connection is cut",
    },
    Limit {
        what: "seconds that the agent takes over a request",
        value: WORK_LIMIT.as_secs(),
        beyond: "500; what was begun goes on, and its outcome is in the audit log",
    },
];

/// The listening socket.
#[derive(Debug)]
pub struct Server {
    own: Arc<Own>,
}

/// What every caller's task has of the server.
#[derive(Debug)]
struct Own {
    listener: BlockingListener,
    /// Removes the socket at the end.
    socket: Socket,
    /// One successor at a time.
    succession: Semaphore,
}

/// What a request is answered with.
struct Hall<O> {
    own: Arc<Own>,
    operations: Arc<O>,
    /// Metrics and health, as on the metrics' own listener.
    pages: Arc<Pages>,
    /// Requests under way: they go on when their caller has gone, so that no change is cut in half.
    works: TaskTracker,
    stop: CancellationToken,
}

impl Server {
    /// Listens on a socket of mode 0660, for a group if there is one; makes its folder, and replaces the socket of a dead
    /// agent.
    ///
    /// # Errors
    /// If another agent is running, or the system refuses.
    pub fn bind(path: &Path, group: Option<u32>) -> Result<Self, BindError> {
        let (socket, listener) = Socket::bind(path, group)?;
        Ok(Self::over(socket, listener))
    }

    /// Goes on with the socket of the agent before this one. Gives the other sockets of that back.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn inherit(
        path: &Path,
        group: Option<u32>,
        inheritance: Inheritance,
    ) -> Result<(Self, Vec<OwnedFd>), BindError> {
        let Inheritance {
            lock,
            control,
            sockets,
        } = inheritance;
        let server = Self::over(Socket::inherit(path, lock, group)?, control.into());
        Ok((server, sockets))
    }

    fn over(socket: Socket, listener: BlockingListener) -> Self {
        let own = Own {
            listener,
            socket,
            succession: Semaphore::new(1),
        };
        Self { own: Arc::new(own) }
    }

    /// The agent before this one has stood down: the socket goes when this one ends.
    pub fn own(&self) {
        self.own.socket.leave(false);
    }

    /// Serves until `stop`; then waits for the requests under way and removes the socket.
    ///
    /// On a thread of its own, which yields to those that serve clients: whatever operators ask, and however often, costs the
    /// gateway at most what is left of one core.
    pub async fn serve<O: Operations>(self, operations: Arc<O>, pages: Arc<Pages>, stop: CancellationToken) {
        let (ended, end) = oneshot::channel();
        let serving = move || {
            if let Err(error) = rustix::process::setpriority_process(None, NICE) {
                warn!(%error, "The control socket is served at full priority.");
            }
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let served = runtime.and_then(|runtime| {
                let hall = Hall {
                    own: self.own,
                    operations,
                    pages,
                    works: TaskTracker::new(),
                    stop,
                };
                runtime.block_on(hall.serve())
            });
            if let Err(error) = served {
                error!(%error, "The control socket is not served: restart the agent.");
            }
            let _ = ended.send(());
        };
        match thread::Builder::new().name("control".to_owned()).spawn(serving) {
            // The sender is dropped even if the thread panics.
            Ok(_) => drop(end.await),
            Err(error) => error!(%error, "The control socket is not served: restart the agent."),
        }
    }
}

impl<O: Operations> Hall<O> {
    async fn serve(self) -> io::Result<()> {
        let listener = UnixListener::from_std(self.own.listener.try_clone()?)?;
        let readers = Arc::new(Semaphore::new(MAX_READERS));
        let writers = Arc::new(Semaphore::new(MAX_WRITERS));
        let farewell = Farewell::new();
        let callers = TaskTracker::new();
        let hall = Arc::new(self);
        loop {
            let accepted = tokio::select! {
                () = hall.stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!(%error, "The control socket accepts no caller.");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let caller = match Caller::of(&stream) {
                Ok(caller) => caller,
                Err(error) => {
                    warn!(%error, "The kernel does not say who calls the control socket.");
                    continue;
                }
            };
            let slots = match hall.operations.access().role(&caller) {
                None => {
                    hall.operations.rebuffed(caller.peer, &Rebuff::Stranger);
                    farewell.forbid(stream);
                    continue;
                }
                Some(Role::Read) => &readers,
                Some(Role::Write | Role::Own) => &writers,
            };
            let Ok(slot) = Arc::clone(slots).try_acquire_owned() else {
                hall.operations.rebuffed(caller.peer, &Rebuff::Crowded);
                farewell.turn_away(stream);
                continue;
            };
            callers.spawn(Arc::clone(&hall).receive(stream, caller, slot));
        }
        callers.close();
        callers.wait().await;
        hall.works.close();
        let _ = timeout(WORK_LIMIT, hall.works.wait()).await;
        Ok(())
    }

    async fn receive(self: Arc<Self>, stream: UnixStream, caller: Caller, slot: OwnedSemaphorePermit) {
        let first = tokio::select! {
            () = self.stop.cancelled() => return,
            first = timeout(CALLER_LIMIT, first_byte(&stream)) => first,
        };
        let served = match first {
            Ok(Ok(Some(hand_over::FIRST_BYTE))) => self.converse(stream, &caller).await,
            Ok(Ok(Some(_))) => self.answer_calls(stream, caller).await,
            Ok(Ok(None)) | Err(_) => Ok(()),
            Ok(Err(error)) => Err(error),
        };
        if let Err(error) = served {
            debug!(%error, "A caller of the control socket was dropped.");
        }
        drop(slot);
    }

    /// What a caller may now: roles can change while it is connected.
    fn role(&self, caller: &Caller) -> Option<Role> {
        self.operations.access().role(caller)
    }

    /// Carries a request out to its end, even if nobody waits for it any more.
    async fn perform(&self, peer: Peer, request: Request) -> Result<Response, Failure> {
        let verb = request.verb();
        let operations = Arc::clone(&self.operations);
        let work = self
            .works
            .spawn(async move { operations.perform(peer, request).await });
        let internal = |message: String, mend: &str| Err(Failure::new(FailureKind::Internal, message, mend));
        match timeout(WORK_LIMIT, work).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => internal(format!("`{verb}` broke off"), "see the agent's log"),
            Err(_) => internal(
                format!(
                    "`{verb}` was not done within {} s, and goes on",
                    WORK_LIMIT.as_secs()
                ),
                "the audit log will have its outcome, if it changes something",
            ),
        }
    }
}

/// The first byte that will be read; none if there will be none.
async fn first_byte(stream: &UnixStream) -> io::Result<Option<u8>> {
    let mut byte = [0];
    let peeked = stream
        .async_io(tokio::io::Interest::READABLE, || {
            let (received, _) = rustix::net::recv(stream, &mut byte[..], rustix::net::RecvFlags::PEEK)?;
            Ok(received)
        })
        .await?;
    let [byte] = byte;
    Ok((peeked > 0).then_some(byte))
}

#[cfg(test)]
mod tests;
