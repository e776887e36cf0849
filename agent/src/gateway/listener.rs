//! Accepting connections, and ending them all when the agent drains.

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
    sync::Arc,
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use spinegate_common::Reason;
use tokio::{net::TcpListener, sync::Semaphore};
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
}

/// Binds an address. IPv6 sockets take IPv6 alone, so that `0.0.0.0` and `[::]` can stand side by side.
///
/// # Errors
/// If the address is not this host's, is taken, or is below 1024 without the privilege.
pub fn bind(address: SocketAddr) -> Result<StdListener, ListenError> {
    let bound = || -> io::Result<StdListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    bound().map_err(|error| ListenError { address, error })
}

/// Accepts connections until `drain` is cancelled; `tasks` then tells when the last of them has ended.
pub async fn accept(
    listener: TcpListener,
    gateway: Arc<Gateway>,
    slots: Arc<Semaphore>,
    drain: CancellationToken,
    tasks: TaskTracker,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        let accepted = tokio::select! {
            () = drain.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed; trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                continue;
            }
        };
        pause = FIRST_PAUSE;
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            gateway.turn_away(peer, Reason::ConnectionLimit);
            continue;
        };
        let place = match gateway.admit(peer.ip()) {
            Ok(place) => place,
            Err(reason) => {
                gateway.turn_away(peer, reason);
                continue;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "setting TCP_NODELAY");
        }
        let (gateway, drain) = (Arc::clone(&gateway), drain.clone());
        tasks.spawn(async move {
            let _open = gateway.open();
            connection::serve(Arc::clone(&gateway), stream, peer, place, drain).await;
            drop(slot);
        });
    }
}
