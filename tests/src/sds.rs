//! What the SDS FHIR API answers with, and bundles in files hold.

use serde_json::{Value, json};

use crate::lab::Interaction;

/// A bundle of resources.
#[must_use]
pub fn bundle(resources: Vec<Value>) -> Value {
    let entries: Vec<Value> = resources
        .into_iter()
        .map(|resource| json!({ "resource": resource }))
        .collect();
    json!({ "resourceType": "Bundle", "type": "searchset", "total": entries.len(), "entry": entries })
}

/// A system of an organisation and a party, accredited for an interaction.
#[must_use]
pub fn device(asid: &str, ods: &str, party: &str, interaction: Interaction) -> Value {
    json!({
        "resourceType": "Device",
        "identifier": [identifier("nhsSpineASID", asid), identifier("nhsMhsPartyKey", party)],
        "extension": [{
            "url": "https://fhir.nhs.uk/StructureDefinition/Extension-SDS-NhsServiceInteractionId",
            "valueReference": { "identifier": identifier("nhsServiceInteractionId", interaction.urn()) },
        }],
        "owner": { "identifier": identifier("ods-organization-code", ods) },
    })
}

/// The FQDN of a party.
#[must_use]
pub fn endpoint(fqdn: &str, party: &str) -> Value {
    json!({
        "resourceType": "Endpoint",
        "identifier": [identifier("nhsMhsFQDN", fqdn), identifier("nhsMhsPartyKey", party)],
    })
}

fn identifier(kind: &str, value: &str) -> Value {
    json!({ "system": format!("https://fhir.nhs.uk/Id/{kind}"), "value": value })
}
