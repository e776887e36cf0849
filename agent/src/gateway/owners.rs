//! Who owns a pointer, remembered: a custodian never changes, and an id is never used again.
//!
//! That a pointer does not exist is not remembered, since it may be created, and nor is its status, which changes.

use std::{
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use lru::LruCache;

use crate::nrl::{OdsCode, Pointer, PointerId};

/// The custodians of the pointers that were fetched last, of one upstream.
pub(super) struct Owners {
    known: Option<Mutex<LruCache<PointerId, Known>>>,
    age: Duration,
}

struct Known {
    custodian: OdsCode,
    since: Instant,
}

impl Owners {
    /// Remembers so many, and each for so long; with none of them, nothing.
    pub(super) fn new(most: usize, age: Duration) -> Self {
        Self {
            known: NonZeroUsize::new(most).map(|most| Mutex::new(LruCache::new(most))),
            age,
        }
    }

    /// The custodian of a pointer that was fetched not long ago.
    pub(super) fn of(&self, id: &PointerId, now: Instant) -> Option<OdsCode> {
        let mut known = self
            .known
            .as_ref()?
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let found = known.get(id)?;
        if now.saturating_duration_since(found.since) < self.age {
            return Some(found.custodian.clone());
        }
        known.pop(id);
        None
    }

    /// Remembers the owner of a pointer as the upstream shows it.
    pub(super) fn learn(&self, pointer: &Pointer, now: Instant) {
        if let (Some(known), Some(id)) = (&self.known, &pointer.id) {
            let owner = Known {
                custodian: pointer.custodian.clone(),
                since: now,
            };
            known
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .put(id.clone(), owner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nrl::{NhsNumber, Status};

    const AGE: Duration = Duration::from_secs(60);

    fn pointer(id: &str, custodian: &str) -> Pointer {
        Pointer {
            id: PointerId::parse(id).ok(),
            status: Status::Current,
            custodian: OdsCode::parse(custodian).unwrap(),
            subject: NhsNumber::parse("9876543210").unwrap(),
            master_identifier: None,
            replaces: None,
            version: None,
        }
    }

    fn id(id: &str) -> PointerId {
        PointerId::parse(id).unwrap()
    }

    #[test]
    fn an_owner_is_remembered_for_a_time_and_only_the_last_so_many() {
        let owners = Owners::new(2, AGE);
        let now = Instant::now();
        assert_eq!(owners.of(&id("a"), now), None);
        owners.learn(&pointer("a", "RR8"), now);
        owners.learn(&pointer("b", "RGD"), now);
        assert_eq!(owners.of(&id("a"), now), OdsCode::parse("RR8").ok());
        owners.learn(&pointer("c", "RGD"), now);
        assert_eq!(owners.of(&id("b"), now), None, "the one asked for longest ago");
        assert!(owners.of(&id("a"), now + AGE / 2).is_some());
        assert_eq!(owners.of(&id("a"), now + AGE), None);
        assert_eq!(owners.of(&id("a"), now), None, "it is forgotten for good");
    }

    #[test]
    fn with_no_room_nothing_is_remembered() {
        let owners = Owners::new(0, AGE);
        let now = Instant::now();
        owners.learn(&pointer("a", "RR8"), now);
        assert_eq!(owners.of(&id("a"), now), None);
    }
}
