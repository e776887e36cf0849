//! A request that passes, for the tests to break in one place at a time.

mod explained;
mod hidden;
mod order;
mod ownership;
mod properties;
mod provider;
mod sequences;
mod shadow;
mod table;
mod versions;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use serde_json::{Value, json};

use crate::{
    nrl::{
        Asid, ClaimRules, EntityTag, Fqdn, Identifier, Interaction, InteractionId, NhsNumber,
        ORGANISATION_PREFIX, OdsCode, Pointer, PointerId, Status,
    },
    registry::{Registry, System},
};

use super::{Admitted, Denial, Judged, Permit, Requester, Rules, Shadow, Stored, admit};

const ASID: &str = "200000000205";
const GATEWAY: &str = "999999999999";
const ODS: &str = "RR8";
const PATIENT: &str = "9876543210";
const USER: &str = "https://fhir.nhs.uk/Id/sds-role-profile-id|555254242106";
const NOW: u64 = 1_700_000_000;

/// A request with all that decides on it: the registry's entry, and what the locator has.
struct Case {
    system: Option<System>,
    requester: Requester,
    method: &'static str,
    target: String,
    from: Option<String>,
    to: Option<String>,
    claims: Value,
    token: Option<String>,
    bearer: bool,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    stored: Vec<Pointer>,
    rules: Rules,
}

impl Case {
    fn of(interaction: Interaction) -> Self {
        let (method, target, body) = match interaction {
            Interaction::Read => ("GET", "/STU3/DocumentReference/p1", Vec::new()),
            Interaction::Search => ("GET", "/STU3/DocumentReference?_id=p1", Vec::new()),
            Interaction::Create => ("POST", "/STU3/DocumentReference", document(ODS, None)),
            Interaction::Update => ("PATCH", "/STU3/DocumentReference/p1", status_update()),
            Interaction::Delete => ("DELETE", "/STU3/DocumentReference/p1", Vec::new()),
            Interaction::Retrieve => panic!("a record locator has no retrieval"),
        };
        let access = if interaction.writes() { "write" } else { "read" };
        let mut claims = json!({
            "iss": "https://system.nhs.uk", "aud": "https://nrl.nhs.uk",
            "sub": format!("https://fhir.nhs.uk/Id/accredited-system|{ASID}"),
            "iat": NOW, "exp": NOW + 300,
            "reason_for_request": "directcare",
            "scope": format!("patient/DocumentReference.{access}"),
            "requesting_system": format!("https://fhir.nhs.uk/Id/accredited-system|{ASID}"),
            "requesting_organization": format!("https://fhir.nhs.uk/Id/ods-organization-code|{ODS}"),
        });
        if !interaction.writes() {
            // Who reads does so on somebody's behalf.
            claims["sub"] = USER.into();
            claims["requesting_user"] = USER.into();
        }
        Self {
            system: Some(system(
                Interaction::LOCATOR.map(|interaction| interaction.ids()[0]),
            )),
            requester: Requester::with_fqdn(Fqdn::parse("ssp.example.nhs.uk").unwrap()),
            method,
            target: target.to_owned(),
            from: Some(ASID.to_owned()),
            to: Some(GATEWAY.to_owned()),
            claims,
            token: None,
            bearer: true,
            headers: vec![("content-type", "application/fhir+json".to_owned())],
            body,
            stored: vec![stored("p1", ODS)],
            rules: rules(),
        }
    }

    /// A supersede of the pointer `p1`, named by its id.
    fn supersede() -> Self {
        let target = json!({"reference": "https://nrl.nhs.uk/STU3/DocumentReference/p1"});
        Self {
            body: document(ODS, Some(&target)),
            ..Self::of(Interaction::Create)
        }
    }

    /// The same request in the conditional form: by the patient and masterIdentifier of `p1`.
    fn conditional(interaction: Interaction) -> Self {
        Self::of(interaction).with(|c| {
            c.target = format!(
                "/STU3/DocumentReference?subject={}{PATIENT}&identifier=urn:ietf:rfc:3986%7Curn:oid:1.2.3",
                NhsNumber::REFERENCE_PREFIX
            );
        })
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn header_map(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut add = |name: &str, value: &str| {
            headers.append(
                name.parse::<HeaderName>().unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        };
        for (name, value) in [("fromASID", &self.from), ("toASID", &self.to)] {
            if let Some(value) = value {
                add(name, value);
            }
        }
        if self.bearer {
            let token = self.token.clone().unwrap_or_else(|| token(&self.claims));
            add("authorization", &format!("Bearer {token}"));
        }
        for (name, value) in &self.headers {
            add(name, value);
        }
        headers
    }

    /// Takes the request through every stage, with the locator's pointers as the gateway would fetch them.
    fn judge(&self) -> Result<Permit, Denial> {
        self.judge_answered(&Stored::Pointers(self.stored.clone()))
    }

    /// The same, with what the locator answers about the pointer that the request names.
    fn judge_answered(&self, answer: &Stored) -> Result<Permit, Denial> {
        self.judge_by(&Registry::of(self.system.clone()), answer)
    }

    /// The same, by a registry of more than its own system.
    fn judge_by(&self, registry: &Registry, answer: &Stored) -> Result<Permit, Denial> {
        let method: Method = self.method.parse().unwrap();
        let uri: Uri = self.target.parse().unwrap();
        let admitted = admit(
            &self.rules,
            registry,
            &self.requester,
            &method,
            &uri,
            &self.header_map(),
            now(),
        )?;
        let waiting = match admitted {
            Admitted::Permitted(permit) => return Ok(permit),
            Admitted::NeedsStored(waiting) => waiting,
            Admitted::NeedsBody(waiting) => match waiting.judge_body(Bytes::from(self.body.clone()))? {
                Judged::Permitted(permit) => return Ok(permit),
                Judged::NeedsTarget(waiting) => {
                    return waiting.judge_target(answer);
                }
                Judged::NeedsStored(waiting) => waiting,
            },
        };
        waiting.judge_stored(answer)
    }
}

fn rules() -> Rules {
    Rules {
        gateway_asid: Asid::parse(GATEWAY).unwrap(),
        base_path: "/STU3".to_owned(),
        claims: ClaimRules::default(),
        provider: None,
        double_encoded: false,
        hide_existence: false,
        shadow: Shadow::default(),
    }
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

fn system<'a>(interactions: impl IntoIterator<Item = &'a str>) -> System {
    System {
        asid: Asid::parse(ASID).unwrap(),
        ods: OdsCode::parse(ODS).unwrap(),
        interactions: interactions
            .into_iter()
            .map(|id| InteractionId::parse(id).unwrap())
            .collect(),
        name: None,
        fqdn: None,
        active: true,
        shadow: false,
    }
}

fn stored(id: &str, custodian: &str) -> Pointer {
    Pointer {
        id: PointerId::parse(id).ok(),
        status: Status::Current,
        custodian: OdsCode::parse(custodian).unwrap(),
        subject: NhsNumber::parse(PATIENT).unwrap(),
        master_identifier: Some(identifier("urn:oid:1.2.3")),
        replaces: None,
        version: EntityTag::of_version("1"),
    }
}

fn identifier(value: &str) -> Identifier {
    Identifier {
        system: "urn:ietf:rfc:3986".to_owned(),
        value: value.to_owned(),
    }
}

fn document(custodian: &str, target: Option<&Value>) -> Vec<u8> {
    let mut pointer = json!({
        "resourceType": "DocumentReference",
        "status": "current",
        "subject": {"reference": format!("{}{PATIENT}", NhsNumber::REFERENCE_PREFIX)},
        "author": [{"reference": format!("{ORGANISATION_PREFIX}{ODS}")}],
        "custodian": {"reference": format!("{ORGANISATION_PREFIX}{custodian}")},
    });
    if let Some(target) = target {
        pointer["relatesTo"] = json!([{"code": "replaces", "target": target}]);
    }
    pointer.to_string().into_bytes()
}

fn status_update() -> Vec<u8> {
    json!({"resourceType": "Parameters", "parameter": [{"name": "operation", "part": [
        {"name": "type", "valueCode": "replace"},
        {"name": "path", "valueString": "DocumentReference.status"},
        {"name": "value", "valueString": "entered-in-error"},
    ]}]})
    .to_string()
    .into_bytes()
}

fn token(claims: &Value) -> String {
    format!(
        "{}.{}.",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#),
        URL_SAFE_NO_PAD.encode(claims.to_string())
    )
}
