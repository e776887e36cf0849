//! What the agent counts, for Prometheus and for `spinegate stats`, and whether it is ready.

mod counters;
mod export;
mod health;
mod pages;
mod plain;
mod server;

pub use counters::Counters;
pub use export::{Exporter, Observed};
pub use health::{Need, Readiness, Unready};
pub use pages::Pages;
pub use server::{MetricsError, Server};
