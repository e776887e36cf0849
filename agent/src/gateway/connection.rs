//! One connection: the handshake, then requests until either side ends it.

use std::{
    error::Error as _,
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, atomic::AtomicUsize},
    task::Poll,
    time::{Duration, SystemTime},
};

use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use spinegate_common::Reason;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
};
use tokio_io_timeout::TimeoutWriter;
use tokio_util::sync::CancellationToken;

use super::{
    Gateway,
    record::described,
    request,
    screen::{Fault, Limits, Rest, Screen, Screened},
    unauthenticated::Place,
};
use crate::{
    audit::Certificate,
    tls::{self, Refusal, VerifiedClient},
};

/// What hyper may buffer beyond a head. It sees only what the screen has released, and its limits are a second line.
const BUFFER: usize = 16 * 1024;
/// A refused client may take so long to be told that the connection ends.
const FAREWELL: Duration = Duration::from_millis(500);
/// A certificate's end is looked at again at least so often, in case the clock was set meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// When the agent drains, a connection that is idle may send one more request for so long, or for half of the time that
/// there is: a client that sends without a pause learns from its answer that it must connect anew, and loses nothing.
const LAST_CHANCE: Duration = Duration::from_secs(1);

/// A connection behind its handshake. There is no other way to the request pipeline than through a [`VerifiedClient`].
pub(super) struct Connection {
    pub(super) gateway: Arc<Gateway>,
    pub(super) client: VerifiedClient,
    /// What its records say of the client's certificate.
    pub(super) certificate: Arc<Certificate>,
    pub(super) peer: SocketAddr,
    /// Cancelled when no request may follow the one under way.
    pub(super) drain: CancellationToken,
    /// Requests that it has brought.
    pub(super) requests: AtomicUsize,
    /// A rule that the body under way has broken.
    pub(super) fault: Fault,
    /// Whether it has been silent for a while.
    pub(super) rest: Rest,
    /// What time it is: tests say another than the system.
    pub(super) clock: fn() -> SystemTime,
}

/// Serves a connection to its end; when the agent drains, to the end of the request under way, which may be the first. One
/// whose client becomes invalid is cut off at once.
pub(super) async fn serve(
    gateway: Arc<Gateway>,
    stream: TcpStream,
    peer: SocketAddr,
    place: Place,
    drain: CancellationToken,
) {
    // Before the handshake: whatever changes from here on is seen.
    let changes = gateway.acceptor.changes();
    let handshake = gateway.acceptor.accept(stream, place.source()).await;
    drop(place);
    let (stream, (client, session)) = match handshake {
        Ok((mut stream, client, session)) => {
            // Boxed: it would be the largest part of a connection's task, for as long as that lasts.
            if let Err(refusal) = Box::pin(gateway.ocsp.confirm(&client)).await {
                gateway.record_failed_handshake(peer, &refusal);
                let _ = tokio::time::timeout(FAREWELL, stream.shutdown()).await;
                return;
            }
            (stream, (client, session))
        }
        Err(refusal) => {
            gateway.record_failed_handshake(peer, &refusal);
            return;
        }
    };
    let fault = stream.fault();
    let connection = Connection::new(gateway, client, peer, &drain);
    connection.record_handshake(&session);
    connection.converse(stream, &fault, changes).await;
}

/// Serves until the connection ends, or rests: then there is no end yet.
async fn until_rest<F: Future + Unpin>(serving: &mut F, rest: &Rest) -> Option<F::Output> {
    poll_fn(|cx| match Pin::new(&mut *serving).poll(cx) {
        Poll::Ready(ended) => Poll::Ready(Some(ended)),
        Poll::Pending if rest.has_come() => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// Whether writing took too long. Reading has its own limits, of which the screen says more.
fn is_stalled(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::TimedOut)
}

/// The HTTP parser behind the screen. That has the times of heads and of silence: a timer of hyper's for each request would
/// only repeat them.
pub(super) fn parser(limits: Limits) -> http1::Builder {
    let mut parser = http1::Builder::new();
    parser
        .max_buf_size(limits.head + BUFFER)
        .max_headers(limits.headers)
        // What was released is answered, though nothing may follow it.
        .half_close(true);
    parser
}

impl Connection {
    pub(super) fn new(
        gateway: Arc<Gateway>,
        client: VerifiedClient,
        peer: SocketAddr,
        drain: &CancellationToken,
    ) -> Self {
        Self {
            gateway,
            certificate: described(&client),
            client,
            peer,
            // The agent's drain, or this connection's own end.
            drain: drain.child_token(),
            requests: AtomicUsize::new(0),
            fault: Fault::default(),
            rest: Rest::default(),
            clock: SystemTime::now,
        }
    }

    /// Serves requests over a stream behind its handshake. `fault` tells what TLS has found in it; `changes`, that the client
    /// has to be judged again.
    pub(super) async fn converse<S>(self, stream: S, fault: &tls::Fault, mut changes: watch::Receiver<()>)
    where
        S: AsyncRead + AsyncWrite,
    {
        let connection = Arc::new(self);
        let (limits, screen, times) = connection.gateway.screening();
        // A client that does not read holds no more than the socket's buffer and hyper's, and not for long.
        let mut paced = TimeoutWriter::new(stream);
        paced.set_timeout(Some(connection.gateway.answer_timeout()));
        let mut screened = Screened::new(
            Box::pin(paced),
            screen,
            times,
            (&connection.fault, &connection.rest),
            |violation, screen: &Screen| {
                let gateway = &connection.gateway;
                gateway.refuse_head(&connection, violation, screen.request_line())
            },
        );
        let age = tokio::time::sleep(connection.gateway.connection_age());
        tokio::pin!(age);
        let last_chance = async {
            connection.drain.cancelled().await;
            let left = connection.gateway.drain_timeout() / 2;
            tokio::time::sleep(left.min(LAST_CHANCE)).await;
        };
        tokio::pin!(last_chance);
        let mut service = service_fn(|request: Request<Incoming>| {
            let connection = Arc::clone(&connection);
            let now = (connection.clock)();
            // hyper keeps a place for this as long as the connection lasts: boxed, an idle one has no more than a pointer.
            Box::pin(async move {
                Ok::<_, std::convert::Infallible>(request::answer(&connection, request, now).await)
            })
        });
        let serving = async {
            let mut draining = false;
            loop {
                // Between requests a connection has no HTTP parser, whose buffers are most of what an idle one would take.
                tokio::select! {
                    () = screened.begun() => {}
                    () = &mut last_chance, if !draining => draining = true,
                }
                let serving = parser(limits).serve_connection(TokioIo::new(screened), service);
                let mut serving = Box::new(serving);
                if draining {
                    Pin::new(&mut *serving).graceful_shutdown();
                }
                loop {
                    tokio::select! {
                        ended = until_rest(&mut *serving, &connection.rest) => match ended {
                            Some(ended) => return ended,
                            None => break,
                        },
                        () = &mut last_chance, if !draining => {
                            Pin::new(&mut *serving).graceful_shutdown();
                            draining = true;
                        }
                    }
                }
                let parts = serving.into_parts();
                screened = parts.io.into_inner();
                screened.take_back(&parts.read_buf);
                service = parts.service;
            }
        };
        tokio::pin!(serving);
        let ended = loop {
            tokio::select! {
                ended = &mut serving => break ended,
                () = &mut age, if !connection.drain.is_cancelled() => {
                    connection.gateway.record_retired(&connection, Reason::ConnectionAge);
                    connection.drain.cancel();
                }
                refusal = connection.invalidated(&mut changes) => {
                    connection.gateway.record_invalidated(&connection, &refusal);
                    return;
                }
            }
        };
        if let Some(refusal) = fault.refusal() {
            connection.gateway.record_broken(&connection, refusal);
        } else if let Some(violation) = connection.fault.take() {
            connection.gateway.refuse_rest(&connection, violation);
        } else if let Err(error) = ended {
            if error.is_parse() || error.is_parse_too_large() {
                connection
                    .gateway
                    .refuse_malformed(&connection, &error.to_string());
            } else if is_stalled(&error) {
                connection.gateway.record_stalled(&connection);
            } else {
                tracing::debug!(peer = %connection.peer, %error, reason = Reason::PeerClosed.as_str(), "the connection ended early");
            }
        }
    }

    /// Waits until a rule no longer lets the client's certificate pass: at each change of what is in force, and when the
    /// certificate ends.
    async fn invalidated(&self, changes: &mut watch::Receiver<()>) -> Refusal {
        loop {
            let (trust, now) = (self.gateway.acceptor.trust(), (self.clock)());
            if let Err(refusal) = trust.recheck(&self.client, now) {
                return refusal;
            }
            let left = trust.validity(&self.client, now);
            tokio::select! {
                changed = changes.changed() => if changed.is_err() {
                    // The acceptor is gone, and the agent with it.
                    return std::future::pending().await;
                },
                () = tokio::time::sleep(left.min(LONGEST_SLEEP)) => {}
            }
        }
    }
}
