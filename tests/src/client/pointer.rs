//! Pointers to create (nrl.md section 7).

use anyhow::{Context, Result};
use serde_json::{Value, json};
use uuid::Uuid;

use super::Answer;

/// A patient with a valid NHS number.
pub const NHS_NUMBER: &str = "9876543210";
/// Another one.
pub const OTHER_NHS_NUMBER: &str = "9434765919";

const ORGANISATION: &str = "https://directory.spineservices.nhs.uk/STU3/Organization";

/// A new pointer of a patient, owned by the organisation with this ODS code.
#[must_use]
pub fn pointer(custodian: &str, nhs_number: &str) -> Value {
    json!({
        "resourceType": "DocumentReference",
        "meta": { "profile": ["https://fhir.nhs.uk/STU3/StructureDefinition/NRL-DocumentReference-1"] },
        "masterIdentifier": { "system": "urn:ietf:rfc:3986", "value": format!("urn:uuid:{}", Uuid::new_v4()) },
        "status": "current",
        "type": { "coding": [snomed("736253002", "Mental health crisis plan")] },
        "class": { "coding": [snomed("734163000", "Care plan")] },
        "subject": { "reference": subject(nhs_number) },
        "indexed": "2026-03-08T15:26:01+00:00",
        "author": [{ "reference": format!("{ORGANISATION}/{custodian}") }],
        "custodian": { "reference": format!("{ORGANISATION}/{custodian}") },
        "content": [{
            "attachment": {
                "contentType": "application/pdf",
                "url": format!("https://nrl-{custodian}.records.thirdparty.nhs.uk/{custodian}/Binary/1"),
            },
            "format": {
                "system": "https://fhir.nhs.uk/STU3/CodeSystem/NRL-FormatCode-1",
                "code": "urn:nhs-ic:unstructured",
                "display": "Unstructured Document",
            },
            "extension": [{
                "url": "https://fhir.nhs.uk/STU3/StructureDefinition/Extension-NRL-ContentStability-1",
                "valueCodeableConcept": { "coding": [{
                    "system": "https://fhir.nhs.uk/STU3/CodeSystem/NRL-ContentStability-1",
                    "code": "static",
                    "display": "Static",
                }]},
            }],
        }],
        "context": { "practiceSetting": { "coding": [snomed("708168004", "Mental health service")] } },
    })
}

/// A pointer that replaces another one, which it names by its masterIdentifier.
#[must_use]
pub fn superseding(mut pointer: Value, old: &Value) -> Value {
    let target = json!({ "identifier": old.get("masterIdentifier") });
    if let Some(fields) = pointer.as_object_mut() {
        fields.insert(
            "relatesTo".to_owned(),
            json!([{ "code": "replaces", "target": target }]),
        );
    }
    pointer
}

/// The logical id at the end of a created pointer's `Location`.
///
/// # Errors
/// There is no `Location`, or no id in it.
pub fn identifier_of(answer: &Answer) -> Result<String> {
    let location = answer
        .header("location")
        .with_context(|| format!("{answer} without a Location: {}", answer.body))?;
    let id = location.rsplit('/').next().filter(|id| !id.is_empty());
    Ok(id
        .with_context(|| format!("no id at the end of {location}"))?
        .to_owned())
}

pub(super) fn subject(nhs_number: &str) -> String {
    format!("https://demographics.spineservices.nhs.uk/STU3/Patient/{nhs_number}")
}

fn snomed(code: &str, display: &str) -> Value {
    json!({ "system": "http://snomed.info/sct", "code": code, "display": display })
}
