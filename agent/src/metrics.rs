//! What the agent counts, for Prometheus and for `spinegate stats`.

mod counters;
mod export;
mod server;

pub use counters::Counters;
pub use export::{Exporter, Observed};
pub use server::{MetricsError, Server};
