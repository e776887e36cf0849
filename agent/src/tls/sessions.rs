//! Sessions that a client may take up again, with the client that each was made with.
//!
//! They belong to one generation of context and trust: whatever changes either begins with none.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use openssl::ssl::SslSession;

use super::VerifiedClient;

/// How many sessions are kept; the oldest go first.
const CAPACITY: usize = 20_000;
/// How long a session can be taken up.
const LIFE: Duration = Duration::from_secs(300);

/// A bounded store.
#[derive(Default)]
pub(super) struct Sessions(Mutex<State>);

#[derive(Default)]
struct State {
    sessions: HashMap<Vec<u8>, Session>,
    /// Their ids, oldest first.
    order: VecDeque<Vec<u8>>,
}

struct Session {
    session: SslSession,
    client: VerifiedClient,
    made: SystemTime,
}

impl Sessions {
    pub(super) fn keep(&self, session: SslSession, client: VerifiedClient, now: SystemTime) {
        let mut state = self.lock();
        if state.order.len() >= CAPACITY
            && let Some(oldest) = state.order.pop_front()
        {
            state.sessions.remove(&oldest);
        }
        let id = session.id().to_vec();
        state.order.push_back(id.clone());
        let session = Session {
            session,
            client,
            made: now,
        };
        state.sessions.insert(id, session);
    }

    pub(super) fn find(&self, id: &[u8], now: SystemTime) -> Option<(SslSession, VerifiedClient)> {
        let state = self.lock();
        let found = state.sessions.get(id)?;
        let fresh = now.duration_since(found.made).is_ok_and(|age| age < LIFE);
        fresh.then(|| (found.session.clone(), found.client.clone()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
