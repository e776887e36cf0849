//! FHIR bundles of Devices and Endpoints, as the SDS FHIR API answers.

use serde::Deserialize;

use crate::directory::records::{Records, SystemRecord};

const ASID: &str = "https://fhir.nhs.uk/Id/nhsSpineASID";
const PARTY_KEY: &str = "https://fhir.nhs.uk/Id/nhsMhsPartyKey";
const FQDN: &str = "https://fhir.nhs.uk/Id/nhsMhsFQDN";
const ODS_CODE: &str = "https://fhir.nhs.uk/Id/ods-organization-code";
const INTERACTION_ID: &str = "https://fhir.nhs.uk/Id/nhsServiceInteractionId";
const INTERACTION: &str = "https://fhir.nhs.uk/StructureDefinition/Extension-SDS-NhsServiceInteractionId";

#[derive(Deserialize)]
struct Bundle {
    #[serde(rename = "resourceType")]
    resource_type: String,
    #[serde(default)]
    entry: Vec<Entry>,
    #[serde(default)]
    link: Vec<Link>,
}

#[derive(Deserialize)]
struct Link {
    relation: String,
    url: String,
}

#[derive(Deserialize)]
struct Entry {
    resource: Resource,
}

#[derive(Deserialize)]
struct Resource {
    #[serde(rename = "resourceType")]
    resource_type: String,
    #[serde(default)]
    identifier: Vec<Identifier>,
    #[serde(default)]
    extension: Vec<Extension>,
    owner: Option<Reference>,
}

#[derive(Deserialize)]
struct Identifier {
    system: Option<String>,
    value: Option<String>,
}

#[derive(Deserialize)]
struct Extension {
    url: String,
    #[serde(rename = "valueReference")]
    value: Option<Reference>,
}

#[derive(Deserialize)]
struct Reference {
    identifier: Option<Identifier>,
}

/// Takes the resources of a bundle; gives where the next page is, if there is one.
///
/// # Errors
/// It is no bundle.
pub(in crate::directory) fn take(content: &[u8], records: &mut Records) -> Result<Option<String>, String> {
    let bundle: Bundle = serde_json::from_slice(content)
        .map_err(|error| format!("it is no bundle of Devices or Endpoints: {error}"))?;
    if bundle.resource_type != "Bundle" {
        return Err(format!(
            "it is a {:?}, not a Bundle",
            shown(&bundle.resource_type)
        ));
    }
    for Entry { resource } in &bundle.entry {
        let taken = match resource.resource_type.as_str() {
            "Device" => device(resource, records),
            "Endpoint" => endpoint(resource, records),
            other => Err(format!("a {} is neither Device nor Endpoint", shown(other))),
        };
        if let Err(why) = taken {
            records.set_aside(why);
        }
    }
    let mut next = bundle.link.into_iter().filter(|link| link.relation == "next");
    Ok(next.next().map(|link| link.url))
}

fn device(resource: &Resource, records: &mut Records) -> Result<(), String> {
    let asid = only(&resource.identifier, ASID)?.ok_or("a Device has no ASID")?;
    let owner = resource
        .owner
        .as_ref()
        .and_then(|owner| owner.identifier.as_ref());
    let ods = owner.and_then(|owner| valued(owner, ODS_CODE));
    let ods = ods.ok_or_else(|| format!("Device {}: it has no owner's ODS code", shown(asid)))?;
    let interactions: Vec<String> = resource
        .extension
        .iter()
        .filter(|extension| extension.url == INTERACTION)
        .filter_map(|extension| valued(extension.value.as_ref()?.identifier.as_ref()?, INTERACTION_ID))
        .map(str::to_owned)
        .collect();
    records.take_system(&SystemRecord {
        asid,
        ods,
        party: only(&resource.identifier, PARTY_KEY)?,
        interactions: &interactions,
    });
    Ok(())
}

fn endpoint(resource: &Resource, records: &mut Records) -> Result<(), String> {
    let party = only(&resource.identifier, PARTY_KEY)?.ok_or("an Endpoint has no party key")?;
    let fqdn = only(&resource.identifier, FQDN)?.ok_or("an Endpoint has no FQDN")?;
    records.take_fqdn(party, fqdn);
    Ok(())
}

/// The value of the one identifier of a system.
fn only<'i>(identifiers: &'i [Identifier], system: &str) -> Result<Option<&'i str>, String> {
    let mut values = identifiers
        .iter()
        .filter_map(|identifier| valued(identifier, system));
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        _ => Err(format!("a resource has several identifiers of {system}")),
    }
}

fn valued<'i>(identifier: &'i Identifier, system: &str) -> Option<&'i str> {
    (identifier.system.as_deref() == Some(system))
        .then_some(identifier.value.as_deref())
        .flatten()
}

/// For one line of a report.
fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{config::Fqdns, nrl::Asid};

    const DEVICE: &str = r#"{"resourceType":"Bundle","type":"searchset","total":1,"link":[{"relation":"next","url":"https://a/n"}],
        "entry":[{"resource":{"resourceType":"Device",
        "identifier":[{"system":"https://fhir.nhs.uk/Id/nhsSpineASID","value":"200000000985"},
                      {"system":"https://fhir.nhs.uk/Id/nhsMhsPartyKey","value":"A20047-821870"}],
        "extension":[{"url":"https://fhir.nhs.uk/StructureDefinition/Extension-SDS-NhsServiceInteractionId","valueReference":
          {"identifier":{"system":"https://fhir.nhs.uk/Id/nhsServiceInteractionId","value":"urn:nhs:names:services:x"}}},
          {"url":"https://fhir.nhs.uk/StructureDefinition/Extension-SDS-ManufacturingOrganisation","valueReference":
          {"identifier":{"system":"https://fhir.nhs.uk/Id/ods-organization-code","value":"LSP04"}}}],
        "owner":{"identifier":{"system":"https://fhir.nhs.uk/Id/ods-organization-code","value":"A20047"}}},
        "search":{"mode":"match"}}]}"#;
    const ENDPOINT: &str = r#"{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Endpoint","address":"https://a",
        "identifier":[{"system":"https://fhir.nhs.uk/Id/nhsMhsFQDN","value":"mhs.example.nhs.uk"},
                      {"system":"https://fhir.nhs.uk/Id/nhsMhsPartyKey","value":"A20047-821870"}]}}]}"#;

    #[test]
    fn a_device_and_its_endpoint_are_a_system_with_its_fqdn() {
        let mut records = Records::default();
        assert_eq!(
            take(DEVICE.as_bytes(), &mut records).unwrap().as_deref(),
            Some("https://a/n")
        );
        assert_eq!(take(ENDPOINT.as_bytes(), &mut records).unwrap(), None);
        let (systems, aside) = records.pack(Fqdns::Require);
        assert_eq!(aside.count, 0, "{aside:?}");
        let system = systems.get(&Asid::parse("200000000985").unwrap()).unwrap();
        assert_eq!(system.ods.as_str(), "A20047");
        assert_eq!(system.fqdn.unwrap().as_str(), "mhs.example.nhs.uk");
        assert_eq!(system.interactions.len(), 1);
    }

    #[test]
    fn what_is_no_bundle_is_refused_and_what_is_no_system_is_set_aside() {
        let mut records = Records::default();
        for bad in [
            "",
            "[]",
            "{}",
            "<Bundle/>",
            r#"{"resourceType":"OperationOutcome"}"#,
        ] {
            assert!(take(bad.as_bytes(), &mut records).is_err(), "{bad}");
        }
        for (part, by) in [
            ("nhsSpineASID", "nhsSpineASIX"),
            ("nhsMhsPartyKey\"", "nhsSpineASID\""),
            ("\"owner\"", "\"holder\""),
            ("\"Device\"", "\"Patient\""),
            ("Extension-SDS-NhsServiceInteractionId", "Extension-SDS-Other"),
        ] {
            let mut records = Records::default();
            take(DEVICE.replace(part, by).as_bytes(), &mut records).unwrap();
            let (systems, aside) = records.pack(Fqdns::Ignore);
            assert_eq!((systems.len(), aside.count), (0, 1), "{part}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,200}", at in 0..600usize, byte in any::<u8>()) {
            let mut records = Records::default();
            let _ = take(text.as_bytes(), &mut records);
            let mut bundle = DEVICE.as_bytes().to_vec();
            bundle[at] = byte;
            let _ = take(&bundle, &mut records);
        }
    }
}
