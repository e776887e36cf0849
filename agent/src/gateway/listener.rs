//! Accepting connections, and ending them all when the agent drains.

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream},
    sync::Arc,
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use spinegate_common::Reason;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Gateway, connection};

const BACKLOG: i32 = 1024;
/// Accepting fails when the process is out of descriptors; it waits this long, and twice as long each time up to a second.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A listening address that can't be had.
#[derive(Debug, thiserror::Error)]
#[error(
    "{}; `listen.addresses` must be this host's own, and free (`ss -ltnp` shows who listens)",
    self.fault()
)]
pub struct ListenError {
    address: SocketAddr,
    error: io::Error,
}

impl ListenError {
    /// What is wrong, without the mend.
    #[must_use]
    pub fn fault(&self) -> String {
        format!("listening on {}: {}", self.address, self.error)
    }

    /// Whether another process has it.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.error.kind() == io::ErrorKind::AddrInUse
    }
}

/// Binds an address, with `reuse_port` beside other processes of this user. IPv6 sockets take IPv6 alone, so that `0.0.0.0` and `[::]` can stand side by side.
///
/// # Errors
/// If the address is not this host's, is taken, or is below 1024 without the privilege.
pub fn bind(address: SocketAddr, reuse_port: bool) -> Result<StdListener, ListenError> {
    let bound = || -> io::Result<StdListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(reuse_port)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    bound().map_err(|error| ListenError { address, error })
}

/// Accepts connections until `drain` is cancelled, and then those that were waiting; `tasks` tells when the last of them has
/// ended.
pub async fn accept(
    listener: TcpListener,
    gateway: Arc<Gateway>,
    slots: Arc<Semaphore>,
    drain: CancellationToken,
    tasks: TaskTracker,
) {
    let door = Door {
        gateway,
        slots,
        drain,
        tasks,
    };
    let mut pause = FIRST_PAUSE;
    loop {
        let accepted = tokio::select! {
            () = door.drain.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                pause = FIRST_PAUSE;
                door.let_in(stream, peer);
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed; trying again");
                tokio::select! {
                    () = door.drain.cancelled() => break,
                    () = tokio::time::sleep(pause) => {}
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
    // Closing the socket resets whoever waits in its queue.
    for (stream, peer) in waiting(listener) {
        door.let_in(stream, peer);
    }
}

/// The connections that the kernel has opened already, as many as its queue holds.
fn waiting(listener: TcpListener) -> Vec<(TcpStream, SocketAddr)> {
    let Ok(listener) = listener.into_std() else {
        return Vec::new();
    };
    let accept = || -> io::Result<(StdStream, SocketAddr)> {
        let (stream, peer) = listener.accept()?;
        stream.set_nonblocking(true)?;
        Ok((stream, peer))
    };
    std::iter::from_fn(|| accept().ok())
        .take(BACKLOG as usize)
        .filter_map(|(stream, peer)| Some((TcpStream::from_std(stream).ok()?, peer)))
        .collect()
}

/// What becomes of each accepted connection.
struct Door {
    gateway: Arc<Gateway>,
    slots: Arc<Semaphore>,
    drain: CancellationToken,
    tasks: TaskTracker,
}

impl Door {
    fn let_in(&self, stream: TcpStream, peer: SocketAddr) {
        let gateway = Arc::clone(&self.gateway);
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            return gateway.turn_away(peer, Reason::ConnectionLimit);
        };
        let place = match gateway.admit(peer.ip()) {
            Ok(place) => place,
            Err(reason) => return gateway.turn_away(peer, reason),
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "setting TCP_NODELAY");
        }
        let drain = self.drain.clone();
        self.tasks.spawn(async move {
            let _open = gateway.open();
            connection::serve(Arc::clone(&gateway), stream, peer, place, drain).await;
            drop(slot);
        });
    }
}
