//! What the streams are made of: requests that are authorised, and what breaks them.

use std::sync::OnceLock;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::nrl::{NhsNumber, ORGANISATION_PREFIX};

/// The time of every connection, in seconds since 1970.
pub(super) const NOW: u64 = 1_700_000_000;
pub(super) const ASID: &str = "200000000205";
pub(super) const ODS: &str = "RR8";
pub(super) const INTERACTIONS: [&str; 5] = [
    "urn:nhs:names:services:nrl:DocumentReference.read",
    "urn:nhs:names:services:nrl:DocumentReference.search",
    "urn:nhs:names:services:nrl:DocumentReference.create",
    "urn:nhs:names:services:nrl:DocumentReference.update",
    "urn:nhs:names:services:nrl:DocumentReference.delete",
];
const GATEWAY: &str = "999999999999";
const USER: &str = "https://fhir.nhs.uk/Id/sds-role-profile-id|555021935107";
const PATIENT: &str = "9876543210";
/// The first byte that stands for a piece.
const FIRST: u8 = 0xc0;

/// How many bytes stand for pieces.
pub const PIECES: usize = 40;

/// A stream of a fuzzer's input: bytes from 0xc0 on stand for pieces of requests, all others for themselves.
#[must_use]
pub fn expand(input: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    for byte in input {
        match pieces().get(usize::from(byte.wrapping_sub(FIRST))) {
            Some(piece) if *byte >= FIRST => stream.extend_from_slice(piece.as_bytes()),
            _ => stream.push(*byte),
        }
    }
    stream
}

/// Inputs to begin with, by name: the length of the pieces, then what is to be expanded.
#[must_use]
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let of = |piece: u8, numbers: &[u8]| {
        let numbers = numbers.iter().map(|number| FIRST + number);
        [piece].into_iter().chain(numbers).collect()
    };
    vec![
        ("read", of(255, &[0, 1, 2, 3])),
        ("read-byte-by-byte", of(0, &[0, 1, 2, 3])),
        ("search-twice", of(7, &[5, 1, 2, 3, 5, 1, 2, 3])),
        ("create", of(255, &[6, 1, 4, 11, 12, 10])),
        ("create-in-chunks", of(40, &[6, 1, 4, 11, 13, 14, 10, 15, 16])),
        ("create-for-another", of(255, &[6, 1, 4, 11, 29, 30])),
        (
            "create-pipelined",
            of(255, &[6, 1, 4, 11, 12, 10, 0, 1, 2, 3, 6, 1, 4, 11, 12, 10]),
        ),
        ("supersede", of(255, &[6, 1, 4, 11, 27, 28])),
        ("update", of(255, &[8, 1, 4, 11, 25, 26])),
        ("update-anothers", of(255, &[9, 1, 4, 11, 25, 26])),
        ("delete", of(255, &[7, 1, 4, 3])),
        ("delete-anothers", of(255, &[31, 1, 4, 3])),
        (
            "length-and-coding",
            of(255, &[6, 1, 4, 11, 17, 13, 14, 10, 15, 16, 0, 1, 2, 3]),
        ),
        ("smuggled-in-a-body", of(255, &[6, 1, 4, 11, 32, 3, 0, 1, 2, 3])),
        ("expect", of(255, &[6, 1, 4, 11, 20, 12, 10, 0, 1, 2, 3])),
        ("close", of(255, &[0, 1, 2, 19, 3, 0, 1, 2, 3])),
        ("part", of(255, &[0, 1, 2, 3, 6, 1, 4, 11, 12])),
        ("empty-line", of(255, &[3, 0, 1, 2, 3])),
        ("url", of(255, &[33, 1, 2, 3])),
        ("another-asid", of(255, &[0, 1, 2, 34, 3, 0, 1, 2, 3])),
        ("refused-with-a-body", of(255, &[6, 1, 2, 11, 12, 10, 0, 1, 2, 3])),
    ]
}

/// What the upstream has under a target of the gateway's own questions.
pub(super) fn stored(target: &str) -> Option<String> {
    let with_id = |id: &str, custodian: &str| {
        let mut pointer = document(custodian, id);
        pointer["id"] = json!(id);
        pointer
    };
    let (own, anothers) = (with_id("own", ODS), with_id("anothers", "RGD"));
    match target.strip_prefix("/STU3/DocumentReference")? {
        "/own" => Some(own.to_string()),
        "/anothers" => Some(anothers.to_string()),
        rest if rest.starts_with('?') => {
            let entries = [own, anothers].map(|pointer| json!({ "resource": pointer }));
            Some(
                json!({ "resourceType": "Bundle", "type": "searchset", "total": 2, "entry": entries })
                    .to_string(),
            )
        }
        _ => None,
    }
}

/// The pieces by their numbers. The first ones make requests that are authorised.
fn pieces() -> &'static [String; PIECES] {
    static ALL: OnceLock<[String; PIECES]> = OnceLock::new();
    ALL.get_or_init(|| {
        let line =
            |method: &str, target: &str| format!("{method} /STU3/DocumentReference{target} HTTP/1.1\r\n");
        let search = format!(
            "?subject={}{PATIENT}",
            NhsNumber::REFERENCE_PREFIX
                .replace(':', "%3A")
                .replace('/', "%2F")
        );
        let create = document(ODS, "new").to_string();
        let foreign = document("RGD", "new").to_string();
        let mut superseding = document(ODS, "new");
        superseding["relatesTo"] = json!([{ "code": "replaces", "target": {
            "reference": "https://nrl.nhs.uk/STU3/DocumentReference/own" } }]);
        let superseding = superseding.to_string();
        let update = json!({ "resourceType": "Parameters", "parameter": [{ "name": "operation", "part": [
            { "name": "type", "valueCode": "replace" },
            { "name": "path", "valueString": "DocumentReference.status" },
            { "name": "value", "valueString": "entered-in-error" },
        ]}]})
        .to_string();
        let length = |body: &str| format!("Content-Length: {}\r\n\r\n", body.len());
        let read = format!("{}{}", line("GET", "/smuggled"), "Host: edge.nhs.uk\r\n");
        [
            line("GET", "/own"),
            format!("Host: edge.nhs.uk\r\nfromASID: {ASID}\r\ntoASID: {GATEWAY}\r\n"),
            format!("Authorization: Bearer {}\r\n", token("read")),
            "\r\n".to_owned(),
            format!("Authorization: Bearer {}\r\n", token("write")),
            line("GET", &search),
            line("POST", ""),
            line("DELETE", "/own"),
            line("PATCH", "/own"),
            line("PATCH", "/anothers"),
            create.clone(),
            "Content-Type: application/fhir+json\r\n".to_owned(),
            length(&create),
            "Transfer-Encoding: chunked\r\n\r\n".to_owned(),
            format!("{:x}\r\n", create.len()),
            "\r\n0\r\n".to_owned(),
            "\r\n".to_owned(),
            format!("Content-Length: {}\r\n", create.len()),
            "0\r\n\r\n".to_owned(),
            "Connection: close\r\n".to_owned(),
            "Expect: 100-continue\r\n".to_owned(),
            "Content-Length: 0\r\n\r\n".to_owned(),
            "Transfer-Encoding : chunked\r\n".to_owned(),
            "X-A: b\nTransfer-Encoding: chunked\r\n".to_owned(),
            "1;a=b\r\n".to_owned(),
            length(&update),
            update,
            length(&superseding),
            superseding,
            length(&foreign),
            foreign,
            line("DELETE", "/anothers"),
            length(&read),
            "GET https://edge.nhs.uk/STU3/DocumentReference/own HTTP/1.1\r\n".to_owned(),
            "fromASID: 200000000999\r\n".to_owned(),
            "\n".to_owned(),
            "X_Spinegate_Asid: 1\r\n".to_owned(),
            "Content-Length: 5\r\n\r\nGET /".to_owned(),
            "InteractionID: urn:nhs:names:services:nrl:DocumentReference.read\r\n".to_owned(),
            "Accept: application/fhir+json\r\n".to_owned(),
        ]
    })
}

fn document(custodian: &str, name: &str) -> Value {
    json!({
        "resourceType": "DocumentReference",
        "masterIdentifier": { "system": "urn:ietf:rfc:3986", "value": format!("urn:oid:1.2.{}", name.len()) },
        "status": "current",
        "subject": { "reference": format!("{}{PATIENT}", NhsNumber::REFERENCE_PREFIX) },
        "author": [{ "reference": format!("{ORGANISATION_PREFIX}{ODS}") }],
        "custodian": { "reference": format!("{ORGANISATION_PREFIX}{custodian}") },
    })
}

fn token(access: &str) -> String {
    let mut claims = json!({
        "iss": "https://system.nhs.uk", "aud": "https://nrl.nhs.uk",
        "sub": format!("https://fhir.nhs.uk/Id/accredited-system|{ASID}"),
        "iat": NOW, "exp": NOW + 300,
        "reason_for_request": "directcare",
        "scope": format!("patient/DocumentReference.{access}"),
        "requesting_system": format!("https://fhir.nhs.uk/Id/accredited-system|{ASID}"),
        "requesting_organization": format!("https://fhir.nhs.uk/Id/ods-organization-code|{ODS}"),
    });
    if access == "read" {
        // Who reads does so on somebody's behalf.
        claims["sub"] = USER.into();
        claims["requesting_user"] = USER.into();
    }
    let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    format!(
        "{}.{}.",
        encode(&json!({ "alg": "none", "typ": "JWT" })),
        encode(&claims)
    )
}
