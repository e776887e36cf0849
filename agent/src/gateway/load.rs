//! How much is under way: beyond the limits new requests are turned away at once, so that those that are in never wait for
//! them.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use rustc_hash::FxHashMap;

use super::upstream::{Body, UpstreamError};
use crate::nrl::{Asid, Fqdn};

/// Who a request is from: an ASID that passed its checks, under the name in the certificate. Behind a proxy every system has
/// a share of its own, and nobody takes from another's by naming its ASID under another certificate.
type Client = (Asid, Fqdn);

/// The requests under way.
#[derive(Debug, Default)]
pub(super) struct Load {
    all: AtomicUsize,
    clients: Mutex<FxHashMap<Client, usize>>,
}

/// One of them. It lasts until the last byte of its answer is handed to the connection.
#[derive(Debug)]
pub(super) struct Share {
    load: Arc<Load>,
    client: Option<Client>,
}

impl Load {
    /// One more request, if there are less than `limit`.
    pub(super) fn enter(self: &Arc<Self>, limit: usize) -> Option<Share> {
        let entered = self.all.try_update(Ordering::Relaxed, Ordering::Relaxed, |all| {
            (all < limit).then_some(all + 1)
        });
        entered.ok()?;
        Some(Share {
            load: Arc::clone(self),
            client: None,
        })
    }

    /// How many there are.
    pub(super) fn under_way(&self) -> usize {
        self.all.load(Ordering::Relaxed)
    }

    fn clients(&self) -> std::sync::MutexGuard<'_, FxHashMap<Client, usize>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// Counts it for its client, if that has less than `limit`.
    #[must_use]
    pub(super) fn of(&mut self, client: Client, limit: usize) -> bool {
        let mut clients = self.load.clients();
        if let Some(count) = clients.get_mut(&client) {
            if *count >= limit {
                return false;
            }
            *count += 1;
        } else {
            clients.insert(client.clone(), 1);
        }
        drop(clients);
        self.client = Some(client);
        true
    }

    /// Whether it is counted for a client.
    pub(super) const fn is_counted(&self) -> bool {
        self.client.is_some()
    }

    /// The body, with which it ends.
    pub(super) fn until_sent(self, body: Body) -> Body {
        Sent { body, _share: self }.boxed_unsync()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.load.all.fetch_sub(1, Ordering::Relaxed);
        let Some(client) = self.client.take() else { return };
        let mut clients = self.load.clients();
        // Nothing is kept of a client that has none: what is kept is bounded by what is under way.
        if let Some(count) = clients.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                clients.remove(&client);
            }
        }
    }
}

struct Sent {
    body: Body,
    _share: Share,
}

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = UpstreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(asid: &str) -> Client {
        (Asid::parse(asid).unwrap(), Fqdn::parse("a.nhs.uk").unwrap())
    }

    #[test]
    fn each_limit_holds_and_what_ends_makes_room() {
        let load = Arc::new(Load::default());
        let mut first = load.enter(3).unwrap();
        let mut second = load.enter(3).unwrap();
        let mut third = load.enter(3).unwrap();
        assert!(load.enter(3).is_none());
        assert!(first.of(client("200000000001"), 1));
        assert!(!second.of(client("200000000001"), 1));
        assert!(third.of(client("200000000002"), 1));
        drop(first);
        assert!(second.of(client("200000000001"), 1));
        assert!(load.enter(3).is_some());
        drop((second, third));
        assert!(load.clients().is_empty());
        assert_eq!(load.all.load(Ordering::Relaxed), 0);
    }
}
