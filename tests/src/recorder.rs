//! An upstream that answers every request alike, and keeps what it got: the bytes, and what they say.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::netns;

const POLL: Duration = Duration::from_millis(20);

/// A running upstream. It ends when dropped.
#[derive(Debug)]
pub struct Recorder {
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

/// A request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Its bytes up to its body.
    pub head: String,
    /// Its method.
    pub method: String,
    /// Its target.
    pub target: String,
    /// Its fields, with their names in lower case.
    pub fields: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    heard: Mutex<Vec<Heard>>,
    /// What could not be read as requests.
    faults: Mutex<Vec<String>>,
}

impl Recorder {
    /// Begins to serve at an address of a namespace.
    ///
    /// # Errors
    /// The namespace is not there, or the port is taken.
    pub fn open(namespace: &str, address: SocketAddr) -> Result<Self> {
        let listener = netns::enter(namespace, || Ok(TcpListener::bind(address)?))
            .with_context(|| format!("serving {address} in {namespace}"))?;
        listener.set_nonblocking(true)?;
        let shared = Arc::new(Shared::default());
        let acceptor = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Ok(Self {
            shared,
            acceptor: Some(acceptor),
        })
    }

    /// How many requests it has got.
    #[must_use]
    pub fn mark(&self) -> usize {
        locked(&self.shared.heard).len()
    }

    /// The requests after a mark.
    ///
    /// # Errors
    /// Something came that is no request.
    pub fn since(&self, mark: usize) -> Result<Vec<Heard>> {
        let faults = locked(&self.shared.faults);
        if let Some(fault) = faults.first() {
            bail!("the upstream got what is no request: {fault}");
        }
        Ok(locked(&self.shared.heard).iter().skip(mark).cloned().collect())
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut connections = Vec::new();
    while !shared.stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => {
                let shared = Arc::clone(shared);
                connections.push(thread::spawn(move || {
                    if let Err(error) = serve(stream, &shared) {
                        locked(&shared.faults).push(format!("{error:#}"));
                    }
                }));
            }
            Err(_) => thread::sleep(POLL),
        }
    }
    for connection in connections {
        let _ = connection.join();
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(POLL))?;
    let mut received = Vec::new();
    loop {
        while let Some((heard, length)) = read(&received)? {
            received.drain(..length);
            let status = if heard.method == "POST" {
                "201 Created"
            } else {
                "200 OK"
            };
            locked(&shared.heard).push(heard);
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/fhir+json\r\nContent-Length: 2\r\n\r\n{{}}"
            );
            stream.write_all(answer.as_bytes())?;
        }
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer) {
            Ok(0) if received.is_empty() => return Ok(()),
            Ok(0) => bail!("a request in part: {:?}", String::from_utf8_lossy(&received)),
            Ok(length) => received.extend(buffer.iter().take(length)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if shared.stop.load(Ordering::Relaxed) {
                    return Ok(());
                }
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error).context("reading"),
        }
    }
}

/// The first request of these bytes with its length; none if it is not whole yet.
fn read(received: &[u8]) -> Result<Option<(Heard, usize)>> {
    let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let (head, rest) = received.split_at(end + 4);
    let head = std::str::from_utf8(head).context("a head that is not text")?;
    let mut lines = head.trim_end().split("\r\n");
    let line = lines.next().unwrap_or_default();
    let [method, target, "HTTP/1.1"] = line.split(' ').collect::<Vec<_>>()[..] else {
        bail!("no request line: {line:?}");
    };
    let fields = lines
        .map(|line| {
            let (name, value) = line
                .split_once(':')
                .with_context(|| format!("no field: {line:?}"))?;
            Ok((name.to_ascii_lowercase(), value.trim().to_owned()))
        })
        .collect::<Result<Vec<_>>>()?;
    let of = |wanted: &str| -> Vec<&str> {
        let fields = fields.iter().filter(|(name, _)| name == wanted);
        fields.map(|(_, value)| value.as_str()).collect()
    };
    if !of("transfer-encoding").is_empty() {
        bail!("the gateway knows every body's length, and yet: {head:?}");
    }
    let length = match of("content-length")[..] {
        [] => 0,
        [length] => length.parse()?,
        _ => bail!("more than one length: {head:?}"),
    };
    let Some(body) = rest.get(..length) else {
        return Ok(None);
    };
    let heard = Heard {
        head: head.to_owned(),
        method: method.to_owned(),
        target: target.to_owned(),
        body: body.to_owned(),
        fields: fields.clone(),
    };
    Ok(Some((heard, end + 4 + length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart_by_their_lengths_alone() {
        let two = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nabGET /b HTTP/1.1\r\n\r\n";
        let (first, length) = read(two).unwrap().unwrap();
        assert_eq!((first.target.as_str(), first.body.as_slice()), ("/a", &b"ab"[..]));
        let (second, rest) = read(&two[length..]).unwrap().unwrap();
        assert_eq!((second.target.as_str(), length + rest), ("/b", two.len()));
        assert_eq!(read(&two[..length - 1]).unwrap(), None);
        assert!(read(b"GET /a\r\n\r\n").is_err());
        assert!(read(b"GET /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
    }
}
