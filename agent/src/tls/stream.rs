//! A TLS connection as hyper reads and writes it.

use std::{
    io::{self, Read, Write},
    os::fd::{AsFd as _, BorrowedFd},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, Waker, ready},
};

use openssl::ssl::{ErrorCode, ShutdownState, SslStream};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::retry_on_intr,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::Refusal;

/// A TCP connection as OpenSSL reads and writes it: never waiting, so that any thread can go on with a handshake.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    /// Who is woken when there is more to read. With it, tokio remembers a read that took all there was, and OpenSSL's next
    /// one costs no system call.
    reader: Option<Waker>,
}

/// A TLS connection behind its handshake.
#[derive(Debug)]
pub struct TlsStream {
    ssl: SslStream<Socket>,
    fault: Fault,
}

/// The record that ended a connection, if one did: who reads and writes the stream sees an error at most.
#[derive(Clone, Debug, Default)]
pub struct Fault(Arc<OnceLock<Refusal>>);

/// What OpenSSL waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wants {
    Read,
    Write,
}

impl Socket {
    pub(super) const fn new(stream: TcpStream) -> Self {
        Self { stream, reader: None }
    }

    pub(super) async fn ready(&self, wants: Wants) -> io::Result<()> {
        match wants {
            Wants::Read => self.stream.readable().await,
            Wants::Write => self.stream.writable().await,
        }
    }

    pub(super) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Whether the other end has closed the connection, or it broke: asked of the kernel, without reading.
    pub(super) fn is_gone(&self) -> bool {
        let fd: BorrowedFd<'_> = self.stream.as_fd();
        let mut asked = [PollFd::new(&fd, PollFlags::RDHUP)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let gone = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        retry_on_intr(|| poll(&mut asked, Some(&now))).is_ok()
            && asked.iter().any(|asked| asked.revents().intersects(gone))
    }

    /// Has reads wake a task from now on.
    fn read_for(&mut self, cx: &Context<'_>) {
        if !self
            .reader
            .as_ref()
            .is_some_and(|reader| reader.will_wake(cx.waker()))
        {
            self.reader = Some(cx.waker().clone());
        }
    }

    fn poll_ready(&self, wants: Wants, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match wants {
            // The read that found nothing has seen to it.
            Wants::Read if self.reader.is_some() => Poll::Pending,
            Wants::Read => self.stream.poll_read_ready(cx),
            Wants::Write => self.stream.poll_write_ready(cx),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(reader) = &self.reader else {
            return self.stream.try_read(buffer);
        };
        let mut buffer = ReadBuf::new(buffer);
        match Pin::new(&mut self.stream).poll_read(&mut Context::from_waker(reader), &mut buffer) {
            Poll::Ready(read) => read.map(|()| buffer.filled().len()),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What OpenSSL waits for, if that is all that keeps it: the socket then has said that it would have to wait.
pub(super) fn wants(error: &openssl::ssl::Error) -> Option<Wants> {
    if error
        .io_error()
        .is_some_and(|error| error.kind() != io::ErrorKind::WouldBlock)
    {
        return None;
    }
    match error.code() {
        ErrorCode::WANT_READ => Some(Wants::Read),
        ErrorCode::WANT_WRITE => Some(Wants::Write),
        _ => None,
    }
}

impl TlsStream {
    pub(super) fn new(ssl: SslStream<Socket>) -> Self {
        Self {
            ssl,
            fault: Fault::default(),
        }
    }

    /// Tells of a record that ends the connection, also when the stream is gone.
    #[must_use]
    pub fn fault(&self) -> Fault {
        self.fault.clone()
    }

    /// Repeats what OpenSSL can't do yet until it can; `None` is the end of the peer's data.
    fn poll_with<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut act: impl FnMut(&mut SslStream<Socket>) -> Result<T, openssl::ssl::Error>,
    ) -> Poll<io::Result<Option<T>>> {
        self.ssl.get_mut().read_for(cx);
        loop {
            let error = match act(&mut self.ssl) {
                Ok(done) => return Poll::Ready(Ok(Some(done))),
                Err(error) => error,
            };
            match wants(&error) {
                Some(wants) => ready!(self.ssl.get_ref().poll_ready(wants, cx))?,
                None if error.code() == ErrorCode::ZERO_RETURN => return Poll::Ready(Ok(None)),
                None => {
                    if let Some(refusal) = Refusal::of_record(&error) {
                        // The first one counts.
                        let _ = self.fault.0.set(refusal);
                    }
                    return Poll::Ready(Err(error.into_io_error().unwrap_or_else(io::Error::other)));
                }
            }
        }
    }
}

impl Fault {
    /// Why the connection ended, if a record ended it.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        self.0.get()
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // SAFETY: OpenSSL writes into the buffer and makes nothing of it uninitialised. A buffer that is cleared before each
        // read would cost an idle connection its pages, though nothing ever comes.
        let unfilled = unsafe { buffer.unfilled_mut() };
        let read = ready!(this.poll_with(cx, |ssl| ssl.ssl_read_uninit(unfilled)))?.unwrap_or(0);
        // SAFETY: OpenSSL has written so many bytes.
        unsafe { buffer.assume_init(read) };
        buffer.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(self.get_mut().poll_with(cx, |ssl| ssl.ssl_write(bytes)))?;
        Poll::Ready(written.ok_or_else(|| io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Nothing is held back: what OpenSSL has taken is with the kernel.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.ssl.get_shutdown().contains(ShutdownState::SENT) {
            // A peer that is gone needs no close_notify.
            let _ = ready!(this.poll_with(cx, SslStream::shutdown));
        }
        Pin::new(this.ssl.get_mut().stream()).poll_shutdown(cx)
    }
}
