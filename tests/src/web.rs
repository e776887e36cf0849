//! A small web server in a namespace, as a CA has one for its CRLs, and a directory, over TLS, for its systems.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Result;
use openssl::ssl::SslAcceptor;

use crate::server::Server;

const PATIENCE: Duration = Duration::from_secs(5);

/// A running server. It ends when dropped.
#[derive(Debug)]
pub struct Web {
    state: Arc<Mutex<State>>,
    _server: Server,
}

#[derive(Debug, Default)]
struct State {
    pages: BTreeMap<String, Vec<u8>>,
    asked: Vec<String>,
    heads: Vec<String>,
}

impl Web {
    /// Begins to serve at an address in a namespace, with nothing to give.
    ///
    /// # Errors
    /// The namespace is not there, or the port is taken.
    pub fn open(namespace: &str, address: SocketAddr) -> Result<Self> {
        Self::serve(namespace, address, None)
    }

    /// The same over TLS.
    ///
    /// # Errors
    /// As [`Web::open`].
    pub fn open_tls(namespace: &str, address: SocketAddr, tls: SslAcceptor) -> Result<Self> {
        Self::serve(namespace, address, Some(tls))
    }

    fn serve(namespace: &str, address: SocketAddr, tls: Option<SslAcceptor>) -> Result<Self> {
        let state = Arc::<Mutex<State>>::default();
        let server = Server::open(namespace, address, {
            let state = Arc::clone(&state);
            // A client that breaks off is no concern of the server.
            move |stream, _, _| drop(accept(stream, tls.as_ref(), &state))
        })?;
        Ok(Self {
            state,
            _server: server,
        })
    }

    /// Gives this to whoever asks for the path from now on.
    pub fn publish(&self, path: &str, content: impl Into<Vec<u8>>) {
        lock(&self.state).pages.insert(path.to_owned(), content.into());
    }

    /// Gives nothing more to whoever asks for the path.
    pub fn withdraw(&self, path: &str) {
        lock(&self.state).pages.remove(path);
    }

    /// The headers of all requests.
    #[must_use]
    pub fn heads(&self) -> Vec<String> {
        lock(&self.state).heads.clone()
    }

    /// The first lines of all requests.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        lock(&self.state).asked.clone()
    }
}

fn accept(stream: TcpStream, tls: Option<&SslAcceptor>, state: &Mutex<State>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    match tls {
        None => serve(stream, state),
        Some(tls) => serve(tls.accept(stream).map_err(std::io::Error::other)?, state),
    }
}

fn serve(stream: impl Read + Write, state: &Mutex<State>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut request = String::new();
    stream.read_line(&mut request)?;
    let (mut header, mut length, mut head) = (String::new(), 0, String::new());
    while stream.read_line(&mut header)? > 2 {
        if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        head.push_str(&header);
        header.clear();
    }
    // Closing a connection with unread bytes would reset it.
    std::io::copy(&mut stream.by_ref().take(length), &mut std::io::sink())?;
    let path = request.split(' ').nth(1).unwrap_or_default();
    let page = {
        let mut state = lock(state);
        state.asked.push(request.trim_end().to_owned());
        state.heads.push(head);
        state.pages.get(path).cloned()
    };
    let (status, body) = match page {
        Some(page) => ("200 OK", page),
        None => ("404 Not Found", Vec::new()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.get_mut().write_all(&[head.as_bytes(), &body].concat())
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
