//! The Spine Directory Service's FHIR API: Devices are systems, Endpoints have the FQDNs of their parties.

mod bundle;

use std::{fs, path::Path, path::PathBuf, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use uuid::Uuid;

use super::{
    ldap::{connect, secret},
    records::Records,
};
use crate::{
    config::{Fqdns, Sds, SecureUrl},
    nrl::{InteractionId, OdsCode},
    tls::Connector,
};

pub(super) use bundle::take as take_bundle;

/// Pages of one answer.
const PAGES: usize = 10_000;
const ORGANIZATION: &str = "https://fhir.nhs.uk/Id/ods-organization-code";
const INTERACTION: &str = "https://fhir.nhs.uk/Id/nhsServiceInteractionId";

/// Why nothing was fetched.
#[derive(Debug, thiserror::Error)]
pub(super) enum SdsError {
    #[error("{url}: {fault}")]
    Connection { url: SecureUrl, fault: String },
    #[error("{path}: {fault}")]
    Answer { path: String, fault: String },
    #[error("{0}")]
    File(String),
    #[error("there are more than {0} systems; raise `registry.max_systems` if that is right")]
    TooMany(usize),
}

/// Reads all bundles, and asks the API for each organisation and interaction.
pub(super) async fn fetch(
    settings: &Sds,
    connector: Option<&Connector>,
    (fqdns, max_systems): (Fqdns, usize),
) -> Result<Records, SdsError> {
    let (bundles, max_bytes) = (settings.bundles.clone(), settings.max_bytes);
    // A folder may hold gigabytes: not on a thread that serves requests.
    let reading = tokio::task::spawn_blocking(move || -> Result<Records, SdsError> {
        let mut records = Records::default();
        for path in &bundles {
            read(path, max_bytes, &mut records).map_err(SdsError::File)?;
            bounded(&records, max_systems)?;
        }
        Ok(records)
    });
    let mut records = reading
        .await
        .map_err(|error| SdsError::File(error.to_string()))??;
    let (Some(url), Some(connector)) = (&settings.url, connector) else {
        return Ok(records);
    };
    let apikey = settings.apikey_file.as_deref().map(secret).transpose();
    let apikey = apikey.map_err(SdsError::File)?;
    let apikey = apikey.map(|apikey| HeaderValue::from_str(&apikey)).transpose();
    let mut apikey = apikey.map_err(|_| SdsError::File("the API key is no header's value".to_owned()))?;
    if let Some(apikey) = &mut apikey {
        apikey.set_sensitive(true);
    }
    let mut api = Api {
        url,
        connector,
        apikey,
        max_bytes: settings.max_bytes,
        timeout: settings.timeout,
        connection: None,
    };
    let resources: &[&str] = match fqdns {
        Fqdns::Require => &["Device", "Endpoint"],
        Fqdns::Ignore => &["Device"],
    };
    for organization in &settings.organizations {
        for interaction in &settings.interactions {
            for resource in resources {
                api.search(resource, organization, interaction, &mut records)
                    .await?;
                bounded(&records, max_systems)?;
            }
        }
    }
    Ok(records)
}

fn bounded(records: &Records, max_systems: usize) -> Result<(), SdsError> {
    if records.len() > max_systems {
        return Err(SdsError::TooMany(max_systems));
    }
    Ok(())
}

/// Takes the bundles of a file, or of all `.json` files in a folder.
pub(super) fn read(path: &Path, max_bytes: usize, records: &mut Records) -> Result<(), String> {
    let fault = |path: &Path, fault: &dyn std::fmt::Display| format!("{}: {fault}", path.display());
    let metadata = fs::metadata(path).map_err(|error| fault(path, &error))?;
    if metadata.is_dir() {
        let entries = fs::read_dir(path).map_err(|error| fault(path, &error))?;
        let mut files: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|file| file.extension().is_some_and(|extension| extension == "json"))
            .collect();
        files.sort();
        for file in files {
            if file.is_file() {
                read(&file, max_bytes, records)?;
            }
        }
        return Ok(());
    }
    if metadata.len() > max_bytes as u64 {
        return Err(fault(path, &format!("it has more than {max_bytes} bytes")));
    }
    let content = fs::read(path).map_err(|error| fault(path, &error))?;
    match take_bundle(&content, records).map_err(|error| fault(path, &error))? {
        None => Ok(()),
        Some(_) => Err(fault(path, &"it is one page of several: all of them are needed")),
    }
}

struct Api<'s> {
    url: &'s SecureUrl,
    connector: &'s Connector,
    apikey: Option<HeaderValue>,
    max_bytes: usize,
    timeout: Duration,
    connection: Option<SendRequest<Empty<Bytes>>>,
}

impl Api<'_> {
    async fn search(
        &mut self,
        resource: &str,
        organization: &OdsCode,
        interaction: &InteractionId,
        records: &mut Records,
    ) -> Result<(), SdsError> {
        let mut target = format!(
            "{}/{resource}?organization={}%7C{organization}&identifier={}%7C{}",
            self.url.path(),
            encoded(ORGANIZATION),
            encoded(INTERACTION),
            encoded(interaction.as_str()),
        );
        for _ in 0..PAGES {
            let content = self.get(&target).await?;
            let fault = |fault: String| SdsError::Answer {
                path: target.clone(),
                fault,
            };
            let Some(next) = take_bundle(&content, records).map_err(fault)? else {
                return Ok(());
            };
            target = self.within(&next).map_err(fault)?;
        }
        Err(SdsError::Answer {
            path: target,
            fault: format!("there are more than {PAGES} pages"),
        })
    }

    /// The path and query of the next page, which must be at the same place: a link leads nowhere else.
    fn within(&self, next: &str) -> Result<String, String> {
        let uri: http::Uri = next
            .parse()
            .map_err(|_| format!("the next page is at {next:?}, which is no URL"))?;
        let same = match (uri.scheme_str(), uri.host()) {
            (None, None) => true,
            (Some("https"), Some(host)) => {
                let host = host.trim_start_matches('[').trim_end_matches(']');
                host.eq_ignore_ascii_case(self.url.host())
                    && uri.port_u16().unwrap_or(443) == self.url.port()
                    && !next.contains('@')
            }
            _ => false,
        };
        match uri.path_and_query() {
            Some(target) if same && target.path().starts_with(self.url.path()) => Ok(target.to_string()),
            _ => Err(format!(
                "the next page is said to be at {next:?}, which is elsewhere"
            )),
        }
    }

    async fn get(&mut self, target: &str) -> Result<Bytes, SdsError> {
        let fault = |fault: String| SdsError::Answer {
            path: target.to_owned(),
            fault,
        };
        let mut request = Request::builder()
            .method(Method::GET)
            .uri(target)
            .header(header::HOST, self.url.authority())
            .header(header::ACCEPT, "application/fhir+json")
            .header(
                header::USER_AGENT,
                concat!("spinegate/", env!("CARGO_PKG_VERSION")),
            )
            .header("X-Correlation-Id", Uuid::new_v4().to_string());
        if let Some(apikey) = &self.apikey {
            request = request.header("apikey", apikey.clone());
        }
        let request = request
            .body(Empty::<Bytes>::new())
            .map_err(|error| fault(error.to_string()))?;
        let kept = self.connection.take();
        let kept = match kept {
            Some(mut kept) => kept.ready().await.is_ok().then_some(kept),
            None => None,
        };
        let mut connection = match kept {
            Some(kept) => kept,
            None => self.connect().await?,
        };
        let answer = connection
            .send_request(request)
            .await
            .map_err(|error| fault(error.to_string()))?;
        let status = answer.status();
        if status.is_redirection() {
            return Err(fault(format!(
                "status {}: redirects are not followed",
                status.as_u16()
            )));
        }
        if status != StatusCode::OK {
            return Err(fault(format!("status {}", status.as_u16())));
        }
        let body = Limited::new(answer.into_body(), self.max_bytes).collect().await;
        match body {
            Ok(body) => {
                self.connection = Some(connection);
                Ok(body.to_bytes())
            }
            Err(error) if error.is::<LengthLimitError>() => {
                let most = self.max_bytes;
                Err(fault(format!(
                    "the answer has more than {most} bytes; raise `registry.sds.max_bytes` if that is right"
                )))
            }
            Err(error) => Err(fault(format!("the answer broke off: {error}"))),
        }
    }

    async fn connect(&self) -> Result<SendRequest<Empty<Bytes>>, SdsError> {
        let fault = |fault: String| SdsError::Connection {
            url: self.url.clone(),
            fault,
        };
        let stream = connect(self.url, self.connector, self.timeout)
            .await
            .map_err(fault)?;
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(|error| fault(error.to_string()))?;
        // It ends with its sender.
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// A query's value with everything but letters, digits and a few marks in percent-encoding (RFC 3986 section 2.3).
fn encoded(value: &str) -> String {
    let mut text = String::new();
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}
