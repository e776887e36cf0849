//! What can be seen of the gateway from outside: its audit log, the edge's kernel, the record locator's database.

mod audit;
mod database;
mod edge;

pub use audit::Audit;
pub use database::{Database, Stored};
pub use edge::Edge;
