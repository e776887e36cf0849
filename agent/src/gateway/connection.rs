//! One connection: the handshake, then requests until either side ends it.

use std::{net::SocketAddr, sync::Arc, time::SystemTime};

use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use spinegate_common::Reason;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::{Gateway, request};
use crate::tls::VerifiedClient;

/// The largest request head, in bytes. Longer ones are answered with 431 by hyper.
const MAX_HEAD: usize = 32 * 1024;
const MAX_HEADERS: usize = 64;

/// A connection behind its handshake. There is no other way to the request pipeline than through a [`VerifiedClient`].
pub(super) struct Connection {
    pub(super) gateway: Arc<Gateway>,
    pub(super) client: VerifiedClient,
    pub(super) peer: SocketAddr,
}

/// Serves a connection to its end; when the agent drains, to the end of the request under way.
pub(super) async fn serve(
    gateway: Arc<Gateway>,
    stream: TcpStream,
    peer: SocketAddr,
    drain: CancellationToken,
) {
    let handshake = tokio::select! {
        () = drain.cancelled() => return,
        handshake = gateway.acceptor.accept(stream) => handshake,
    };
    let (stream, client) = match handshake {
        Ok((stream, client, session)) => {
            gateway.record_handshake(peer, &client, &session);
            (stream, client)
        }
        Err(refusal) => {
            gateway.record_failed_handshake(peer, &refusal);
            return;
        }
    };
    let header_timeout = gateway.header_timeout();
    let connection = Arc::new(Connection {
        gateway,
        client,
        peer,
    });
    let service = service_fn(|request: Request<Incoming>| {
        let connection = Arc::clone(&connection);
        async move {
            Ok::<_, std::convert::Infallible>(request::answer(&connection, request, SystemTime::now()).await)
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = &mut serving => ended,
        () = drain.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        if error.is_parse() || error.is_parse_too_large() {
            connection
                .gateway
                .refuse_malformed(&connection, &error.to_string());
        } else {
            tracing::debug!(%peer, %error, reason = Reason::PeerClosed.as_str(), "the connection ended early");
        }
    }
}
