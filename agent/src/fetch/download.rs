//! One exchange over plain HTTP, bounded in time and size.

use std::{error::Error, time::Duration};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

use crate::config::{HttpHost, HttpUrl};

/// Asks hosts that are listed, and no others.
#[derive(Clone, Debug)]
pub(super) struct Downloader {
    client: Client<HttpConnector, Full<Bytes>>,
}

/// What an exchange may cost, and whom it may be with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits<'l> {
    pub(super) hosts: &'l [HttpHost],
    pub(super) timeout: Duration,
    pub(super) max_bytes: usize,
}

/// Why nothing was fetched.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DownloadError {
    #[error("{0} is none of the hosts that may be asked")]
    Host(HttpHost),
    #[error("{host} can't be asked: {fault}")]
    Connection { host: HttpHost, fault: String },
    #[error("{host} answered with status {status}")]
    Status { host: HttpHost, status: u16 },
    #[error("{host} answered that it is elsewhere (status {status}): redirects are not followed")]
    Redirect { host: HttpHost, status: u16 },
    #[error("{host} sends more than {max_bytes} bytes")]
    TooLarge { host: HttpHost, max_bytes: usize },
    #[error("{host} has not answered within {}", humantime::format_duration(*limit))]
    Timeout { host: HttpHost, limit: Duration },
}

impl Downloader {
    pub(super) fn new() -> Self {
        let connector = HttpConnector::new();
        let client = Client::builder(TokioExecutor::new())
            // The next exchange is hours away.
            .pool_max_idle_per_host(0)
            .build(connector);
        Self { client }
    }

    /// Fetches a URL.
    pub(super) async fn get(&self, url: &HttpUrl, limits: Limits<'_>) -> Result<Bytes, DownloadError> {
        let request = Request::builder().method(Method::GET).uri(url.as_str());
        self.exchange(url, request.body(Full::default()), limits).await
    }

    /// Asks an OCSP responder (RFC 6960 appendix A.1).
    pub(super) async fn ask_ocsp(
        &self,
        url: &HttpUrl,
        question: &[u8],
        limits: Limits<'_>,
    ) -> Result<Bytes, DownloadError> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(url.as_str())
            .header(header::CONTENT_TYPE, "application/ocsp-request")
            .header(header::ACCEPT, "application/ocsp-response");
        let question = Full::new(Bytes::copy_from_slice(question));
        self.exchange(url, request.body(question), limits).await
    }

    async fn exchange(
        &self,
        url: &HttpUrl,
        request: http::Result<Request<Full<Bytes>>>,
        limits: Limits<'_>,
    ) -> Result<Bytes, DownloadError> {
        let host = url.host();
        if !limits.hosts.contains(host) {
            return Err(DownloadError::Host(host.clone()));
        }
        let mut request = request.map_err(|error| connection(host, &error))?;
        let product = concat!("spinegate/", env!("CARGO_PKG_VERSION"));
        request
            .headers_mut()
            .insert(header::USER_AGENT, http::HeaderValue::from_static(product));
        let exchange = self.answer(host, request, limits.max_bytes);
        tokio::time::timeout(limits.timeout, exchange)
            .await
            .unwrap_or_else(|_| {
                Err(DownloadError::Timeout {
                    host: host.clone(),
                    limit: limits.timeout,
                })
            })
    }

    async fn answer(
        &self,
        host: &HttpHost,
        request: Request<Full<Bytes>>,
        max_bytes: usize,
    ) -> Result<Bytes, DownloadError> {
        let answer = self
            .client
            .request(request)
            .await
            .map_err(|error| connection(host, &error))?;
        let (host, status) = (host.clone(), answer.status());
        if status.is_redirection() {
            let status = status.as_u16();
            return Err(DownloadError::Redirect { host, status });
        }
        if status != StatusCode::OK {
            let status = status.as_u16();
            return Err(DownloadError::Status { host, status });
        }
        match Limited::new(answer.into_body(), max_bytes).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(DownloadError::TooLarge { host, max_bytes }),
            Err(error) => Err(connection(&host, error.as_ref())),
        }
    }
}

fn connection(host: &HttpHost, error: &(dyn Error + 'static)) -> DownloadError {
    let mut fault = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        fault = format!("{fault}: {error}");
        cause = error.source();
    }
    DownloadError::Connection {
        host: host.clone(),
        fault,
    }
}
