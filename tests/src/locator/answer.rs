//! What the locator answers: pointers, bundles and `OperationOutcome` (NRL "Error handling").

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE, HeaderValue, LOCATION},
};
use serde_json::{Value, json};

/// An answer with its whole body.
pub(super) type Answer = Response<Full<Bytes>>;

/// Why a request is refused: a row of the NRL's table of errors.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// 404 `NO_RECORD_FOUND`
    #[error("No record found for supplied DocumentReference identifier - {0}.")]
    NoRecordFound(String),
    /// 400 `INVALID_PARAMETER`
    #[error("{0}")]
    InvalidParameter(String),
    /// 400 `INVALID_RESOURCE`
    #[error("{diagnostics}")]
    InvalidResource {
        /// The path of the faulty element.
        element: String,
        /// What is wrong with it.
        diagnostics: String,
    },
    /// 400 `DUPLICATE_REJECTED`
    #[error("Duplicate masterIdentifier value: {value} system: {system}")]
    Duplicate {
        /// `masterIdentifier.system`
        system: String,
        /// `masterIdentifier.value`
        value: String,
    },
    /// 400 `BAD_REQUEST`
    #[error("DocumentReference status is not 'current'")]
    NotCurrent,
    /// 400 `INVALID_REQUEST_MESSAGE`: the body is not a JSON object.
    #[error("Invalid Request Message")]
    InvalidMessage,
    /// 400 `INVALID_NHS_NUMBER`
    #[error("The NHS number does not conform to the NHS Number format: {0}")]
    InvalidNhsNumber(String),
    /// 415 `UNSUPPORTED_MEDIA_TYPE`
    #[error("Unsupported Media Type")]
    UnsupportedMediaType,
    /// 404: the NRL's table has no row for it.
    #[error("The path is not one of this record locator.")]
    NoSuchPath,
    /// 405: the NRL's table has no row for it.
    #[error("The method is not one of this path.")]
    MethodNotAllowed(&'static str),
    /// 412: the NRL's table has no row for it.
    #[error("The DocumentReference has another version.")]
    OtherVersion,
    /// 413: the NRL's table has no row for it.
    #[error("The body is larger than this record locator takes.")]
    TooLarge,
}

impl Refusal {
    pub(super) fn resource(element: &str, diagnostics: &str) -> Self {
        Self::InvalidResource {
            element: element.to_owned(),
            diagnostics: diagnostics.to_owned(),
        }
    }

    pub(super) fn answer(&self) -> Answer {
        let invalid_resource;
        let (status, issue, code, display) = match self {
            Self::NoRecordFound(_) => (404, "not-found", "NO_RECORD_FOUND", "No record found"),
            Self::InvalidParameter(_) => (400, "invalid", "INVALID_PARAMETER", "Invalid parameter"),
            Self::InvalidResource { element, .. } => {
                invalid_resource = format!("Resource is invalid : {element}");
                (400, "invalid", "INVALID_RESOURCE", invalid_resource.as_str())
            }
            Self::Duplicate { .. } => (
                400,
                "duplicate",
                "DUPLICATE_REJECTED",
                "Create would lead to creation of a duplicate resource",
            ),
            Self::NotCurrent => (400, "invalid", "BAD_REQUEST", "Bad request"),
            Self::InvalidMessage => (400, "value", "INVALID_REQUEST_MESSAGE", "Invalid Request Message"),
            Self::InvalidNhsNumber(_) => (400, "invalid", "INVALID_NHS_NUMBER", "Invalid NHS number"),
            Self::UnsupportedMediaType => {
                (415, "invalid", "UNSUPPORTED_MEDIA_TYPE", "Unsupported Media Type")
            }
            Self::NoSuchPath => (404, "not-found", "BAD_REQUEST", "Bad request"),
            Self::MethodNotAllowed(_) => (405, "not-supported", "BAD_REQUEST", "Bad request"),
            Self::OtherVersion => (412, "conflict", "BAD_REQUEST", "Bad request"),
            Self::TooLarge => (413, "too-long", "BAD_REQUEST", "Bad request"),
        };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
        let mut answer = json_answer(status, &outcome("error", issue, code, display, &self.to_string()));
        if let Self::MethodNotAllowed(allowed) = self {
            answer
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static(allowed));
        }
        answer
    }
}

/// 201 with the new pointer's URL.
pub(super) fn created(url: &str) -> Answer {
    let mut answer = informational(
        StatusCode::CREATED,
        "RESOURCE_CREATED",
        "New resource created",
        "Successfully created resource DocumentReference",
    );
    if let Ok(location) = HeaderValue::from_str(url) {
        answer.headers_mut().insert(LOCATION, location);
    }
    answer
}

/// 200 for an update.
pub(super) fn updated(url: &str) -> Answer {
    let diagnostics = format!("Successfully updated resource DocumentReference: {url}");
    informational(
        StatusCode::OK,
        "RESOURCE_UPDATED",
        "Resource has been updated",
        &diagnostics,
    )
}

/// 200 for a delete.
pub(super) fn deleted(url: &str) -> Answer {
    let diagnostics = format!("Successfully removed resource DocumentReference: {url}");
    informational(
        StatusCode::OK,
        "RESOURCE_DELETED",
        "Resource removed",
        &diagnostics,
    )
}

/// 200 with a resource.
pub(super) fn resource(resource: &Value) -> Answer {
    json_answer(StatusCode::OK, resource)
}

/// 500 in the form that the NRL's error page gives for it, which is HTML.
pub(super) fn internal_error() -> Answer {
    const HTML: &str =
        "<html><title>500: Internal Server Error</title><body>500: Internal Server Error</body></html>";
    let mut answer = Response::new(Full::new(Bytes::from_static(HTML.as_bytes())));
    *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    answer
}

fn informational(status: StatusCode, code: &str, display: &str, diagnostics: &str) -> Answer {
    let mut body = outcome("information", "informational", code, display, diagnostics);
    if let Some(details) = body
        .pointer_mut("/issue/0/details")
        .and_then(Value::as_object_mut)
    {
        // The NRL puts its internal message id here, for support calls.
        details.insert("text".to_owned(), json!(uuid::Uuid::new_v4().to_string()));
    }
    json_answer(status, &body)
}

fn outcome(severity: &str, issue: &str, code: &str, display: &str, diagnostics: &str) -> Value {
    json!({
        "resourceType": "OperationOutcome",
        "id": uuid::Uuid::new_v4().to_string(),
        "meta": { "profile": ["https://fhir.nhs.uk/STU3/StructureDefinition/Spine-OperationOutcome-1"] },
        "issue": [{
            "severity": severity,
            "code": issue,
            "details": { "coding": [{
                "system": "https://fhir.nhs.uk/STU3/CodeSystem/Spine-ErrorOrWarningCode-1",
                "code": code,
                "display": display,
            }] },
            "diagnostics": diagnostics,
        }],
    })
}

fn json_answer(status: StatusCode, body: &Value) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body.to_string())));
    *answer.status_mut() = status;
    answer.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/fhir+json; charset=utf-8"),
    );
    answer
}
