//! Packet tables: frames in, verdict and counter out, run by the kernel on the loaded program (BPF_PROG_TEST_RUN).
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test says what it expects by panicking"
)]

#[path = "../frames/mod.rs"]
mod frames;

mod allowlist;
mod budgets;
mod counters;
mod events;
mod explain;
mod failsafe;
mod fragments;
mod host;
mod malformed;
mod model;
mod modes;
mod packets;
mod prefix_verdicts;
mod random_policy;
mod services;
mod swaps;
mod verdicts;
mod verifier;
