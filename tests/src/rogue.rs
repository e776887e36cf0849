//! An upstream that does with each connection what a script says, byte by byte: what no sound server does.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::AsRawFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use nix::{
    libc::linger,
    sys::socket::{setsockopt, sockopt},
};
use openssl::ssl::SslAcceptor;

use crate::server::{POLL, Server};

/// The longest that one connection is served.
const LIMIT: Duration = Duration::from_secs(30);

/// What is done with a connection, in order. After the last step it is closed.
pub type Script = Vec<Step>;

/// One step of a script.
#[derive(Clone, Debug)]
pub enum Step {
    /// Read a request's head. If the gateway closes instead, the script is over.
    Read,
    /// Say this.
    Say(Vec<u8>),
    /// Say nothing for so long.
    Wait(Duration),
    /// Say nothing more until the gateway goes away.
    Hold,
    /// Have the kernel send a reset.
    Reset,
    /// Begin again with the first step.
    Again,
}

/// Says a text.
#[must_use]
pub fn say(text: impl AsRef<[u8]>) -> Step {
    Step::Say(text.as_ref().to_vec())
}

/// A running upstream. It ends when dropped.
#[derive(Debug)]
pub struct Rogue {
    counts: Arc<Counts>,
    _server: Server,
}

#[derive(Debug, Default)]
struct Counts {
    connections: AtomicUsize,
    requests: AtomicUsize,
}

impl Rogue {
    /// Begins to serve at an address of a namespace.
    ///
    /// # Errors
    /// The namespace is not there, or the address is taken.
    pub fn open(namespace: &str, address: SocketAddr, script: Script) -> Result<Self> {
        Self::serve(namespace, address, None, script)
    }

    /// The same over TLS.
    ///
    /// # Errors
    /// As [`Rogue::open`].
    pub fn open_tls(namespace: &str, address: SocketAddr, tls: SslAcceptor, script: Script) -> Result<Self> {
        Self::serve(namespace, address, Some(tls), script)
    }

    /// How many connections it has accepted.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.counts.connections.load(Ordering::SeqCst)
    }

    /// How many requests it has read.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.counts.requests.load(Ordering::SeqCst)
    }

    fn serve(namespace: &str, address: SocketAddr, tls: Option<SslAcceptor>, script: Script) -> Result<Self> {
        let counts = Arc::new(Counts::default());
        let server = Server::open(namespace, address, {
            let counts = Arc::clone(&counts);
            move |stream, _, stop| {
                counts.connections.fetch_add(1, Ordering::SeqCst);
                // What becomes of a connection is for the gateway to tell.
                drop(converse(stream, tls.as_ref(), &script, stop, &counts));
            }
        })?;
        Ok(Self {
            counts,
            _server: server,
        })
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

fn converse(
    socket: TcpStream,
    tls: Option<&SslAcceptor>,
    script: &Script,
    stop: &AtomicBool,
    counts: &Counts,
) -> Result<()> {
    let end = Instant::now() + LIMIT;
    socket.set_nodelay(true)?;
    socket.set_write_timeout(Some(LIMIT))?;
    let held = socket.try_clone()?;
    let mut stream: Box<dyn Stream> = match tls {
        None => Box::new(socket),
        Some(tls) => {
            socket.set_read_timeout(Some(LIMIT))?;
            Box::new(tls.accept(socket)?)
        }
    };
    held.set_read_timeout(Some(POLL))?;
    let over = || stop.load(Ordering::Relaxed) || Instant::now() > end;
    let mut steps = script.iter();
    while let Some(step) = steps.next() {
        match step {
            Step::Say(bytes) => stream.write_all(bytes)?,
            Step::Wait(time) => thread::sleep(*time),
            Step::Read => {
                if !read_head(&mut *stream, &over)? {
                    return Ok(());
                }
                counts.requests.fetch_add(1, Ordering::SeqCst);
            }
            Step::Hold => while next(&mut *stream, &over)?.is_some() {},
            Step::Reset => {
                let at_once = linger {
                    l_onoff: 1,
                    l_linger: 0,
                };
                setsockopt(&held, sockopt::Linger, &at_once)
                    .with_context(|| format!("resetting socket {}", held.as_raw_fd()))?;
                return Ok(());
            }
            Step::Again => steps = script.iter(),
        }
    }
    Ok(())
}

/// Whether a whole head came before the gateway closed.
fn read_head(stream: &mut dyn Stream, over: &dyn Fn() -> bool) -> Result<bool> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match next(stream, over)? {
            Some(byte) => head.push(byte),
            None => return Ok(false),
        }
    }
    Ok(true)
}

/// The next byte; none at the end of them, or when time is over.
fn next(stream: &mut dyn Stream, over: &dyn Fn() -> bool) -> Result<Option<u8>> {
    let mut byte = [0];
    loop {
        match stream.read(&mut byte) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(byte[0])),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if over() {
                    return Ok(None);
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}
