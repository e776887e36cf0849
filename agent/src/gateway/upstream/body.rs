//! An answer's body on its way to a client: passed on piece by piece, never held, and never made to look whole when it is not.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use spinegate_common::Reason;
use tokio::time::{Sleep, sleep};

use super::{connection::Connection, error::UpstreamError, member::Lease};

/// The body of an upstream's answer. Its connection serves another request only if the whole of it was read.
pub(in crate::gateway) struct AnswerBody {
    body: Incoming,
    /// Both are there until the answer is over.
    connection: Option<Connection>,
    lease: Option<Lease>,
    /// Whether its status says that the upstream is sound.
    sound: bool,
    ended: bool,
    idle: Duration,
    /// Runs while the upstream is waited for, and not while the client is.
    waiting: Option<Pin<Box<Sleep>>>,
    passed: u64,
    /// What has broken the answer off, until what came before is on its way.
    broken: Option<UpstreamError>,
    report: Option<Box<dyn FnOnce(UpstreamError) + Send>>,
}

impl AnswerBody {
    pub(super) fn new(
        body: Incoming,
        connection: Connection,
        lease: Lease,
        sound: bool,
        idle: Duration,
    ) -> Self {
        Self {
            body,
            connection: Some(connection),
            lease: Some(lease),
            sound,
            ended: false,
            idle,
            waiting: None,
            passed: 0,
            broken: None,
            report: None,
        }
    }

    /// Has `report` told when the answer breaks off.
    pub(in crate::gateway) fn reporting(
        mut self,
        report: impl FnOnce(UpstreamError) + Send + 'static,
    ) -> Self {
        self.report = Some(Box::new(report));
        self
    }

    fn break_off(&mut self, error: UpstreamError) -> UpstreamError {
        let error = UpstreamError {
            detail: format!(
                "after {} bytes of the answer's body: {}",
                self.passed, error.detail
            ),
            ..error
        };
        self.connection = None;
        if let Some(lease) = self.lease.take() {
            lease.member.failed(&error);
        }
        if let Some(report) = self.report.take() {
            report(error.clone());
        }
        error
    }

    /// The next of the body, and what is needed to have one. The driver is woken for what it waits for; the body waits for
    /// nothing but the driver.
    fn poll_driven(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let silent = &mut Context::from_waker(Waker::noop());
        let frame = Pin::new(&mut self.body).poll_frame(silent);
        let (Poll::Pending, Some(connection)) = (&frame, &mut self.connection) else {
            return frame;
        };
        connection.drive(silent);
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(silent) {
            return Poll::Ready(frame);
        }
        connection.drive(cx);
        Pin::new(&mut self.body).poll_frame(silent)
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let idle = self.idle;
        self.waiting
            .get_or_insert_with(|| Box::pin(sleep(idle)))
            .as_mut()
            .poll(cx)
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = UpstreamError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        let this = self.get_mut();
        if let Some(error) = this.broken.take() {
            return Poll::Ready(Some(Err(this.break_off(error))));
        }
        loop {
            let frame = match this.poll_driven(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    return this.poll_idle(cx).map(|()| {
                        let idle = humantime::format_duration(this.idle);
                        let error =
                            UpstreamError::new(Reason::UpstreamStalled, format!("nothing came for {idle}"));
                        Some(Err(this.break_off(error)))
                    });
                }
            };
            this.waiting = None;
            return Poll::Ready(match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        this.passed = this.passed.saturating_add(data.len() as u64);
                        Some(Ok(Frame::data(data)))
                    }
                    // Trailers: the client was told of none.
                    Err(_) => continue,
                },
                Some(Err(error)) => {
                    // hyper sends what it has when there is nothing more for now, and throws it away at an error.
                    this.broken = Some(UpstreamError::of(&error));
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                None => {
                    this.ended = true;
                    None
                }
            });
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        let whole = self.ended || self.body.is_end_stream();
        let (Some(connection), Some(lease), true) = (self.connection.take(), self.lease.take(), whole) else {
            return;
        };
        if self.sound {
            lease.member.succeeded();
        }
        // Outside of a runtime there is nobody left to keep it for.
        if tokio::runtime::Handle::try_current().is_ok()
            && let Some(connection) = connection.settle()
        {
            lease.member.keep(connection);
        }
    }
}

impl fmt::Debug for AnswerBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerBody")
            .field("passed", &self.passed)
            .field("deadline", &self.waiting.as_ref().map(|sleep| sleep.deadline()))
            .finish_non_exhaustive()
    }
}
