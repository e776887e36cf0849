//! An upstream that answers every request alike, and keeps what it got: the bytes, and what they say.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{
    server::{POLL, Server},
    wait::wait_until,
};

const PATIENCE: Duration = Duration::from_secs(10);

/// A running upstream. It ends when dropped.
#[derive(Debug)]
pub struct Recorder {
    shared: Arc<Shared>,
    _server: Server,
}

/// A request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The connection that it came on, counted from 0.
    pub connection: usize,
    /// Its bytes up to its body.
    pub head: String,
    /// Its method.
    pub method: String,
    /// Its target.
    pub target: String,
    /// Its fields, with their names in lower case.
    pub fields: Vec<(String, String)>,
    /// Its body, in chunks if it came so.
    pub body: Vec<u8>,
}

impl Heard {
    /// The values of a field, whose name is in lower case, in their order.
    #[must_use]
    pub fn values(&self, name: &str) -> Vec<&str> {
        values(&self.fields, name)
    }
}

fn values<'f>(fields: &'f [(String, String)], wanted: &str) -> Vec<&'f str> {
    let fields = fields.iter().filter(|(name, _)| name == wanted);
    fields.map(|(_, value)| value.as_str()).collect()
}

/// Who speaks to the recorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sender {
    /// The gateway, which never sends a body in chunks.
    Gateway,
    /// Another proxy.
    Proxy,
}

#[derive(Debug, Default)]
struct Shared {
    heard: Mutex<Vec<Heard>>,
    /// What could not be read as requests.
    faults: Mutex<Vec<String>>,
    /// Connections that have not ended.
    open: AtomicUsize,
}

impl Recorder {
    /// Begins to serve the gateway at an address of a namespace.
    ///
    /// # Errors
    /// The namespace is not there, or the port is taken.
    pub fn open(namespace: &str, address: SocketAddr) -> Result<Self> {
        Self::serve(namespace, address, Sender::Gateway)
    }

    /// Begins to serve another proxy, of whose requests less is known.
    ///
    /// # Errors
    /// As [`Recorder::open`].
    pub fn open_for_proxy(namespace: &str, address: SocketAddr) -> Result<Self> {
        Self::serve(namespace, address, Sender::Proxy)
    }

    fn serve(namespace: &str, address: SocketAddr, sender: Sender) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let server = Server::open(namespace, address, {
            let shared = Arc::clone(&shared);
            move |stream, number, stop| {
                shared.open.fetch_add(1, Ordering::SeqCst);
                if let Err(error) = serve(stream, (sender, number), &shared, stop) {
                    locked(&shared.faults).push(format!("{error:#}"));
                }
                shared.open.fetch_sub(1, Ordering::SeqCst);
            }
        })?;
        Ok(Self {
            shared,
            _server: server,
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

    /// The requests after a mark, and what came that is no request since this was asked the last time. Waits for the ends of
    /// all connections, since until then more may come.
    ///
    /// # Errors
    /// A connection does not end.
    pub fn all_since(&self, mark: usize) -> Result<(Vec<Heard>, Vec<String>)> {
        wait_until("the upstream's connections to end", PATIENCE, || {
            Ok(self.shared.open.load(Ordering::SeqCst) == 0)
        })?;
        let faults = std::mem::take(&mut *locked(&self.shared.faults));
        let heard = locked(&self.shared.heard).iter().skip(mark).cloned().collect();
        Ok((heard, faults))
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(
    mut stream: TcpStream,
    (sender, number): (Sender, usize),
    shared: &Shared,
    stop: &AtomicBool,
) -> Result<()> {
    stream.set_read_timeout(Some(POLL))?;
    let mut received = Vec::new();
    loop {
        while let Some((mut heard, length)) = read(&received, sender)? {
            received.drain(..length);
            heard.connection = number;
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
                if stop.load(Ordering::Relaxed) {
                    return Ok(());
                }
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error).context("reading"),
        }
    }
}

/// The first request of these bytes with its length; none if it is not whole yet.
fn read(received: &[u8], sender: Sender) -> Result<Option<(Heard, usize)>> {
    let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let (head, rest) = received.split_at(end + 4);
    let head = match sender {
        Sender::Gateway => std::str::from_utf8(head)
            .context("a head that is not text")?
            .to_owned(),
        Sender::Proxy => String::from_utf8_lossy(head).into_owned(),
    };
    let mut lines = head.trim_end().split("\r\n");
    let line = lines.next().unwrap_or_default();
    let [method, target, version] = line.split(' ').collect::<Vec<_>>()[..] else {
        bail!("no request line: {line:?}");
    };
    let known = match sender {
        Sender::Gateway => version == "HTTP/1.1",
        Sender::Proxy => version.starts_with("HTTP/"),
    };
    if !known {
        bail!("no request line: {line:?}");
    }
    let fields = lines
        .map(|line| {
            let (name, value) = line
                .split_once(':')
                .with_context(|| format!("no field: {line:?}"))?;
            Ok((name.to_ascii_lowercase(), value.trim().to_owned()))
        })
        .collect::<Result<Vec<_>>>()?;
    let of = |wanted: &str| values(&fields, wanted);
    let length = match (&of("transfer-encoding")[..], &of("content-length")[..]) {
        ([], []) => Some(0),
        ([], [length]) => Some(length.parse()?),
        (["chunked"], []) if sender == Sender::Proxy => chunked(rest)?,
        ([_, ..], _) if sender == Sender::Gateway => {
            bail!("the gateway knows every body's length, and yet: {head:?}")
        }
        _ => bail!("more than one length: {head:?}"),
    };
    let Some(body) = length.and_then(|length| rest.get(..length)) else {
        return Ok(None);
    };
    let heard = Heard {
        connection: 0,
        method: method.to_owned(),
        target: target.to_owned(),
        body: body.to_owned(),
        fields: fields.clone(),
        head: head.clone(),
    };
    Ok(Some((heard, end + 4 + body.len())))
}

/// How long a body in chunks is; none if it is not whole yet.
fn chunked(bytes: &[u8]) -> Result<Option<usize>> {
    let mut position = 0;
    loop {
        let rest = bytes.get(position..).unwrap_or_default();
        let Some(end) = rest.windows(2).position(|two| two == b"\r\n") else {
            return Ok(None);
        };
        let line = String::from_utf8_lossy(rest.get(..end).unwrap_or_default()).into_owned();
        let size = line.split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size, 16).with_context(|| format!("no chunk: {line:?}"))?;
        position += end + 2;
        if size > 0 {
            position = position.saturating_add(size).saturating_add(2);
            continue;
        }
        // Trailers end with an empty line.
        let rest = bytes.get(position..).unwrap_or_default();
        if rest.starts_with(b"\r\n") {
            return Ok(Some(position + 2));
        }
        let trailers = rest.windows(4).position(|four| four == b"\r\n\r\n");
        return Ok(trailers.map(|trailers| position + trailers + 4));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart_by_their_lengths_alone() {
        let two = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nabGET /b HTTP/1.1\r\n\r\n";
        let (first, length) = read(two, Sender::Gateway).unwrap().unwrap();
        assert_eq!((first.target.as_str(), first.body.as_slice()), ("/a", &b"ab"[..]));
        let (second, rest) = read(&two[length..], Sender::Gateway).unwrap().unwrap();
        assert_eq!((second.target.as_str(), length + rest), ("/b", two.len()));
        assert_eq!(read(&two[..length - 1], Sender::Gateway).unwrap(), None);
        assert!(read(b"GET /a\r\n\r\n", Sender::Proxy).is_err());
    }

    #[test]
    fn a_body_in_chunks_is_another_proxys_alone() {
        let one = b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nab\r\n0\r\nX: y\r\n\r\nGET";
        assert!(read(one, Sender::Gateway).is_err());
        let (heard, length) = read(one, Sender::Proxy).unwrap().unwrap();
        assert_eq!((&one[length..], heard.body.len()), (&b"GET"[..], 20));
        assert_eq!(read(&one[..length - 1], Sender::Proxy).unwrap(), None);
        assert!(
            read(
                b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
                Sender::Proxy
            )
            .is_err()
        );
    }
}
