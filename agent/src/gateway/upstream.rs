//! The guarded service: forwarding what was permitted, and fetching stored pointers for ownership checks.

use std::{convert::Infallible, net::IpAddr, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, Uri,
    header::{self, HeaderName},
    uri::{Authority, PathAndQuery, Scheme},
};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use spinegate_common::Reason;

use crate::authz::{Permit, Subject};

/// A body on its way to a client.
pub(super) type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// What of a client's head goes upstream. Everything else, framing and hop-by-hop headers with it, ends here.
const FORWARDED: [HeaderName; 6] = [
    header::ACCEPT,
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    header::IF_MATCH,
    HeaderName::from_static("fromasid"),
    HeaderName::from_static("toasid"),
];

/// Headers of an answer that belong to one connection (RFC 9110 section 7.6.1) and end here.
const HOP_BY_HOP: [HeaderName; 9] = [
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

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const ASID: HeaderName = HeaderName::from_static("x-spinegate-asid");
const ODS: HeaderName = HeaderName::from_static("x-spinegate-ods");
const INTERACTION: HeaderName = HeaderName::from_static("x-spinegate-interaction");
const CLIENT_FQDN: HeaderName = HeaderName::from_static("x-spinegate-client-fqdn");
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const POOL_IDLE: Duration = Duration::from_secs(30);

/// The connection pool to the guarded service.
#[derive(Clone)]
pub(super) struct Upstream {
    client: Client<HttpConnector, Full<Bytes>>,
    scheme: Scheme,
    authority: Authority,
    timeout: Duration,
    largest_answer: usize,
}

/// Where a permitted request comes from, besides what its permit says.
pub(super) struct Origin<'r> {
    pub(super) request_id: &'r str,
    pub(super) peer: IpAddr,
    /// The name in the client's certificate.
    pub(super) client: &'r str,
}

/// Why the guarded service gave no usable answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UpstreamError {
    pub(super) reason: Reason,
    pub(super) detail: String,
}

/// A stored resource as the guarded service answers for it.
pub(super) enum Stored {
    Found(Bytes),
    /// It does not exist or is not current.
    Absent,
}

impl Upstream {
    /// A pool for `uri`; without an authority there is nothing to connect to.
    pub(super) fn new(uri: &Uri, timeout: Duration, largest_answer: usize) -> Option<Self> {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .build(connector);
        Some(Self {
            client,
            scheme: uri.scheme().cloned().unwrap_or(Scheme::HTTP),
            authority: uri.authority()?.clone(),
            timeout,
            largest_answer,
        })
    }

    /// Sends a permitted request on, as it was judged. The head is built anew: only [`FORWARDED`] headers of the
    /// client's survive, and who it is stands in headers of the gateway's own.
    pub(super) async fn forward(
        &self,
        permit: Permit,
        headers: &HeaderMap,
        origin: &Origin<'_>,
    ) -> Result<Response<Body>, UpstreamError> {
        let target = permit.path_and_query().clone();
        let mut request = self.request(permit.method().clone(), target, permit.body().clone())?;
        for name in FORWARDED {
            if let Some(value) = headers.get(&name) {
                request.headers_mut().insert(name, value.clone());
            }
        }
        for (name, value) in identity(permit.subject(), origin) {
            let value = HeaderValue::try_from(value).map_err(|error| UpstreamError {
                reason: Reason::UpstreamInvalid,
                detail: format!("{name}: {error}"),
            })?;
            request.headers_mut().insert(name, value);
        }
        let answer = self.send(request).await?;
        let (mut head, body) = answer.into_parts();
        strip_hop_by_hop(&mut head.headers);
        Ok(Response::from_parts(head, body.boxed_unsync()))
    }

    /// Fetches a resource under the gateway's own ASID.
    pub(super) async fn fetch(&self, target: PathAndQuery, asid: &str) -> Result<Stored, UpstreamError> {
        let mut request = self.request(Method::GET, target, Bytes::new())?;
        let headers = request.headers_mut();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/fhir+json"));
        if let Ok(asid) = HeaderValue::from_str(asid) {
            headers.insert("fromasid", asid.clone());
            headers.insert("toasid", asid);
        }
        let fetching = async {
            let answer = self.send(request).await?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), self.largest_answer)
                .collect()
                .await;
            let body = body.map_err(|error| {
                let detail = match error.downcast_ref::<LengthLimitError>() {
                    Some(_) => format!("the stored pointer is larger than {} bytes", self.largest_answer),
                    None => error.to_string(),
                };
                UpstreamError {
                    reason: Reason::UpstreamInvalid,
                    detail,
                }
            })?;
            match status.as_u16() {
                200 => Ok(Stored::Found(body.to_bytes())),
                // NRL answers 404 for an unknown id and 400 for a pointer that is not current.
                400 | 404 | 410 => Ok(Stored::Absent),
                other => Err(UpstreamError {
                    reason: Reason::UpstreamInvalid,
                    detail: format!("the stored pointer was answered with status {other}"),
                }),
            }
        };
        tokio::time::timeout(self.timeout, fetching)
            .await
            .unwrap_or_else(|_| Err(self.timed_out()))
    }

    fn request(
        &self,
        method: Method,
        target: PathAndQuery,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, UpstreamError> {
        let uri = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(target)
            .build();
        uri.and_then(|uri| Request::builder().method(method).uri(uri).body(Full::new(body)))
            .map_err(|error| UpstreamError {
                reason: Reason::UpstreamInvalid,
                detail: error.to_string(),
            })
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, UpstreamError> {
        match tokio::time::timeout(self.timeout, self.client.request(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(describe(&error)),
            Err(_) => Err(self.timed_out()),
        }
    }

    fn timed_out(&self) -> UpstreamError {
        UpstreamError {
            reason: Reason::UpstreamTimeout,
            detail: format!("no answer within {}", humantime::format_duration(self.timeout)),
        }
    }
}

/// Who sent a request, as the checks have proven it.
fn identity(subject: &Subject, origin: &Origin<'_>) -> Vec<(HeaderName, String)> {
    let peer = origin.peer.to_canonical();
    // RFC 7239 section 6: an IPv6 address stands in brackets and quotes.
    let node = match peer {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("\"[{address}]\""),
    };
    let proven = [
        (ASID, subject.asid.map(|asid| asid.to_string())),
        (ODS, subject.ods.as_ref().map(ToString::to_string)),
        (
            INTERACTION,
            subject.interaction_id.as_ref().map(ToString::to_string),
        ),
    ];
    let mut headers = vec![
        (REQUEST_ID, origin.request_id.to_owned()),
        (FORWARDED_FOR, peer.to_string()),
        (header::FORWARDED, format!("for={node};proto=https")),
        (CLIENT_FQDN, origin.client.to_owned()),
    ];
    headers.extend(
        proven
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    headers
}

/// A body of known bytes.
pub(super) fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never: Infallible| match never {})
        .boxed_unsync()
}

fn describe(error: &hyper_util::client::legacy::Error) -> UpstreamError {
    let mut detail = error.to_string();
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        detail = format!("{detail}: {source}");
        cause = source;
    }
    let reason = if error.is_connect() {
        Reason::UpstreamUnreachable
    } else {
        Reason::UpstreamInvalid
    };
    UpstreamError { reason, detail }
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // Connection names further headers that are for this hop alone.
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hop_by_hop_headers_end_at_the_gateway() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Private"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("location", "https://edge.example.nhs.uk/1"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        strip_hop_by_hop(&mut headers);
        assert_eq!(
            headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(),
            ["location"]
        );
    }

    #[tokio::test]
    async fn a_service_that_does_not_listen_is_unreachable() {
        let uri = Uri::from_static("http://127.0.0.1:1");
        let upstream = Upstream::new(&uri, Duration::from_secs(5), 100).expect("an authority");
        let fetched = upstream
            .fetch(PathAndQuery::from_static("/x"), "999999999999")
            .await;
        assert_eq!(
            fetched.err().map(|error| error.reason),
            Some(Reason::UpstreamUnreachable)
        );
    }
}
