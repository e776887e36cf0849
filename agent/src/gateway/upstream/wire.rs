//! The bytes of a connection to an upstream, counted: what was sent and what came decides whether a request may be repeated,
//! and an answer's head has a bound that no flood of interim answers gets round.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::tls::TlsStream;

/// The largest head of an answer, in bytes.
pub(super) const MAX_HEAD: usize = 32 * 1024;
/// What may come before an answer's head is whole: the head, the interim answers before it, and what of the body is read
/// with them.
const MAX_BEFORE_BODY: usize = 2 * MAX_HEAD;

/// More came than an answer's head and its interim answers may have.
#[derive(Debug, thiserror::Error)]
#[error("more than {MAX_BEFORE_BODY} bytes came without a whole head of an answer")]
pub(super) struct TooMuch;

/// What has gone over a connection for the request under way.
#[derive(Debug, Default)]
pub(super) struct Tally {
    sent: AtomicUsize,
    received: AtomicUsize,
    head_is_whole: AtomicBool,
}

impl Tally {
    pub(super) fn begin(&self) {
        self.sent.store(0, Ordering::Relaxed);
        self.received.store(0, Ordering::Relaxed);
        self.head_is_whole.store(false, Ordering::Relaxed);
    }

    pub(super) fn head_is_whole(&self) {
        self.head_is_whole.store(true, Ordering::Relaxed);
    }

    /// Whether no byte of the request has gone out.
    pub(super) fn is_unsent(&self) -> bool {
        self.sent.load(Ordering::Relaxed) == 0
    }

    /// Whether no byte of an answer has come.
    pub(super) fn is_unanswered(&self) -> bool {
        self.received.load(Ordering::Relaxed) == 0
    }

    fn receive(&self, bytes: usize) -> Result<(), TooMuch> {
        let all = self
            .received
            .fetch_add(bytes, Ordering::Relaxed)
            .saturating_add(bytes);
        if all > MAX_BEFORE_BODY && !self.head_is_whole.load(Ordering::Relaxed) {
            return Err(TooMuch);
        }
        Ok(())
    }
}

/// A connection to an upstream.
#[derive(Debug)]
pub(super) struct Wire {
    stream: Stream,
    tally: Arc<Tally>,
}

#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(TlsStream),
}

impl Wire {
    pub(super) const fn new(stream: Stream, tally: Arc<Tally>) -> Self {
        Self { stream, tally }
    }
}

impl Stream {
    fn read(&mut self) -> Pin<&mut (dyn AsyncRead + Unpin)> {
        match self {
            Self::Plain(stream) => Pin::new(stream),
            Self::Tls(stream) => Pin::new(stream),
        }
    }

    fn write(&mut self) -> Pin<&mut (dyn AsyncWrite + Unpin)> {
        match self {
            Self::Plain(stream) => Pin::new(stream),
            Self::Tls(stream) => Pin::new(stream),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(this.stream.read().poll_read(cx, buffer))?;
        let received = buffer.filled().len() - before;
        Poll::Ready(this.tally.receive(received).map_err(io::Error::other))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        // Counted before: what was written in part is sent as well.
        this.tally.sent.fetch_add(1, Ordering::Relaxed);
        this.stream.write().poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream.write().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream.write().poll_shutdown(cx)
    }
}
