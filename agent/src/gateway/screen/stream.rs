//! A connection whose reader sees what the screen releases, and nothing else.

use std::{
    io,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

use super::{
    machine::Screen,
    rule::{Place, Rule, Violation},
};

/// What is read at once.
const READ: usize = 8 * 1024;
/// What an idle connection keeps of its buffer.
const KEPT: usize = 4 * 1024;
/// A refused client has this long to read its answer before the connection is cut.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_BYTES: usize = 64 * 1024;

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// For a whole head, from its first byte.
    pub(crate) head: Duration,
    /// Between two requests.
    pub(crate) idle: Duration,
}

/// A rule that was broken within the body of a request that is being answered. The answer says so, if there is none yet.
#[derive(Debug, Default)]
pub(crate) struct Fault(Mutex<Option<Violation>>);

/// The connection. `refuse` is asked for the answer to a head that breaks a rule, once everything before it is answered.
pub(crate) struct Screened<'c, S, F> {
    stream: S,
    screen: Screen,
    released: Vec<u8>,
    /// How much of what was released the reader has.
    given: usize,
    times: Times,
    timer: Pin<Box<Sleep>>,
    waits: Option<Waits>,
    violation: Option<Violation>,
    /// Whether the reader has come to the violation.
    reached: bool,
    fault: &'c Fault,
    refuse: F,
    ending: Ending,
}

/// What the timer runs for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    ForHead,
    ForRequest,
}

/// How far the end of the connection is.
enum Ending {
    Open,
    Answering { answer: Vec<u8>, written: usize },
    Closing,
    Lingering { left: usize },
    Closed,
}

impl Fault {
    /// The violation, to whoever asks first.
    pub(crate) fn take(&self) -> Option<Violation> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set(&self, violation: Violation) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(violation);
    }
}

impl<'c, S, F> Screened<'c, S, F> {
    pub(crate) fn new(stream: S, screen: Screen, times: Times, fault: &'c Fault, refuse: F) -> Self {
        Self {
            stream,
            screen,
            released: Vec::new(),
            given: 0,
            times,
            timer: Box::pin(sleep(times.idle)),
            waits: None,
            violation: None,
            reached: false,
            fault,
            refuse,
            ending: Ending::Open,
        }
    }

    /// Gives what was released, as far as there is room. Whether there was any.
    fn give(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let rest = self.released.get(self.given..).unwrap_or_default();
        let length = rest.len().min(buffer.remaining());
        let Some(given) = rest.get(..length).filter(|given| !given.is_empty()) else {
            self.released.clear();
            self.released.shrink_to(KEPT);
            self.given = 0;
            return false;
        };
        buffer.put_slice(given);
        self.given += length;
        true
    }

    /// The reader has read everything before the violation: for it the connection ends here.
    fn reach(&mut self, violation: Violation) -> io::Result<()> {
        let first = !std::mem::replace(&mut self.reached, true);
        match violation.place {
            Place::Head => Ok(()),
            Place::ChunkLine | Place::ChunkEnd => {
                if first {
                    self.fault.set(violation);
                }
                Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    violation.rule.meaning(),
                ))
            }
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        let heads = self.screen.heads();
        self.violation = self.screen.feed(bytes, &mut self.released).err();
        if self.screen.heads() != heads {
            self.waits = None;
        }
    }

    /// Whether the client has let its time pass. That of a body is its reader's to watch.
    fn poll_times(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (waits, time) = if self.screen.is_within_body() {
            return Poll::Pending;
        } else if self.screen.is_within_head() {
            (Waits::ForHead, self.times.head)
        } else {
            (Waits::ForRequest, self.times.idle)
        };
        if self.waits != Some(waits) {
            self.waits = Some(waits);
            self.timer.as_mut().reset(Instant::now() + time);
        }
        ready!(self.timer.as_mut().poll(cx));
        if waits == Waits::ForHead {
            self.violation = Some(Violation::in_head(Rule::HeadTime, self.screen.head_length()));
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin, F: Unpin> AsyncRead for Screened<'_, S, F> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.give(buffer) {
                return Poll::Ready(Ok(()));
            }
            if let Some(violation) = this.violation {
                return Poll::Ready(this.reach(violation));
            }
            let mut space = [0; READ];
            let mut read = ReadBuf::new(&mut space);
            if Pin::new(&mut this.stream).poll_read(cx, &mut read)?.is_pending() {
                ready!(this.poll_times(cx));
                if this.violation.is_none() {
                    return Poll::Ready(Ok(()));
                }
            } else if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            } else {
                this.feed(read.filled());
            }
        }
    }
}

impl<S, F> AsyncWrite for Screened<'_, S, F>
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: FnMut(Violation, &Screen) -> Vec<u8> + Unpin,
{
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    /// Everything before is answered and written: now the refusal, then the end.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let mut stream = Pin::new(&mut this.stream);
        loop {
            this.ending = match &mut this.ending {
                Ending::Open => match this.violation {
                    Some(violation) if this.reached && violation.place == Place::Head => Ending::Answering {
                        answer: (this.refuse)(violation, &this.screen),
                        written: 0,
                    },
                    _ => Ending::Closing,
                },
                Ending::Answering { answer, written } => {
                    let rest = answer.get(*written..).unwrap_or_default();
                    if rest.is_empty() {
                        ready!(stream.as_mut().poll_flush(cx))?;
                        Ending::Closing
                    } else {
                        match ready!(stream.as_mut().poll_write(cx, rest))? {
                            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                            more => *written += more,
                        }
                        continue;
                    }
                }
                Ending::Closing => {
                    ready!(stream.as_mut().poll_shutdown(cx))?;
                    // Closing a socket with unread bytes resets the connection, and the reset overtakes the answer.
                    if this.reached || this.screen.is_within_body() {
                        this.timer.as_mut().reset(Instant::now() + LINGER);
                        Ending::Lingering { left: LINGER_BYTES }
                    } else {
                        Ending::Closed
                    }
                }
                Ending::Lingering { left } => {
                    let mut space = [0; READ];
                    let mut read = ReadBuf::new(&mut space);
                    match stream.as_mut().poll_read(cx, &mut read) {
                        Poll::Pending => {
                            ready!(this.timer.as_mut().poll(cx));
                            Ending::Closed
                        }
                        Poll::Ready(Ok(())) if !read.filled().is_empty() && read.filled().len() < *left => {
                            *left -= read.filled().len();
                            continue;
                        }
                        Poll::Ready(_) => Ending::Closed,
                    }
                }
                Ending::Closed => return Poll::Ready(Ok(())),
            };
        }
    }
}
