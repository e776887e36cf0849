//! Leaves out lines when there are too many like them: whoever can have the agent write a line can have it write many.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use spinegate_common::Reason;
use tracing::{
    Event, Subscriber,
    callsite::Identifier,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

use crate::burst::Burst;

/// Lines of one place in the code are alike if they have the same reason, whatever else they are about: each such pair has its
/// budget, and there are no more of them than places and reasons.
#[derive(Clone, Debug)]
pub(super) struct Flood(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    lines: Burst<(Identifier, Option<Reason>)>,
    left_out: AtomicU64,
    /// By their places and reasons, since it was last told.
    untold: Mutex<BTreeMap<String, u64>>,
}

impl Default for Flood {
    fn default() -> Self {
        Self(Arc::new(Shared {
            lines: Burst::new(Instant::now()),
            left_out: AtomicU64::new(0),
            untold: Mutex::default(),
        }))
    }
}

impl Flood {
    /// Lines left out in all.
    pub(super) fn left_out(&self) -> u64 {
        self.0.left_out.load(Ordering::Relaxed)
    }

    /// What was left out since it was last asked, by places and reasons, the most of it first.
    pub(super) fn tell(&self) -> Option<String> {
        let untold = std::mem::take(&mut *self.0.untold.lock().unwrap_or_else(PoisonError::into_inner));
        let mut untold: Vec<_> = untold.into_iter().collect();
        untold.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let told: Vec<_> = untold
            .iter()
            .map(|(place, count)| format!("{count} of {place}"))
            .collect();
        (!told.is_empty()).then(|| told.join(", "))
    }

    fn takes(&self, event: &Event<'_>, now: Instant) -> bool {
        let metadata = event.metadata();
        let reason = reason_of(event);
        if self.0.lines.line((metadata.callsite(), reason), now).is_some() {
            return true;
        }
        self.0.left_out.fetch_add(1, Ordering::Relaxed);
        let mut place = format!("{}:{}", metadata.target(), metadata.line().unwrap_or_default());
        if let Some(reason) = reason {
            place = format!("{place} for {}", reason.as_str());
        }
        let mut untold = self.0.untold.lock().unwrap_or_else(PoisonError::into_inner);
        *untold.entry(place).or_default() += 1;
        false
    }
}

/// The reason in an event's field of that name, if it has one. A text that is no code is none, so that they are as few as the codes.
fn reason_of(event: &Event<'_>) -> Option<Reason> {
    struct Found(Option<Reason>);

    impl Visit for Found {
        fn record_str(&mut self, field: &Field, value: &str) {
            if field.name() == "reason" {
                self.0 = Reason::from_code(value);
            }
        }

        fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
    }

    event.metadata().fields().field("reason")?;
    let mut found = Found(None);
    event.record(&mut found);
    found.0
}

impl<S: Subscriber> Layer<S> for Flood {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        self.takes(event, Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// What is written while something is done.
    fn written(flood: &Flood, act: impl FnOnce()) -> String {
        let (mut reader, writer) = io::pipe().unwrap();
        let output = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(Mutex::new(writer));
        let subscriber = tracing_subscriber::registry().with(output).with(flood.clone());
        tracing::subscriber::with_default(subscriber, act);
        let mut text = String::new();
        io::Read::read_to_string(&mut reader, &mut text).unwrap();
        text
    }

    #[test]
    fn a_flood_from_one_place_is_bounded_and_told_and_drowns_no_other() {
        let flood = Flood::default();
        let text = written(&flood, || {
            for number in 0..500 {
                tracing::warn!(number, "the same again");
            }
            tracing::info!("another");
        });
        let lines = text.lines().count() as u64;
        assert!((21..100).contains(&lines), "{lines}");
        assert!(text.contains("another"));
        assert_eq!(flood.left_out(), 501 - lines);
        let told = flood.tell().unwrap();
        assert!(
            told.starts_with(&format!("{} of spinegate::log::flood::tests:", 501 - lines)),
            "{told}"
        );
        assert_eq!(flood.tell(), None);
    }

    #[test]
    fn a_flood_of_one_reason_leaves_the_lines_of_others_from_the_same_place() {
        let flood = Flood::default();
        let refused = |reason: &str| tracing::warn!(reason, "refused");
        let text = written(&flood, || {
            for _ in 0..500 {
                refused(Reason::NotOwner.as_str());
            }
            refused(Reason::JwtMissing.as_str());
            // What is no code has the budget of lines without a reason, however many such texts there are.
            for number in 0..500 {
                refused(&format!("not a code {number}"));
            }
        });
        assert!(text.contains("reason=\"jwt_missing\""), "{text}");
        let owners = text.matches("reason=\"not_owner\"").count();
        let strange = text.matches("not a code").count();
        for lines in [owners, strange] {
            assert!((20..100).contains(&lines), "{owners} and {strange}");
        }
        assert_eq!(flood.left_out(), 1000 - (owners + strange) as u64);
        let told = flood.tell().unwrap();
        assert!(told.contains(" for not_owner"), "{told}");
        assert!(!told.contains("jwt_missing"), "{told}");
    }
}
