//! The threads that do the arithmetic of handshakes, so that no request ever waits for one.

mod queue;

use std::{
    io,
    net::IpAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicUsize, Ordering},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use openssl::ssl::{Error, SslStream};
use tokio::sync::oneshot;

use self::queue::Queue;
use super::stream::Socket;

/// How much the threads yield to those that serve requests (`nice`).
const NICE: i32 = 10;

/// A bounded pool of threads, and the queue before it.
pub(super) struct Pool {
    shared: Arc<Shared>,
    threads: usize,
}

/// How much the pool has to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandshakeLoad {
    /// Handshakes that wait for a thread.
    pub waiting: usize,
    /// How many of those that have not begun may wait.
    pub limit: usize,
    /// The threads.
    pub threads: usize,
    /// Those of them that are at work.
    pub busy: usize,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    busy: AtomicUsize,
}

struct State {
    queue: Queue<Job>,
    closed: bool,
}

/// A handshake to be taken as far as it goes.
struct Job {
    stream: SslStream<Socket>,
    done: oneshot::Sender<Result<Step, Unserved>>,
}

/// How far a handshake came.
pub(super) struct Step {
    pub(super) stream: SslStream<Socket>,
    pub(super) result: Result<(), Error>,
}

/// Why the pool did nothing for a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unserved {
    /// The queue was full, and this one was the first to give up its place.
    Shed,
    /// The peer went away while it waited.
    PeerGone,
    /// The arithmetic broke off.
    Failed,
}

impl Pool {
    /// Starts the threads. Without a number there is one less than cores, and at least one.
    pub(super) fn start(threads: Option<usize>, capacity: usize) -> io::Result<Self> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let threads = threads.unwrap_or(cores.saturating_sub(1)).max(1);
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                queue: Queue::new(capacity),
                closed: false,
            }),
            work: Condvar::new(),
            busy: AtomicUsize::new(0),
        });
        let pool = Self { shared, threads };
        for number in 0..threads {
            let shared = Arc::clone(&pool.shared);
            thread::Builder::new()
                .name(format!("handshake-{number}"))
                .spawn(move || shared.work_until_closed())?;
        }
        Ok(pool)
    }

    /// How much it has to do.
    pub(super) fn load(&self) -> HandshakeLoad {
        let state = lock(&self.shared.state);
        HandshakeLoad {
            waiting: state.queue.waiting(),
            limit: state.queue.capacity(),
            threads: self.threads,
            busy: self.shared.busy.load(Ordering::Relaxed),
        }
    }

    /// Takes a handshake as far as it goes without its peer. One that has `begun` has cost us its arithmetic, and is never
    /// shed.
    pub(super) async fn advance(
        &self,
        stream: SslStream<Socket>,
        source: IpAddr,
        begun: bool,
    ) -> Result<Step, Unserved> {
        let (done, step) = oneshot::channel();
        let shed = lock(&self.shared.state)
            .queue
            .push(source, !begun, Job { stream, done });
        self.shared.work.notify_one();
        if let Some(shed) = shed {
            // A handshake that nobody waits for any more needs no answer.
            let _ = shed.done.send(Err(Unserved::Shed));
        }
        step.await.unwrap_or(Err(Unserved::Failed))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        lock(&self.shared.state).closed = true;
        self.shared.work.notify_all();
    }
}

impl Shared {
    fn work_until_closed(&self) {
        if let Err(error) = rustix::process::setpriority_process(None, NICE) {
            tracing::warn!(%error, "the handshake threads run at full priority");
        }
        while let Some(job) = self.next() {
            // A panic in a callback ends its handshake and not the thread: the receiver finds its channel closed.
            self.busy.fetch_add(1, Ordering::Relaxed);
            let _ = catch_unwind(AssertUnwindSafe(|| job.run()));
            self.busy.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn next(&self) -> Option<Job> {
        let mut state = lock(&self.state);
        loop {
            if state.closed {
                return None;
            }
            if let Some(job) = state.queue.pop() {
                return Some(job);
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Job {
    fn run(self) {
        let Self { mut stream, done } = self;
        // Its time was over while it waited.
        if done.is_closed() {
            return;
        }
        let answer = if stream.get_ref().is_gone() {
            Err(Unserved::PeerGone)
        } else {
            let result = stream.accept();
            Ok(Step { stream, result })
        };
        // If nobody waits any more, the connection ends here.
        let _ = done.send(answer);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
