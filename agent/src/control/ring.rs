//! The latest of something: a bounded number is kept, and new ones go to every caller that follows.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use spinegate_common::Reason;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};

use super::{Failure, FailureKind};

/// How many of the latest are kept.
pub const RECENT: usize = 1000;
/// How many a caller may be behind before it loses some.
pub(super) const BACKLOG: usize = 1024;
/// Callers that may follow at once: fewer than the socket serves, so that other commands still get through.
pub(super) const MAX_FOLLOWERS: usize = 8;

#[derive(Debug)]
pub(super) struct Ring<T> {
    recent: Mutex<VecDeque<Arc<T>>>,
    live: broadcast::Sender<Arc<T>>,
    followers: Arc<Semaphore>,
}

impl<T: Clone> Default for Ring<T> {
    fn default() -> Self {
        Self {
            recent: Mutex::default(),
            live: broadcast::Sender::new(BACKLOG),
            followers: Arc::new(Semaphore::new(MAX_FOLLOWERS)),
        }
    }
}

impl<T> Ring<T> {
    /// Keeps one, and sends it to those who follow.
    pub(super) fn push(&self, item: T) {
        let item = Arc::new(item);
        let mut recent = self.recent();
        if recent.len() == RECENT {
            recent.pop_front();
        }
        recent.push_back(Arc::clone(&item));
        // Under the lock, so that a tail that begins meanwhile has it once. Nobody need be following.
        let _ = self.live.send(item);
    }

    /// The latest one that is wanted.
    pub(super) fn latest(&self, is_wanted: impl Fn(&T) -> bool) -> Option<T>
    where
        T: Clone,
    {
        let recent = self.recent();
        let found = recent.iter().rev().find(|item| is_wanted(item))?;
        Some(found.as_ref().clone())
    }

    /// The latest that are wanted, and with `follow` those to come, wanted or not.
    pub(super) fn tail(
        &self,
        last: usize,
        follow: bool,
        is_wanted: impl Fn(&T) -> bool,
    ) -> Result<Tail<T>, Failure> {
        let permit = match follow {
            true => Some(
                Arc::clone(&self.followers)
                    .try_acquire_owned()
                    .map_err(|_| crowded())?,
            ),
            false => None,
        };
        let recent = self.recent();
        let live = permit.map(|permit| Live {
            items: self.live.subscribe(),
            _permit: permit,
        });
        let wanted = recent.iter().rev().filter(|item| is_wanted(item));
        let mut first: VecDeque<_> = wanted.take(last).cloned().collect();
        first.make_contiguous().reverse();
        Ok(Tail { first, live })
    }

    fn recent(&self) -> MutexGuard<'_, VecDeque<Arc<T>>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one caller gets.
#[derive(Debug)]
pub(super) struct Tail<T> {
    pub(super) first: VecDeque<Arc<T>>,
    pub(super) live: Option<Live<T>>,
}

#[derive(Debug)]
pub(super) struct Live<T> {
    pub(super) items: broadcast::Receiver<Arc<T>>,
    _permit: OwnedSemaphorePermit,
}

fn crowded() -> Failure {
    Failure::new(
        FailureKind::Refused,
        format!("{MAX_FOLLOWERS} callers follow already"),
        "end one of them, or leave --follow out",
    )
    .because(Reason::ControlBusy)
}
