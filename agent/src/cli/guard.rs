//! What a change must not cut off: the session in which the command was given.

use std::{
    env, fs,
    net::{IpAddr, SocketAddr},
};

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
            session: connection().and_then(|connection| session(&connection)),
        }
    }
}

const NAME: &str = "SSH_CONNECTION";

/// What sshd says of the session; set but empty, there is none. `sudo` takes it out of the environment of what it starts,
/// so it is looked for in those of the processes that this one comes from.
fn connection() -> Option<String> {
    if let Some(connection) = env::var_os(NAME) {
        return connection.into_string().ok();
    }
    // No shell is nested deeper, and an ancestor can't be its own.
    const GENERATIONS: usize = 64;
    let ancestors = std::iter::successors(parent("self"), |pid| parent(pid));
    ancestors.take(GENERATIONS).find_map(|pid| {
        let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
        variable(&environment, NAME)
    })
}

/// The parent of a process, from proc_pid_status(5); none for the first one.
fn parent(pid: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim();
    (parent != "0").then(|| parent.to_owned())
}

fn variable(environment: &[u8], name: &str) -> Option<String> {
    let texts = environment.split(|byte| *byte == 0);
    texts
        .filter_map(|text| {
            std::str::from_utf8(text)
                .ok()?
                .strip_prefix(name)?
                .strip_prefix('=')
        })
        .map(str::to_owned)
        .next()
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
    use super::{parent, session, variable};

    #[test]
    fn the_parents_of_a_process_lead_to_the_first_one() {
        let mut pids: Vec<_> = std::iter::successors(parent("self"), |pid| parent(pid)).collect();
        assert_eq!(
            pids.first().map(String::as_str),
            Some(std::os::unix::process::parent_id().to_string().as_str())
        );
        assert_eq!(parent(&pids.pop().expect("a parent")), None);
    }

    #[test]
    fn a_variable_is_found_in_the_environment_of_another_process() {
        let environment = b"A=1\0SSH_CONNECTION_OLD=x\0B=\xff\0SSH_CONNECTION=::1 1 ::2 22\0";
        assert_eq!(
            variable(environment, "SSH_CONNECTION").as_deref(),
            Some("::1 1 ::2 22")
        );
        assert_eq!(variable(environment, "B"), None, "no text");
        assert_eq!(variable(b"", "A"), None);
    }

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
