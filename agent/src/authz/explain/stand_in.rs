//! What would pass, for what a described request does not say.

use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderValue, Method, Uri};
use serde_json::json;

use crate::nrl::{
    Asid, EntityTag, Interaction, NhsNumber, ORGANISATION_PREFIX, OdsCode, Pointer, PointerId, Route,
    Selector, Status, TargetRef, sample_token,
};

use super::super::Rules;

/// A request's id of nobody's.
pub(super) const TRACE: HeaderValue = HeaderValue::from_static("00000000-0000-4000-8000-000000000000");
/// A patient who does not exist.
const PATIENT: &str = "9999999999";
/// An organisation, for where none is known: its ASID is refused before anything looks at it.
const ORGANISATION: &str = "X00";

/// The media type that a body seems to have.
pub(super) fn content_type(body: &[u8]) -> HeaderValue {
    HeaderValue::from_static(match body.trim_ascii_start().first() {
        Some(b'<') => "application/fhir+xml",
        _ => "application/fhir+json",
    })
}

/// The header with a token that passes for a request line; none where that is no request.
pub(super) fn authorization(
    rules: &Rules,
    (method, uri): (&Method, &Uri),
    (asid, ods): (&Asid, Option<&OdsCode>),
    now: SystemTime,
) -> Option<HeaderValue> {
    let interaction = match rules.provider {
        None => Route::classify(rules.dialect(), method, uri.path(), uri.query())
            .ok()?
            .interaction(),
        Some(_) => Interaction::Retrieve,
    };
    let ods = ods.map_or(ORGANISATION, OdsCode::as_str);
    let token = sample_token(interaction, asid.as_str(), ods, now);
    HeaderValue::from_str(&format!("Bearer {token}")).ok()
}

/// A body that passes: a new pointer, or the update of a status.
pub(super) fn body(interaction: Option<Interaction>, owner: Option<&OdsCode>) -> Bytes {
    let owner = owner.map_or(ORGANISATION, OdsCode::as_str);
    let body = match interaction {
        Some(Interaction::Create) => json!({
            "resourceType": "DocumentReference",
            "status": "current",
            "subject": {"reference": format!("{}{PATIENT}", NhsNumber::REFERENCE_PREFIX)},
            "custodian": {"reference": format!("{ORGANISATION_PREFIX}{owner}")},
        }),
        _ => json!({"resourceType": "Parameters", "parameter": [{"name": "operation", "part": [
            {"name": "type", "valueCode": "replace"},
            {"name": "path", "valueString": "DocumentReference.status"},
            {"name": "value", "valueString": "entered-in-error"},
        ]}]}),
    };
    body.to_string().into()
}

/// The pointer that a request names.
pub(super) fn pointer(selector: &Selector, custodian: OdsCode) -> Option<Pointer> {
    let (id, subject, master_identifier) = match selector {
        Selector::Id(id) => (id.clone(), NhsNumber::parse(PATIENT).ok()?, None),
        Selector::Identifier { subject, identifier } => {
            let id = PointerId::parse("pointer").ok()?;
            (id, *subject, Some(identifier.clone()))
        }
    };
    Some(Pointer {
        id: Some(id),
        status: Status::Current,
        custodian,
        subject,
        master_identifier,
        replaces: None,
        version: EntityTag::of_version("1"),
    })
}

/// The pointer that another one is to replace.
pub(super) fn target(target: &TargetRef, subject: NhsNumber, custodian: OdsCode) -> Pointer {
    Pointer {
        id: target.id().cloned(),
        status: Status::Current,
        custodian,
        subject,
        master_identifier: target.identifier().cloned(),
        replaces: None,
        version: EntityTag::of_version("1"),
    }
}
