//! Orders that the keeper carries out only for operators: they announce them to the keeper itself, on a socket of its own,
//! before they give them to the worker. What nobody has announced a worker in wrong hands can't make up, and what was
//! announced it can bring forward once, soon, and as it was.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::{
            fs::{MetadataExt as _, PermissionsExt as _},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde::{Deserialize, Serialize};

use super::protocol::KeeperError;
use crate::{
    config,
    control::{Addition, Request},
};

/// Announced orders that wait.
const WAITING: usize = 16;
/// How long one waits for the worker to bring it.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a caller may take.
const CALLER_LIMIT: Duration = Duration::from_secs(1);
const MAX_LINE: u64 = 64 << 10;

/// An order that widens what gets through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case", deny_unknown_fields)]
pub enum Order {
    /// Take the filter off.
    Detach,
    /// Add a source to the allowlist.
    SourcesAdd(Addition),
}

impl Order {
    /// The order that a request to the agent is, if it is one that must be announced.
    #[must_use]
    pub fn of(request: &Request) -> Option<Self> {
        match request {
            Request::Detach => Some(Self::Detach),
            Request::SourcesAdd(addition) => Some(Self::SourcesAdd(addition.clone())),
            _ => None,
        }
    }

    /// Whether a source is the announced one, or ends before it would.
    fn is_to_add(&self, source: &config::Source) -> bool {
        let Self::SourcesAdd(addition) = self else {
            return false;
        };
        let announced = addition.clone().source(SystemTime::now());
        let latest = announced.expires;
        let ends = |expires| latest.is_none_or(|latest| expires <= latest);
        (addition.ends_in.is_none() || source.expires.is_some_and(ends))
            && *source
                == config::Source {
                    expires: source.expires,
                    ..announced
                }
    }
}

/// Who may announce.
#[derive(Clone, Debug)]
pub(super) struct Operators {
    /// `control.writers`
    writers: Vec<u32>,
    /// The worker's own user: what comes from it may come from the worker.
    worker: u32,
}

impl Operators {
    pub(super) fn of(config: &config::Config) -> Self {
        Self {
            writers: config.control.writers.clone(),
            worker: config.run.user.unwrap_or_else(|| nix::unistd::geteuid().as_raw()),
        }
    }

    fn admit(&self, uid: u32, pid: i32) -> bool {
        if uid == self.worker {
            // A process of that user that could take the filter off by itself is none that has given up everything.
            return can_administer(pid);
        }
        uid == 0 || self.writers.contains(&uid)
    }
}

/// Whether a process has CAP_NET_ADMIN now.
fn can_administer(pid: i32) -> bool {
    const NET_ADMIN: u64 = 1 << 12;
    let effective = fs::read_to_string(format!("/proc/{pid}/status"))
        .ok()
        .and_then(|status| {
            let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
            u64::from_str_radix(set.trim(), 16).ok()
        });
    effective.is_some_and(|effective| effective & NET_ADMIN != 0)
}

/// The keeper's own socket, and what was announced there.
pub(super) struct Orders {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
    operators: Operators,
    waiting: Vec<(Order, Instant)>,
}

impl Orders {
    /// Listens beside the control socket, in the place of an earlier keeper.
    pub(super) fn bind(control: &Path, operators: Operators) -> io::Result<Self> {
        let path = socket(control);
        // Never without a listener: a successor's comes in one step.
        let draft = path.with_extension("keeper-new");
        let _ = fs::remove_file(&draft);
        let listener = UnixListener::bind(&draft)?;
        listener.set_nonblocking(true)?;
        // Everybody may call; who is heard is decided by what the kernel says of him.
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o666))?;
        let inode = fs::symlink_metadata(&draft)?.ino();
        fs::rename(&draft, &path)?;
        Ok(Self {
            listener,
            path,
            inode,
            operators,
            waiting: Vec::new(),
        })
    }

    pub(super) fn heed(&mut self, operators: Operators) {
        self.operators = operators;
    }

    /// Takes an announcement from whoever calls. Nothing that goes wrong with a caller is the keeper's concern.
    pub(super) fn hear(&mut self) {
        let Ok((stream, _)) = self.listener.accept() else {
            return;
        };
        if let Err(error) = self.listen_to(&stream) {
            tracing::debug!(%error, "an announcement was not heard");
        }
    }

    fn listen_to(&mut self, mut stream: &UnixStream) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(CALLER_LIMIT))?;
        stream.set_write_timeout(Some(CALLER_LIMIT))?;
        let peer = getsockopt(&stream, PeerCredentials)?;
        let answer = if self.operators.admit(peer.uid(), peer.pid()) {
            let mut line = Vec::new();
            BufReader::new(stream)
                .take(MAX_LINE)
                .read_until(b'\n', &mut line)?;
            match serde_json::from_slice(&line) {
                Ok(order) => {
                    tracing::info!(
                        uid = peer.uid(),
                        pid = peer.pid(),
                        ?order,
                        "an operator announces"
                    );
                    self.announce(order);
                    Ok(())
                }
                Err(error) => Err(KeeperError::Refused(format!(
                    "the announcement is not understood: {error}"
                ))),
            }
        } else {
            tracing::warn!(
                uid = peer.uid(),
                pid = peer.pid(),
                "an announcement by who is no operator is refused"
            );
            Err(KeeperError::Refused(format!(
                "user {} may not order this: run the command as root",
                peer.uid()
            )))
        };
        let mut answer = serde_json::to_vec(&answer)?;
        answer.push(b'\n');
        stream.write_all(&answer)
    }

    fn announce(&mut self, order: Order) {
        self.forget_stale();
        if self.waiting.len() == WAITING {
            self.waiting.remove(0);
        }
        self.waiting.push((order, Instant::now()));
    }

    fn forget_stale(&mut self) {
        self.waiting
            .retain(|(_, announced)| announced.elapsed() < PATIENCE);
    }

    /// Takes the announcement of an order: each serves once.
    pub(super) fn take(&mut self, wanted: impl Fn(&Order) -> bool) -> bool {
        self.forget_stale();
        let found = self.waiting.iter().position(|(order, _)| wanted(order));
        found.map(|found| self.waiting.remove(found)).is_some()
    }

    pub(super) fn take_detach(&mut self) -> bool {
        self.take(|order| *order == Order::Detach)
    }

    pub(super) fn take_addition(&mut self, source: &config::Source) -> bool {
        self.take(|order| order.is_to_add(source))
    }
}

impl AsFd for Orders {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for Orders {
    fn drop(&mut self) {
        // A successor's is left alone.
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn socket(control: &Path) -> PathBuf {
    control.with_extension("keeper")
}

/// Announces an order to the keeper beside a control socket. Where there is none, there is nobody to announce to: an older
/// agent's worker carries it out by itself, and one whose keeper has gone does not.
///
/// # Errors
/// If it refuses to hear the caller.
pub fn announce(control: &Path, order: &Order) -> Result<(), KeeperError> {
    let mut stream = match UnixStream::connect(socket(control)) {
        Ok(stream) => stream,
        Err(_) => return Ok(()),
    };
    let mut call = || {
        stream.set_read_timeout(Some(2 * PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        // Who is refused is answered before he has sent all.
        let sent = stream.write_all(&line);
        let mut answer = Vec::new();
        match BufReader::new(&stream)
            .take(MAX_LINE)
            .read_until(b'\n', &mut answer)
        {
            Ok(0) => sent.and(Err(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => Ok(answer),
            Err(error) => Err(error),
        }
    };
    let answer = call().map_err(KeeperError::gone)?;
    serde_json::from_slice::<Result<(), KeeperError>>(&answer).map_err(KeeperError::gone)?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders(folder: &Path, worker: u32) -> Orders {
        let operators = Operators {
            writers: vec![],
            worker,
        };
        Orders::bind(&folder.join("control.sock"), operators).unwrap()
    }

    fn addition(ends_in: Option<u64>) -> Order {
        Order::SourcesAdd(Addition {
            cidr: "192.0.2.0/24".parse().unwrap(),
            name: "guest".parse().unwrap(),
            kind: config::SourceKind::System,
            services: vec![],
            reply_ports: vec![],
            ends_in,
        })
    }

    #[test]
    fn an_announced_order_serves_once_and_only_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let mut orders = orders(folder.path(), u32::MAX);
        let guest = config::Source::new("192.0.2.0/24".parse().unwrap(), "guest");
        let wider = config::Source::new("192.0.0.0/16".parse().unwrap(), "guest");
        assert!(!orders.take_addition(&guest));
        orders.announce(addition(None));
        assert!(!orders.take_detach());
        assert!(!orders.take_addition(&wider));
        assert!(orders.take_addition(&guest));
        assert!(!orders.take_addition(&guest), "twice");
        orders.announce(addition(Some(60)));
        assert!(!orders.take_addition(&guest), "for good, where it was to end");
        let later = Some(SystemTime::now() + Duration::from_secs(3600));
        assert!(!orders.take_addition(&config::Source {
            expires: later,
            ..guest.clone()
        }));
        let soon = Some(SystemTime::now() + Duration::from_secs(50));
        assert!(orders.take_addition(&config::Source {
            expires: soon,
            ..guest
        }));
    }

    #[test]
    fn announcements_are_bounded_and_go_stale() {
        let folder = tempfile::tempdir().unwrap();
        let mut orders = orders(folder.path(), u32::MAX);
        orders.announce(Order::Detach);
        for _ in 0..WAITING {
            orders.announce(addition(None));
        }
        assert_eq!(orders.waiting.len(), WAITING);
        assert!(!orders.take_detach(), "the oldest has gone");
        orders.announce(Order::Detach);
        let long_ago = Instant::now().checked_sub(PATIENCE).unwrap();
        orders
            .waiting
            .iter_mut()
            .for_each(|(_, announced)| *announced = long_ago);
        assert!(!orders.take_detach());
    }

    #[test]
    fn the_workers_own_user_announces_nothing_without_the_capability_to_do_it_himself() {
        let own = nix::unistd::geteuid().as_raw();
        let pid = i32::try_from(std::process::id()).unwrap();
        let operators = Operators {
            writers: vec![own, 7],
            worker: own,
        };
        assert_eq!(operators.admit(own, pid), can_administer(pid));
        assert!(!operators.admit(own, -1));
        assert!(operators.admit(7, -1));
        assert_eq!(operators.admit(0, -1), own != 0);
        assert!(!operators.admit(8, -1));
    }

    #[test]
    fn a_successor_takes_the_sockets_place_and_an_end_takes_away_only_the_own_one() {
        let folder = tempfile::tempdir().unwrap();
        let first = orders(folder.path(), u32::MAX);
        let mut second = orders(folder.path(), u32::MAX);
        drop(first);
        let control = folder.path().join("control.sock");
        let calling = std::thread::spawn(move || announce(&control, &Order::Detach));
        while second.waiting.is_empty() && !calling.is_finished() {
            second.hear();
        }
        calling.join().unwrap().unwrap();
        assert!(second.take_detach());
        let path = second.path.clone();
        drop(second);
        assert!(!path.exists());
    }
}
