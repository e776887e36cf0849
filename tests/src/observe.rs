//! What can be seen of the gateway from outside: its audit log, what reaches the edge's network stack, the record locator's database.

mod audit;
mod counts;
mod database;
mod tap;

pub use audit::Audit;
pub use counts::Counts;
pub use database::{Database, Stored};
pub use tap::Tap;
