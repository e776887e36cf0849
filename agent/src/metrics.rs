//! What the agent counts, for Prometheus and for `spinegate stats`, and whether it is ready.

mod catalogue;
mod counters;
mod export;
mod health;
mod observed;
#[cfg(test)]
mod page;
mod pages;
mod rows;
mod server;

pub use catalogue::{FAMILIES, Family};
pub use counters::Counters;
pub use export::Exporter;
pub use health::{Need, Readiness, Unready};
pub use observed::{AuditObserved, Observed, UpstreamObserved};
pub use pages::Pages;
pub use server::{MetricsError, Server};
