//! The request line (RFC 9112 section 3).

use std::ops::Range;

use super::{
    rule::Rule,
    target,
    token::{Fault, token_fault},
};

/// A request line that keeps every rule. Ranges are positions in the head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RequestLine {
    pub(super) method: Range<usize>,
    pub(super) target: Range<usize>,
    /// The authority, where the target is a URL.
    pub(super) authority: Option<Range<usize>>,
    /// Whether the method has no use for a body.
    pub(super) bodiless: bool,
}

impl RequestLine {
    /// Reads a line without its line end: version, then method, then target.
    pub(super) fn read(line: &[u8]) -> Result<Self, Fault> {
        let Some(first) = line.iter().position(|byte| *byte == b' ') else {
            return Err((Rule::RequestLine, line.len()));
        };
        let (method, rest) = (line.get(..first).unwrap_or_default(), first + 1);
        let behind = line.get(rest..).unwrap_or_default();
        let Some(second) = behind.iter().position(|byte| *byte == b' ') else {
            // Method and target alone are what HTTP/0.9 had.
            return Err((Rule::Version, line.len()));
        };
        let (target, version) = (rest..rest + second, rest + second + 1);
        if target.is_empty() {
            return Err((Rule::RequestLine, rest));
        }
        let named = line.get(version..).unwrap_or_default();
        if let Some(space) = named.iter().position(|byte| *byte == b' ') {
            return Err((Rule::RequestLine, version + space));
        }
        judge_version(named).map_err(|rule| (rule, version))?;
        if let Some(fault) = token_fault(method) {
            return Err((Rule::MethodToken, fault));
        }
        if matches!(method, b"CONNECT" | b"TRACE") {
            return Err((Rule::Method, 0));
        }
        let begin = target.start;
        let authority = target::judge(line.get(target.clone()).unwrap_or_default())
            .map_err(|(rule, position)| (rule, begin + position))?;
        Ok(Self {
            method: 0..first,
            target,
            authority: authority.map(|within| begin + within.start..begin + within.end),
            bodiless: matches!(method, b"GET" | b"HEAD" | b"DELETE" | b"OPTIONS"),
        })
    }
}

fn judge_version(version: &[u8]) -> Result<(), Rule> {
    match version {
        b"HTTP/1.1" => Ok(()),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Err(Rule::Version)
        }
        _ => Err(Rule::VersionMalformed),
    }
}
