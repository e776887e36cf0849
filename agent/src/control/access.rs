//! Who calls, and what he may: as the kernel knows him, not as he says.

use std::os::fd::{AsFd, AsRawFd as _};

use nix::{
    errno::Errno,
    libc,
    sys::socket::{getsockopt, sockopt::PeerCredentials},
};
use serde::Serialize;

/// More supplementary groups than anybody has: the kernel allows 65536.
const MAX_GROUPS: usize = 65_536;

/// Who is at the other end (`SO_PEERCRED`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The effective user.
    pub uid: u32,
    /// The effective group.
    pub gid: u32,
    /// The process, where the kernel tells.
    pub pid: Option<i32>,
}

/// What a caller may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Look.
    Read,
    /// Give orders.
    Write,
    /// Take over: whoever has the agent's sockets is the agent.
    Own,
}

impl Role {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Own => "own",
        }
    }
}

/// Who may what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// The agent's own user.
    pub own: u32,
    /// `control.writers`
    pub writers: Vec<u32>,
    /// `control.group`
    pub readers: Option<u32>,
}

/// A caller, as he was when he connected.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) peer: Peer,
    /// The supplementary groups.
    groups: Vec<u32>,
}

impl Access {
    /// What a caller may; none: nothing.
    pub(super) fn role(&self, caller: &Caller) -> Option<Role> {
        let Peer { uid, gid, .. } = caller.peer;
        if uid == 0 || uid == self.own {
            return Some(Role::Own);
        }
        if self.writers.contains(&uid) {
            return Some(Role::Write);
        }
        let readers = self.readers?;
        (gid == readers || caller.groups.contains(&readers)).then_some(Role::Read)
    }
}

impl Caller {
    /// Who is at the other end of a socket.
    pub(super) fn of(socket: &impl AsFd) -> nix::Result<Self> {
        let credentials = getsockopt(socket, PeerCredentials)?;
        let pid = credentials.pid();
        Ok(Self {
            peer: Peer {
                uid: credentials.uid(),
                gid: credentials.gid(),
                pid: (pid > 0).then_some(pid),
            },
            groups: groups(socket)?,
        })
    }
}

/// `SO_PEERGROUPS`, which no crate here has.
fn groups(socket: &impl AsFd) -> nix::Result<Vec<u32>> {
    let socket = socket.as_fd().as_raw_fd();
    let mut groups: Vec<libc::gid_t> = vec![0; 64];
    loop {
        let size = size_of_val(groups.as_slice());
        let mut length = libc::socklen_t::try_from(size).map_err(|_| Errno::EOVERFLOW)?;
        // SAFETY: the kernel writes at most `length` bytes to the list, which has as many, and any bytes are group ids.
        let result = unsafe {
            libc::getsockopt(
                socket,
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let count = usize::try_from(length).map_err(|_| Errno::EOVERFLOW)? / size_of::<libc::gid_t>();
        match Errno::result(result) {
            Ok(_) => {
                groups.truncate(count);
                return Ok(groups);
            }
            // It says how many there are.
            Err(Errno::ERANGE) if count > groups.len() && count <= MAX_GROUPS => groups.resize(count, 0),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn caller(uid: u32, gid: u32, groups: &[u32]) -> Caller {
        Caller {
            peer: Peer { uid, gid, pid: None },
            groups: groups.to_vec(),
        }
    }

    #[test]
    fn each_caller_has_the_role_of_its_user_or_else_of_its_groups() {
        let access = Access {
            own: 990,
            writers: vec![1001],
            readers: Some(500),
        };
        for (caller, role) in [
            (caller(0, 0, &[]), Some(Role::Own)),
            (caller(990, 990, &[]), Some(Role::Own)),
            (caller(1001, 100, &[500]), Some(Role::Write)),
            (caller(1002, 500, &[]), Some(Role::Read)),
            (caller(1002, 100, &[4, 500]), Some(Role::Read)),
            (caller(1002, 100, &[4]), None),
            (caller(500, 1001, &[990]), None),
        ] {
            assert_eq!(access.role(&caller), role, "{caller:?}");
        }
        let nobody_reads = Access {
            readers: None,
            ..access
        };
        assert_eq!(nobody_reads.role(&caller(1002, 500, &[500])), None);
    }

    #[test]
    fn the_kernel_says_who_is_at_the_other_end() {
        let (one, _other) = UnixStream::pair().unwrap();
        let caller = Caller::of(&one).unwrap();
        assert_eq!(caller.peer.uid, nix::unistd::geteuid().as_raw());
        assert_eq!(caller.peer.gid, nix::unistd::getegid().as_raw());
        assert_eq!(caller.peer.pid, i32::try_from(std::process::id()).ok());
        let mut own: Vec<u32> = nix::unistd::getgroups()
            .unwrap()
            .iter()
            .map(|group| group.as_raw())
            .collect();
        let mut told = caller.groups;
        own.sort_unstable();
        told.sort_unstable();
        assert_eq!(told, own);
    }
}
