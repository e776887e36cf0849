//! The screen over whole streams: its limits, where requests end, and what holds for any bytes at all.

use std::{collections::HashSet, fs, path::Path};

use http::StatusCode;
use proptest::prelude::*;

use super::{
    oracle::{LIMITS, feed, hold},
    rule::{Place, Rule, Violation},
};
use crate::nrl::Outcome;

const GET: &str = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n";

fn ended(stream: &str) -> Result<(), (Rule, Place, usize)> {
    hold(stream.as_bytes(), 3);
    feed(stream.as_bytes(), usize::MAX).ended.map_err(
        |Violation {
             rule,
             place,
             position,
         }| (rule, place, position),
    )
}

fn in_head(rule: Rule, position: usize) -> Result<(), (Rule, Place, usize)> {
    Err((rule, Place::Head, position))
}

#[test]
fn requests_are_released_whole_and_as_they_came() {
    let stream = format!(
        "{GET}\r\nPOST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc{GET}\
         PATCH /c HTTP/1.1\r\nhost:a\r\ntransfer-encoding:chunked\r\n\r\n3\r\nabc\r\n0a\r\n0123456789\r\n0\r\n\r\n{GET}GET /part"
    );
    let outcome = feed(stream.as_bytes(), 5);
    assert_eq!((outcome.heads, outcome.ended), (5, Ok(())));
    let expected = stream
        .replacen("\r\n\r\n\r\n", "\r\n\r\n", 1)
        .replace("0a\r\n01", "a\r\n01")
        .replace("GET /part", "");
    assert_eq!(String::from_utf8(outcome.released).unwrap(), expected);
}

#[test]
fn line_ends_are_crlf_and_nothing_else() {
    for (stream, rule, position) in [
        ("GET /a HTTP/1.1\nHost: a\n\n", Rule::BareLf, 15),
        ("GET /a HTTP/1.1\rHost: a\r\r", Rule::BareCr, 15),
        ("GET /a HTTP/1.1\r\nHost: a\r\n\n", Rule::BareLf, 26),
        ("GET /a HTTP/1.1\r\r\nHost: a\r\n\r\n", Rule::BareCr, 15),
        ("GET /a HTTP/1.1\r\nA: b\rc\r\n\r\n", Rule::BareCr, 21),
        ("GET /a HTTP/1.1\r\nA: b\0\r\n\r\n", Rule::ControlByte, 21),
        ("GET /a HTTP/1.1\r\nA: \u{7f}\r\n\r\n", Rule::ControlByte, 20),
        ("\n", Rule::BareLf, 0),
        ("\r\r", Rule::BareCr, 0),
        ("\r\n\r\n", Rule::EmptyLines, 0),
        ("\r\n\n", Rule::BareLf, 0),
    ] {
        assert_eq!(ended(stream), in_head(rule, position), "{stream:?}");
    }
    assert_eq!(ended(&format!("\r\n{GET}\r\n{GET}")), Ok(()));
}

#[test]
fn a_request_line_has_one_form() {
    for (line, rule, position) in [
        ("GET", Rule::RequestLine, 3),
        ("GET /a", Rule::Version, 6),
        ("GET  /a HTTP/1.1", Rule::RequestLine, 4),
        ("GET /a  HTTP/1.1", Rule::RequestLine, 7),
        ("GET /a HTTP/1.1 ", Rule::RequestLine, 15),
        (" GET /a HTTP/1.1", Rule::RequestLine, 7),
        ("GET\t/a HTTP/1.1", Rule::Version, 15),
        ("GET /a HTTP/1.0", Rule::Version, 7),
        ("GET /a HTTP/2.0", Rule::Version, 7),
        ("GET /a HTTP/0.9", Rule::Version, 7),
        ("PRI * HTTP/2.0", Rule::Version, 6),
        ("GET /a http/1.1", Rule::VersionMalformed, 7),
        ("GET /a HTTP/1.10", Rule::VersionMalformed, 7),
        ("GET /a HTTP/01.1", Rule::VersionMalformed, 7),
        ("GET /a HTTP/1,1", Rule::VersionMalformed, 7),
        ("GET /a HTTPS/1.1", Rule::VersionMalformed, 7),
        ("G(T /a HTTP/1.1", Rule::MethodToken, 1),
        ("CONNECT a:443 HTTP/1.1", Rule::Method, 0),
        ("TRACE /a HTTP/1.1", Rule::Method, 0),
        ("GET /a/.. HTTP/1.1", Rule::DotSegment, 7),
    ] {
        assert_eq!(
            ended(&format!("{line}\r\nHost: a\r\n\r\n")),
            in_head(rule, position),
            "{line:?}"
        );
    }
}

#[test]
fn a_url_names_the_host_that_the_host_field_names() {
    let request =
        |authority: &str, host: &str| format!("GET https://{authority}/a HTTP/1.1\r\nHost: {host}\r\n\r\n");
    assert_eq!(ended(&request("Edge", "edge")), Ok(()));
    assert_eq!(ended(&request("edge:443", "edge")), in_head(Rule::TargetHost, 12));
    assert_eq!(ended(&request("a@edge", "edge")), in_head(Rule::TargetHost, 12));
    assert_eq!(ended("GET /a HTTP/1.1\r\n\r\n"), in_head(Rule::HostMissing, 17));
}

#[test]
fn a_body_where_none_belongs_is_refused() {
    for method in ["GET", "HEAD", "DELETE", "OPTIONS"] {
        for framing in ["Content-Length: 1", "Transfer-Encoding: chunked"] {
            let stream = format!("{method} /a HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n");
            let position = stream.len() - 2;
            assert_eq!(
                ended(&stream),
                in_head(Rule::BodyUnexpected, position),
                "{stream:?}"
            );
        }
        let none = format!("{method} /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(ended(&none), Ok(()));
    }
}

#[test]
fn chunks_have_one_form() {
    use Place::{ChunkEnd, ChunkLine};
    for (body, rule, place, position) in [
        ("\r\n", Rule::ChunkSize, ChunkLine, 0),
        ("g\r\n", Rule::ChunkSize, ChunkLine, 0),
        ("0x1\r\n", Rule::ChunkSize, ChunkLine, 1),
        ("+1\r\n", Rule::ChunkSize, ChunkLine, 0),
        ("-1\r\n", Rule::ChunkSize, ChunkLine, 0),
        (" 1\r\n", Rule::ChunkSize, ChunkLine, 0),
        ("1 \r\n", Rule::ChunkSize, ChunkLine, 1),
        ("1_0\r\n", Rule::ChunkSize, ChunkLine, 1),
        ("000000001\r\n", Rule::ChunkSize, ChunkLine, 8),
        ("1;a=b\r\n", Rule::ChunkExtension, ChunkLine, 1),
        (";\r\n", Rule::ChunkSize, ChunkLine, 0),
        ("1\na", Rule::BareLf, ChunkLine, 1),
        ("1\ra", Rule::BareCr, ChunkLine, 1),
        ("1\r\nab", Rule::ChunkEnd, ChunkEnd, 0),
        ("1\r\na\n", Rule::ChunkEnd, ChunkEnd, 0),
        ("1\r\na\ra", Rule::ChunkEnd, ChunkEnd, 1),
        ("0\r\nA: b\r\n", Rule::Trailer, ChunkEnd, 0),
        ("0\r\n\n", Rule::BareLf, ChunkEnd, 0),
        ("0\r\n\rG", Rule::BareCr, ChunkEnd, 0),
    ] {
        let stream = format!("POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        assert_eq!(ended(&stream), Err((rule, place, position)), "{body:?}");
    }
}

#[test]
fn what_is_behind_a_violation_is_not_released() {
    let stream = format!("{GET}GET /b HTTP/1.1\r\nHost: a\r\nA b\r\n\r\n{GET}");
    let outcome = feed(stream.as_bytes(), usize::MAX);
    assert_eq!(outcome.released, GET.as_bytes());
    assert_eq!(outcome.heads, 1);
}

#[test]
fn limits_are_kept_to_the_byte() {
    let line = |length: usize| format!("GET /{} HTTP/1.1", "a".repeat(length - 14));
    assert_eq!(
        ended(&format!("{}\r\nHost: a\r\n\r\n", line(LIMITS.request_line))),
        Ok(())
    );
    let longer = line(LIMITS.request_line + 1);
    assert_eq!(
        ended(&longer),
        in_head(Rule::RequestLineBytes, LIMITS.request_line)
    );

    let headers = |count: usize| {
        format!(
            "GET /a HTTP/1.1\r\nHost: a\r\n{}\r\n",
            "A: b\r\n".repeat(count - 1)
        )
    };
    assert_eq!(ended(&headers(LIMITS.headers)), Ok(()));
    let more = headers(LIMITS.headers + 1);
    assert_eq!(ended(&more), in_head(Rule::HeaderCount, more.len() - 8));

    let head = |length: usize| {
        let rest = length - GET.len() - 5;
        format!("GET /a HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "b".repeat(rest))
    };
    assert_eq!(head(LIMITS.head).len(), LIMITS.head);
    assert_eq!(ended(&head(LIMITS.head)), Ok(()));
    assert_eq!(
        ended(&head(LIMITS.head + 1)),
        in_head(Rule::HeadBytes, LIMITS.head)
    );
}

/// docs/http.md has a row for each rule.
#[test]
fn the_documentation_lists_every_rule() {
    let page = include_str!("../../../../docs/http.md");
    // What is behind speaks of some of them again.
    let (page, _) = page.split_once("<!-- peers:begin -->").unwrap();
    let rows: Vec<String> = Rule::ALL
        .iter()
        .map(|rule| {
            let (reason, meaning) = (rule.reason(), rule.meaning().trim_end_matches('.'));
            let status: StatusCode = Outcome::of(reason).status;
            format!(
                "| `{}` | {meaning} | {} | `{}` |",
                rule.as_str(),
                status.as_u16(),
                reason.as_str()
            )
        })
        .collect();
    let listed: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    assert_eq!(listed, rows, "the table must be:\n{}", rows.join("\n"));
    let names: HashSet<_> = Rule::ALL.iter().map(|rule| rule.as_str()).collect();
    assert_eq!(names.len(), Rule::ALL.len());
}

/// Every stream that the fuzzer keeps holds what it holds.
#[test]
fn the_corpus_of_the_fuzzer_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/screen");
    let mut count = 0;
    for file in fs::read_dir(folder).unwrap() {
        let input = fs::read(file.unwrap().path()).unwrap();
        if let Some((piece, stream)) = input.split_first() {
            hold(stream, usize::from(*piece));
            count += 1;
        }
    }
    assert!(count >= 20, "only {count} streams");
}

/// Pieces of requests, sound ones and others, that make more interesting streams than any bytes do.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let pieces: &[&str] = &[
        "GET /a HTTP/1.1\r\n",
        "POST /a HTTP/1.1\r\n",
        "PATCH https://a/b HTTP/1.1\r\n",
        "GET /.. HTTP/1.1\r\n",
        "HEAD / HTTP/1.0\r\n",
        "Host: a\r\n",
        "Host:b:1\r\n",
        "Content-Length: 3\r\n",
        "Content-Length: 0\r\n",
        "Content-Length:12\r\n",
        "Content-Length: 03\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Expect: 100-continue\r\n",
        "X-A: b\r\n",
        "X_Spinegate_Asid: 1\r\n",
        "X: \u{e9}\t\r\n",
        " fold\r\n",
        "\r\n",
        "\n",
        "\r",
        "\0",
        "abc",
        "3\r\nabc\r\n",
        "0\r\n\r\n",
        "a\r\n0123456789\r\n",
        "0;a\r\n",
        "0\r\nX: y\r\n\r\n",
        "ffffffff\r\n",
    ];
    prop_oneof![
        20 => proptest::sample::select(pieces).prop_map(|text| text.as_bytes().to_vec()),
        4 => Just(b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()),
        4 => Just(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc".to_vec()),
        4 => Just(GET.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 1..6),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_stream_gives_the_same_in_any_pieces_and_to_any_parser(
        pieces in proptest::collection::vec(piece(), 0..16),
        length in 1..40_usize,
    ) {
        hold(&pieces.concat(), length);
    }

    #[test]
    fn any_bytes_are_judged_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), length in 1..40_usize) {
        hold(&bytes, length);
    }
}
