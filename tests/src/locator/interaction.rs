//! From a request to an answer: which interaction it is, and what comes of it.

use std::time::SystemTime;

use bytes::Bytes;
use hyper::{
    HeaderMap, Method, Request,
    header::{ACCEPT, CONTENT_TYPE, ETAG, HeaderName, HeaderValue},
};
use serde_json::{Map, Value, json};

use super::{
    BASE_PATH,
    answer::{self, Answer, Refusal},
    naming::Condition,
    pointer::{self, NewPointer},
    query::{self, Search},
    store::{Store, StoreError, StoredPointer},
};

/// Media types that the NRL counts as JSON (NRL "Development overview").
const JSON_TYPES: [&str; 4] = [
    "application/fhir+json",
    "application/json+fhir",
    "application/json",
    "text/json",
];

/// Answers a request from a store. `public_url` is scheme and authority of the URLs in the answer.
pub(super) fn answer(store: &Store, public_url: &str, request: &Request<Bytes>, now: SystemTime) -> Answer {
    match perform(store, public_url, request, now) {
        Ok(answer) => answer,
        Err(StoreError::Refused(refusal)) => refusal.answer(),
        Err(StoreError::Database(error)) => {
            eprintln!("record-locator: the pointer database failed: {error}");
            answer::internal_error()
        }
    }
}

fn perform(
    store: &Store,
    public_url: &str,
    request: &Request<Bytes>,
    now: SystemTime,
) -> Result<Answer, StoreError> {
    let query = request.uri().query().unwrap_or_default();
    let collection = format!("{BASE_PATH}/DocumentReference");
    let url = |id: &str| format!("{public_url}{collection}/{id}");
    let Some(rest) = request.uri().path().strip_prefix(&collection) else {
        return Err(Refusal::NoSuchPath.into());
    };
    let id = match rest.strip_prefix('/') {
        None if rest.is_empty() => None,
        Some(id) if !id.is_empty() && !id.contains('/') => Some(id),
        _ => return Err(Refusal::NoSuchPath.into()),
    };
    match (id, request.method()) {
        (None, &Method::GET) => {
            let search = Search::parse(query)?;
            wants_json(request.headers(), search.format.as_deref())?;
            let found = store.search(&search.selection)?;
            let this = format!("{public_url}{}", request.uri());
            Ok(answer::resource(&bundle(
                &found,
                &this,
                url,
                search.count_only,
                now,
            )))
        }
        (None, &Method::POST) => {
            wants_json(request.headers(), query::format_only(query)?.as_deref())?;
            sends_json(request.headers())?;
            let id = store.create(&NewPointer::parse(request.body())?, now)?;
            Ok(answer::created(&url(&id)))
        }
        (Some(id), &Method::GET) => {
            wants_json(request.headers(), query::format_only(query)?.as_deref())?;
            let pointer = store.read(id)?;
            let mut read = answer::resource(&pointer.resource());
            if let Ok(tag) = HeaderValue::try_from(format!("W/\"{}\"", pointer.version)) {
                read.headers_mut().insert(ETAG, tag);
            }
            Ok(read)
        }
        (id, &Method::PATCH) => {
            let (naming, format) = query::naming(id, query, false)?;
            wants_json(request.headers(), format.as_deref())?;
            sends_json(request.headers())?;
            pointer::parse_update(request.body())?;
            let id = store.withdraw(&naming, &Condition::of(request.headers()), now)?;
            Ok(answer::updated(&url(&id)))
        }
        (id, &Method::DELETE) => {
            let (naming, format) = query::naming(id, query, true)?;
            wants_json(request.headers(), format.as_deref())?;
            let id = store.delete(&naming, &Condition::of(request.headers()), now)?;
            Ok(answer::deleted(&url(&id)))
        }
        (None, _) => Err(Refusal::MethodNotAllowed("GET, POST, PATCH, DELETE").into()),
        (Some(_), _) => Err(Refusal::MethodNotAllowed("GET, PATCH, DELETE").into()),
    }
}

fn bundle(
    found: &[StoredPointer],
    this: &str,
    url: impl Fn(&str) -> String,
    count_only: bool,
    now: SystemTime,
) -> Value {
    let mut bundle = Map::new();
    bundle.insert("resourceType".to_owned(), json!("Bundle"));
    bundle.insert("id".to_owned(), json!(uuid::Uuid::new_v4().to_string()));
    bundle.insert(
        "meta".to_owned(),
        json!({ "lastUpdated": humantime::format_rfc3339_millis(now).to_string() }),
    );
    bundle.insert("type".to_owned(), json!("searchset"));
    bundle.insert("total".to_owned(), json!(found.len()));
    bundle.insert("link".to_owned(), json!([{ "relation": "self", "url": this }]));
    // FHIR allows no empty array.
    if !count_only && !found.is_empty() {
        let entries: Vec<_> = found
            .iter()
            .map(|pointer| {
                json!({
                    "fullUrl": url(&pointer.id),
                    "resource": pointer.resource(),
                    "search": { "mode": "match" },
                })
            })
            .collect();
        bundle.insert("entry".to_owned(), Value::Array(entries));
    }
    Value::Object(bundle)
}

/// Whether the client takes JSON; `_format` goes before Accept (NRL "Development overview").
fn wants_json(headers: &HeaderMap, format: Option<&str>) -> Result<(), Refusal> {
    let accept = header(headers, ACCEPT)?;
    let mut accepted = match format {
        Some(format) => format.split(','),
        None => accept.unwrap_or("*/*").split(','),
    };
    if accepted.any(|range| is_json(range) || ["*/*", "application/*"].contains(&essence(range).as_str())) {
        Ok(())
    } else {
        Err(Refusal::UnsupportedMediaType)
    }
}

fn sends_json(headers: &HeaderMap) -> Result<(), Refusal> {
    match header(headers, CONTENT_TYPE)? {
        Some(media_type) if is_json(media_type) => Ok(()),
        _ => Err(Refusal::UnsupportedMediaType),
    }
}

fn header(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, Refusal> {
    headers
        .get(name)
        .map(|value| value.to_str().map_err(|_| Refusal::UnsupportedMediaType))
        .transpose()
}

fn is_json(media_type: &str) -> bool {
    JSON_TYPES.contains(&essence(media_type).as_str())
}

fn essence(media_type: &str) -> String {
    media_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}
