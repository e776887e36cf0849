//! One connection to an upstream: made, used for one request at a time, kept for the next.
//!
//! hyper's connection is used directly and not its pool: it gives a request back that it has not begun to send, and it is
//! known here which connection a request went over and how that ended.

use std::{sync::Arc, time::Duration};

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
    task::JoinHandle,
    time::{Instant, timeout_at},
};

use super::{
    address::Address,
    error::UpstreamError,
    wire::{MAX_HEAD, Stream, Tally, Wire},
};
use crate::tls::{ConnectError, Connector};

const MAX_HEADERS: usize = 100;
/// How long a connection may take to be ready for its next request when the last one is over.
const SETTLING: Duration = Duration::from_secs(1);

/// A connection behind its handshakes. Dropped, it is cut off.
#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: Option<JoinHandle<()>>,
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
        let (sender, connection) = http1::Builder::new()
            // A head that comes at once may be larger than the buffer.
            .max_header_size(MAX_HEAD)
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS)
            .handshake(wire)
            .await
            .map_err(|error| UpstreamError::of(&error))?;
        let driver = tokio::spawn(async move {
            // Whoever waits for an answer is told of its end.
            let _ = connection.await;
        });
        Ok(Self {
            sender,
            driver: Some(driver),
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
        match timeout_at(deadline, self.sender.try_send_request(request)).await {
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

    /// Waits until another request can be sent. hyper looks for bytes that belong to no answer before it says so.
    pub(super) async fn settle(mut self) -> Option<Self> {
        let ready = tokio::time::timeout(SETTLING, self.sender.ready()).await;
        matches!(ready, Ok(Ok(()))).then(|| {
            self.reused = true;
            self.idle_since = Instant::now();
            self
        })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Ends a connection that no answer is expected from, in good order.
    pub(super) fn close(mut self) {
        self.driver = None;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(driver) = &self.driver {
            driver.abort();
        }
    }
}

fn of_tls(address: &Address, error: &ConnectError) -> UpstreamError {
    let reason = match error {
        ConnectError::Broken(_) => Reason::UpstreamUnreachable,
        ConnectError::Refused(_) => Reason::UpstreamTls,
    };
    UpstreamError::new(reason, format!("connecting to {address}: {error}"))
}
