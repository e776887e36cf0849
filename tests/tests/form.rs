//! The form of a request: what is not as the NRL API has it is refused before anyone is asked for permission.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use spinegate_tests::{
    client::{Message, NHS_NUMBER, Token, pointer},
    expect::{allowed, refused, refused_unchanged},
    json::at,
    lab::{CONSUMER, Interaction, Lab, PROVIDER, WRITER},
    netns::Host,
    suite::Suite,
};

fn main() -> ExitCode {
    Suite {
        name: "form",
        edit: |_| {},
        tests: spinegate_tests::tests![
            an_asid_must_be_sent_once_and_well_formed,
            the_receivers_asid_must_be_the_gateways,
            an_interaction_header_that_contradicts_the_request_is_refused,
            a_token_that_is_missing_or_malformed_is_refused,
            a_token_without_a_mandatory_claim_is_refused,
            a_method_that_the_api_lacks_is_refused,
            a_path_that_the_api_lacks_is_refused,
            a_parameter_that_the_api_lacks_is_refused,
            a_body_that_is_no_pointer_is_refused,
            a_body_that_cannot_be_checked_is_refused,
            a_body_of_any_bytes_is_refused_and_the_gateway_lives,
            a_refusal_is_an_operation_outcome_of_spines_profile,
        ],
    }
    .run()
}

fn an_asid_must_be_sent_once_and_well_formed(lab: &mut Lab) -> Result<()> {
    let right = search().from(&CONSUMER);
    refused(lab, &right.clone().without("fromASID"), 400, "from_asid_missing")?;
    refused(
        lab,
        &right.clone().also("fromASID", CONSUMER.asid),
        400,
        "from_asid_missing",
    )?;
    for asid in [
        "20000000010",
        "2000000001033",
        "20000000010x",
        "200000000103,200000000101",
        "２００",
    ] {
        refused(
            lab,
            &right.clone().header("fromASID", asid),
            400,
            "from_asid_invalid",
        )?;
    }
    Ok(())
}

fn the_receivers_asid_must_be_the_gateways(lab: &mut Lab) -> Result<()> {
    let right = search().from(&CONSUMER);
    refused(lab, &right.clone().without("toASID"), 400, "to_asid_missing")?;
    refused(
        lab,
        &right.clone().header("toASID", PROVIDER.asid),
        400,
        "to_asid_invalid",
    )?;
    refused(lab, &right.header("toASID", "nonsense"), 400, "to_asid_invalid").map(drop)
}

fn an_interaction_header_that_contradicts_the_request_is_refused(lab: &mut Lab) -> Result<()> {
    let search = search().from(&CONSUMER);
    allowed(
        lab,
        &search.clone().header("InteractionID", Interaction::Search.urn()),
        200,
    )?;
    refused(
        lab,
        &search.header("InteractionID", Interaction::Read.urn()),
        400,
        "interaction_mismatch",
    )
    .map(drop)
}

fn a_token_that_is_missing_or_malformed_is_refused(lab: &mut Lab) -> Result<()> {
    let right = search().from(&CONSUMER);
    refused(lab, &right.clone().without("Authorization"), 400, "jwt_missing")?;
    refused(
        lab,
        &right.clone().header("Authorization", "Basic dXNlcjpwYXNz"),
        400,
        "jwt_missing",
    )?;
    for text in [
        "Bearer one",
        "Bearer one.two",
        "Bearer !!.??.",
        "Bearer e30.e30.e30.e30",
        "Bearer e30.bnVsbA.",
    ] {
        refused(
            lab,
            &right.clone().header("Authorization", text),
            400,
            "jwt_invalid",
        )?;
    }
    Ok(())
}

fn a_token_without_a_mandatory_claim_is_refused(lab: &mut Lab) -> Result<()> {
    for claim in [
        "iss",
        "sub",
        "aud",
        "iat",
        "exp",
        "reason_for_request",
        "scope",
        "requesting_system",
        "requesting_organization",
    ] {
        let token = Token::of(&CONSUMER, "read").claim(claim, Value::Null);
        let answer = refused(
            lab,
            &search().from(&CONSUMER).token(&token),
            400,
            "jwt_claim_invalid",
        )?;
        ensure!(
            answer.diagnostics().contains(claim),
            "{claim} is not named: {}",
            answer.diagnostics()
        );
    }
    let expired = Token::of(&CONSUMER, "read")
        .claim("iat", json!(1_000_000_000))
        .claim("exp", json!(1_000_000_300));
    refused(
        lab,
        &search().from(&CONSUMER).token(&expired),
        400,
        "jwt_claim_invalid",
    )
    .map(drop)
}

fn a_method_that_the_api_lacks_is_refused(lab: &mut Lab) -> Result<()> {
    for method in ["PUT", "OPTIONS", "PROPFIND", "get"] {
        let message = Message::new(method, "/STU3/DocumentReference/1", "write").from(&PROVIDER);
        refused_unchanged(lab, &message, 405, "method_unknown")?;
    }
    Ok(())
}

fn a_path_that_the_api_lacks_is_refused(lab: &mut Lab) -> Result<()> {
    for path in [
        "/",
        "/STU3",
        "/STU3/metadata",
        "/STU3/Patient/1",
        "/STU3/DocumentReference/1/_history",
        "/STU3//DocumentReference",
        "/stu3/DocumentReference",
        "/STU3/DocumentReference/_search",
    ] {
        refused(
            lab,
            &Message::new("GET", path, "read").from(&CONSUMER),
            404,
            "path_unknown",
        )?;
    }
    Ok(())
}

fn a_parameter_that_the_api_lacks_is_refused(lab: &mut Lab) -> Result<()> {
    let subject = "subject=https%3A%2F%2Fdemographics.spineservices.nhs.uk%2FSTU3%2FPatient%2F9876543210";
    for query in [
        String::new(),
        "subject=nonsense".to_owned(),
        format!("{subject}&{subject}"),
        format!("{subject}&_include=*"),
        format!("{subject}&_id=1"),
        "subject=%zz".to_owned(),
    ] {
        let message =
            Message::new("GET", &format!("/STU3/DocumentReference?{query}"), "read").from(&CONSUMER);
        refused(lab, &message, 400, "parameter_invalid")?;
    }
    Ok(())
}

fn a_body_that_is_no_pointer_is_refused(lab: &mut Lab) -> Result<()> {
    let right = pointer(PROVIDER.ods, NHS_NUMBER);
    let mut faulty = vec![json!({}), json!([]), json!({ "resourceType": "Patient" })];
    for field in ["custodian", "subject", "resourceType"] {
        let mut body = right.clone();
        body.as_object_mut().map(|fields| fields.remove(field));
        faulty.push(body);
    }
    for body in faulty {
        let reason = if body.is_array() {
            "body_malformed"
        } else {
            "body_invalid"
        };
        refused_unchanged(lab, &Message::create(&body).from(&PROVIDER), 400, reason)?;
    }
    for text in [
        "",
        "{",
        "null",
        "{\"resourceType\":\"DocumentReference\",\"resourceType\":\"DocumentReference\"}",
    ] {
        let message = Message::create(&right)
            .text("application/fhir+json", text)
            .from(&PROVIDER);
        refused_unchanged(lab, &message, 400, "body_malformed")?;
    }
    Ok(())
}

fn a_body_that_cannot_be_checked_is_refused(lab: &mut Lab) -> Result<()> {
    for media_type in ["text/xml", "text/plain", "application/x-www-form-urlencoded"] {
        let message = Message::create(&pointer(PROVIDER.ods, NHS_NUMBER)).from(&PROVIDER);
        refused_unchanged(
            lab,
            &message.header("Content-Type", media_type),
            415,
            "media_type_unsupported",
        )?;
    }
    too_large(lab)
}

/// The gateway stops reading, so the client may find its connection broken before it has seen the answer.
fn too_large(lab: &Lab) -> Result<()> {
    let message = Message::create(&json!({ "resourceType": "x".repeat(2 << 20) })).from(&PROVIDER);
    let (mark, before) = (lab.audit().mark()?, lab.database().pointers()?);
    let client = lab.client(Host::Ssp);
    let outcome = client.send(&message)?;
    ensure!(outcome.status().is_none_or(|status| status == 413), "{outcome}");
    let reason = lab.audit().refusal(mark, &client.address())?;
    ensure!(reason == "body_too_large", "refused for {reason}");
    ensure!(lab.database().pointers()? == before, "it changed the database");
    Ok(())
}

fn a_body_of_any_bytes_is_refused_and_the_gateway_lives(lab: &mut Lab) -> Result<()> {
    let pid = at(&lab.agent().json(&["status"])?, "/pid").clone();
    let deep = "[".repeat(100_000);
    for text in [
        "\u{0}",
        "\u{feff}{}",
        "{\"a\":1e999999}",
        "{\"\\ud800\":1}",
        deep.as_str(),
    ] {
        let message = Message::create(&json!({}))
            .text("application/fhir+json", text)
            .from(&PROVIDER);
        refused_unchanged(lab, &message, 400, "body_malformed")?;
    }
    let answer = lab
        .client(Host::Ssp)
        .answer(&search().from(&CONSUMER).header("X-Noise", "\u{7f}\u{80}ÿ"))?;
    ensure!(answer.status == 200 || answer.status == 400, "{answer}");
    ensure!(
        *at(&lab.agent().json(&["status"])?, "/pid") == pid,
        "the agent did not survive"
    );
    Ok(())
}

fn a_refusal_is_an_operation_outcome_of_spines_profile(lab: &mut Lab) -> Result<()> {
    let answer = refused(lab, &search().from(&WRITER), 403, "interaction_not_allowed")?;
    ensure!(
        answer
            .header("content-type")
            .is_some_and(|one| one.starts_with("application/fhir+json")),
        "{answer:?}"
    );
    let body = answer.json()?;
    for (pointer, wanted) in [
        ("/resourceType", "OperationOutcome"),
        (
            "/meta/profile/0",
            "https://fhir.nhs.uk/STU3/StructureDefinition/Spine-OperationOutcome-1",
        ),
        ("/issue/0/severity", "error"),
        (
            "/issue/0/details/coding/0/system",
            "https://fhir.nhs.uk/STU3/CodeSystem/Spine-ErrorOrWarningCode-1",
        ),
    ] {
        ensure!(
            *at(&body, pointer) == wanted,
            "{pointer} is {}",
            at(&body, pointer)
        );
    }
    ensure!(
        answer.diagnostics().contains(WRITER.asid),
        "the ASID is not named: {}",
        answer.diagnostics()
    );
    Ok(())
}

fn search() -> Message {
    Message::search(NHS_NUMBER)
}
