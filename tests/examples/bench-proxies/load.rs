//! Clients: full handshakes, and requests over a connection that is kept.

mod kept;

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use openssl::ssl::{SslConnector, SslFiletype, SslMethod, SslSessionCacheMode, SslStream, SslVersion};
use socket2::{Domain, Socket, Type};
use spinegate_tests::{
    client::Message,
    lab::CONSUMER,
    pki::{EDGE_FQDN, Identity},
};

pub(crate) use self::kept::Kept;
use crate::ground::{self, SUITE};

const OK: &[u8] = b"HTTP/1.1 200";
const LIMIT: Duration = Duration::from_secs(20);
/// Enough that the server is never without one that waits.
const CLIENTS: usize = 4;
/// A flood.
const FLOODERS: usize = 8;
/// Where floods come from: not the good client's address.
const FLOOD_SOURCE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A client that never takes up a session.
#[derive(Clone)]
pub(crate) struct Client {
    connector: SslConnector,
}

/// A connection behind its handshake.
pub(crate) struct Connection(SslStream<TcpStream>);

impl Client {
    pub(crate) fn new(identity: &Identity, server_ca: &Path) -> Result<Self> {
        let mut connector = SslConnector::builder(SslMethod::tls_client())?;
        connector.set_max_proto_version(Some(SslVersion::TLS1_2))?;
        connector.set_cipher_list(SUITE)?;
        connector.set_session_cache_mode(SslSessionCacheMode::OFF);
        connector.set_ca_file(server_ca)?;
        connector.set_certificate_chain_file(&identity.cert)?;
        connector.set_private_key_file(&identity.key, SslFiletype::PEM)?;
        Ok(Self {
            connector: connector.build(),
        })
    }

    /// A full handshake.
    pub(crate) fn connect(&self, server: SocketAddr, source: Ipv4Addr) -> Result<Connection> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((source, 0)).into())?;
        socket.connect_timeout(&server.into(), LIMIT)?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_nodelay(true)?;
        let stream = self.connector.connect(EDGE_FQDN, stream);
        let stream = stream.map_err(|error| anyhow!("no handshake with {server}: {error}"))?;
        ensure!(!stream.ssl().session_reused(), "a session was taken up");
        Ok(Connection(stream))
    }

    /// Makes handshakes for a while, several at a time; says how many.
    pub(crate) fn load(&self, server: SocketAddr, turn: Duration) -> Result<usize> {
        thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|_| {
                    scope.spawn(|| -> Result<usize> {
                        let (begun, mut count) = (Instant::now(), 0);
                        while begun.elapsed() < turn {
                            self.connect(server, Ipv4Addr::LOCALHOST)?.close();
                            count += 1;
                        }
                        Ok(count)
                    })
                })
                .collect();
            let counts = clients.into_iter().map(|client| {
                let count = client.join().map_err(|_| anyhow!("a client panicked"))?;
                count.context("a client of the load")
            });
            counts.sum()
        })
    }
}

impl Connection {
    /// Closes as a client does: with close_notify.
    pub(crate) fn close(mut self) {
        // A server that has closed already needs none.
        let _ = self.0.shutdown();
    }

    /// The bare socket, to keep open at the cost of nothing else.
    pub(crate) fn keep(self) -> Result<TcpStream> {
        Ok(self.0.get_ref().try_clone()?)
    }

    /// Sends requests one after the other for a while; says how long each took.
    pub(crate) fn request(&mut self, turn: Duration, pause: Duration) -> Result<Vec<Duration>> {
        let request = head();
        let (begun, mut times) = (Instant::now(), Vec::new());
        while begun.elapsed() < turn {
            let sent = Instant::now();
            self.exchange(&request)?;
            times.push(sent.elapsed());
            thread::sleep(pause);
        }
        Ok(times)
    }

    /// One request and its answer.
    pub(crate) fn exchange(&mut self, request: &str) -> Result<()> {
        exchange(&mut self.0, request)
    }
}

/// One request and its answer, over TLS or without it.
pub(crate) fn exchange(stream: &mut (impl Read + Write), request: &str) -> Result<()> {
    stream.write_all(request.as_bytes())?;
    let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
    // The origin's body ends in the only line feed that follows a brace.
    while !answer.ends_with(b"}\n") {
        let read = stream.read(&mut piece)?;
        ensure!(read > 0, "the connection ended within an answer");
        answer.extend_from_slice(piece.get(..read).unwrap_or_default());
    }
    ensure!(
        answer.starts_with(OK),
        "refused: {}",
        String::from_utf8_lossy(&answer)
    );
    Ok(())
}

/// A request that the agent permits and the proxies pass on.
pub(crate) fn head() -> String {
    read("b2f94c1e-7d35-4a7c-9f46-0c5a6be1d5f3")
}

/// A request for a pointer.
pub(crate) fn read(id: &str) -> String {
    Message::read(id).from(&CONSUMER).bytes()
}

/// Makes handshakes until killed.
pub(crate) fn flood(server: SocketAddr) -> Result<()> {
    let pki = ground::folder()?.join("pki");
    let identity = Identity {
        cert: pki.join("good.pem"),
        key: pki.join("good.key"),
    };
    let client = Client::new(&identity, &pki.join("server_ca.pem"))?;
    thread::scope(|scope| {
        for _ in 0..FLOODERS {
            scope.spawn(|| {
                loop {
                    match client.connect(server, FLOOD_SOURCE) {
                        Ok(connection) => connection.close(),
                        Err(error) => eprintln!("{error:#}"),
                    }
                }
            });
        }
    });
    Ok(())
}
