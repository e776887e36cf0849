//! The record of decisions: who, what, the decision and why; a JSON object a line, written before the answer leaves.
//!
//! The lines are a chain ([`Link`]) with signed checkpoints, so that [`Verifier`] finds what was changed afterwards.

mod batch;
mod chain;
mod check;
mod checkpoint;
mod journald;
mod log;
mod record;
mod search;
mod sync;
mod verify;

pub use chain::Link;
pub use checkpoint::{Checkpoint, KeyError, SigningKey, VerifyingKey, public_half};
pub use log::{AuditError, Log, head, problems, with_rotated};
pub use record::{Certificate, Crl, Decision, Event, Operator, Order, Previous, Record, Request, Tls};
pub use search::{Query, search};
pub use verify::{Fault, FaultKind, Verification, Verifier};
