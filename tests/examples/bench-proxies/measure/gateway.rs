//! What a request costs that the agent judges and records, beside proxies that pass on whatever they get.

mod document;
mod latency;
mod reads;

use std::time::Duration;

use anyhow::{Result, ensure};

use super::Part;
use crate::{Arguments, load::Kept, process::Server};

/// How much is measured.
struct Extent {
    /// How often each contestant has its turn.
    rounds: usize,
    /// How long a turn lasts.
    turn: Duration,
    /// Connections that send at the same time.
    connections: usize,
}

const WHOLE: Extent = Extent {
    rounds: 9,
    turn: Duration::from_millis(1000),
    connections: 64,
};

const SMOKE: Extent = Extent {
    rounds: 1,
    turn: Duration::from_millis(100),
    connections: 8,
};

/// The parts, in their order.
pub(crate) const PARTS: [Part; 3] = [
    ("reads", |ground, arguments, report| {
        reads::measure(ground, extent(arguments), report)
    }),
    ("document", |ground, arguments, report| {
        document::measure(ground, extent(arguments), report)
    }),
    ("latency", |ground, arguments, report| {
        latency::measure(ground, extent(arguments), report)
    }),
];

const fn extent(arguments: &Arguments) -> &'static Extent {
    if arguments.smoke { &SMOKE } else { &WHOLE }
}

/// A server with the connections that load it.
struct Contestant {
    server: Server,
    kept: Kept,
}

/// What a turn has shown.
struct Turn {
    /// CPU time of the server for each answer, in microseconds.
    cost: f64,
    /// Answers per second.
    rate: f64,
    /// How much of its cores the server had.
    busy: f64,
}

impl Contestant {
    /// Loads the server for a turn.
    fn turn(&mut self, turn: Duration, request: &str, body: usize) -> Result<Turn> {
        let (begun, before) = (std::time::Instant::now(), self.server.cpu()?);
        let count = self.kept.load(turn, request, body)?;
        let (took, used) = (begun.elapsed(), self.server.cpu()?.saturating_sub(before));
        ensure!(count > 0, "{} answered nothing", self.server.name);
        let (took, used, count) = (took.as_secs_f64(), used.as_secs_f64(), f64::from(count));
        Ok(Turn {
            cost: used * 1e6 / count,
            rate: count / took,
            busy: used / took / f64::from(self.server.cores.count()),
        })
    }
}
