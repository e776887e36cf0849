//! The packet parser against etherparse, on generated and mutated frames, and on the fuzzer's corpus.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test says what it expects by panicking"
)]

#[path = "../frames/mod.rs"]
mod frames;

mod corpus;
mod reading;
mod whole;

use frames::{Pool, Rng};
use spinegate_common::{
    Reason,
    packet::{Packet, parse},
};

/// Frames that a run looks at; a debug build takes a few microseconds for each.
const ROUNDS: usize = 200_000;

fn parsed(frame: &[u8]) -> (Result<(), Reason>, Packet) {
    let mut packet = Packet::default();
    (parse(&frame, &mut packet), packet)
}

/// Runs a check on frames of every kind. It says what is wrong with one, if something is.
fn on_many_frames(check: impl Fn(&[u8]) -> Result<(), String>) {
    let seed = frames::seed();
    println!("seed {seed}");
    let mut rng = Rng::new(seed);
    let pool = Pool::plain();
    for round in 0..frames::rounds(ROUNDS) {
        let frame = frames::any(&mut rng, &pool);
        if let Err(fault) = check(&frame) {
            panic!("seed {seed}, frame {round}: {}\n{fault}", frames::hex(&frame));
        }
    }
}
