//! Lines that go to the kernel together: those of requests that are answered at the same time.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

/// The lines that wait to be written.
#[derive(Debug, Default)]
pub(super) struct Waiting(Mutex<Batch>);

/// Lines for one write.
#[derive(Debug, Default)]
pub(super) struct Batch {
    lines: Vec<Vec<u8>>,
    outcome: Arc<Outcome>,
}

/// A line's place in its batch.
#[derive(Debug)]
pub(super) struct Place {
    outcome: Arc<Outcome>,
    index: u64,
}

/// What came of a batch: the number of its first line.
type Outcome = OnceLock<Result<u64, io::Error>>;

impl Waiting {
    pub(super) fn add(&self, line: Vec<u8>) -> Place {
        let mut batch = self.lock();
        let place = Place {
            outcome: Arc::clone(&batch.outcome),
            index: batch.lines.len() as u64,
        };
        batch.lines.push(line);
        place
    }

    /// All that wait. Whoever takes them writes them, and tells what came of it.
    pub(super) fn take(&self) -> Batch {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Batch> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Batch {
    pub(super) fn take_lines(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.lines)
    }

    /// Tells all who wait.
    pub(super) fn settle(self, first: io::Result<u64>) {
        // Nobody else has this batch.
        let _ = self.outcome.set(first);
    }
}

impl Place {
    pub(super) fn is_settled(&self) -> bool {
        self.outcome.get().is_some()
    }

    /// The line's number, if it is written.
    pub(super) fn number(&self) -> io::Result<u64> {
        match self.outcome.get() {
            Some(Ok(first)) => Ok(first.saturating_add(self.index)),
            Some(Err(error)) => Err(match error.raw_os_error() {
                Some(code) => io::Error::from_raw_os_error(code),
                None => io::Error::new(error.kind(), error.to_string()),
            }),
            None => Err(io::Error::other("it was not written")),
        }
    }
}
