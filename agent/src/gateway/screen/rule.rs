//! What the screen refuses: the rules by name, each with its reason.

use std::fmt;

use spinegate_common::Reason;

macro_rules! rules {
    ($($variant:ident, $name:literal, $reason:ident, $meaning:literal;)+) => {
        /// A rule of the screen.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum Rule {
            $(#[doc = $meaning] $variant,)+
        }

        impl Rule {
            /// Every rule, in the order of docs/http.md.
            #[cfg(test)]
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Its name in the audit log and in the answer.
            pub(crate) const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The reason of a refusal by it.
            pub(crate) const fn reason(self) -> Reason {
                match self { $(Self::$variant => Reason::$reason,)+ }
            }

            /// What it refuses, in a sentence.
            pub(crate) const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)+ }
            }
        }
    };
}

rules! {
    BareCr, "bare_cr", RequestMalformed, "A CR without an LF behind it.";
    BareLf, "bare_lf", RequestMalformed, "An LF without a CR before it.";
    ControlByte, "control_byte", RequestMalformed, "NUL or another control byte in a head.";
    EmptyLines, "empty_lines", RequestMalformed, "More than one empty line before a request line.";

    RequestLine, "request_line", RequestMalformed, "A request line that is not method, target and version with one space between.";
    MethodToken, "method_token", RequestMalformed, "A method that is no token.";
    Method, "method", MethodRefused, "CONNECT or TRACE.";
    VersionMalformed, "version_malformed", RequestMalformed, "A version that is not written like HTTP/1.1.";
    Version, "version", VersionUnsupported, "A version other than HTTP/1.1, or none (HTTP/0.9).";

    TargetForm, "target_form", TargetRefused, "A target that is neither a path nor an https URL: `*`, an authority, another scheme.";
    TargetHost, "target_host", TargetRefused, "A URL as target whose authority is not the Host field's.";
    TargetByte, "target_byte", TargetRefused, "A byte in the target that RFC 3986 does not allow there.";
    TargetNonAscii, "target_non_ascii", TargetRefused, "A byte above 127 in the target.";
    TargetFragment, "target_fragment", TargetRefused, "A fragment in the target.";
    TargetEscape, "target_escape", TargetRefused, "A percent sign in the path without two hexadecimal digits.";
    TargetEscaped, "target_escaped", TargetRefused, "A percent-encoded slash, backslash, percent sign, NUL or control byte in the path.";
    DotSegment, "dot_segment", TargetRefused, "A path segment `.` or `..`, in any encoding.";

    ObsFold, "obs_fold", RequestMalformed, "A header line that begins with a space or tab.";
    NoColon, "no_colon", RequestMalformed, "A header line without a colon.";
    NameEmpty, "name_empty", RequestMalformed, "A header without a name.";
    SpaceBeforeColon, "space_before_colon", RequestMalformed, "A space or tab before a header's colon.";
    NameToken, "name_token", RequestMalformed, "A header name that is no token.";
    NameLookalike, "name_lookalike", HeaderLookalike, "A header name that some servers take for one of ours, such as `from_asid`.";
    ConnectionOption, "connection_option", RequestMalformed, "A Connection field that is malformed, or names a header that is meant for the upstream.";

    HostMissing, "host_missing", HostInvalid, "No Host field.";
    HostRepeated, "host_repeated", HostInvalid, "More than one Host field.";
    HostMalformed, "host_malformed", HostInvalid, "A Host field that is not a host and perhaps a port.";
    HostUnknown, "host_unknown", HostInvalid, "A Host field that is none of `gateway.hosts`, where any are listed.";

    LengthRepeated, "content_length_repeated", FramingAmbiguous, "More than one Content-Length field.";
    LengthMalformed, "content_length_malformed", FramingAmbiguous, "A Content-Length that is not up to 18 digits without a leading zero, after at most one space.";
    LengthWithCoding, "content_length_with_transfer_encoding", FramingAmbiguous, "Content-Length together with Transfer-Encoding.";
    CodingRepeated, "transfer_encoding_repeated", FramingAmbiguous, "More than one Transfer-Encoding field.";
    CodingMalformed, "transfer_encoding_malformed", FramingAmbiguous, "A Transfer-Encoding whose last coding is not `chunked`, or that has it twice or among odd spaces.";
    CodingUnknown, "transfer_coding_unknown", TransferCodingUnknown, "A Transfer-Encoding with another coding before `chunked`.";
    BodyUnexpected, "body_unexpected", FramingAmbiguous, "A body in a GET, HEAD, DELETE or OPTIONS.";
    ChunkSize, "chunk_size", FramingAmbiguous, "A chunk size that is not one to eight hexadecimal digits.";
    ChunkExtension, "chunk_extension", FramingAmbiguous, "A chunk extension.";
    ChunkEnd, "chunk_end", FramingAmbiguous, "A chunk whose data is not followed by CRLF.";
    Trailer, "trailer", FramingAmbiguous, "A trailer section.";

    Upgrade, "upgrade", UpgradeRefused, "Upgrade or HTTP2-Settings.";
    Expect, "expect", ExpectationUnknown, "An Expect field other than one `100-continue`.";

    HeadBytes, "head_bytes", HeadTooLarge, "A head of more bytes than `gateway.max_head`.";
    HeaderCount, "header_count", TooManyHeaders, "More header lines than `gateway.max_headers`.";
    RequestLineBytes, "request_line_bytes", RequestLineTooLong, "A request line of more bytes than `gateway.max_request_line`.";
    HeadTime, "head_time", HeadTooSlow, "A head that is not whole within `gateway.header_timeout`.";
}

/// Where a violation was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a head, counted from its first byte.
    Head,
    /// In the line of a chunk's size.
    ChunkLine,
    /// Behind a chunk's data, or behind the last chunk.
    ChunkEnd,
}

/// A rule is broken: nothing behind this byte is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) rule: Rule,
    pub(crate) place: Place,
    /// The offending byte, counted from 0.
    pub(crate) position: usize,
}

impl Violation {
    pub(crate) const fn in_head(rule: Rule, position: usize) -> Self {
        Self {
            rule,
            place: Place::Head,
            position,
        }
    }

    /// What the client is told.
    pub(crate) fn told(&self) -> String {
        format!("{} ({self})", self.rule.meaning())
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self.place {
            Place::Head => "the head",
            Place::ChunkLine => "a chunk's line",
            Place::ChunkEnd => "what follows a chunk",
        };
        write!(f, "{} at byte {} of {place}", self.rule.as_str(), self.position)
    }
}
