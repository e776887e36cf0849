//! XML before and behind a locator that thinks in JSON.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    HeaderMap, Request, Uri,
    header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue},
};

use super::answer::{Answer, Refusal};
use crate::fhir;

const JSON: HeaderValue = HeaderValue::from_static("application/fhir+json");
const XML: HeaderValue = HeaderValue::from_static("application/fhir+xml; charset=utf-8");
const XML_TYPES: [&str; 3] = ["application/fhir+xml", "application/xml+fhir", "application/xml"];

/// A request with its body and its wishes in JSON, and whether its answer is to be in XML.
pub(super) fn taken(mut request: Request<Bytes>) -> Result<(Request<Bytes>, bool), Refusal> {
    if is_xml(field(request.headers(), &CONTENT_TYPE)) {
        let body = std::str::from_utf8(request.body()).map_err(|_| Refusal::InvalidMessage)?;
        let resource = fhir::from_xml(body).map_err(|_| Refusal::InvalidMessage)?;
        *request.body_mut() = Bytes::from(resource.to_string());
        request.headers_mut().insert(CONTENT_TYPE, JSON);
    }
    // `_format` goes before Accept (NRL "Development overview").
    let wished = query_without_format(request.uri());
    let wants_xml = match &wished {
        Some((format, uri)) if is_xml(format) => {
            *request.uri_mut() = uri.clone();
            true
        }
        Some(_) => false,
        None => is_xml(
            field(request.headers(), &ACCEPT)
                .split(',')
                .next()
                .unwrap_or_default(),
        ),
    };
    if wants_xml {
        request.headers_mut().insert(ACCEPT, JSON);
    }
    Ok((request, wants_xml))
}

/// An answer in XML.
pub(super) async fn given(answer: Answer) -> Answer {
    if field(answer.headers(), &CONTENT_TYPE).starts_with("text/html") {
        return answer;
    }
    let (mut head, body) = answer.into_parts();
    let body = body
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    let resource = serde_json::from_slice(&body).unwrap_or_default();
    head.headers.insert(CONTENT_TYPE, XML);
    head.headers.remove(CONTENT_LENGTH);
    Answer::from_parts(head, Full::new(Bytes::from(fhir::to_xml(&resource))))
}

/// The value of `_format`, and the target without it.
fn query_without_format(uri: &Uri) -> Option<(String, Uri)> {
    let (mut format, mut others) = (None, Vec::new());
    for pair in uri.query()?.split('&') {
        match pair.strip_prefix("_format=") {
            Some(value) => format = Some(value.replace("%2B", "+").replace("%2F", "/")),
            None => others.push(pair),
        }
    }
    let target = match others.as_slice() {
        [] => uri.path().to_owned(),
        others => format!("{}?{}", uri.path(), others.join("&")),
    };
    Some((format?, target.parse().ok()?))
}

fn field<'h>(headers: &'h HeaderMap, name: &HeaderName) -> &'h str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

fn is_xml(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    XML_TYPES.iter().any(|one| one.eq_ignore_ascii_case(essence))
}
