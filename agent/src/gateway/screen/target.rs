//! The request target: a path, or a URL whose authority the Host field repeats (RFC 9112 section 3.2).

use std::ops::Range;

use super::{
    rule::Rule,
    token::{Fault, is_path_byte},
};

const SCHEME: &[u8] = b"https://";

/// Judges a target, and gives the place of its authority if it has one.
pub(super) fn judge(target: &[u8]) -> Result<Option<Range<usize>>, Fault> {
    if target.first() == Some(&b'/') {
        return judge_path(target, 0).map(|()| None);
    }
    let scheme = target.get(..SCHEME.len()).unwrap_or_default();
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return Err((Rule::TargetForm, 0));
    }
    let authority = target.get(SCHEME.len()..).unwrap_or_default();
    let length = authority
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?' | b'#'));
    let end = SCHEME.len() + length.unwrap_or(authority.len());
    judge_path(target, end)?;
    Ok(Some(SCHEME.len()..end))
}

/// What a segment has been so far, decoded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Segment {
    /// So many dots, up to two, and nothing else.
    Dots(u8),
    Other,
}

/// Judges path and query, which begin at `begin`. Positions are the target's.
fn judge_path(target: &[u8], begin: usize) -> Result<(), Fault> {
    let mut segment = (begin, Segment::Other);
    let mut position = begin;
    while let Some(byte) = target.get(position) {
        let (decoded, length) = match byte {
            b'?' => {
                end_segment(segment)?;
                return judge_query(target, position + 1);
            }
            b'/' => {
                end_segment(segment)?;
                segment = (position + 1, Segment::Dots(0));
                position += 1;
                continue;
            }
            b'%' => (escaped(target, position)?, 3),
            byte if is_path_byte(*byte) => (*byte, 1),
            byte => return Err((rule_of_byte(*byte), position)),
        };
        segment.1 = match (decoded, segment.1) {
            (b'.', Segment::Dots(count @ 0..=1)) => Segment::Dots(count + 1),
            // Some servers drop a parameter before they look at the segment.
            (b';', Segment::Dots(1..)) => return Err((Rule::DotSegment, segment.0)),
            _ => Segment::Other,
        };
        position += length;
    }
    end_segment(segment)
}

fn judge_query(target: &[u8], begin: usize) -> Result<(), Fault> {
    let rest = target.get(begin..).unwrap_or_default();
    // A bar separates a FHIR token's system and code, and clients send it as it is.
    let allowed = |byte: u8| is_path_byte(byte) || matches!(byte, b'%' | b'/' | b'?' | b'|');
    match rest.iter().position(|byte| !allowed(*byte)) {
        None => Ok(()),
        Some(found) => {
            let byte = rest.get(found).copied().unwrap_or_default();
            Err((rule_of_byte(byte), begin + found))
        }
    }
}

/// The byte that a percent sign and two digits stand for.
fn escaped(target: &[u8], position: usize) -> Result<u8, Fault> {
    let digit = |at: usize| target.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let (Some(high), Some(low)) = (digit(position + 1), digit(position + 2)) else {
        return Err((Rule::TargetEscape, position));
    };
    let decoded = u8::try_from(high * 16 + low).unwrap_or_default();
    match decoded {
        b'/' | b'\\' | b'%' | 0..=0x1f | 0x7f => Err((Rule::TargetEscaped, position)),
        decoded => Ok(decoded),
    }
}

fn end_segment((begin, segment): (usize, Segment)) -> Result<(), Fault> {
    match segment {
        Segment::Dots(1..) => Err((Rule::DotSegment, begin)),
        Segment::Dots(0) | Segment::Other => Ok(()),
    }
}

const fn rule_of_byte(byte: u8) -> Rule {
    match byte {
        b'#' => Rule::TargetFragment,
        0x80.. => Rule::TargetNonAscii,
        _ => Rule::TargetByte,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_urls_are_taken() {
        for target in [
            "/",
            "/STU3/DocumentReference/1",
            "/a?subject=https%3A%2F%2Fx%2F..%2F&type=a|b&c=/?:@",
            "//a/...",
            "/..a/.b/c../%2e%2e%2e/%2Ea",
            "/%c3%a9;x=1",
        ] {
            assert_eq!(judge(target.as_bytes()), Ok(None), "{target}");
        }
        assert_eq!(judge(b"https://edge:443/a?b"), Ok(Some(8..16)));
        assert_eq!(judge(b"HTTPS://edge"), Ok(Some(8..12)));
        assert_eq!(judge(b"https://edge?a"), Ok(Some(8..12)));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused_where_it_stands() {
        for (target, rule, position) in [
            ("*", Rule::TargetForm, 0),
            ("edge:443", Rule::TargetForm, 0),
            ("http://edge/", Rule::TargetForm, 0),
            ("a/b", Rule::TargetForm, 0),
            ("\\a", Rule::TargetForm, 0),
            ("/a\\b", Rule::TargetByte, 2),
            ("/a\"b", Rule::TargetByte, 2),
            ("/a|b", Rule::TargetByte, 2),
            ("/a?b<", Rule::TargetByte, 4),
            ("/a#b", Rule::TargetFragment, 2),
            ("/a?b#", Rule::TargetFragment, 4),
            ("/\u{e9}", Rule::TargetNonAscii, 1),
            ("/a?\u{e9}", Rule::TargetNonAscii, 3),
            ("/a%", Rule::TargetEscape, 2),
            ("/a%4", Rule::TargetEscape, 2),
            ("/a%+1", Rule::TargetEscape, 2),
            ("/a%g0", Rule::TargetEscape, 2),
            ("/a%2fb", Rule::TargetEscaped, 2),
            ("/a%2Fb", Rule::TargetEscaped, 2),
            ("/a%5cb", Rule::TargetEscaped, 2),
            ("/a%00", Rule::TargetEscaped, 2),
            ("/a%0d%0a", Rule::TargetEscaped, 2),
            ("/a%7f", Rule::TargetEscaped, 2),
            ("/%252e", Rule::TargetEscaped, 1),
            ("/.", Rule::DotSegment, 1),
            ("/..", Rule::DotSegment, 1),
            ("/a/../b", Rule::DotSegment, 3),
            ("/a/./b", Rule::DotSegment, 3),
            ("/a/%2e/b", Rule::DotSegment, 3),
            ("/a/.%2E", Rule::DotSegment, 3),
            ("/a/%2e%2e?b", Rule::DotSegment, 3),
            ("/a/..;x/b", Rule::DotSegment, 3),
            ("/a/..%3bx/b", Rule::DotSegment, 3),
            ("https://edge/../a", Rule::DotSegment, 13),
            ("https://edge#a", Rule::TargetFragment, 12),
        ] {
            assert_eq!(judge(target.as_bytes()), Err((rule, position)), "{target}");
        }
    }
}
