//! Any bytes as a frame: the parser and the decision hold their invariants. Run by `cargo +nightly fuzz run parser`.
#![no_main]

mod invariants;

libfuzzer_sys::fuzz_target!(|frame: &[u8]| invariants::hold(frame));
