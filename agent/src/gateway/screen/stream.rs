//! A connection whose reader sees what the screen releases, and nothing else.

use std::{
    future::poll_fn,
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
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

/// Silence after which a connection rests.
const RESTLESS: Duration = Duration::from_secs(1);
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

/// Whether the client has been silent for a while, its reader has all it sent and nothing waits to be written.
#[derive(Debug, Default)]
pub(crate) struct Rest(AtomicBool);

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
    rest: &'c Rest,
    /// Whether the client has not taken what was written last.
    blocked: bool,
    refuse: F,
    ending: Ending,
}

/// What the timer runs for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    Head,
    Rest,
    Request,
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

impl Rest {
    pub(crate) fn has_come(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, has_come: bool) {
        self.0.store(has_come, Ordering::Relaxed);
    }
}

impl<'c, S, F> Screened<'c, S, F> {
    pub(crate) fn new(
        stream: S,
        screen: Screen,
        times: Times,
        (fault, rest): (&'c Fault, &'c Rest),
        refuse: F,
    ) -> Self {
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
            rest,
            blocked: false,
            refuse,
            ending: Ending::Open,
        }
    }

    /// Takes back what its reader had and did not read.
    pub(crate) fn take_back(&mut self, unread: &[u8]) {
        drop(self.released.splice(..self.given, unread.iter().copied()));
        self.given = 0;
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
        self.rest.set(false);
    }

    /// Whether the client has let its time pass. That of a body is its reader's to watch.
    fn poll_times(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let before_rest = self.times.idle.min(RESTLESS);
        let (waits, time) = if self.screen.is_within_body() {
            return Poll::Pending;
        } else if self.screen.is_within_head() {
            (Waits::Head, self.times.head)
        } else if self.waits == Some(Waits::Request) {
            (Waits::Request, self.times.idle - before_rest)
        } else {
            (Waits::Rest, before_rest)
        };
        self.wait(waits, time);
        ready!(self.timer.as_mut().poll(cx));
        match waits {
            Waits::Head => {
                self.violation = Some(Violation::in_head(Rule::HeadTime, self.screen.head_length()));
            }
            Waits::Rest => {
                self.rest.set(!self.blocked);
                self.released.shrink_to_fit();
                self.screen.rest();
                self.wait(Waits::Request, self.times.idle - before_rest);
                return self.timer.as_mut().poll(cx);
            }
            Waits::Request => {}
        }
        Poll::Ready(())
    }

    /// Begins to wait, unless it waits for that already.
    fn wait(&mut self, waits: Waits, time: Duration) {
        if self.waits != Some(waits) {
            self.waits = Some(waits);
            self.timer.as_mut().reset(Instant::now() + time);
        }
    }
}

impl<S: AsyncRead + Unpin, F> Screened<'_, S, F> {
    /// Waits until there is something for a reader: what was released, the end, or a fault.
    pub(crate) async fn begun(&mut self) {
        poll_fn(|cx| {
            while self.released.is_empty() && self.violation.is_none() {
                // Whatever ends it is there again for the reader.
                if !matches!(ready!(self.poll_more(cx)), Ok(true)) {
                    break;
                }
            }
            self.rest.set(false);
            Poll::Ready(())
        })
        .await;
    }

    /// Reads once more. Nothing comes after the end, or after the client's time.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut space = [MaybeUninit::uninit(); READ];
        let mut read = ReadBuf::uninit(&mut space);
        if Pin::new(&mut self.stream).poll_read(cx, &mut read)?.is_pending() {
            ready!(self.poll_times(cx));
            return Poll::Ready(Ok(self.violation.is_some()));
        }
        let more = !read.filled().is_empty();
        if more {
            self.feed(read.filled());
        }
        Poll::Ready(Ok(more))
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
            if !ready!(this.poll_more(cx))? {
                return Poll::Ready(Ok(()));
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
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.blocked = written.is_pending();
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    /// Everything before is answered and written: now the refusal, then the end. A client that takes neither is cut off.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Poll::Ready(ended) = this.poll_end(cx) {
            return Poll::Ready(ended);
        }
        ready!(this.timer.as_mut().poll(cx));
        Poll::Ready(Ok(()))
    }
}

impl<S, F> Screened<'_, S, F>
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: FnMut(Violation, &Screen) -> Vec<u8>,
{
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut stream = Pin::new(&mut self.stream);
        loop {
            self.ending = match &mut self.ending {
                Ending::Open => {
                    self.timer.as_mut().reset(Instant::now() + self.times.head);
                    match self.violation {
                        Some(violation) if self.reached && violation.place == Place::Head => {
                            Ending::Answering {
                                answer: (self.refuse)(violation, &self.screen),
                                written: 0,
                            }
                        }
                        _ => Ending::Closing,
                    }
                }
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
                    if self.reached || self.screen.is_within_body() {
                        self.timer.as_mut().reset(Instant::now() + LINGER);
                        Ending::Lingering { left: LINGER_BYTES }
                    } else {
                        Ending::Closed
                    }
                }
                Ending::Lingering { left } => {
                    let mut space = [0; READ];
                    let mut read = ReadBuf::new(&mut space);
                    match stream.as_mut().poll_read(cx, &mut read) {
                        Poll::Pending => return Poll::Pending,
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

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, fs, path::Path, sync::Arc};

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::{BodyExt as _, Full};
    use hyper::{body::Incoming, server::conn::http1, service::service_fn};
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;
    use crate::gateway::screen::oracle::{LIMITS, feed};

    const TIMES: Times = Times {
        head: Duration::from_millis(80),
        idle: Duration::from_millis(160),
    };
    const GET: &str = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
    const CHUNKED: &str = "POST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

    /// What hyper made of a stream.
    #[derive(Debug, Default)]
    struct Served {
        /// Each request's target, and its body if that came whole.
        requests: Vec<(String, Option<Bytes>)>,
        answers: String,
        fault: Option<Violation>,
    }

    /// Serves a stream to its end, or to the end of the client's patience if it stays open.
    async fn serve(stream: &[u8], ends: bool) -> Served {
        let (mut client, server) = duplex(1 << 16);
        let (fault, rest) = (Fault::default(), Rest::default());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let service = service_fn(|request: Request<Incoming>| {
            let requests = Arc::clone(&requests);
            async move {
                let target = request.uri().to_string();
                let body = request
                    .into_body()
                    .collect()
                    .await
                    .ok()
                    .map(|body| body.to_bytes());
                requests.lock().unwrap().push((target, body));
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"ok"))))
            }
        });
        let refuse = |violation: Violation, _: &Screen| format!("REFUSED {violation}").into_bytes();
        let screened = Screened::new(server, Screen::new(LIMITS), TIMES, (&fault, &rest), refuse);
        let serving = http1::Builder::new()
            .half_close(true)
            .serve_connection(TokioIo::new(screened), service);
        let exchange = async {
            client.write_all(stream).await.unwrap();
            if ends {
                client.shutdown().await.unwrap();
            }
            let mut answers = String::new();
            client.read_to_string(&mut answers).await.unwrap();
            answers
        };
        let (_, answers) = tokio::join!(serving, exchange);
        let requests = std::mem::take(&mut *requests.lock().unwrap());
        Served {
            requests,
            answers,
            fault: fault.take(),
        }
    }

    #[tokio::test]
    async fn hyper_finds_the_requests_that_the_screen_has_released() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/screen");
        for file in fs::read_dir(folder).unwrap() {
            let input = fs::read(file.unwrap().path()).unwrap();
            let stream = input.get(1..).unwrap_or_default();
            let screened = feed(stream, usize::MAX);
            let served = serve(stream, true).await;
            assert_eq!(
                served.requests.len() as u64,
                screened.heads,
                "{stream:?}: {served:?}"
            );
        }
    }

    #[tokio::test]
    async fn what_was_released_is_answered_before_the_refusal() {
        let stream = format!("{GET}{CHUNKED}3\r\nabc\r\n0\r\n\r\n{GET}GET /c HTTP/1.0\r\n\r\n{GET}");
        let served = serve(stream.as_bytes(), false).await;
        let bodies: Vec<_> = served.requests.iter().map(|(_, body)| body.as_deref()).collect();
        assert_eq!(bodies, [Some(&b""[..]), Some(b"abc"), Some(b"")]);
        assert_eq!(served.answers.matches("HTTP/1.1 200 OK").count(), 3);
        assert!(
            served
                .answers
                .ends_with("okREFUSED version at byte 7 of the head"),
            "{served:?}"
        );
        assert_eq!(served.fault, None);
    }

    #[tokio::test]
    async fn a_rule_that_a_body_breaks_is_for_its_request_to_tell() {
        let served = serve(format!("{GET}{CHUNKED}3\r\nabc\r\n1;a\r\n").as_bytes(), false).await;
        assert_eq!(served.requests[1], ("/b".to_owned(), None));
        assert_eq!(served.fault.map(|fault| fault.rule), Some(Rule::ChunkExtension));
        assert!(!served.answers.contains("REFUSED"), "{served:?}");
    }

    #[tokio::test]
    async fn a_client_that_is_silent_for_a_while_rests_until_it_goes_on() {
        let (mut client, server) = duplex(1 << 16);
        let (fault, rest) = (Fault::default(), Rest::default());
        let times = Times {
            idle: 3 * RESTLESS,
            ..TIMES
        };
        let refuse = |_: Violation, _: &Screen| Vec::<u8>::new();
        let mut screened = Screened::new(server, Screen::new(LIMITS), times, (&fault, &rest), refuse);
        let mut read = [0; 64];
        for _ in 0..2 {
            client.write_all(GET.as_bytes()).await.unwrap();
            screened.begun().await;
            assert!(!rest.has_come());
            assert_eq!(screened.read(&mut read).await.unwrap(), GET.len());
            let more = tokio::time::timeout(RESTLESS * 3 / 2, screened.read(&mut read)).await;
            assert!(more.is_err() && rest.has_come());
        }
        // What its reader had not looked at comes first.
        screened.take_back(b"unread");
        client.write_all(GET.as_bytes()).await.unwrap();
        screened.begun().await;
        assert_eq!(screened.read(&mut read).await.unwrap(), b"unread".len());
        assert_eq!(screened.read(&mut read).await.unwrap(), GET.len());
        // Its time ends as if it had not rested.
        let silent = Instant::now();
        assert_eq!(screened.read(&mut read).await.unwrap(), 0);
        let waited = silent.elapsed();
        assert!(waited >= times.idle && waited < 2 * times.idle, "{waited:?}");
    }

    #[tokio::test]
    async fn a_head_has_its_time_and_so_has_an_idle_client() {
        let served = serve(format!("{GET}GET /b").as_bytes(), false).await;
        assert!(
            served
                .answers
                .ends_with("REFUSED head_time at byte 6 of the head"),
            "{served:?}"
        );
        let served = serve(GET.as_bytes(), false).await;
        assert_eq!(
            (served.requests.len(), served.answers.contains("REFUSED")),
            (1, false)
        );
        assert_eq!(serve(b"", false).await.answers, "");
    }
}
