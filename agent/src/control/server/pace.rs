//! How long a connection may stay as it is.

use std::time::Duration;

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// What a connection is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// The caller has to do something before then: send the next request, or take the whole answer.
    Caller(Instant),
    /// The agent works; that has a limit of its own.
    Work,
    /// The caller follows, at the pace that he likes.
    Follow,
}

#[derive(Debug)]
pub(super) struct Pace(watch::Sender<At>);

impl Pace {
    pub(super) fn new(limit: Duration) -> Self {
        Self(watch::Sender::new(At::Caller(Instant::now() + limit)))
    }

    /// A request has come.
    pub(super) fn work(&self) {
        self.0.send_replace(At::Work);
    }

    /// Its answer is ready.
    pub(super) fn answered(&self, limit: Duration) {
        self.0.send_replace(At::Caller(Instant::now() + limit));
    }

    /// Its answer has no certain end.
    pub(super) fn follow(&self) {
        self.0.send_replace(At::Follow);
    }

    /// Whoever follows has to take the end of it now.
    pub(super) fn end(&self, limit: Duration) {
        self.0.send_if_modified(|at| {
            let follows = *at == At::Follow;
            if follows {
                *at = At::Caller(Instant::now() + limit);
            }
            follows
        });
    }

    /// Waits until the caller was too slow.
    pub(super) async fn over(&self) {
        let mut changes = self.0.subscribe();
        loop {
            let at = *changes.borrow_and_update();
            let deadline = async {
                match at {
                    At::Caller(until) => sleep_until(until).await,
                    At::Work | At::Follow => std::future::pending().await,
                }
            };
            tokio::select! {
                () = deadline => return,
                _ = changes.changed() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(20);

    async fn is_over(pace: &Pace) -> bool {
        timeout(5 * LIMIT, pace.over()).await.is_ok()
    }

    #[tokio::test]
    async fn only_what_waits_for_the_caller_is_over_in_time() {
        let pace = Pace::new(LIMIT);
        assert!(is_over(&pace).await);
        pace.work();
        assert!(!is_over(&pace).await);
        pace.end(LIMIT);
        assert!(!is_over(&pace).await, "work has no end of this kind");
        pace.answered(LIMIT);
        assert!(is_over(&pace).await);
        pace.follow();
        assert!(!is_over(&pace).await);
        pace.end(LIMIT);
        assert!(is_over(&pace).await);
    }
}
