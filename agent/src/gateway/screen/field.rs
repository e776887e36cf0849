//! Header lines (RFC 9112 section 5): their grammar, and what some of them say about the request's framing.

use std::ops::Range;

use super::{
    rule::Rule,
    token::{Fault, is_space, token_fault, trimmed},
};

/// Names that decide something here or upstream. Another name that is the same without its punctuation is refused: CGI and
/// its heirs would take it for this one.
const OURS: [&str; 22] = [
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "forwarded",
    "fromasid",
    "host",
    "if-match",
    "interactionid",
    "ssp-from",
    "ssp-interactionid",
    "ssp-to",
    "ssp-traceid",
    "te",
    "toasid",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-for",
    "x-request-id",
];
/// All names that begin so are the gateway's.
const OUR_PREFIX: &str = "x-spinegate-";
/// The options of a Connection field that are names of ours all the same.
const OPTIONS: [&str; 2] = ["te", "trailer"];
/// More would not be a length but an attempt.
const MAX_LENGTH_DIGITS: usize = 18;

/// What the header lines of one head have said so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fields {
    pub(super) count: usize,
    /// The Host field's value, by its position in the head.
    pub(super) host: Option<Range<usize>>,
    pub(super) length: Option<u64>,
    pub(super) chunked: bool,
    pub(super) expects: bool,
}

impl Fields {
    /// Reads a line without its line end, which begins at `begin` in the head. Faults are positions in the line.
    pub(super) fn read(&mut self, line: &[u8], begin: usize) -> Result<(), Fault> {
        self.count += 1;
        if line.first().copied().is_some_and(is_space) {
            return Err((Rule::ObsFold, 0));
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            return Err((Rule::NoColon, line.len()));
        };
        let name = line.get(..colon).unwrap_or_default();
        judge_name(name)?;
        let value = line.get(colon + 1..).unwrap_or_default();
        let within = |(rule, position)| (rule, colon + 1 + position);
        // The longest name that is looked at has seventeen bytes.
        let mut lower = [0; 20];
        let Some(lower) = lower.get_mut(..name.len()) else {
            return Ok(());
        };
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        match &*lower {
            b"host" => self.host(value, begin + colon + 1).map_err(within),
            b"content-length" => self.content_length(value).map_err(within),
            b"transfer-encoding" => self.transfer_encoding(value).map_err(within),
            b"connection" => judge_connection(value).map_err(within),
            b"upgrade" | b"http2-settings" => Err((Rule::Upgrade, 0)),
            b"expect" => {
                let known = trimmed(value).eq_ignore_ascii_case(b"100-continue");
                if !known || std::mem::replace(&mut self.expects, true) {
                    return Err((Rule::Expect, 0));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn host(&mut self, value: &[u8], begin: usize) -> Result<(), Fault> {
        if self.host.is_some() {
            return Err((Rule::HostRepeated, 0));
        }
        let (host, skipped) = exact(value);
        if let Some(fault) = host_fault(host) {
            return Err((Rule::HostMalformed, skipped + fault));
        }
        self.host = Some(begin + skipped..begin + skipped + host.len());
        Ok(())
    }

    fn content_length(&mut self, value: &[u8]) -> Result<(), Fault> {
        if self.length.is_some() {
            return Err((Rule::LengthRepeated, 0));
        }
        if self.chunked {
            return Err((Rule::LengthWithCoding, 0));
        }
        let (digits, skipped) = exact(value);
        let malformed = |position: usize| (Rule::LengthMalformed, skipped + position);
        if let Some(fault) = digits.iter().position(|byte| !byte.is_ascii_digit()) {
            return Err(malformed(fault));
        }
        match digits {
            [] | [b'0', _, ..] => return Err(malformed(0)),
            digits if digits.len() > MAX_LENGTH_DIGITS => return Err(malformed(MAX_LENGTH_DIGITS)),
            _ => {}
        }
        let length = digits
            .iter()
            .fold(0, |length: u64, digit| length * 10 + u64::from(digit - b'0'));
        self.length = Some(length);
        Ok(())
    }

    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), Fault> {
        if self.chunked {
            return Err((Rule::CodingRepeated, 0));
        }
        if self.length.is_some() {
            return Err((Rule::LengthWithCoding, 0));
        }
        let (codings, skipped) = exact(value);
        if !codings.eq_ignore_ascii_case(b"chunked") {
            return Err((rule_of_codings(codings), skipped));
        }
        self.chunked = true;
        Ok(())
    }
}

fn judge_name(name: &[u8]) -> Result<(), Fault> {
    if name.is_empty() {
        return Err((Rule::NameEmpty, 0));
    }
    if let Some(fault) = token_fault(name) {
        let rest = name.get(fault..).unwrap_or_default();
        let rule = if rest.iter().all(|byte| is_space(*byte)) {
            Rule::SpaceBeforeColon
        } else {
            Rule::NameToken
        };
        return Err((rule, fault));
    }
    if is_lookalike(name) {
        return Err((Rule::NameLookalike, 0));
    }
    Ok(())
}

/// Whether a name is one of ours but for its punctuation.
fn is_lookalike(name: &[u8]) -> bool {
    let prefix = OUR_PREFIX.as_bytes();
    let length = letters(prefix).count();
    if letters(name).take(length).eq(letters(prefix)) {
        let begins = name.get(..prefix.len()).unwrap_or_default();
        let plain = name
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
        return !plain || !begins.eq_ignore_ascii_case(prefix);
    }
    OURS.iter()
        .map(|ours| ours.as_bytes())
        .any(|ours| letters(name).eq(letters(ours)) && !name.eq_ignore_ascii_case(ours))
}

/// A name without its punctuation and its case.
fn letters(name: &[u8]) -> impl Iterator<Item = u8> {
    let letters = name.iter().filter(|byte| byte.is_ascii_alphanumeric());
    letters.map(u8::to_ascii_lowercase)
}

/// A value that decides about framing stands behind at most one space, and nothing stands behind it. Gives it with the
/// number of bytes before it; any other space stays, and makes it malformed.
fn exact(value: &[u8]) -> (&[u8], usize) {
    match value.split_first() {
        Some((b' ', rest)) => (rest, 1),
        _ => (value, 0),
    }
}

/// RFC 9112 sections 6.1 and 6.3: what does not end in `chunked` has no end; what ends so, but has another coding before
/// it, can't be decoded.
fn rule_of_codings(codings: &[u8]) -> Rule {
    let mut before = codings.split(|byte| *byte == b',').map(trimmed).rev();
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    let ends_so =
        before.next().is_some_and(is_chunked) && codings.last().is_some_and(|last| !is_space(*last));
    let mut others = 0;
    let sound = before.all(|coding| {
        others += 1;
        token_fault(coding).is_none() && !is_chunked(coding)
    });
    if ends_so && sound && others > 0 {
        Rule::CodingUnknown
    } else {
        Rule::CodingMalformed
    }
}

fn judge_connection(value: &[u8]) -> Result<(), Fault> {
    for option in value.split(|byte| *byte == b',').map(trimmed) {
        if option.eq_ignore_ascii_case(b"upgrade") {
            return Err((Rule::Upgrade, 0));
        }
        let is = |name: &&str| option.eq_ignore_ascii_case(name.as_bytes());
        let names_ours = OURS.iter().any(is) && !OPTIONS.iter().any(is);
        if names_ours || token_fault(option).is_some() {
            return Err((Rule::ConnectionOption, 0));
        }
    }
    Ok(())
}

/// Where a text stops being `host` or `host:port`, the host a name or an address.
fn host_fault(text: &[u8]) -> Option<usize> {
    let end = match text.first() {
        None => return Some(0),
        Some(b'[') => {
            let Some(length) = text.iter().position(|byte| *byte == b']') else {
                return Some(text.len());
            };
            let inside = text.get(1..length).unwrap_or_default();
            let is_address =
                std::str::from_utf8(inside).is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok());
            if !is_address {
                return Some(1);
            }
            length + 1
        }
        Some(_) => {
            let name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
            text.iter().position(|byte| !name(byte)).unwrap_or(text.len())
        }
    };
    match text.get(end..).unwrap_or_default() {
        [] => None,
        _ if end == 0 => Some(0),
        [b':', port @ ..] if !port.is_empty() && port.len() <= 5 && port.iter().all(u8::is_ascii_digit) => {
            None
        }
        _ => Some(end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Result<Fields, Fault> {
        let mut fields = Fields::default();
        for line in lines {
            fields.read(line.as_bytes(), 0)?;
        }
        Ok(fields)
    }

    fn rule(lines: &[&str]) -> Option<Rule> {
        read(lines).err().map(|(rule, _)| rule)
    }

    #[test]
    fn framing_is_read_where_it_is_said_in_one_way() {
        let fields = read(&["Host: edge.nhs.uk:443", "content-LENGTH:0", "X-A: \tb "]).unwrap();
        assert_eq!(
            (fields.count, fields.host, fields.length),
            (3, Some(6..21), Some(0))
        );
        assert!(read(&["Transfer-Encoding: Chunked"]).unwrap().chunked);
        assert_eq!(
            read(&["Content-Length: 999999999999999999"]).unwrap().length,
            Some(999_999_999_999_999_999)
        );
    }

    #[test]
    fn a_length_is_digits_alone() {
        for value in [
            "",
            " ",
            "+1",
            "-1",
            "1 ",
            "  1",
            "\t1",
            "1,1",
            "1, 1",
            "01",
            "00",
            "0x1",
            "1e3",
            "1.0",
            "١",
            "1234567890123456789",
        ] {
            assert_eq!(
                rule(&[&format!("Content-Length: {value}")]),
                Some(Rule::LengthMalformed),
                "{value:?}"
            );
        }
        assert_eq!(
            rule(&["Content-Length: 1", "Content-Length: 1"]),
            Some(Rule::LengthRepeated)
        );
    }

    #[test]
    fn a_coding_is_chunked_alone() {
        for value in [
            "",
            "identity",
            "chunked, gzip",
            "chunked, chunked",
            "chunked,",
            ",chunked",
            "xchunked",
            "chunked ",
            " chunked",
            "\tchunked",
            "chunked;q=1",
            "\"chunked\"",
            "gzip",
            "gzip, chunked ",
        ] {
            assert_eq!(
                rule(&[&format!("Transfer-Encoding: {value}")]),
                Some(Rule::CodingMalformed),
                "{value:?}"
            );
        }
        for value in ["gzip, chunked", "identity,chunked", "x, y ,chunked"] {
            assert_eq!(
                rule(&[&format!("Transfer-Encoding: {value}")]),
                Some(Rule::CodingUnknown),
                "{value:?}"
            );
        }
        let (coding, length) = ("Transfer-Encoding: chunked", "Content-Length: 1");
        assert_eq!(rule(&[coding, coding]), Some(Rule::CodingRepeated));
        assert_eq!(rule(&[coding, length]), Some(Rule::LengthWithCoding));
        assert_eq!(rule(&[length, coding]), Some(Rule::LengthWithCoding));
    }

    #[test]
    fn a_host_is_a_name_or_an_address_and_perhaps_a_port() {
        for value in [
            "a",
            "edge.nhs.uk",
            "10.0.0.1:443",
            "[fd00::1]",
            "[::1]:8443",
            "a:1",
        ] {
            assert_eq!(rule(&[&format!("Host: {value}")]), None, "{value}");
        }
        for value in [
            "", " ", "a b", "a,b", "a@b", "a/b", "a:", "a:b", "a:123456", ":443", "[::1", "[a]", "[::1]x",
            "a_b", " a", "a ", "\u{e9}",
        ] {
            assert_eq!(
                rule(&[&format!("Host: {value}")]),
                Some(Rule::HostMalformed),
                "{value:?}"
            );
        }
        assert_eq!(rule(&["Host: a", "host: a"]), Some(Rule::HostRepeated));
    }

    #[test]
    fn a_name_that_could_be_taken_for_ours_is_refused() {
        for name in [
            "from_asid",
            "from-asid",
            "FROM.ASID",
            "to_ASID",
            "Interaction_ID",
            "content_length",
            "Transfer_Encoding",
            "X_Spinegate_Asid",
            "X-Spinegate_Asid",
            "XSpinegate-Asid",
            "x-spinegate.ods",
            "X_Forwarded_For",
            "x-requestid",
            "if_match",
            "h-o-s-t",
            "ssp_from",
            "SspTo",
            "Ssp-Trace-ID",
            "ssp.interactionid",
        ] {
            assert_eq!(
                rule(&[&format!("{name}: 1")]),
                Some(Rule::NameLookalike),
                "{name}"
            );
        }
        for name in [
            "fromASID",
            "X-Spinegate-Asid",
            "X_Other",
            "from",
            "toasids",
            "x-spine",
            "hostname",
            "X-Forwarded-For",
            "Ssp-TraceID",
        ] {
            assert_eq!(rule(&[&format!("{name}: 1")]), None, "{name}");
        }
    }

    #[test]
    fn connection_may_not_take_what_the_upstream_needs() {
        for value in ["close", "keep-alive, X-Own", "TE", "Keep-Alive", "close, te"] {
            assert_eq!(rule(&[&format!("Connection: {value}")]), None, "{value}");
        }
        for value in [
            "",
            "fromASID",
            "close, Ssp-From",
            "close, Authorization",
            "content-length",
            "a b",
            "close,,te",
            "host",
        ] {
            assert_eq!(
                rule(&[&format!("Connection: {value}")]),
                Some(Rule::ConnectionOption),
                "{value:?}"
            );
        }
        assert_eq!(rule(&["Connection: Upgrade"]), Some(Rule::Upgrade));
    }

    #[test]
    fn lines_that_are_no_header_are_refused_where_they_stop_being_one() {
        for (line, wanted, position) in [
            (" folded", Rule::ObsFold, 0),
            ("\tfolded: 1", Rule::ObsFold, 0),
            ("no colon", Rule::NoColon, 8),
            (": empty", Rule::NameEmpty, 0),
            ("a : b", Rule::SpaceBeforeColon, 1),
            ("a\t: b", Rule::SpaceBeforeColon, 1),
            ("a b: c", Rule::NameToken, 1),
            ("a(b): c", Rule::NameToken, 1),
            ("\u{e9}: c", Rule::NameToken, 0),
            ("Content-Length: 1x", Rule::LengthMalformed, 17),
        ] {
            assert_eq!(read(&[line]), Err((wanted, position)), "{line:?}");
        }
    }

    #[test]
    fn only_one_expectation_is_known() {
        assert_eq!(rule(&["Expect: 100-Continue "]), None);
        for lines in [
            &["Expect: 200"][..],
            &["Expect:"],
            &["Expect: 100-continue, x"],
            &["Expect: 100-continue", "Expect: 100-continue"],
        ] {
            assert_eq!(rule(lines), Some(Rule::Expect), "{lines:?}");
        }
    }
}
