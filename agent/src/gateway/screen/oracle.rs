//! What holds for whatever the screen releases: another parser finds the same requests in it. The fuzzer and the tests of
//! this room check the same.

use super::{
    machine::{Limits, Screen},
    rule::Violation,
};

pub(crate) const LIMITS: Limits = Limits {
    head: 512,
    headers: 12,
    request_line: 96,
};

/// How a stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) released: Vec<u8>,
    pub(crate) heads: u64,
    pub(crate) ended: Result<(), Violation>,
}

/// Feeds a stream in pieces of this length.
pub(crate) fn feed(bytes: &[u8], piece: usize) -> Outcome {
    let mut screen = Screen::new(LIMITS);
    let mut released = Vec::new();
    let ended = bytes
        .chunks(piece.max(1))
        .try_for_each(|piece| screen.feed(piece, &mut released));
    if let Err(violation) = ended {
        let before = released.len();
        assert_eq!(
            screen.feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", &mut released),
            Err(violation)
        );
        assert_eq!(released.len(), before, "a violation is final");
    }
    Outcome {
        heads: screen.heads(),
        released,
        ended,
    }
}

/// Panics where something does not hold for this stream, fed in pieces of some length or at once.
pub(crate) fn hold(bytes: &[u8], piece: usize) {
    let whole = feed(bytes, bytes.len());
    assert_eq!(feed(bytes, piece), whole, "the same in any pieces");
    assert_eq!(feed(bytes, 1), whole, "the same byte for byte");
    assert_eq!(
        requests(&whole.released),
        whole.heads,
        "another parser counts otherwise"
    );
}

/// How many requests httparse finds. Heads are released whole, so there are no more bytes only within a body.
fn requests(mut bytes: &[u8]) -> u64 {
    let mut count = 0;
    while !bytes.is_empty() {
        let mut headers = [httparse::EMPTY_HEADER; LIMITS.headers];
        let mut request = httparse::Request::new(&mut headers);
        let length = match request.parse(bytes).expect("what is released is well-formed") {
            httparse::Status::Complete(length) => length,
            httparse::Status::Partial => panic!("a head was released in part"),
        };
        count += 1;
        assert_eq!(request.version, Some(1));
        let all = |name: &str| -> Vec<&[u8]> {
            let named = request
                .headers
                .iter()
                .filter(|one| one.name.eq_ignore_ascii_case(name));
            named.map(|one| one.value).collect()
        };
        assert_eq!(all("host").len(), 1);
        let (lengths, codings) = (all("content-length"), all("transfer-encoding"));
        assert!(lengths.len() + codings.len() <= 1);
        let rest = bytes.get(length..).expect("a head within the bytes");
        let body = match (lengths.first(), codings.first()) {
            (Some(length), _) => {
                let length = std::str::from_utf8(length)
                    .ok()
                    .and_then(|text| text.parse::<u64>().ok());
                usize::try_from(length.expect("a length")).ok()
            }
            (None, Some(coding)) => {
                assert!(coding.eq_ignore_ascii_case(b"chunked"));
                chunked(rest)
            }
            (None, None) => Some(0),
        };
        match body.and_then(|length| rest.get(length..)) {
            Some(behind) => bytes = behind,
            None => break,
        }
    }
    count
}

/// The length of a chunked body; none if its end is not there.
fn chunked(bytes: &[u8]) -> Option<usize> {
    let mut position = 0;
    loop {
        let rest = bytes.get(position..)?;
        match httparse::parse_chunk_size(rest).expect("a chunk's line that is released is well-formed") {
            httparse::Status::Partial => return None,
            httparse::Status::Complete((line, size)) => {
                position += line + usize::try_from(size).ok()?;
                let end = bytes.get(position..position + 2)?;
                assert_eq!(end, b"\r\n");
                position += 2;
                if size == 0 {
                    return Some(position);
                }
            }
        }
    }
}
