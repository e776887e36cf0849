//! Any bytes as a client's, behind its handshake: the upstream gets exactly what was authorised. Run by
//! `cargo +nightly fuzz run connection`.
#![no_main]

use spinegate::gateway::oracle::{expand, hold};

// The first byte says how long the pieces are; of the others, those from 0xc0 on stand for pieces of requests.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some((piece, rest)) = bytes.split_first() {
        hold(&expand(rest), usize::from(*piece));
    }
});
