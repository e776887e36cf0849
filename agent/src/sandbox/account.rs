//! The worker's user.

use std::ffi::CString;

use nix::unistd::{Gid, Uid, User, getegid, geteuid, initgroups, setgroups, setresgid, setresuid};

use super::SandboxError;
use crate::config;

/// A user with its group.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) uid: Uid,
    pub(super) gid: Gid,
    /// By which its supplementary groups are found; a number alone has none.
    name: Option<CString>,
}

impl Account {
    /// The account of `[run]`; none: that of the one who starts the agent stays.
    pub(super) fn of(run: &config::Run) -> Result<Option<Self>, SandboxError> {
        let Some(uid) = run.user.map(Uid::from_raw) else {
            return Ok(None);
        };
        let user =
            User::from_uid(uid).map_err(|error| SandboxError::step("looking up `run.user`")(error.into()))?;
        let gid = match (run.group, &user) {
            (Some(group), _) => Gid::from_raw(group),
            (None, Some(user)) => user.gid,
            // A number that no account has: its group is that number, too, as `adduser` would have it.
            (None, None) => Gid::from_raw(uid.as_raw()),
        };
        let name = user.and_then(|user| CString::new(user.name).ok());
        Ok(Some(Self { uid, gid, name }))
    }

    /// Becomes it for good.
    pub(super) fn become_it(&self) -> Result<(), SandboxError> {
        if geteuid() == self.uid && getegid() == self.gid {
            return Ok(());
        }
        if !geteuid().is_root() {
            return Err(SandboxError::NotRoot {
                uid: self.uid.as_raw(),
            });
        }
        let failed =
            |error: nix::Error| SandboxError::step("changing to the user of `run.user`")(error.into());
        match &self.name {
            Some(name) => initgroups(name, self.gid).map_err(failed)?,
            None => setgroups(&[self.gid]).map_err(failed)?,
        }
        setresgid(self.gid, self.gid, self.gid).map_err(failed)?;
        setresuid(self.uid, self.uid, self.uid).map_err(failed)
    }
}
