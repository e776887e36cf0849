//! Streams by class, each with what must come of it. Between braces stand pieces that the suite fills in:
//!
//! `{L}` a read's request line · `{H}` the Host field · `{F}` the other fields of a permitted read · `{G}` all three
//! `{P}` a permitted create up to its framing · `{B}` its body, `{N}` the body's length, `{X}` the same in hexadecimal
//! `{E}` the gateway's name · `{a:100}` so many letters · `{M:100}` so many fields
//!
//! Every line ends where the case says so.

/// Streams that are refused for one reason.
pub(crate) struct Class {
    pub(crate) name: &'static str,
    pub(crate) status: u16,
    pub(crate) reason: &'static str,
    /// The rule, and the stream that breaks it.
    pub(crate) cases: &'static [(&'static str, &'static str)],
}

pub(crate) const REFUSED: &[Class] = &[
    Class {
        name: "a length and a coding",
        status: 400,
        reason: "framing_ambiguous",
        cases: &[
            (
                "content_length_with_transfer_encoding",
                "{P}Content-Length: {N}\r\nTransfer-Encoding: chunked\r\n\r\n{B}",
            ),
            (
                "content_length_with_transfer_encoding",
                "{P}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n{X}\r\n{B}\r\n0\r\n\r\n",
            ),
            (
                "content_length_with_transfer_encoding",
                "{P}Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            ),
            (
                "content_length_with_transfer_encoding",
                "{P}TRANSFER-ENCODING:chunked\r\ncontent-length:0\r\n\r\n0\r\n\r\n",
            ),
            (
                "content_length_with_transfer_encoding",
                "{P}Content-Length: 5\r\nX-Between: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            ),
            (
                "content_length_with_transfer_encoding",
                "{G}Content-Length: 0\r\nTransfer-Encoding: identity\r\n\r\n",
            ),
        ],
    },
    Class {
        name: "lengths",
        status: 400,
        reason: "framing_ambiguous",
        cases: &[
            (
                "content_length_repeated",
                "{P}Content-Length: {N}\r\nContent-Length: {N}\r\n\r\n{B}",
            ),
            (
                "content_length_repeated",
                "{P}Content-Length: {N}\r\nContent-Length: 0\r\n\r\n{B}",
            ),
            (
                "content_length_repeated",
                "{P}Content-Length: 0\r\ncontent-length: {N}\r\n\r\n{B}",
            ),
            (
                "content_length_malformed",
                "{P}Content-Length: {N}, {N}\r\n\r\n{B}",
            ),
            ("content_length_malformed", "{P}Content-Length: +{N}\r\n\r\n{B}"),
            ("content_length_malformed", "{P}Content-Length: -1\r\n\r\n{B}"),
            ("content_length_malformed", "{P}Content-Length:\r\n\r\n{B}"),
            ("content_length_malformed", "{P}Content-Length: \r\n\r\n{B}"),
            ("content_length_malformed", "{P}Content-Length:  {N}\r\n\r\n{B}"),
            ("content_length_malformed", "{P}Content-Length: {N} \r\n\r\n{B}"),
            ("content_length_malformed", "{P}Content-Length:\t{N}\r\n\r\n{B}"),
            ("content_length_malformed", "{P}Content-Length: {N}\t\r\n\r\n{B}"),
            ("content_length_malformed", "{P}Content-Length: 1 2\r\n\r\n{B}"),
            ("content_length_malformed", "{P}Content-Length: 0{N}\r\n\r\n{B}"),
            ("content_length_malformed", "{P}Content-Length: 0x{X}\r\n\r\n{B}"),
            ("content_length_malformed", "{P}Content-Length: {N}.0\r\n\r\n{B}"),
            ("content_length_malformed", "{P}Content-Length: 1e3\r\n\r\n{B}"),
            (
                "content_length_malformed",
                "{P}Content-Length: \"{N}\"\r\n\r\n{B}",
            ),
            (
                "content_length_malformed",
                "{P}Content-Length: 18446744073709551616\r\n\r\n{B}",
            ),
            (
                "content_length_malformed",
                "{P}Content-Length: 9999999999999999999999999999\r\n\r\n{B}",
            ),
            (
                "content_length_malformed",
                "{P}Content-Length: \u{661}\r\n\r\n{B}",
            ),
            (
                "content_length_malformed",
                "{P}Content-Length: {N};a=b\r\n\r\n{B}",
            ),
        ],
    },
    Class {
        name: "codings",
        status: 400,
        reason: "framing_ambiguous",
        cases: &[
            (
                "transfer_encoding_repeated",
                "{P}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            ),
            (
                "transfer_encoding_repeated",
                "{P}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
            ),
            (
                "transfer_encoding_malformed",
                "{P}Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            ),
            (
                "transfer_encoding_malformed",
                "{P}Transfer-Encoding:\r\n\r\n0\r\n\r\n",
            ),
            (
                "transfer_encoding_malformed",
                "{P}Transfer-Encoding: identity\r\n\r\n{B}",
            ),
            (
                "transfer_encoding_malformed",
                "{P}Transfer-Encoding: gzip\r\n\r\n{B}",
            ),
            (
                "transfer_encoding_malformed",
                "{P}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
            ),
            (
                "transfer_encoding_malformed",
                "{P}Transfer-Encoding: chunkedx\r\n\r\n0\r\n\r\n",
            ),
            (
                "transfer_encoding_malformed",
                "{P}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
            ),
            (
                "transfer_encoding_malformed",
                "{P}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
            ),
            (
                "transfer_encoding_malformed",
                "{P}Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n",
            ),
            (
                "transfer_encoding_malformed",
                "{P}Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n",
            ),
            (
                "transfer_encoding_malformed",
                "{P}Transfer-Encoding:  chunked\r\n\r\n0\r\n\r\n",
            ),
            (
                "transfer_encoding_malformed",
                "{P}Transfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n",
            ),
            (
                "transfer_encoding_malformed",
                "{P}Transfer-Encoding: chunked \r\n\r\n0\r\n\r\n",
            ),
            (
                "transfer_encoding_malformed",
                "{P}Transfer-Encoding: chunked\t\r\n\r\n0\r\n\r\n",
            ),
            (
                "transfer_encoding_malformed",
                "{P}Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
            ),
            (
                "transfer_encoding_malformed",
                "{P}Transfer-Encoding: chunked;q=0.5\r\n\r\n0\r\n\r\n",
            ),
            (
                "transfer_encoding_malformed",
                "{P}Transfer-Encoding: chunk\u{212a}ed\r\n\r\n0\r\n\r\n",
            ),
            (
                "transfer_encoding_malformed",
                "{P}Transfer-Encoding: gzip, chunked \r\n\r\n0\r\n\r\n",
            ),
        ],
    },
    Class {
        name: "codings that can't be taken off",
        status: 501,
        reason: "transfer_coding_unknown",
        cases: &[
            (
                "transfer_coding_unknown",
                "{P}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            ),
            (
                "transfer_coding_unknown",
                "{P}Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
            ),
            (
                "transfer_coding_unknown",
                "{P}Transfer-Encoding: cow,Chunked\r\n\r\n0\r\n\r\n",
            ),
        ],
    },
    Class {
        name: "fields that look like framing",
        status: 400,
        reason: "request_malformed",
        cases: &[
            (
                "space_before_colon",
                "{P}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
            ),
            ("space_before_colon", "{P}Content-Length : {N}\r\n\r\n{B}"),
            (
                "space_before_colon",
                "{P}Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
            ),
            ("name_token", "{P}Transfer Encoding: chunked\r\n\r\n0\r\n\r\n"),
            (
                "name_token",
                "{P}\u{a0}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            ),
            ("name_token", "{P}Content-Length\u{a0}: {N}\r\n\r\n{B}"),
            ("obs_fold", "{P} Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            (
                "obs_fold",
                "{P}Transfer-Encoding:chunked\r\n , identity\r\n\r\n0\r\n\r\n",
            ),
            (
                "obs_fold",
                "{P}X-A: b\r\n\tTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            ),
            (
                "bare_lf",
                "{P}X-A: b\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            ),
            (
                "bare_cr",
                "{P}X-A: b\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            ),
            (
                "control_byte",
                "{P}X-A: b\0Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            ),
            (
                "control_byte",
                "{P}Transfer-Encoding:\u{b}chunked\r\n\r\n0\r\n\r\n",
            ),
            (
                "control_byte",
                "{P}Transfer-Encoding: chunked\u{c}\r\n\r\n0\r\n\r\n",
            ),
        ],
    },
    Class {
        name: "chunks",
        status: 400,
        reason: "framing_ambiguous",
        cases: &[
            (
                "chunk_size",
                "{P}Transfer-Encoding: chunked\r\n\r\n0x{X}\r\n{B}\r\n0\r\n\r\n",
            ),
            (
                "chunk_size",
                "{P}Transfer-Encoding: chunked\r\n\r\n+{X}\r\n{B}\r\n0\r\n\r\n",
            ),
            (
                "chunk_size",
                "{P}Transfer-Encoding: chunked\r\n\r\n-1\r\n{B}\r\n0\r\n\r\n",
            ),
            (
                "chunk_size",
                "{P}Transfer-Encoding: chunked\r\n\r\n {X}\r\n{B}\r\n0\r\n\r\n",
            ),
            (
                "chunk_size",
                "{P}Transfer-Encoding: chunked\r\n\r\n{X} \r\n{B}\r\n0\r\n\r\n",
            ),
            (
                "chunk_size",
                "{P}Transfer-Encoding: chunked\r\n\r\n{X}\t\r\n{B}\r\n0\r\n\r\n",
            ),
            (
                "chunk_size",
                "{P}Transfer-Encoding: chunked\r\n\r\n1_0\r\n{B}\r\n0\r\n\r\n",
            ),
            (
                "chunk_size",
                "{P}Transfer-Encoding: chunked\r\n\r\n100000000\r\n{B}\r\n0\r\n\r\n",
            ),
            (
                "chunk_size",
                "{P}Transfer-Encoding: chunked\r\n\r\n00000000000000000{X}\r\n{B}\r\n0\r\n\r\n",
            ),
            (
                "chunk_size",
                "{P}Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{B}\r\n0\r\n\r\n",
            ),
            (
                "chunk_size",
                "{P}Transfer-Encoding: chunked\r\n\r\n\r\n{X}\r\n{B}\r\n0\r\n\r\n",
            ),
            (
                "chunk_size",
                "{P}Transfer-Encoding: chunked\r\n\r\n{X}\0\r\n{B}\r\n0\r\n\r\n",
            ),
            (
                "chunk_size",
                "{P}Transfer-Encoding: chunked\r\n\r\n\u{ff11}\r\n{B}\r\n0\r\n\r\n",
            ),
            ("chunk_size", "{P}Transfer-Encoding: chunked\r\n\r\n{B}"),
            (
                "chunk_extension",
                "{P}Transfer-Encoding: chunked\r\n\r\n{X};a\r\n{B}\r\n0\r\n\r\n",
            ),
            (
                "chunk_extension",
                "{P}Transfer-Encoding: chunked\r\n\r\n{X};a=\"b\r\n\"\r\n{B}\r\n0\r\n\r\n",
            ),
            (
                "chunk_extension",
                "{P}Transfer-Encoding: chunked\r\n\r\n{X};\nx\r\n{B}\r\n0\r\n\r\n",
            ),
            (
                "chunk_extension",
                "{P}Transfer-Encoding: chunked\r\n\r\n{X}\r\n{B}\r\n0;a=b\r\n\r\n",
            ),
            (
                "chunk_end",
                "{P}Transfer-Encoding: chunked\r\n\r\n1\r\n{B}\r\n0\r\n\r\n",
            ),
            (
                "chunk_end",
                "{P}Transfer-Encoding: chunked\r\n\r\n{X}\r\n{B}0\r\n\r\n",
            ),
            (
                "chunk_end",
                "{P}Transfer-Encoding: chunked\r\n\r\n{X}\r\n{B}\n0\r\n\r\n",
            ),
            (
                "chunk_end",
                "{P}Transfer-Encoding: chunked\r\n\r\n{X}\r\n{B}\rX0\r\n\r\n",
            ),
            (
                "trailer",
                "{P}Transfer-Encoding: chunked\r\n\r\n{X}\r\n{B}\r\n0\r\nX-A: b\r\n\r\n",
            ),
            (
                "trailer",
                "{P}Transfer-Encoding: chunked\r\nTrailer: fromASID\r\n\r\n{X}\r\n{B}\r\n0\r\nfromASID: 1\r\n\r\n",
            ),
            (
                "trailer",
                "{P}Transfer-Encoding: chunked\r\n\r\n{X}\r\n{B}\r\n0\r\nContent-Length: 5\r\n\r\n",
            ),
            (
                "trailer",
                "{P}Transfer-Encoding: chunked\r\n\r\n{X}\r\n{B}\r\n0\r\nGET / HTTP/1.1\r\n\r\n",
            ),
        ],
    },
    Class {
        name: "line ends in chunks",
        status: 400,
        reason: "request_malformed",
        cases: &[
            (
                "bare_lf",
                "{P}Transfer-Encoding: chunked\r\n\r\n{X}\n{B}\r\n0\r\n\r\n",
            ),
            (
                "bare_cr",
                "{P}Transfer-Encoding: chunked\r\n\r\n{X}\r{B}\r\n0\r\n\r\n",
            ),
            (
                "bare_lf",
                "{P}Transfer-Encoding: chunked\r\n\r\n{X}\r\n{B}\r\n0\n\r\n",
            ),
            (
                "bare_lf",
                "{P}Transfer-Encoding: chunked\r\n\r\n{X}\r\n{B}\r\n0\r\n\n",
            ),
            (
                "bare_cr",
                "{P}Transfer-Encoding: chunked\r\n\r\n{X}\r\n{B}\r\n0\r\n\r\r\n",
            ),
        ],
    },
    Class {
        name: "bodies where none belongs",
        status: 400,
        reason: "framing_ambiguous",
        cases: &[
            ("body_unexpected", "{G}Content-Length: 5\r\n\r\nGET /"),
            (
                "body_unexpected",
                "{G}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            ),
            (
                "body_unexpected",
                "HEAD / HTTP/1.1\r\n{H}{F}Content-Length: 5\r\n\r\nGET /",
            ),
            (
                "body_unexpected",
                "DELETE /STU3/DocumentReference/1 HTTP/1.1\r\n{H}{F}Content-Length: 5\r\n\r\nGET /",
            ),
            (
                "body_unexpected",
                "OPTIONS / HTTP/1.1\r\n{H}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            ),
        ],
    },
    Class {
        name: "lines of a head",
        status: 400,
        reason: "request_malformed",
        cases: &[
            ("bare_lf", "{L}{H}{F}\n"),
            ("bare_lf", "GET /STU3/DocumentReference/case HTTP/1.1\n{H}{F}\r\n"),
            ("bare_lf", "{L}Host: {E}\n{F}\r\n"),
            ("bare_lf", "\n{G}\r\n"),
            ("bare_lf", "\r\n\n{G}\r\n"),
            ("bare_cr", "{L}{H}{F}\r\r\n"),
            ("bare_cr", "GET /STU3/DocumentReference/case HTTP/1.1\r{H}{F}\r\n"),
            ("bare_cr", "{G}X-A: b\rc\r\n\r\n"),
            ("bare_cr", "{G}X-A: b\r\r\n\r\n"),
            ("bare_cr", "\rGET / HTTP/1.1\r\n\r\n"),
            ("empty_lines", "\r\n\r\n{G}\r\n"),
            ("control_byte", "{G}X-A: \0\r\n\r\n"),
            ("control_byte", "{G}X-A: b\u{1}\r\n\r\n"),
            ("control_byte", "{G}X-A: b\u{1b}[0m\r\n\r\n"),
            ("control_byte", "{G}X-A: b\u{7f}\r\n\r\n"),
            ("control_byte", "{G}X\0-A: b\r\n\r\n"),
            (
                "control_byte",
                "GET /STU3/\u{8}DocumentReference HTTP/1.1\r\n{H}\r\n",
            ),
            ("obs_fold", "{G}X-A: b\r\n c\r\n\r\n"),
            ("obs_fold", "{G}X-A: b\r\n\tc\r\n\r\n"),
            ("obs_fold", "{G}X-A:\r\n \r\n\r\n"),
            ("obs_fold", "{L} {H}{F}\r\n"),
            ("no_colon", "{G}X-A b\r\n\r\n"),
            ("no_colon", "{G}GET / HTTP/1.1\r\n\r\n"),
            ("name_empty", "{G}: b\r\n\r\n"),
            ("space_before_colon", "{G}X-A : b\r\n\r\n"),
            ("space_before_colon", "{L}Host : {E}\r\n{F}\r\n"),
            ("name_token", "{G}X A: b\r\n\r\n"),
            ("name_token", "{G}X(A): b\r\n\r\n"),
            ("name_token", "{G}\"X-A\": b\r\n\r\n"),
            ("name_token", "{G}X-\u{c4}: b\r\n\r\n"),
            ("name_token", "{G}X/A: b\r\n\r\n"),
            ("connection_option", "{G}Connection: fromASID\r\n\r\n"),
            ("connection_option", "{G}Connection: close, authorization\r\n\r\n"),
            ("connection_option", "{G}Connection: host\r\n\r\n"),
            (
                "connection_option",
                "{G}Connection: content-length, transfer-encoding\r\n\r\n",
            ),
            ("connection_option", "{G}Connection: a b\r\n\r\n"),
        ],
    },
    Class {
        name: "request lines",
        status: 400,
        reason: "request_malformed",
        cases: &[
            (
                "request_line",
                "GET  /STU3/DocumentReference/case HTTP/1.1\r\n{H}{F}\r\n",
            ),
            (
                "request_line",
                "GET /STU3/DocumentReference/case  HTTP/1.1\r\n{H}{F}\r\n",
            ),
            (
                "request_line",
                "GET /STU3/DocumentReference/case HTTP/1.1 \r\n{H}{F}\r\n",
            ),
            (
                "request_line",
                " GET /STU3/DocumentReference/case HTTP/1.1\r\n{H}{F}\r\n",
            ),
            (
                "request_line",
                "GET /STU3/Document Reference HTTP/1.1\r\n{H}{F}\r\n",
            ),
            ("request_line", "GET\r\n{H}{F}\r\n"),
            (
                "method_token",
                "G(T /STU3/DocumentReference/case HTTP/1.1\r\n{H}{F}\r\n",
            ),
            (
                "method_token",
                "G\u{c9}T /STU3/DocumentReference/case HTTP/1.1\r\n{H}{F}\r\n",
            ),
            (
                "method_token",
                "GET\t/x /STU3/DocumentReference/case HTTP/1.1\r\n{H}{F}\r\n",
            ),
            (
                "version_malformed",
                "GET /STU3/DocumentReference/case http/1.1\r\n{H}{F}\r\n",
            ),
            (
                "version_malformed",
                "GET /STU3/DocumentReference/case HTTP/1.10\r\n{H}{F}\r\n",
            ),
            (
                "version_malformed",
                "GET /STU3/DocumentReference/case HTTP/01.1\r\n{H}{F}\r\n",
            ),
            (
                "version_malformed",
                "GET /STU3/DocumentReference/case HTTP/1\r\n{H}{F}\r\n",
            ),
            (
                "version_malformed",
                "GET /STU3/DocumentReference/case HTTP/1,1\r\n{H}{F}\r\n",
            ),
            (
                "version_malformed",
                "GET /STU3/DocumentReference/case HTTP/1.1\u{a0}\r\n{H}{F}\r\n",
            ),
            (
                "version_malformed",
                "GET /STU3/DocumentReference/case ICE/1.0\r\n{H}{F}\r\n",
            ),
        ],
    },
    Class {
        name: "versions",
        status: 505,
        reason: "version_unsupported",
        cases: &[
            ("version", "GET /STU3/DocumentReference/case\r\n"),
            (
                "version",
                "GET /STU3/DocumentReference/case HTTP/0.9\r\n{H}{F}\r\n",
            ),
            (
                "version",
                "GET /STU3/DocumentReference/case HTTP/1.0\r\n{H}{F}\r\n",
            ),
            (
                "version",
                "GET /STU3/DocumentReference/case HTTP/1.0\r\n{H}{F}Connection: keep-alive\r\n\r\n",
            ),
            (
                "version",
                "GET /STU3/DocumentReference/case HTTP/1.2\r\n{H}{F}\r\n",
            ),
            (
                "version",
                "GET /STU3/DocumentReference/case HTTP/2.0\r\n{H}{F}\r\n",
            ),
            ("version", "{H}{F}\r\n{G}\r\n"),
            ("version", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ],
    },
    Class {
        name: "methods",
        status: 501,
        reason: "method_refused",
        cases: &[
            ("method", "CONNECT {E}:443 HTTP/1.1\r\n{H}{F}\r\n"),
            (
                "method",
                "CONNECT /STU3/DocumentReference/case HTTP/1.1\r\n{H}{F}\r\n",
            ),
            (
                "method",
                "TRACE /STU3/DocumentReference/case HTTP/1.1\r\n{H}{F}\r\n",
            ),
            ("method", "TRACE * HTTP/1.1\r\n{H}Max-Forwards: 0\r\n\r\n"),
        ],
    },
    Class {
        name: "targets",
        status: 400,
        reason: "target_refused",
        cases: &[
            ("target_form", "GET * HTTP/1.1\r\n{H}{F}\r\n"),
            ("target_form", "OPTIONS * HTTP/1.1\r\n{H}\r\n"),
            ("target_form", "GET {E}:443 HTTP/1.1\r\n{H}{F}\r\n"),
            (
                "target_form",
                "GET STU3/DocumentReference/case HTTP/1.1\r\n{H}{F}\r\n",
            ),
            (
                "target_form",
                "GET http://{E}/STU3/DocumentReference/case HTTP/1.1\r\n{H}{F}\r\n",
            ),
            (
                "target_form",
                "GET ftp://{E}/STU3/DocumentReference/case HTTP/1.1\r\n{H}{F}\r\n",
            ),
            (
                "target_form",
                "GET \\STU3\\DocumentReference\\case HTTP/1.1\r\n{H}{F}\r\n",
            ),
            (
                "target_host",
                "GET https://elsewhere.example.nhs.uk/STU3/DocumentReference/case HTTP/1.1\r\n{H}{F}\r\n",
            ),
            (
                "target_host",
                "GET https://{E}:444/STU3/DocumentReference/case HTTP/1.1\r\n{H}{F}\r\n",
            ),
            (
                "target_host",
                "GET https://user@{E}/STU3/DocumentReference/case HTTP/1.1\r\n{H}{F}\r\n",
            ),
            (
                "target_host",
                "GET https:///STU3/DocumentReference/case HTTP/1.1\r\n{H}{F}\r\n",
            ),
            (
                "target_byte",
                "GET /STU3\\DocumentReference/case HTTP/1.1\r\n{H}{F}\r\n",
            ),
            (
                "target_byte",
                "GET /STU3/DocumentReference/\"case\" HTTP/1.1\r\n{H}{F}\r\n",
            ),
            (
                "target_byte",
                "GET /STU3/DocumentReference/case?<a> HTTP/1.1\r\n{H}{F}\r\n",
            ),
            (
                "target_byte",
                "GET /STU3/DocumentReference/case\t HTTP/1.1\r\n{H}{F}\r\n",
            ),
            (
                "target_non_ascii",
                "GET /STU3/DocumentReference/c\u{e4}se HTTP/1.1\r\n{H}{F}\r\n",
            ),
            (
                "target_non_ascii",
                "GET /STU3/DocumentReference/case?\u{e4} HTTP/1.1\r\n{H}{F}\r\n",
            ),
            (
                "target_fragment",
                "GET /STU3/DocumentReference/case#a HTTP/1.1\r\n{H}{F}\r\n",
            ),
            (
                "target_fragment",
                "GET /STU3/DocumentReference?_id=1#a HTTP/1.1\r\n{H}{F}\r\n",
            ),
            (
                "target_escape",
                "GET /STU3/DocumentReference/% HTTP/1.1\r\n{H}{F}\r\n",
            ),
            (
                "target_escape",
                "GET /STU3/DocumentReference/%zz HTTP/1.1\r\n{H}{F}\r\n",
            ),
            (
                "target_escape",
                "GET /STU3/DocumentReference/%u002e HTTP/1.1\r\n{H}{F}\r\n",
            ),
            (
                "target_escaped",
                "GET /STU3%2FDocumentReference/case HTTP/1.1\r\n{H}{F}\r\n",
            ),
            (
                "target_escaped",
                "GET /STU3%5cDocumentReference/case HTTP/1.1\r\n{H}{F}\r\n",
            ),
            (
                "target_escaped",
                "GET /STU3/DocumentReference/case%00 HTTP/1.1\r\n{H}{F}\r\n",
            ),
            (
                "target_escaped",
                "GET /STU3/DocumentReference/case%0d%0aX-A:%20b HTTP/1.1\r\n{H}{F}\r\n",
            ),
            (
                "target_escaped",
                "GET /STU3/DocumentReference/%252e%252e/case HTTP/1.1\r\n{H}{F}\r\n",
            ),
            (
                "dot_segment",
                "GET /STU3/../STU3/DocumentReference/case HTTP/1.1\r\n{H}{F}\r\n",
            ),
            (
                "dot_segment",
                "GET /STU3/./DocumentReference/case HTTP/1.1\r\n{H}{F}\r\n",
            ),
            (
                "dot_segment",
                "GET /STU3/%2e%2E/STU3/DocumentReference/case HTTP/1.1\r\n{H}{F}\r\n",
            ),
            (
                "dot_segment",
                "GET /STU3/.%2e/DocumentReference/case HTTP/1.1\r\n{H}{F}\r\n",
            ),
            (
                "dot_segment",
                "GET /STU3/..;a/DocumentReference/case HTTP/1.1\r\n{H}{F}\r\n",
            ),
            (
                "dot_segment",
                "GET /STU3/DocumentReference/.. HTTP/1.1\r\n{H}{F}\r\n",
            ),
            (
                "dot_segment",
                "GET https://{E}/../STU3/DocumentReference/case HTTP/1.1\r\n{H}{F}\r\n",
            ),
        ],
    },
    Class {
        name: "hosts",
        status: 400,
        reason: "host_invalid",
        cases: &[
            ("host_missing", "{L}{F}\r\n"),
            (
                "host_missing",
                "GET https://{E}/STU3/DocumentReference/case HTTP/1.1\r\n{F}\r\n",
            ),
            ("host_repeated", "{G}{H}\r\n"),
            ("host_repeated", "{G}host: elsewhere.example.nhs.uk\r\n\r\n"),
            ("host_malformed", "{L}Host:\r\n{F}\r\n"),
            (
                "host_malformed",
                "{L}Host: {E}, elsewhere.example.nhs.uk\r\n{F}\r\n",
            ),
            (
                "host_malformed",
                "{L}Host: {E} elsewhere.example.nhs.uk\r\n{F}\r\n",
            ),
            ("host_malformed", "{L}Host: user@{E}\r\n{F}\r\n"),
            ("host_malformed", "{L}Host: {E}/STU3\r\n{F}\r\n"),
            ("host_malformed", "{L}Host: {E}:https\r\n{F}\r\n"),
            ("host_malformed", "{L}Host: {E}:\r\n{F}\r\n"),
            ("host_malformed", "{L}Host: [::1\r\n{F}\r\n"),
            ("host_malformed", "{L}Host: [{E}]\r\n{F}\r\n"),
            ("host_malformed", "{L}Host: {E} \r\n{F}\r\n"),
            ("host_malformed", "{L}Host:\t{E}\r\n{F}\r\n"),
            ("host_unknown", "{L}Host: elsewhere.example.nhs.uk\r\n{F}\r\n"),
            ("host_unknown", "{L}Host: {E}.\r\n{F}\r\n"),
            ("host_unknown", "{L}Host: x{E}\r\n{F}\r\n"),
            ("host_unknown", "{L}Host: 10.0.0.1:443\r\n{F}\r\n"),
            ("host_unknown", "{L}Host: [fd00:0::1]\r\n{F}\r\n"),
            (
                "host_unknown",
                "GET https://elsewhere.example.nhs.uk/STU3/DocumentReference/case HTTP/1.1\r\nHost: elsewhere.example.nhs.uk\r\n{F}\r\n",
            ),
        ],
    },
    Class {
        name: "names that look like ours",
        status: 400,
        reason: "header_lookalike",
        cases: &[
            ("name_lookalike", "{G}from_ASID: 200000000101\r\n\r\n"),
            ("name_lookalike", "{G}From-ASID: 200000000101\r\n\r\n"),
            ("name_lookalike", "{G}from.asid: 200000000101\r\n\r\n"),
            ("name_lookalike", "{G}to_asid: 200000000101\r\n\r\n"),
            ("name_lookalike", "{G}Interaction_ID: x\r\n\r\n"),
            ("name_lookalike", "{G}Interaction-ID: x\r\n\r\n"),
            ("name_lookalike", "{G}X_Spinegate_Asid: 200000000101\r\n\r\n"),
            ("name_lookalike", "{G}X-Spinegate_Ods: RR8\r\n\r\n"),
            ("name_lookalike", "{G}XSpinegateInteraction: x\r\n\r\n"),
            ("name_lookalike", "{G}X_Forwarded_For: 192.0.2.1\r\n\r\n"),
            ("name_lookalike", "{G}X_Request_Id: x\r\n\r\n"),
            ("name_lookalike", "{P}Content_Length: {N}\r\n\r\n{B}"),
            ("name_lookalike", "{P}Transfer_Encoding: chunked\r\n\r\n0\r\n\r\n"),
            ("name_lookalike", "{P}TransferEncoding: chunked\r\n\r\n0\r\n\r\n"),
        ],
    },
    Class {
        name: "other protocols",
        status: 400,
        reason: "upgrade_refused",
        cases: &[
            ("upgrade", "{G}Upgrade: h2c\r\n\r\n"),
            (
                "upgrade",
                "{G}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n",
            ),
            ("upgrade", "{G}Connection: upgrade\r\n\r\n"),
            ("upgrade", "{G}HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n"),
            (
                "upgrade",
                "{G}Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n",
            ),
        ],
    },
    Class {
        name: "expectations",
        status: 417,
        reason: "expectation_unknown",
        cases: &[
            ("expect", "{P}Expect: 200-ok\r\nContent-Length: {N}\r\n\r\n{B}"),
            (
                "expect",
                "{P}Expect: 100-continue, 200-ok\r\nContent-Length: {N}\r\n\r\n{B}",
            ),
            (
                "expect",
                "{P}Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: {N}\r\n\r\n{B}",
            ),
            ("expect", "{G}Expect:\r\n\r\n"),
        ],
    },
    Class {
        name: "large heads",
        status: 431,
        reason: "head_too_large",
        cases: &[
            ("head_bytes", "{G}X-A: {a:8000}\r\n\r\n"),
            ("head_bytes", "{G}{a:9000}: b\r\n\r\n"),
            ("head_bytes", "{G}X-A: {a:30000}"),
        ],
    },
    Class {
        name: "many headers",
        status: 431,
        reason: "too_many_headers",
        cases: &[
            ("header_count", "{G}{M:40}\r\n"),
            ("header_count", "{L}{M:41}\r\n"),
        ],
    },
    Class {
        name: "long request lines",
        status: 414,
        reason: "request_line_too_long",
        cases: &[
            ("request_line_bytes", "GET /{a:1100} HTTP/1.1\r\n{H}{F}\r\n"),
            (
                "request_line_bytes",
                "GET /STU3/DocumentReference?{a:1100} HTTP/1.1\r\n{H}{F}\r\n",
            ),
            ("request_line_bytes", "{a:1100} / HTTP/1.1\r\n{H}{F}\r\n"),
            (
                "request_line_bytes",
                "GET /STU3/DocumentReference/case {a:1100}\r\n{H}{F}\r\n",
            ),
        ],
    },
];

/// Streams that are no more than unusual: the statuses of their answers. Those below 300 reach the upstream.
pub(crate) const TAKEN: &[(&str, &[u16])] = &[
    ("{G}\r\n", &[200]),
    ("\r\n{G}\r\n", &[200]),
    ("{G}\r\n\r\n{G}\r\n", &[200, 200]),
    ("{G}\r\n{G}\r\n{G}\r\n{G}\r\n", &[200, 200, 200, 200]),
    ("{G}Content-Length: 0\r\n\r\n", &[200]),
    ("{G}Content-Length:0\r\n\r\n", &[200]),
    ("{G}X-Empty:\r\nX-Space: \t a \t b \t \r\n\r\n", &[200]),
    ("{G}X_Other: 1\r\nX-Opaque: \u{e4}\r\n\r\n", &[200]),
    ("{G}Connection: keep-alive, TE\r\nTE: trailers\r\n\r\n", &[200]),
    ("{G}Expect: 100-continue\r\n\r\n", &[200]),
    ("{L}HOST:{E}\r\n{F}\r\n", &[200]),
    ("{L}Host: {E}:443\r\n{F}\r\n", &[200]),
    ("{L}Host: {E}:8443\r\n{F}\r\n", &[200]),
    ("{L}Host: [fd00::1]:443\r\n{F}\r\n", &[200]),
    (
        "GET https://{E}/STU3/DocumentReference/case HTTP/1.1\r\n{H}{F}\r\n",
        &[200],
    ),
    (
        "GET HTTPS://{E}/STU3/DocumentReference/case HTTP/1.1\r\n{H}{F}\r\n",
        &[200],
    ),
    (
        "GET /STU3/DocumentReference/case?_format=application/fhir+json HTTP/1.1\r\n{H}{F}\r\n",
        &[200],
    ),
    (
        "GET /STU3/DocumentReference/case...? HTTP/1.1\r\n{H}{F}\r\n",
        &[200],
    ),
    (
        "GET /STU3/DocumentReference/%63ase HTTP/1.1\r\n{H}{F}\r\n",
        &[404],
    ),
    ("GET //STU3/DocumentReference/case HTTP/1.1\r\n{H}{F}\r\n", &[404]),
    ("get /STU3/DocumentReference/case HTTP/1.1\r\n{H}{F}\r\n", &[405]),
    ("{P}Content-Length: {N}\r\n\r\n{B}", &[201]),
    ("{P}Content-Length: {N}\r\n\r\n{B}{G}\r\n", &[201, 200]),
    ("{P}Content-Length: {N}\r\n\r\n{B}\r\n{G}\r\n", &[201, 200]),
    (
        "{P}Transfer-Encoding: chunked\r\n\r\n{X}\r\n{B}\r\n0\r\n\r\n",
        &[201],
    ),
    (
        "{P}transfer-encoding:Chunked\r\n\r\n0000{X}\r\n{B}\r\n000\r\n\r\n{G}\r\n",
        &[201, 200],
    ),
    (
        "{P}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{G}\r\n",
        &[400, 200],
    ),
    ("{P}Content-Length: 0\r\n\r\n{G}\r\n", &[400, 200]),
    ("{G}{M:25}\r\n", &[200]),
];
