//! What the kernel half and the agent have in common: packet parsing, map keys and values, reasons, verdicts and events.
//!
//! Nothing here knows a map or the kernel, so that the very same code runs in XDP, in host tests and under a fuzzer.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod budget;
pub mod count;
pub mod decision;
pub mod event;
pub mod packet;
pub mod policy;
pub mod reason;
pub mod tree;
pub mod verdict;

pub use budget::Budget;
pub use count::{Count, Outcome, Pass};
pub use decision::{Judgement, Standing, World, judge};
pub use event::DropEvent;
pub use reason::{Layer, Reason, Side};
pub use verdict::{VerdictKind, VerdictOrigin, VerdictValue};
