//! The fuzzer's corpus (fuzz/corpus/parser): replayed here with the fuzzer's own invariants, so that what it once found
//! stays found without a fuzzer at hand.

use std::{collections::BTreeSet, fs, path::PathBuf};

use crate::{
    frames::{self, Pool, Rng},
    on_many_frames, parsed,
};

#[path = "../../../fuzz/fuzz_targets/invariants.rs"]
mod invariants;

/// A name for each kind of frame that the corpus must hold: what the parser says of it, in short.
type Kind = String;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/parser")
}

fn kind(frame: &[u8]) -> Kind {
    let (result, packet) = parsed(frame);
    let protocol = match packet.protocol {
        6 => "tcp",
        17 => "udp",
        1 | 58 => "icmp",
        _ => "other",
    };
    match result {
        Ok(()) => format!("{:?}-{:?}-{protocol}", packet.network, packet.fragment).to_lowercase(),
        Err(reason) => format!("{:?}-{}", packet.network, reason.as_str()).to_lowercase(),
    }
}

#[test]
fn every_frame_of_the_corpus_holds_the_invariants() {
    let mut kinds = BTreeSet::new();
    let files = fs::read_dir(folder()).expect("the corpus");
    for file in files {
        let path = file.expect("a file").path();
        let frame = fs::read(&path).expect("a frame");
        println!("{}", path.display());
        invariants::hold(&frame);
        kinds.insert(kind(&frame));
    }
    assert!(kinds.len() >= 25, "the corpus has lost frames: {kinds:?}");
}

#[test]
fn generated_frames_hold_the_invariants() {
    on_many_frames(|frame| {
        invariants::hold(frame);
        Ok(())
    });
}

/// Writes the shortest of the first hundred frames of each kind: `SPINEGATE_WRITE_CORPUS=1`. Else it has nothing to do
/// but to see that every kind of the generator is in the corpus.
#[test]
fn every_kind_of_frame_that_is_generated_is_in_the_corpus() {
    let mut rng = Rng::new(1);
    let pool = Pool::plain();
    let mut shortest = std::collections::BTreeMap::new();
    for _ in 0..20_000 {
        let frame = frames::any(&mut rng, &pool);
        let kept = shortest.entry(kind(&frame)).or_insert_with(|| frame.clone());
        if frame.len() < kept.len() {
            *kept = frame;
        }
    }
    if std::env::var_os("SPINEGATE_WRITE_CORPUS").is_some() {
        for (kind, frame) in &shortest {
            fs::write(folder().join(kind), frame).expect("writing the corpus");
        }
    }
    let missing: Vec<_> = shortest
        .keys()
        .filter(|kind| !folder().join(kind).exists())
        .collect();
    assert!(missing.is_empty(), "SPINEGATE_WRITE_CORPUS=1 adds {missing:?}");
}
