//! Leaves whose chain was verified before.
//!
//! What a certificate's bytes say, and that its issuer has signed them, can't change: nothing of it is looked at again in each
//! handshake. They belong to one set of anchors; whatever changes those begins with none.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::VerifiedClient;

/// How many leaves are kept. When there are more, it begins anew.
const CAPACITY: usize = 1024;

/// A bounded store, by the SHA-256 of the leaf's DER form.
#[derive(Default)]
pub(super) struct Known(Mutex<HashMap<[u8; 32], Arc<Leaf>>>);

/// A leaf that has passed once.
pub(super) struct Leaf {
    /// Whose it is: what can change of it is to be judged again.
    pub(super) client: VerifiedClient,
    /// Where its CRLs are.
    pub(super) distribution_points: Vec<String>,
}

impl Known {
    pub(super) fn keep(&self, leaf: Leaf) {
        let mut leaves = self.lock();
        if leaves.len() >= CAPACITY {
            leaves.clear();
        }
        leaves.insert(leaf.client.facts().leaf.fingerprint, Arc::new(leaf));
    }

    pub(super) fn find(&self, fingerprint: &[u8; 32]) -> Option<Arc<Leaf>> {
        self.lock().get(fingerprint).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Arc<Leaf>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
