//! What a change must not cut off: the session in which the command was given.

use std::net::{IpAddr, SocketAddr};

use clap::Args;

use crate::control::{Guard, Session};

#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Force {
    /// Carry it out even if it cuts off your own session or the control plane.
    #[arg(long)]
    force: bool,
}

impl Force {
    /// The guard for a change that is made in this session.
    pub(super) fn guard(self) -> Guard {
        Guard {
            force: self.force,
            session: std::env::var("SSH_CONNECTION")
                .ok()
                .and_then(|connection| session(&connection)),
        }
    }
}

/// sshd's four words: the client's address and port, the server's address and port (sshd(8)).
fn session(connection: &str) -> Option<Session> {
    let mut words = connection.split_ascii_whitespace();
    let mut end = || -> Option<SocketAddr> {
        // An address of a single link carries the name of that link.
        let address = words.next()?.split('%').next()?;
        let address: IpAddr = address.parse().ok()?;
        Some(SocketAddr::new(address, words.next()?.parse().ok()?))
    };
    Some(Session {
        source: end()?,
        destination: end()?,
    })
}

#[cfg(test)]
mod tests {
    use super::session;

    #[test]
    fn the_session_is_read_as_sshd_writes_it() {
        let read = session("203.0.113.9 50000 192.0.2.1 22").expect("a session");
        assert_eq!(read.source.to_string(), "203.0.113.9:50000");
        assert_eq!(read.destination.to_string(), "192.0.2.1:22");
        let read = session("fe80::1%eth0 50000 fe80::2%eth0 22").expect("a session");
        assert_eq!(read.source.to_string(), "[fe80::1]:50000");
        for bad in ["", "203.0.113.9", "203.0.113.9 x 192.0.2.1 22", "a 1 b 2"] {
            assert_eq!(session(bad), None, "{bad:?}");
        }
    }
}
