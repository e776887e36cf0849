//! NRL requests: right in every part unless a test spoils one.

use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::pointer::subject;
use crate::{
    fhir,
    lab::{GATEWAY_ASID, PORT, System},
    pki::EDGE_FQDN,
};

const JSON: &str = "application/fhir+json";
const XML: &str = "application/fhir+xml";
const POINTERS: &str = "/STU3/DocumentReference";
const RETRIEVAL: &str = "urn:nhs:names:services:nrl:DocumentReference.content.read";
const ROLE_PROFILE: &str = "https://fhir.nhs.uk/Id/sds-role-profile-id|555021935107";

/// A request to the gateway.
#[derive(Clone, Debug)]
pub struct Message {
    method: String,
    target: String,
    scope: &'static str,
    headers: Vec<(String, String)>,
    body: Option<String>,
}

impl Message {
    /// Reads a pointer.
    #[must_use]
    pub fn read(id: &str) -> Self {
        Self::new("GET", &format!("{POINTERS}/{id}"), "read")
    }

    /// Searches a patient's pointers.
    #[must_use]
    pub fn search(nhs_number: &str) -> Self {
        Self::new(
            "GET",
            &format!("{POINTERS}?subject={}", encoded(&subject(nhs_number))),
            "read",
        )
    }

    /// Creates a pointer; supersedes one, where the pointer has `relatesTo`.
    #[must_use]
    pub fn create(pointer: &Value) -> Self {
        Self::new("POST", POINTERS, "write").json(pointer)
    }

    /// Marks a pointer as entered in error (nrl.md section 4.4).
    #[must_use]
    pub fn update(id: &str) -> Self {
        Self::new("PATCH", &format!("{POINTERS}/{id}"), "write").json(&json!({
            "resourceType": "Parameters",
            "parameter": [{ "name": "operation", "part": [
                { "name": "type", "valueCode": "replace" },
                { "name": "path", "valueString": "DocumentReference.status" },
                { "name": "value", "valueString": "entered-in-error" },
            ]}],
        }))
    }

    /// Deletes a pointer.
    #[must_use]
    pub fn delete(id: &str) -> Self {
        Self::new("DELETE", &format!("{POINTERS}/{id}"), "write")
    }

    /// Retrieves a record from a provider, as the Spine Secure Proxy asks for it on behalf of a system.
    #[must_use]
    pub fn retrieve(target: &str, system: &System) -> Self {
        let token = Token::of(system, "read").claim("scope", json!("patient/*.read"));
        Self::new("GET", target, "read")
            .without("toASID")
            .header("Ssp-From", system.asid)
            .header("Ssp-To", GATEWAY_ASID)
            .header("Ssp-InteractionID", RETRIEVAL)
            .header("Ssp-TraceID", &Uuid::new_v4().to_string())
            .token(&token)
    }

    /// The same request for the pointer that has this one's patient and masterIdentifier, which it names by these.
    #[must_use]
    pub fn by_identifier_of(self, pointer: &Value) -> Self {
        let part = |path: &str| encoded(pointer.pointer(path).and_then(Value::as_str).unwrap_or_default());
        let (system, value) = (part("/masterIdentifier/system"), part("/masterIdentifier/value"));
        let subject = part("/subject/reference");
        self.at(&format!(
            "{POINTERS}?subject={subject}&identifier={system}%7C{value}"
        ))
    }

    /// The same request to another target.
    #[must_use]
    pub fn at(self, target: &str) -> Self {
        Self {
            target: target.to_owned(),
            ..self
        }
    }

    /// A request of any method and target, for the scope `read` or `write`.
    #[must_use]
    pub fn new(method: &str, target: &str, scope: &'static str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            scope,
            headers: vec![
                ("Accept".into(), JSON.into()),
                ("toASID".into(), GATEWAY_ASID.into()),
            ],
            body: None,
        }
    }

    /// From this system: its ASID, and a token that says the same.
    #[must_use]
    pub fn from(self, system: &System) -> Self {
        let token = Token::of(system, self.scope);
        self.header("fromASID", system.asid).token(&token)
    }

    /// With this token.
    #[must_use]
    pub fn token(self, token: &Token) -> Self {
        self.header("Authorization", &format!("Bearer {}", token.text()))
    }

    /// With this field instead of any of the same name.
    #[must_use]
    pub fn header(self, name: &str, value: &str) -> Self {
        self.without(name).also(name, value)
    }

    /// With this field beside any of the same name.
    #[must_use]
    pub fn also(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Without any field of this name.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(one, _)| !one.eq_ignore_ascii_case(name));
        self
    }

    /// By another method.
    #[must_use]
    pub fn by(self, method: &str) -> Self {
        Self {
            method: method.to_owned(),
            ..self
        }
    }

    /// With this body as JSON.
    #[must_use]
    pub fn json(self, body: &Value) -> Self {
        self.text(JSON, body.to_string())
    }

    /// With this body of any media type.
    #[must_use]
    pub fn text(self, media_type: &str, body: impl Into<String>) -> Self {
        Self {
            body: Some(body.into()),
            ..self.header("Content-Type", media_type)
        }
    }

    /// The same with its JSON body in XML; without a body, asking for an answer in XML.
    ///
    /// # Errors
    /// The body is not JSON.
    pub fn in_xml(self) -> Result<Self> {
        let message = self.header("Accept", XML);
        match message.body.as_deref().map(serde_json::from_str).transpose()? {
            Some(body) => Ok(message.text(XML, fhir::to_xml(&body))),
            None => Ok(message),
        }
    }

    /// Where it goes.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{EDGE_FQDN}:{PORT}{}", self.target)
    }

    /// Its fields.
    #[must_use]
    pub fn headers(&self) -> &[(String, String)] {
        &self.headers
    }

    pub(super) fn method(&self) -> &str {
        &self.method
    }

    /// Its path and query.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    pub(super) fn body(&self) -> Option<&str> {
        self.body.as_deref()
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.target)
    }
}

/// An unsecured JWT, as the NRL API has it (nrl.md section 5).
#[derive(Clone, Debug)]
pub struct Token {
    /// Its claims, to spoil.
    pub claims: Map<String, Value>,
}

impl Token {
    /// What a system sends on behalf of a professional, with the scope `read` or `write`.
    #[must_use]
    pub fn of(system: &System, scope: &str) -> Self {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let organisation = format!("https://fhir.nhs.uk/Id/ods-organization-code|{}", system.ods);
        let claims = [
            ("iss", json!("https://system.lab.nhs.uk")),
            ("sub", json!(ROLE_PROFILE)),
            ("aud", json!(format!("https://{EDGE_FQDN}{POINTERS}"))),
            ("iat", json!(now)),
            ("exp", json!(now + 300)),
            ("reason_for_request", json!("directcare")),
            ("scope", json!(format!("patient/DocumentReference.{scope}"))),
            (
                "requesting_system",
                json!(format!(
                    "https://fhir.nhs.uk/Id/accredited-system|{}",
                    system.asid
                )),
            ),
            ("requesting_organization", json!(organisation)),
            ("requesting_user", json!(ROLE_PROFILE)),
        ];
        Self {
            claims: claims
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        }
    }

    /// With this claim; with null, without it.
    #[must_use]
    pub fn claim(mut self, name: &str, value: Value) -> Self {
        if value.is_null() {
            self.claims.remove(name);
        } else {
            self.claims.insert(name.to_owned(), value);
        }
        self
    }

    fn text(&self) -> String {
        let header = json!({ "alg": "none", "typ": "JWT" });
        let claims = Value::Object(self.claims.clone());
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        format!("{}.{}.", encode(&header), encode(&claims))
    }
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::PROVIDER;

    #[test]
    fn a_field_replaces_the_one_of_its_name_whatever_its_case() {
        let message = Message::read("1").header("toasid", "1").also("toASID", "2");
        let named = message
            .headers()
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case("toasid"));
        assert_eq!(
            named.map(|(_, value)| value.as_str()).collect::<Vec<_>>(),
            ["1", "2"]
        );
    }

    #[test]
    fn a_token_has_three_sections_the_last_of_them_empty() {
        let text = Token::of(&PROVIDER, "read").claim("sub", Value::Null).text();
        let sections: Vec<_> = text.split('.').collect();
        assert_eq!((sections.len(), sections[2]), (3, ""));
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(sections[1]).unwrap()).unwrap();
        assert!(claims["sub"].is_null());
        assert_eq!(
            claims["requesting_system"],
            "https://fhir.nhs.uk/Id/accredited-system|200000000101"
        );
    }

    #[test]
    fn a_search_names_its_patient_percent_encoded() {
        let patient =
            "?subject=https%3A%2F%2Fdemographics.spineservices.nhs.uk%2FSTU3%2FPatient%2F9876543210";
        assert!(Message::search("9876543210").url().ends_with(patient));
    }
}
