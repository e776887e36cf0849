//! The chain over the lines of the log: each ends with its number and a hash over itself and all lines before it.

use openssl::sha::Sha256;

/// `,"chain":"`, 64 digits, `"}`.
const SEAL: usize = BEFORE_HASH.len() + 64 + AFTER_HASH.len();
const BEFORE_NUMBER: &[u8] = b",\"seq\":";
const BEFORE_HASH: &[u8] = b",\"chain\":\"";
const AFTER_HASH: &[u8] = b"\"}";

/// Where a chain has got to: the number of its last line, and the hash over all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// `seq`: lines are numbered from 1.
    pub number: u64,
    /// `chain`: SHA-256 over the hash before, and the line up to its own.
    pub hash: [u8; 32],
}

impl Link {
    /// Before the first line.
    pub const START: Self = Self {
        number: 0,
        hash: [0; 32],
    };

    /// Makes a JSON object the next line of the chain. False, and nothing is changed, if it is no JSON object with something
    /// in it.
    pub(super) fn seal(&mut self, line: &mut Vec<u8>) -> bool {
        if line.len() < 3 || line.last() != Some(&b'}') {
            return false;
        }
        line.pop();
        let number = self.number.saturating_add(1);
        line.extend_from_slice(BEFORE_NUMBER);
        line.extend_from_slice(number.to_string().as_bytes());
        *self = self.followed_by(number, line);
        line.extend_from_slice(BEFORE_HASH);
        line.extend(digits(&self.hash));
        line.extend_from_slice(AFTER_HASH);
        true
    }

    /// The link that a line makes after this one.
    pub(super) fn followed_by(&self, number: u64, body: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update(&self.hash);
        hash.update(body);
        Self {
            number,
            hash: hash.finish(),
        }
    }

    /// What a line says of itself: its link, and the part that the hash is over. None if it says nothing.
    pub(super) fn of_line(line: &[u8]) -> Option<(Self, &[u8])> {
        let (body, seal) = line.split_at_checked(line.len().checked_sub(SEAL)?)?;
        let text = seal.strip_prefix(BEFORE_HASH)?.strip_suffix(AFTER_HASH)?;
        let at = body
            .windows(BEFORE_NUMBER.len())
            .rposition(|window| window == BEFORE_NUMBER)?;
        let number = str::from_utf8(body.get(at + BEFORE_NUMBER.len()..)?)
            .ok()?
            .parse()
            .ok()?;
        let hash = bytes(text)?;
        Some((Self { number, hash }, body))
    }

    /// The hash in hexadecimal.
    #[must_use]
    pub fn hash_text(&self) -> String {
        digits(&self.hash).map(char::from).collect()
    }

    /// A link from its number and its hash in hexadecimal.
    #[must_use]
    pub fn parse(number: u64, hash: &str) -> Option<Self> {
        let hash = bytes(hash.as_bytes())?;
        Some(Self { number, hash })
    }
}

/// Lower-case hexadecimal digits.
fn digits(bytes: &[u8]) -> impl Iterator<Item = u8> {
    let digit = |value: u8| match value {
        0..=9 => b'0' + value,
        _ => b'a' + (value - 10),
    };
    bytes
        .iter()
        .flat_map(move |byte| [digit(byte >> 4), digit(byte & 15)])
}

/// Only lower case: of each hash there is one spelling.
fn bytes(text: &[u8]) -> Option<[u8; 32]> {
    let value = |digit: &u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut hash = [0; 32];
    if text.len() != 2 * hash.len() {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = value(high)? << 4 | value(low)?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Link;

    #[test]
    fn a_sealed_line_is_json_and_says_its_link() {
        let mut link = Link::START;
        let mut line = br#"{"detail":"a","seq":7}"#.to_vec();
        assert!(link.seal(&mut line));
        let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(value["chain"], link.hash_text());
        let (read, body) = Link::of_line(&line).unwrap();
        assert_eq!(read, link);
        assert_eq!(link, Link::START.followed_by(1, body));
        assert_eq!(Link::parse(1, &link.hash_text()), Some(link));
    }

    #[test]
    fn what_is_no_object_is_not_sealed() {
        for bad in ["", "{}", "[1]", "\"}"] {
            let (mut link, mut line) = (Link::START, bad.as_bytes().to_vec());
            assert!(!link.seal(&mut line), "{bad}");
            assert_eq!((link, line.as_slice()), (Link::START, bad.as_bytes()));
        }
    }

    proptest! {
        #[test]
        fn no_line_panics(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Link::of_line(&line);
        }

        #[test]
        fn a_changed_byte_breaks_the_link(text in "[a-z]{1,30}", at in any::<prop::sample::Index>(), bit in 0..8u8) {
            let (mut link, mut line) = (Link::START, serde_json::to_vec(&serde_json::json!({ "detail": text })).unwrap());
            prop_assert!(link.seal(&mut line));
            let at = at.index(line.len());
            line[at] ^= 1 << bit;
            let sound = Link::of_line(&line).is_some_and(|(read, body)| {
                read == link && Link::START.followed_by(read.number, body) == link
            });
            prop_assert!(!sound);
        }
    }
}
