//! The record of decisions: who, what, the decision and why; a JSON object a line, written before the answer leaves.

mod check;
mod log;
mod record;

pub use log::{AuditError, Log, problems};
pub use record::{Certificate, Crl, Decision, Event, Operator, Record, Request, Tls};
