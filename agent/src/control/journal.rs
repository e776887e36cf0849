//! The sampled drops: the latest are kept, and new ones go to every caller that follows.

use spinegate_common::{Layer, Reason};
use tokio::sync::{broadcast, watch};

use super::{
    DropReport, EventsMissed, EventsWanted, Failure, FailureKind, Response,
    ring::{Ring, Tail},
};

/// What was dropped of late.
#[derive(Debug)]
pub struct Journal {
    ring: Ring<DropReport>,
    lost: watch::Sender<u64>,
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            ring: Ring::default(),
            lost: watch::Sender::new(0),
        }
    }
}

impl Journal {
    /// Keeps an event and sends it to those who follow.
    pub fn publish(&self, report: DropReport) {
        self.ring.push(report);
    }

    /// Tells those who follow how many events the kernel has only counted, since its maps were made.
    pub fn set_lost(&self, lost: u64) {
        self.lost
            .send_if_modified(|told| std::mem::replace(told, lost) != lost);
    }

    /// How many events the kernel has only counted, as far as is known.
    #[must_use]
    pub fn lost(&self) -> u64 {
        *self.lost.borrow()
    }

    /// Opens a feed.
    ///
    /// # Errors
    /// If the reason is none that the filter drops for, or too many callers follow already.
    pub fn feed(&self, wanted: &EventsWanted) -> Result<Feed, Failure> {
        if let Some(code) = &wanted.reason
            && !drop_codes().any(|known| known == code)
        {
            return Err(unknown_reason(code));
        }
        let lost = Lost {
            changes: self.lost.subscribe(),
            told: self.lost(),
        };
        let tail = self.ring.tail(wanted.last, wanted.follow, |report| {
            fits(wanted.reason.as_ref(), report)
        })?;
        Ok(Feed {
            tail,
            reason: wanted.reason.clone(),
            lost,
        })
    }
}

/// The events that one caller gets.
#[derive(Debug)]
pub struct Feed {
    tail: Tail<DropReport>,
    reason: Option<String>,
    lost: Lost,
}

/// What the kernel only counted, as far as the caller was told.
#[derive(Debug)]
struct Lost {
    changes: watch::Receiver<u64>,
    told: u64,
}

impl Feed {
    /// The next event, or how many the caller does not get; none at the end. Nothing is lost if it is dropped meanwhile.
    pub async fn next(&mut self) -> Option<Response> {
        if let Some(report) = self.tail.first.pop_front() {
            return Some(Response::Event(report.as_ref().clone()));
        }
        let live = self.tail.live.as_mut()?;
        let lost = &mut self.lost;
        loop {
            let missed = tokio::select! {
                biased;
                event = live.items.recv() => match event {
                    Ok(report) if fits(self.reason.as_ref(), &report) => {
                        return Some(Response::Event(report.as_ref().clone()));
                    }
                    Ok(_) => continue,
                    Err(broadcast::error::RecvError::Lagged(behind)) => EventsMissed { unsampled: 0, behind },
                    Err(broadcast::error::RecvError::Closed) => return None,
                },
                changed = lost.changes.changed() => {
                    changed.ok()?;
                    let now = *lost.changes.borrow_and_update();
                    // Less than before: the maps were made anew, and count from zero.
                    let before = if now < lost.told { 0 } else { lost.told };
                    lost.told = now;
                    EventsMissed { unsampled: now - before, behind: 0 }
                }
            };
            if missed != EventsMissed::default() {
                return Some(Response::EventsMissed(missed));
            }
        }
    }
}

/// The codes of the reasons that the filter drops for.
pub fn drop_codes() -> impl Iterator<Item = &'static str> {
    Reason::ALL
        .iter()
        .filter(|reason| reason.layer() == Layer::Filter)
        .map(|reason| reason.as_str())
}

fn fits(reason: Option<&String>, report: &DropReport) -> bool {
    reason.is_none_or(|reason| *reason == report.reason)
}

fn unknown_reason(code: &str) -> Failure {
    let codes: Vec<_> = drop_codes().collect();
    Failure::new(
        FailureKind::Usage,
        format!("{code:?} is no reason that the filter drops for"),
        format!("use one of {}", codes.join(", ")),
    )
}

#[cfg(test)]
mod tests {
    use super::{
        super::ring::{BACKLOG, MAX_FOLLOWERS, RECENT},
        *,
    };

    fn report(number: usize, reason: Reason) -> DropReport {
        DropReport {
            time: format!("2026-01-01T00:00:00.{number:09}Z"),
            reason: reason.as_str().to_owned(),
            monitored: false,
            service: "tcp/443".to_owned(),
            interface: 2,
            interface_name: None,
            length: 60,
            source: None,
            packet: number.to_string(),
            frame: String::new(),
        }
    }

    fn wanted(last: usize, follow: bool, reason: Option<Reason>) -> EventsWanted {
        EventsWanted {
            last,
            follow,
            reason: reason.map(|reason| reason.as_str().to_owned()),
        }
    }

    async fn packet(feed: &mut Feed) -> String {
        match feed.next().await {
            Some(Response::Event(report)) => report.packet,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn the_latest_come_in_their_order_and_then_the_end() {
        let journal = Journal::default();
        for number in 0..RECENT + 5 {
            journal.publish(report(number, Reason::VerdictDeny));
        }
        let mut feed = journal.feed(&wanted(2, false, None)).unwrap();
        assert_eq!(packet(&mut feed).await, (RECENT + 3).to_string());
        assert_eq!(packet(&mut feed).await, (RECENT + 4).to_string());
        assert_eq!(feed.next().await, None);
        let mut all = journal.feed(&wanted(usize::MAX, false, None)).unwrap();
        assert_eq!(packet(&mut all).await, "5");
    }

    #[tokio::test]
    async fn a_follower_gets_each_event_once_and_only_those_of_its_reason() {
        let journal = Journal::default();
        journal.publish(report(1, Reason::VerdictDeny));
        journal.publish(report(2, Reason::PacketTruncated));
        let mut feed = journal
            .feed(&wanted(100, true, Some(Reason::VerdictDeny)))
            .unwrap();
        journal.publish(report(3, Reason::PacketTruncated));
        journal.publish(report(4, Reason::VerdictDeny));
        assert_eq!(packet(&mut feed).await, "1");
        assert_eq!(packet(&mut feed).await, "4");
    }

    #[tokio::test]
    async fn a_slow_follower_is_told_how_many_events_it_lost() {
        let journal = Journal::default();
        let mut feed = journal.feed(&wanted(0, true, None)).unwrap();
        for number in 0..BACKLOG + 7 {
            journal.publish(report(number, Reason::VerdictDeny));
        }
        let missed = EventsMissed {
            unsampled: 0,
            behind: 7,
        };
        assert_eq!(feed.next().await, Some(Response::EventsMissed(missed)));
        assert_eq!(packet(&mut feed).await, "7");
    }

    #[tokio::test]
    async fn what_the_kernel_only_counted_is_told_as_it_grows() {
        let journal = Journal::default();
        journal.set_lost(10);
        let mut feed = journal.feed(&wanted(0, true, None)).unwrap();
        for (lost, unsampled) in [(13, 3), (2, 2)] {
            journal.set_lost(lost);
            let missed = EventsMissed { unsampled, behind: 0 };
            assert_eq!(feed.next().await, Some(Response::EventsMissed(missed)));
        }
        assert_eq!(journal.lost(), 2);
    }

    #[test]
    fn an_unknown_reason_is_refused_with_those_there_are() {
        let unknown = EventsWanted {
            reason: Some("not_owner".to_owned()),
            ..EventsWanted::default()
        };
        let failure = Journal::default().feed(&unknown).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Usage);
        assert!(failure.to_string().contains("verdict_deny"), "{failure}");
    }

    #[test]
    fn followers_are_bounded_and_leave_their_place() {
        let journal = Journal::default();
        let follow = || journal.feed(&wanted(0, true, None));
        let feeds: Vec<_> = (0..MAX_FOLLOWERS).map(|_| follow().unwrap()).collect();
        assert_eq!(follow().unwrap_err().kind, FailureKind::Refused);
        assert!(journal.feed(&wanted(1, false, None)).is_ok());
        drop(feeds);
        assert!(follow().is_ok());
    }
}
