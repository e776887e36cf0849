//! Any bytes as a client's stream: the screen judges them the same in any pieces, and another parser finds the same requests
//! in what it releases. Run by `cargo +nightly fuzz run screen`.
#![no_main]
#![allow(dead_code, reason = "the gateway uses more of the screen than this")]

#[path = "../../agent/src/gateway/screen/chunk.rs"]
mod chunk;
#[path = "../../agent/src/gateway/screen/field.rs"]
mod field;
#[path = "../../agent/src/gateway/screen/hosts.rs"]
mod hosts;
#[path = "../../agent/src/gateway/screen/line.rs"]
mod line;
#[path = "../../agent/src/gateway/screen/machine.rs"]
mod machine;
#[path = "../../agent/src/gateway/screen/oracle.rs"]
mod oracle;
#[path = "../../agent/src/gateway/screen/rule.rs"]
mod rule;
#[path = "../../agent/src/gateway/screen/target.rs"]
mod target;
#[path = "../../agent/src/gateway/screen/token.rs"]
mod token;

// The first byte says how long the pieces are.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some((piece, stream)) = bytes.split_first() {
        oracle::hold(stream, usize::from(*piece));
    }
});
