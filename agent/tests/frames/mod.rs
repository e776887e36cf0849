//! Frames for differential tests, from a seed: sound ones, then bent, cut and random ones.

mod build;
mod mutate;
mod rng;

pub(crate) use build::{Pool, sound};
pub(crate) use rng::Rng;

/// A frame of any kind.
pub(crate) fn any(rng: &mut Rng, pool: &Pool) -> Vec<u8> {
    let mut frame = match rng.below(16) {
        0 => random(rng),
        _ => sound(rng, pool),
    };
    if rng.chance(55) {
        for _ in 0..=rng.below(3) {
            mutate::once(rng, &mut frame);
        }
    }
    frame
}

/// Random bytes behind an ethertype that leads the parser on.
fn random(rng: &mut Rng) -> Vec<u8> {
    let length = 14 + rng.below(120);
    let mut frame = rng.bytes(length);
    let (ethertype, first) = *rng.pick(&[
        ([0x08, 0x00], 0x45),
        ([0x86, 0xdd], 0x60),
        ([0x81, 0x00], 0x00),
        ([0x08, 0x06], 0x00),
    ]);
    frame[12..14].copy_from_slice(&ethertype);
    if let Some(byte) = frame.get_mut(14) {
        *byte = first;
    }
    // Lengths that a frame this short can have.
    for at in [16, 18] {
        if frame.len() > at + 1 && rng.chance(70) {
            frame[at] = 0;
            frame[at + 1] = rng.byte() & 0x3f;
        }
    }
    frame
}

/// How many packets a differential test compares: `usual`, or what `SPINEGATE_PACKETS` says, or in the long suite
/// (`SPINEGATE_LONG=1`) a million.
pub(crate) fn rounds(usual: usize) -> usize {
    if let Ok(packets) = std::env::var("SPINEGATE_PACKETS") {
        return packets.parse().expect("SPINEGATE_PACKETS is a number");
    }
    match std::env::var("SPINEGATE_LONG") {
        Ok(long) if !long.is_empty() && long != "0" => 1_000_000,
        _ => usual,
    }
}

/// The seed of this run: `SPINEGATE_SEED`, or one from the clock, so that each run sees other packets.
pub(crate) fn seed() -> u64 {
    if let Ok(seed) = std::env::var("SPINEGATE_SEED") {
        return seed.parse().expect("SPINEGATE_SEED is a number");
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(1, |now| now.as_secs() ^ u64::from(now.subsec_nanos()) << 32)
}

/// A frame to paste into a report.
pub(crate) fn hex(frame: &[u8]) -> String {
    frame.iter().map(|byte| format!("{byte:02x}")).collect()
}
