//! An answer's head: what makes it unusable, and what of it ends at the gateway.

use http::{
    HeaderMap, StatusCode, Version,
    header::{self, HeaderName},
    response::Parts,
};
use spinegate_common::Reason;

use super::error::UpstreamError;

/// Headers that belong to one connection (RFC 9110 section 7.6.1).
static HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// What would tell clients of the inside, or send them round the gateway.
static INTERNAL: [HeaderName; 9] = [
    header::SERVER,
    header::VIA,
    header::ALT_SVC,
    HeaderName::from_static("x-powered-by"),
    HeaderName::from_static("x-aspnet-version"),
    HeaderName::from_static("x-aspnetmvc-version"),
    HeaderName::from_static("x-runtime"),
    HeaderName::from_static("x-backend-server"),
    header::FORWARDED,
];

/// The gateway's own. Only it says what is in them.
const OWN: &str = "x-spinegate-";
const REQUEST_ID: &str = "x-request-id";

/// What is wrong with an answer's head: where it ends must be told by one thing alone, and by what hyper has gone by.
pub(super) fn fault(head: &Parts) -> Option<UpstreamError> {
    let broken = |detail: &str| Some(UpstreamError::new(Reason::UpstreamFraming, detail));
    if head.status.is_informational() {
        return broken("the answer switches to another protocol");
    }
    let lengths: Vec<_> = head.headers.get_all(header::CONTENT_LENGTH).iter().collect();
    let codings: Vec<_> = head.headers.get_all(header::TRANSFER_ENCODING).iter().collect();
    match (lengths.as_slice(), codings.as_slice()) {
        ([_, ..], [_, ..]) => broken("the answer has both Content-Length and Transfer-Encoding"),
        ([_, _, ..], []) => broken("the answer has more than one Content-Length"),
        ([length], []) if !length.as_bytes().iter().all(u8::is_ascii_digit) => {
            broken("the answer's Content-Length is not a number")
        }
        ([_], []) => None,
        ([], [coding]) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => None,
        ([], [_, ..]) => broken("the answer has a transfer coding besides chunked"),
        ([], []) if has_no_body(head.status) => None,
        // RFC 9112 section 8: nobody could tell a whole answer from one that was cut off.
        ([], []) => broken(match head.version {
            Version::HTTP_10 => "the answer ends where its connection does (HTTP/1.0 without Content-Length)",
            _ => "the answer ends where its connection does (neither Content-Length nor chunked)",
        }),
    }
}

/// RFC 9112 section 6.3: whatever its headers say.
fn has_no_body(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Whether a gateway before the service answered for it, or the service for one behind it.
pub(super) const fn is_failure(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    )
}

/// Takes out what is not for clients.
pub(super) fn clean(headers: &mut HeaderMap) {
    // Connection names further headers that are for this hop alone.
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // A length that is taken out would leave the body without one.
        .filter(|name| name != header::CONTENT_LENGTH)
        .collect();
    let ends = |name: &HeaderName| {
        HOP_BY_HOP.contains(name)
            || INTERNAL.contains(name)
            || named.contains(name)
            || name.as_str() == REQUEST_ID
            || name.as_str().starts_with(OWN)
    };
    let ending: Vec<HeaderName> = headers.keys().filter(|name| ends(name)).cloned().collect();
    for name in ending {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Response};

    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let fields = fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, value);
        }
        headers
    }

    #[test]
    fn what_is_of_one_hop_or_of_the_inside_or_the_gateways_own_ends_at_the_gateway() {
        let mut headers = headers(&[
            ("connection", "close, X-Private"),
            ("connection", "content-length"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("server", "Apache-Coyote/1.1"),
            ("x-powered-by", "Servlet/3.0"),
            ("via", "1.1 inside"),
            ("alt-svc", "h2=\"inside:443\""),
            ("x-request-id", "1"),
            ("x-spinegate-asid", "200000000101"),
            ("content-length", "2"),
            ("location", "https://edge.example.nhs.uk/1"),
            ("etag", "W/\"1\""),
        ]);
        clean(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-length", "etag", "location"]);
    }

    #[test]
    fn an_answer_whose_end_can_be_told_in_one_way_alone_is_sound() {
        for (status, fields, sound) in [
            (200, &[("content-length", "2")] as &[_], true),
            (200, &[("transfer-encoding", "Chunked")], true),
            (204, &[], true),
            (304, &[], true),
            (101, &[("upgrade", "h2c")], false),
            (200, &[], false),
            (
                200,
                &[("content-length", "2"), ("transfer-encoding", "chunked")],
                false,
            ),
            (
                204,
                &[("content-length", "2"), ("transfer-encoding", "chunked")],
                false,
            ),
            (200, &[("content-length", "2"), ("content-length", "2")], false),
            (200, &[("content-length", "2, 2")], false),
            (200, &[("content-length", "+2")], false),
            (200, &[("transfer-encoding", "gzip, chunked")], false),
            (
                200,
                &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
                false,
            ),
        ] {
            let (mut head, ()) = Response::new(()).into_parts();
            head.status = StatusCode::from_u16(status).unwrap();
            head.headers = headers(fields);
            let fault = fault(&head);
            assert_eq!(fault.is_none(), sound, "{status} {fields:?}: {fault:?}");
        }
    }
}
