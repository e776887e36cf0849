//! What an attacker, or a faulty sender, does to a sound frame.

use super::Rng;

/// Numbers that mean something in some header.
const TELLING: [u8; 24] = [
    0, 1, 2, 3, 4, 5, 6, 7, 8, 17, 20, 40, 43, 44, 51, 58, 59, 60, 0x45, 0x60, 0x86, 0xdd, 0x81, 0xff,
];
/// Headers stand here, mostly.
const HEADERS: usize = 90;
/// The shortest frame that the kernel takes, a byte more than an Ethernet header.
const SHORTEST: usize = 15;

pub(crate) fn once(rng: &mut Rng, frame: &mut Vec<u8>) {
    let headers = frame.len().clamp(1, HEADERS);
    match rng.below(8) {
        0 | 1 => {
            let at = rng.below(headers);
            frame[at] ^= 1 << rng.below(8);
        }
        2 | 3 => {
            let at = rng.below(headers);
            frame[at] = *rng.pick(&TELLING);
        }
        4 => {
            let at = rng.below(headers);
            frame[at] = rng.byte();
        }
        5 => {
            let length = SHORTEST + rng.below(frame.len());
            frame.truncate(length);
        }
        6 => {
            let more = 1 + rng.below(40);
            frame.extend(rng.bytes(more));
        }
        _ => {
            // What stands behind moves, and lengths no longer fit.
            let from = 12 + rng.below(headers.saturating_sub(12).max(1));
            let to = (from + 1 + rng.below(16)).min(frame.len());
            if from < to && frame.len() - (to - from) >= SHORTEST {
                frame.drain(from..to);
            }
        }
    }
}
