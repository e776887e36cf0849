//! The listening sockets: from the agent before this one, from systemd, or bound anew.

use std::{
    io,
    net::{SocketAddr, TcpListener as BlockingListener},
    os::fd::{AsFd as _, OwnedFd},
};

use listenfd::ListenFd;
use tokio::net::TcpListener;

use super::RunError;
use crate::{config::Config, gateway};

/// Sockets that something else has bound already.
#[derive(Debug, Default)]
pub(super) struct Bound(Vec<BlockingListener>);

impl Bound {
    /// Those that systemd passes (`sd_listen_fds(3)`); none if it passes none. They must be those of the configuration: one
    /// more or less would be a port that nobody serves.
    pub(super) fn from_systemd(config: &Config) -> Result<Self, RunError> {
        let mut passed = ListenFd::from_env();
        let mut bound = Vec::new();
        for position in 0..passed.len() {
            let socket = passed.take_tcp_listener(position).map_err(|error| {
                RunError::refused(format!(
                    "socket {position} that systemd passes is no TCP listener ({error}); the .socket unit must have \
                     ListenStream= with an address and a port, and Accept=no"
                ))
            })?;
            bound.extend(socket);
        }
        let bound = Self(bound);
        if !bound.0.is_empty() {
            bound.must_be_those_of(config)?;
        }
        Ok(bound)
    }

    /// Those of the agent before this one. What is not among them is bound anew, and what is not wanted any more ends with
    /// that agent.
    pub(super) fn from_predecessor(sockets: Vec<OwnedFd>) -> Self {
        Self(sockets.into_iter().map(BlockingListener::from).collect())
    }

    fn must_be_those_of(&self, config: &Config) -> Result<(), RunError> {
        let mut passed = self
            .0
            .iter()
            .filter_map(|socket| socket.local_addr().ok())
            .collect::<Vec<_>>();
        let mut wanted = config.listen.addresses.clone();
        // The metrics may be in the unit or not.
        wanted.extend(config.metrics.listen.filter(|address| passed.contains(address)));
        passed.sort_unstable();
        wanted.sort_unstable();
        if passed == wanted {
            return Ok(());
        }
        Err(RunError::refused(format!(
            "systemd passes {}, but `listen.addresses` says {}; make both the same (ListenStream= of the .socket unit; \
             with an IPv6 address BindIPv6Only=ipv6-only)",
            shown(&passed),
            shown(&wanted)
        )))
    }

    /// The socket of an address: one of these, or a new one.
    fn take(&mut self, address: SocketAddr, reuse_port: bool) -> Result<BlockingListener, RunError> {
        let found = self
            .0
            .iter()
            .position(|socket| socket.local_addr().ok() == Some(address));
        match found {
            Some(position) => Ok(self.0.swap_remove(position)),
            None => gateway::bind(address, reuse_port).map_err(RunError::refused),
        }
    }

    /// Every socket that the configuration asks for, and a second descriptor of each for a successor. Needs no runtime: who
    /// has one may not bind any more.
    pub(super) fn complete(mut self, config: &Config) -> Result<Sockets, RunError> {
        let mut spare = Vec::new();
        let mut ready = |socket: BlockingListener| -> io::Result<BlockingListener> {
            spare.push(socket.as_fd().try_clone_to_owned()?);
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let mut listeners = Vec::new();
        for address in &config.listen.addresses {
            let socket = self.take(*address, config.listen.reuse_port)?;
            listeners.push(ready(socket).map_err(RunError::refused)?);
        }
        let metrics = match config.metrics.listen {
            Some(address) => Some(ready(self.take(address, false)?).map_err(RunError::refused)?),
            None => None,
        };
        Ok(Sockets {
            listeners,
            metrics,
            spare,
        })
    }
}

/// What the agent listens on.
#[derive(Debug)]
pub(super) struct Sockets {
    listeners: Vec<BlockingListener>,
    metrics: Option<BlockingListener>,
    /// For a successor. As long as one of these is open its port is listened on, whether or not anybody accepts.
    pub(super) spare: Vec<OwnedFd>,
}

impl Sockets {
    /// The sockets for requests and the one for metrics, ready to accept.
    pub(super) fn open(self) -> io::Result<(Vec<TcpListener>, Option<TcpListener>)> {
        let listeners = self.listeners.into_iter().map(TcpListener::from_std);
        Ok((
            listeners.collect::<Result<_, _>>()?,
            self.metrics.map(TcpListener::from_std).transpose()?,
        ))
    }
}

pub(super) fn shown(addresses: &[SocketAddr]) -> String {
    let shown: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    shown.join(", ")
}
