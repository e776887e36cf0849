//! What is told over HTTP to whoever watches the agent: `/metrics`, `/healthz` and `/readyz`.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;

use super::{Exporter, Readiness};

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The pages, on whatever listener.
pub struct Pages {
    exporter: Exporter,
    readiness: Box<dyn Fn() -> Readiness + Send + Sync>,
}

impl Pages {
    /// Pages with these metrics, and with what `readiness` says at each request.
    #[must_use]
    pub fn new(exporter: Exporter, readiness: impl Fn() -> Readiness + Send + Sync + 'static) -> Self {
        Self {
            exporter,
            readiness: Box::new(readiness),
        }
    }

    /// Whether a path is one of a page.
    #[must_use]
    pub fn has(path: &str) -> bool {
        matches!(path, "/metrics" | "/healthz" | "/readyz")
    }

    /// Answers a request.
    #[must_use]
    pub fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        if !Self::has(path) {
            let said = "There are /metrics, /healthz and /readyz.\n";
            return response(StatusCode::NOT_FOUND, TEXT, said.to_owned());
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let said = "Only GET and HEAD are served.\n";
            let mut refused = response(StatusCode::METHOD_NOT_ALLOWED, TEXT, said.to_owned());
            refused
                .headers_mut()
                .insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refused;
        }
        match path {
            "/healthz" => response(StatusCode::OK, TEXT, "ok\n".to_owned()),
            "/readyz" => self.ready(),
            _ => self.metrics(request.headers()),
        }
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        let readiness = (self.readiness)();
        let status = if readiness.ready {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        match serde_json::to_string(&readiness) {
            Ok(text) => response(status, JSON, text + "\n"),
            Err(error) => failed(&error),
        }
    }

    fn metrics(&self, headers: &HeaderMap) -> Response<Full<Bytes>> {
        let (media_type, text) = if wants_openmetrics(headers) {
            (OPENMETRICS, self.exporter.text())
        } else {
            (PROMETHEUS, self.exporter.plain_text())
        };
        match text {
            Ok(text) => response(StatusCode::OK, media_type, text),
            Err(error) => failed(&error),
        }
    }
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages")
            .field("exporter", &self.exporter)
            .finish_non_exhaustive()
    }
}

/// Prometheus asks for it by name; a person with curl, or promtool, does not.
fn wants_openmetrics(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains("application/openmetrics-text"))
}

fn failed(error: &dyn fmt::Display) -> Response<Full<Bytes>> {
    response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n"))
}

fn response(status: StatusCode, media_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
