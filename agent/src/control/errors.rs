//! The refused connections and requests: the latest are kept, and new ones go to every caller that follows.

use tokio::sync::broadcast::error::RecvError;

use super::{
    ErrorReport, ErrorsWanted, EventsMissed, Failure, Response,
    ring::{Ring, Tail},
};
use crate::mask::masked;

/// What was refused of late.
#[derive(Debug, Default)]
pub struct Errors(Ring<ErrorReport>);

impl Errors {
    /// Keeps a refusal, without what may not be kept of it, and sends it to those who follow.
    pub fn publish(&self, mut report: ErrorReport) {
        for text in [&mut report.detail, &mut report.request].into_iter().flatten() {
            *text = masked(text);
        }
        self.0.push(report);
    }

    /// The refusal with an id, if it is still kept.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<ErrorReport> {
        self.0.latest(|report| report.decision_id == id)
    }

    /// Opens a feed.
    ///
    /// # Errors
    /// If too many callers follow already.
    pub fn feed(&self, wanted: &ErrorsWanted) -> Result<ErrorFeed, Failure> {
        self.0.tail(wanted.last, wanted.follow, |_| true).map(ErrorFeed)
    }
}

/// The refusals that one caller gets.
#[derive(Debug)]
pub struct ErrorFeed(Tail<ErrorReport>);

impl ErrorFeed {
    /// The next one, or how many the caller does not get; none at the end. Nothing is lost if it is dropped meanwhile.
    pub async fn next(&mut self) -> Option<Response> {
        if let Some(report) = self.0.first.pop_front() {
            return Some(Response::Refusal(report.as_ref().clone()));
        }
        match self.0.live.as_mut()?.items.recv().await {
            Ok(report) => Some(Response::Refusal(report.as_ref().clone())),
            Err(RecvError::Lagged(behind)) => {
                Some(Response::EventsMissed(EventsMissed { unsampled: 0, behind }))
            }
            Err(RecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_latest_come_in_their_order_and_then_those_to_come() {
        let errors = Errors::default();
        let report = |id: &str| ErrorReport {
            decision_id: id.to_owned(),
            ..ErrorReport::default()
        };
        errors.publish(report("1"));
        errors.publish(report("2"));
        let mut feed = errors
            .feed(&ErrorsWanted {
                last: 1,
                follow: true,
            })
            .unwrap();
        errors.publish(report("3"));
        for id in ["2", "3"] {
            assert_eq!(feed.next().await, Some(Response::Refusal(report(id))));
        }
        let mut ended = errors
            .feed(&ErrorsWanted {
                last: 9,
                follow: false,
            })
            .unwrap();
        for id in ["1", "2", "3"] {
            assert_eq!(ended.next().await, Some(Response::Refusal(report(id))));
        }
        assert_eq!(ended.next().await, None);
    }
}
