//! A gateway whose client is in memory, and whose upstream is in this process and keeps what it gets.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};
use tokio_util::sync::CancellationToken;

use super::pieces::{ASID, INTERACTIONS, NOW, ODS, stored};
use crate::{
    audit,
    config::{self, Config},
    control::Errors,
    fetch::OcspClient,
    gateway::{Gateway, Policy, connection::Connection},
    metrics::Counters,
    registry::{self, InForce, Registry, Snapshot, Source},
    tls::{self, VerifiedClient, testing},
    verdict::Verdicts,
};

/// A fuzzer makes many lines.
const LONGEST_LOG: u64 = 8 << 20;
const DOCUMENTATION: &str = include_str!("../../../../docs/configuration.md");

/// The gateway, its client and its upstream.
pub(super) struct Edge {
    runtime: Runtime,
    pub(super) gateway: Arc<Gateway>,
    pub(super) client: VerifiedClient,
    heard: Arc<Mutex<Vec<Heard>>>,
    audit: Arc<audit::Log>,
    audit_file: PathBuf,
    /// How much of it was read.
    audited: u64,
    _folder: TempDir,
}

/// A request as the upstream got it, or has to get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) asid: String,
    pub(super) body: Vec<u8>,
}

impl Edge {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let heard = Arc::<Mutex<Vec<Heard>>>::default();
        let listener = runtime
            .block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .expect("a port");
        let upstream = listener.local_addr().expect("its address");
        runtime.spawn(serve(listener, Arc::clone(&heard)));

        let mut config = configuration(&folder, upstream);
        let (acceptor, client) = testing::verified(folder.path(), &mut config.tls);
        let acceptor = Arc::new(acceptor);
        let registry = folder.path().join("registry.toml");
        fs::write(
            &registry,
            format!("[[system]]\nasid = \"{ASID}\"\nods = \"{ODS}\"\ninteractions = {INTERACTIONS:?}\n"),
        )
        .expect("the registry");
        let systems = registry::load(&registry).expect("a sound registry");
        let snapshot = Snapshot::lasting(Source::File, systems);
        let registry = Arc::new(InForce::default());
        registry.replace(Arc::new(Registry::new(vec![Arc::new(snapshot)])));
        config.audit.file = folder.path().join("audit.jsonl");
        config.audit.key = folder.path().join("audit.key");
        // What it says is compared word for word.
        config.audit.mask = false;
        let audit = Arc::new(audit::Log::open(&config.audit).expect("a log"));
        let gateway = Gateway::new(
            Arc::clone(&acceptor),
            Arc::new(OcspClient::new(acceptor, &config.tls.client.ocsp)),
            (Policy::new(&config, None).expect("a sound policy"), registry),
            Arc::new(Verdicts::new(&config, &[], None)),
            Arc::clone(&audit),
            (Arc::new(Counters::new()), Arc::new(Errors::default())),
        );
        Self {
            runtime,
            gateway: Arc::new(gateway),
            client,
            heard,
            audit,
            audit_file: config.audit.file,
            audited: 0,
            _folder: folder,
        }
    }

    /// Sends a client's bytes in pieces, until the gateway ends the connection. Gives what the upstream got.
    pub(super) fn exchange(&self, stream: &[u8], piece: usize) -> Vec<Heard> {
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let connection = Connection {
            clock: now,
            ..Connection::new(
                Arc::clone(&self.gateway),
                self.client.clone(),
                peer,
                &CancellationToken::new(),
            )
        };
        self.runtime.block_on(async {
            let (client, server) = duplex(1 << 16);
            let (mut reader, mut writer) = tokio::io::split(client);
            let write = async {
                for piece in stream.chunks(piece.max(1)) {
                    // The gateway may have had enough.
                    if writer.write_all(piece).await.is_err() {
                        break;
                    }
                    // It sees each piece for itself.
                    tokio::task::yield_now().await;
                }
                let _ = writer.shutdown().await;
            };
            let read = async {
                let mut answers = Vec::new();
                let _ = reader.read_to_end(&mut answers).await;
            };
            let fault = tls::Fault::default();
            let changes = self.gateway.acceptor.changes();
            let conversation =
                async { tokio::join!(connection.converse(server, &fault, changes), write, read) };
            tokio::time::timeout(Duration::from_secs(10), conversation)
                .await
                .expect("a connection ends once its client has sent everything");
        });
        std::mem::take(&mut *self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What was recorded since this was asked the last time.
    pub(super) fn take_audit(&mut self) -> Vec<u8> {
        let mut file = File::open(&self.audit_file).expect("the log");
        file.seek(SeekFrom::Start(self.audited)).expect("its end");
        let mut log = Vec::new();
        file.read_to_end(&mut log).expect("the log");
        self.audited += log.len() as u64;
        if self.audited > LONGEST_LOG {
            fs::remove_file(&self.audit_file).expect("the log");
            self.audit.reopen().expect("another log");
            self.audited = 0;
        }
        log
    }
}

/// The time of every connection.
pub(super) fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
}

/// The example of the documentation, but for the upstream.
fn configuration(folder: &TempDir, upstream: SocketAddr) -> Config {
    let (_, rest) = DOCUMENTATION.split_once("```toml\n").expect("an example");
    let (example, _) = rest.split_once("```").expect("its end");
    let file = folder.path().join("spinegate.toml");
    fs::write(&file, example).expect("a file");
    let mut config = config::load(&file).expect("a sound configuration").config;
    config.gateway.upstreams = vec![format!("http://{upstream}").parse().expect("an address")];
    config
}

/// An upstream that answers the gateway's own questions by [`stored`], and keeps everything else.
async fn serve(listener: TcpListener, heard: Arc<Mutex<Vec<Heard>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(converse(stream, Arc::clone(&heard)));
    }
}

async fn converse(mut stream: TcpStream, heard: Arc<Mutex<Vec<Heard>>>) {
    let mut received = Vec::new();
    loop {
        while let Some((request, is_clients, length)) = take(&received) {
            received.drain(..length);
            let (status, body) = if is_clients {
                let answer = if request.method == "POST" {
                    "201 Created"
                } else {
                    "200 OK"
                };
                heard.lock().unwrap_or_else(PoisonError::into_inner).push(request);
                (answer, "{}".to_owned())
            } else {
                match stored(&request.target) {
                    Some(body) => ("200 OK", body),
                    None => ("404 Not Found", String::new()),
                }
            };
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
        match stream.read_buf(&mut received).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

/// The first request, whether it is a client's and not the gateway's own, and its length.
fn take(received: &[u8]) -> Option<(Heard, bool, usize)> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(head) = request.parse(received).expect("the gateway sends HTTP") else {
        return None;
    };
    let field = |name: &str| {
        let mut named = request
            .headers
            .iter()
            .filter(|one| one.name.eq_ignore_ascii_case(name));
        let value = named
            .next()
            .map(|one| String::from_utf8_lossy(one.value).into_owned());
        assert!(named.next().is_none(), "{name} is there twice");
        value
    };
    assert_eq!(field("transfer-encoding"), None, "every body's length is known");
    let length = field("content-length").map_or(0, |length| length.parse().expect("a length"));
    let body = received.get(head..head + length)?;
    let asid = field("x-spinegate-asid");
    let heard = Heard {
        method: request.method?.to_owned(),
        target: request.path?.to_owned(),
        body: body.to_owned(),
        asid: asid.clone().unwrap_or_default(),
    };
    if asid.is_some() {
        assert_eq!(asid, field("fromasid"), "who it is, and who it says it is");
    }
    Some((heard, asid.is_some(), head + length))
}
