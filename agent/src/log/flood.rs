//! Leaves out lines when there are too many like them: whoever can have the agent write a line can have it write many.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use tracing::{Event, Metadata, Subscriber, callsite::Identifier};
use tracing_subscriber::{Layer, layer::Context};

use crate::burst::Burst;

/// Lines of one place in the code are alike, whatever they are about: each place has its budget, and there are as many
/// as the code has.
#[derive(Clone, Debug)]
pub(super) struct Flood(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    lines: Burst<Identifier>,
    left_out: AtomicU64,
    /// By their places, since it was last told.
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

    /// What was left out since it was last asked, by places, the most of it first.
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

    fn takes(&self, metadata: &Metadata<'_>, now: Instant) -> bool {
        if self.0.lines.line(metadata.callsite(), now).is_some() {
            return true;
        }
        self.0.left_out.fetch_add(1, Ordering::Relaxed);
        let place = format!("{}:{}", metadata.target(), metadata.line().unwrap_or_default());
        let mut untold = self.0.untold.lock().unwrap_or_else(PoisonError::into_inner);
        *untold.entry(place).or_default() += 1;
        false
    }
}

impl<S: Subscriber> Layer<S> for Flood {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        self.takes(event.metadata(), Instant::now())
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
        let output = tracing_subscriber::fmt::layer().with_writer(Mutex::new(writer));
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
}
