//! What a handshake costs, what a flood of them does to others, and what a connection holds afterwards.

mod flood;
mod floor;
mod full;
mod idle;

use std::time::Duration;

use super::Part;
use crate::Arguments;

/// How much is measured.
struct Extent {
    /// How often each contestant has its turn.
    rounds: usize,
    /// How long a turn's load lasts.
    turn: Duration,
    /// How often each has its turn in a flood.
    flood_rounds: usize,
    /// How long requests are timed in a turn, without the flood and in it.
    flood_turn: Duration,
    /// Idle connections.
    connections: usize,
}

const WHOLE: Extent = Extent {
    rounds: 9,
    turn: Duration::from_millis(1200),
    flood_rounds: 5,
    flood_turn: Duration::from_millis(2500),
    connections: 10_000,
};

const SMOKE: Extent = Extent {
    rounds: 1,
    turn: Duration::from_millis(150),
    flood_rounds: 1,
    flood_turn: Duration::from_millis(200),
    connections: 30,
};

/// The parts, in their order.
pub(crate) const PARTS: [Part; 3] = [
    ("full", |ground, arguments, report| {
        full::measure(ground, &extent(arguments), report)
    }),
    ("flood", |ground, arguments, report| {
        flood::measure(ground, &extent(arguments), report)
    }),
    ("idle", |ground, arguments, report| {
        idle::measure(ground, &extent(arguments), report)
    }),
];

fn extent(arguments: &Arguments) -> Extent {
    let extent = if arguments.smoke { SMOKE } else { WHOLE };
    Extent {
        connections: arguments.connections.unwrap_or(extent.connections),
        ..extent
    }
}
