//! Settings and raw servers for the tests of this room.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Response, uri::PathAndQuery};
use http_body_util::BodyExt as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::Instant,
};

use super::{AnswerBody, Upstream, UpstreamError};
use crate::config;

const DOCUMENTATION: &str = include_str!("../../../../docs/configuration.md");

/// Three failures eject for a second, up to eight; two answers take down and up.
pub(super) fn health() -> config::Health {
    config::Health {
        eject_after: 3,
        eject_time: Duration::from_secs(1),
        eject_time_max: Duration::from_secs(8),
        path: None,
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(2),
        healthy_after: 2,
        unhealthy_after: 2,
    }
}

/// `[gateway]` as the documentation's example has it, but for the addresses and the times.
pub(in crate::gateway) fn settings(addresses: &[SocketAddr]) -> config::Gateway {
    let (_, rest) = DOCUMENTATION.split_once("```toml\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("spinegate.toml");
    std::fs::write(&file, example).unwrap();
    let mut settings = config::load(&file).unwrap().config.gateway;
    settings.upstreams = addresses
        .iter()
        .map(|address| format!("http://{address}").parse().unwrap())
        .collect();
    settings.connect_timeout = Duration::from_secs(2);
    settings.upstream_timeout = Duration::from_secs(2);
    settings.upstream_idle_timeout = Duration::from_secs(2);
    settings.health = health();
    settings
}

pub(super) fn upstream(addresses: &[SocketAddr]) -> Upstream {
    Upstream::new(&settings(addresses), None).unwrap()
}

impl Upstream {
    pub(super) async fn ask(&self, method: Method) -> Result<Response<AnswerBody>, UpstreamError> {
        let request = || {
            let target = PathAndQuery::from_static("/STU3/DocumentReference");
            Ok(super::request(method.clone(), target, Bytes::new()))
        };
        self.exchange(request, Instant::now() + self.timeout).await
    }

    /// Status and whole body.
    pub(super) async fn whole(&self, method: Method) -> Result<(u16, String), UpstreamError> {
        let answer = self.ask(method).await?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await?.to_bytes();
        Ok((status, String::from_utf8(body.to_vec()).unwrap()))
    }
}

/// A server that does with each connection what the test says, and how many it has accepted.
pub(super) async fn server<D, F>(with: D) -> (SocketAddr, Arc<AtomicUsize>)
where
    D: Fn(Peer) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let number = count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(with(Peer { stream, number }));
        }
    });
    (address, accepted)
}

/// A server that answers every request with these bytes, over kept connections.
pub(super) async fn answering(bytes: impl Into<Vec<u8>>) -> (SocketAddr, Arc<AtomicUsize>) {
    let bytes = Arc::new(bytes.into());
    server(move |mut peer| {
        let bytes = Arc::clone(&bytes);
        async move {
            while peer.request().await {
                if !peer.say(&bytes).await {
                    return;
                }
            }
        }
    })
    .await
}

/// An address that refuses connections.
pub(super) async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

/// The gateway, as a server sees it.
pub(super) struct Peer {
    pub(super) stream: TcpStream,
    /// The connections before this one.
    pub(super) number: usize,
}

impl Peer {
    /// Reads a request's head; false when there is none any more.
    pub(super) async fn request(&mut self) -> bool {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match self.stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return false,
            }
        }
        true
    }

    pub(super) async fn say(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }
}
