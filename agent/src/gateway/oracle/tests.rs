//! The same without a fuzzer.

use std::{fs, path::PathBuf};

use proptest::prelude::*;

use super::*;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/connection")
}

fn hold_input(input: &[u8]) -> Tried {
    match input.split_first() {
        Some((piece, rest)) => hold(&expand(rest), usize::from(*piece)),
        None => Tried::default(),
    }
}

/// `SPINEGATE_WRITE_CORPUS=1` writes the seeds; else it has only to see that they are there.
#[test]
fn the_corpus_of_the_fuzzer_holds_and_forwards_what_it_is_to_forward() {
    for (name, seed) in seeds() {
        let file = folder().join(name);
        if std::env::var_os("SPINEGATE_WRITE_CORPUS").is_some() {
            fs::write(&file, &seed).unwrap();
        }
        assert_eq!(
            fs::read(&file).ok(),
            Some(seed),
            "SPINEGATE_WRITE_CORPUS=1 writes {name}"
        );
    }
    for file in fs::read_dir(folder()).unwrap() {
        let path = file.unwrap().path();
        println!("{}", path.display());
        hold_input(&fs::read(path).unwrap());
    }
    for (name, answered, forwarded) in [
        ("read", 1, 1),
        ("read-byte-by-byte", 1, 1),
        ("search-twice", 2, 2),
        ("create", 1, 1),
        ("create-in-chunks", 1, 1),
        ("create-for-another", 1, 0),
        ("create-pipelined", 3, 3),
        ("supersede", 1, 1),
        ("update", 1, 1),
        ("update-anothers", 1, 0),
        ("delete", 1, 1),
        ("delete-anothers", 1, 0),
        ("length-and-coding", 0, 0),
        ("smuggled-in-a-body", 1, 0),
        ("expect", 2, 2),
        ("close", 1, 1),
        ("part", 2, 1),
        ("empty-line", 1, 1),
        ("url", 1, 1),
        ("another-asid", 2, 1),
        ("refused-with-a-body", 2, 1),
    ] {
        let seed = seeds().into_iter().find(|(one, _)| *one == name).unwrap().1;
        assert_eq!(hold_input(&seed), Tried { answered, forwarded }, "{name}");
    }
}

/// Mostly what makes sound requests, in an order that makes some.
fn input() -> impl Strategy<Value = Vec<u8>> {
    let seeds: Vec<Vec<u8>> = seeds().into_iter().map(|(_, seed)| seed[1..].to_vec()).collect();
    let any_piece = (0..PIECES).prop_map(|number| vec![0xc0 + u8::try_from(number).unwrap()]);
    let part = prop_oneof![
        6 => proptest::sample::select(seeds),
        3 => any_piece,
        1 => proptest::collection::vec(any::<u8>(), 1..8),
    ];
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 0..3);
    (proptest::collection::vec(part, 1..6), changes).prop_map(|(parts, changes)| {
        let mut input = parts.concat();
        for (at, byte, kind) in changes {
            let at = at.index(input.len().max(1));
            match kind {
                0 => input.insert(at, byte),
                1 if at < input.len() => drop(input.remove(at)),
                2 if at < input.len() => input[at] = byte,
                _ => {}
            }
        }
        input
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_upstream_gets_what_was_authorised_and_nothing_else(input in input(), piece in 1..256_usize) {
        hold(&expand(&input), piece);
    }
}
