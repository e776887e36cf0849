//! Taking the socket's place in the file system: from a dead agent, never from a live one.

use std::{
    fs::{self, File, Permissions},
    io,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::{
            fs::{DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use crate::config::{self, Problem};

/// A listening socket that is removed when dropped. The lock beside it is the kernel's: it ends with the last process that
/// holds it, however that ends, so that two agents that start at once can't both take a dead one's place.
#[derive(Debug)]
pub(super) struct Socket {
    path: PathBuf,
    lock: File,
    /// Whether another agent goes on with it: the successor, or the one before that has not stood down.
    leave: AtomicBool,
}

/// Why the socket can't be taken.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A live agent serves it.
    #[error(
        "another agent is running: it serves {socket}; stop that one first, or give this one its own `control.socket`"
    )]
    AnotherAgent {
        /// The socket.
        socket: PathBuf,
    },
    /// Something else has its name.
    #[error("{socket} exists and is not a socket; remove it, or choose another `control.socket`")]
    NotASocket {
        /// The path.
        socket: PathBuf,
    },
    /// It can't be given to the group.
    #[error(
        "{socket} can't be given to the group {group}: {error}; run as root or as a member of it, or choose another `control.group`"
    )]
    Group {
        /// The socket.
        socket: PathBuf,
        /// The group's id.
        group: u32,
        /// What the system said.
        error: io::Error,
    },
    /// The system refused.
    #[error("{path} can't be made: {error}; run as root, or choose another `control.socket`")]
    Io {
        /// The socket, its lock or its folder.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

impl Socket {
    pub(super) fn bind(path: &Path, group: Option<u32>) -> Result<(Self, UnixListener), BindError> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(folder)
                .map_err(failed(folder))?;
        }
        let lock_path = lock_path(path);
        let lock = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(failed(&lock_path))?;
        lock.try_lock().map_err(|_| BindError::AnotherAgent {
            socket: path.to_owned(),
        })?;

        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(BindError::NotASocket {
                    socket: path.to_owned(),
                });
            }
            Ok(_) if UnixStream::connect(path).is_ok() => {
                return Err(BindError::AnotherAgent {
                    socket: path.to_owned(),
                });
            }
            Ok(_) => fs::remove_file(path).map_err(failed(path))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(path)(error)),
        }
        let listener = UnixListener::bind(path).map_err(failed(path))?;
        let socket = Self {
            path: path.to_owned(),
            lock,
            leave: AtomicBool::new(false),
        };
        give_to(path, group)?;
        fs::set_permissions(path, Permissions::from_mode(0o660)).map_err(failed(path))?;
        listener.set_nonblocking(true).map_err(failed(path))?;
        Ok((socket, listener))
    }

    /// The socket and the lock of the agent before this one, whose they are until it stands down.
    pub(super) fn inherit(path: &Path, lock: OwnedFd, group: Option<u32>) -> Result<Self, BindError> {
        give_to(path, group)?;
        Ok(Self {
            path: path.to_owned(),
            lock: lock.into(),
            leave: AtomicBool::new(true),
        })
    }

    pub(super) fn lock(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }

    /// Whether it stays when this agent ends: another goes on with it.
    pub(super) fn leave(&self, leave: bool) {
        self.leave.store(leave, Ordering::Relaxed);
    }
}

/// Who may connect besides the owner. What he may there is decided by the server.
fn give_to(path: &Path, group: Option<u32>) -> Result<(), BindError> {
    use std::os::unix::fs::MetadataExt as _;

    let Some(group) = group else { return Ok(()) };
    // An agent without privileges may keep a socket that its predecessor has given away.
    if fs::symlink_metadata(path).is_ok_and(|found| found.gid() == group) {
        return Ok(());
    }
    std::os::unix::fs::lchown(path, None, Some(group)).map_err(|error| BindError::Group {
        socket: path.to_owned(),
        group,
        error,
    })
}

fn failed(path: &Path) -> impl Fn(io::Error) -> BindError {
    let path = path.to_owned();
    move |error| BindError::Io {
        path: path.clone(),
        error,
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // The lock file stays: removing it would let a third agent lock a new file of that name beside a second.
        if !*self.leave.get_mut() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// What can be said of `[control]` without making the socket. That an agent serves it already is none: a running
/// agent's configuration is checked before it is loaded again.
#[must_use]
pub fn problems(config: &config::Control) -> Vec<Problem> {
    match fs::symlink_metadata(&config.socket) {
        Ok(found) if !found.file_type().is_socket() => {
            let message = format!("{} exists and is not a socket", config.socket.display());
            vec![Problem::new(
                "control.socket",
                message,
                "remove it, or choose another path",
            )]
        }
        _ => Vec::new(),
    }
}

fn lock_path(socket: &Path) -> PathBuf {
    let mut path = socket.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_made_and_the_socket_is_for_owner_and_group_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/control.sock");
        let (socket, _listener) = Socket::bind(&path, None).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn a_dead_agents_socket_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        assert!(Socket::bind(&path, None).is_ok());
    }

    #[test]
    fn a_live_agents_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let first = Socket::bind(&path, None).unwrap();
        assert!(matches!(
            Socket::bind(&path, None),
            Err(BindError::AnotherAgent { .. })
        ));
        assert!(path.exists());
        drop(first);

        let _unlocked = UnixListener::bind(&path).unwrap();
        assert!(matches!(
            Socket::bind(&path, None),
            Err(BindError::AnotherAgent { .. })
        ));
        assert!(UnixStream::connect(&path).is_ok());
    }

    #[test]
    fn a_file_in_the_sockets_place_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(
            Socket::bind(&path, None),
            Err(BindError::NotASocket { .. })
        ));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        let config = config::Control {
            socket: path,
            group: None,
            writers: Vec::new(),
        };
        assert_eq!(problems(&config)[0].key, "control.socket");
    }
}
