//! One connection to an upstream: made, used for one request at a time, kept for the next.
//!
//! hyper's connection is used directly and not its pool: it gives a request back that it has not begun to send, and it is
//! known here which connection a request went over and how that ended. It has no task of its own either: whoever waits for
//! an answer moves its bytes, and nobody has to be woken for that.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use spinegate_common::Reason;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};

use super::{
    address::Address,
    error::UpstreamError,
    wire::{MAX_HEAD, Stream, Tally, Wire},
};
use crate::tls::{ConnectError, Connector};

const MAX_HEADERS: usize = 100;

/// Moves the bytes of a connection.
type Driver = http1::Connection<TokioIo<Wire>, Full<Bytes>>;

/// A connection behind its handshakes. Dropped, it is cut off.
#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// None at its end.
    driver: Option<Box<Driver>>,
    tally: Arc<Tally>,
    /// Whether it has served a request before.
    pub(super) reused: bool,
    /// Since when it waits for a request.
    pub(super) idle_since: Instant,
}

/// A request got no answer.
pub(super) struct Unanswered {
    pub(super) error: UpstreamError,
    /// No byte of it has gone out.
    pub(super) unsent: bool,
    /// The other end closed a kept connection before any byte of an answer came: it was closing already when the request
    /// was sent, or has not looked at it.
    pub(super) stale: bool,
}

impl Connection {
    /// Connects within `limit`, TLS included.
    pub(super) async fn open(
        address: &Address,
        connector: Option<&Connector>,
        limit: Duration,
        deadline: Instant,
    ) -> Result<Self, UpstreamError> {
        let end = (Instant::now() + limit).min(deadline);
        let connecting = async {
            let stream = TcpStream::connect((address.host(), address.port()))
                .await
                .map_err(|error| {
                    UpstreamError::new(
                        Reason::UpstreamUnreachable,
                        format!("connecting to {address}: {error}"),
                    )
                })?;
            // A delay of small writes is all that is lost.
            let _ = stream.set_nodelay(true);
            let stream = match (address.is_secure(), connector) {
                (false, _) => Stream::Plain(stream),
                (true, Some(connector)) => Stream::Tls(
                    connector
                        .connect(address.host(), stream)
                        .await
                        .map_err(|error| of_tls(address, &error))?,
                ),
                (true, None) => {
                    let detail = format!("{address} needs `gateway.upstream_tls.ca`");
                    return Err(UpstreamError::new(Reason::UpstreamTls, detail));
                }
            };
            Self::over(stream).await
        };
        timeout_at(end, connecting).await.unwrap_or_else(|_| {
            let detail = format!(
                "no connection to {address} within {}",
                humantime::format_duration(limit)
            );
            Err(UpstreamError::new(Reason::UpstreamTimeout, detail))
        })
    }

    async fn over(stream: Stream) -> Result<Self, UpstreamError> {
        let tally = Arc::new(Tally::default());
        let wire = TokioIo::new(Wire::new(stream, Arc::clone(&tally)));
        let (sender, driver) = http1::Builder::new()
            // A head that comes at once may be larger than the buffer.
            .max_header_size(MAX_HEAD)
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS)
            .handshake(wire)
            .await
            .map_err(|error| UpstreamError::of(&error))?;
        Ok(Self {
            sender,
            driver: Some(Box::new(driver)),
            tally,
            reused: false,
            idle_since: Instant::now(),
        })
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
        deadline: Instant,
    ) -> Result<Response<Incoming>, Unanswered> {
        self.tally.begin();
        let mut answer = pin!(self.sender.try_send_request(request));
        let driver = &mut self.driver;
        let answered = poll_fn(|cx| match poll_silently(answer.as_mut()) {
            Poll::Pending => {
                drive(driver, cx);
                poll_silently(answer.as_mut())
            }
            answered => answered,
        });
        match timeout_at(deadline, answered).await {
            Ok(Ok(answer)) => {
                self.tally.head_is_whole();
                Ok(answer)
            }
            Ok(Err(mut failure)) => {
                let unsent = failure.take_message().is_some() || self.tally.is_unsent();
                let error = UpstreamError::of(failure.error());
                let closed = error.reason == Reason::UpstreamReset;
                Err(Unanswered {
                    unsent,
                    stale: self.reused && (unsent || (closed && self.tally.is_unanswered())),
                    error,
                })
            }
            Err(_) => Err(Unanswered {
                error: UpstreamError::new(Reason::UpstreamTimeout, "no answer in time"),
                unsent: false,
                stale: false,
            }),
        }
    }

    /// Moves bytes as far as they go, for one who waits for some of them.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        drive(&mut self.driver, cx);
    }

    /// The connection after its answer, if another request can be sent.
    pub(super) fn settle(mut self) -> Option<Self> {
        self.is_ready().then(|| {
            self.reused = true;
            self.idle_since = Instant::now();
            self
        })
    }

    /// Whether a request can be sent. hyper looks for the other end's farewell, and for bytes that belong to no answer,
    /// before it says so.
    pub(super) fn is_ready(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.sender.is_ready()
    }

    /// Ends a connection that no answer is expected from, in good order.
    pub(super) fn close(self) {
        let Self {
            sender, mut driver, ..
        } = self;
        drop(sender);
        drive(&mut driver, &mut Context::from_waker(Waker::noop()));
    }
}

fn drive(driver: &mut Option<Box<Driver>>, cx: &mut Context<'_>) {
    if let Some(driving) = driver
        && Pin::new(driving.as_mut()).poll(cx).is_ready()
    {
        // Whoever waits for an answer is told of its end.
        *driver = None;
    }
}

/// Asks for what only the driver can bring. It is asked again when that was driven, so that it need wake nobody.
pub(super) fn poll_silently<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn of_tls(address: &Address, error: &ConnectError) -> UpstreamError {
    let reason = match error {
        ConnectError::Broken(_) => Reason::UpstreamUnreachable,
        ConnectError::Refused(_) => Reason::UpstreamTls,
    };
    UpstreamError::new(reason, format!("connecting to {address}: {error}"))
}
