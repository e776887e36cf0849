//! Requests: who may do what to whose pointer (R1 to R5), told from the answers, the audit log and the database.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use spinegate_tests::{
    client::{Answer, Message, NHS_NUMBER, OTHER_NHS_NUMBER, Token, identifier_of, pointer, superseding},
    json::at,
    lab::{
        CONSUMER, FQDN_BOUND, INACTIVE, Interaction, Lab, OTHER_PROVIDER, PROVIDER, System, UNKNOWN_ASID,
        WRITER,
    },
    netns::Host,
    suite::Suite,
};

fn main() -> ExitCode {
    Suite {
        name: "requests",
        edit: |_| {},
        tests: spinegate_tests::tests![
            a_pointer_is_created_read_found_updated_and_deleted_by_its_owner,
            a_pointer_is_superseded_by_its_owner,
            an_asid_that_is_not_registered_is_refused,
            an_asid_that_is_switched_off_is_refused,
            an_asid_must_be_sent_once_and_well_formed,
            the_receivers_asid_must_be_the_gateways,
            an_interaction_that_the_asid_lacks_is_refused,
            an_interaction_header_that_contradicts_the_request_is_refused,
            an_asid_with_a_registered_fqdn_needs_the_certificate_of_that_name,
            a_token_that_is_missing_or_malformed_is_refused,
            a_token_without_a_mandatory_claim_is_refused,
            a_token_of_another_system_is_refused,
            a_token_of_another_organisation_is_refused,
            another_owners_pointer_cannot_be_created,
            another_owners_pointer_cannot_be_superseded,
            another_owners_pointer_cannot_be_updated,
            another_owners_pointer_cannot_be_deleted,
            another_patients_pointer_cannot_be_superseded,
            a_pointer_that_does_not_exist_cannot_be_changed,
            a_method_that_the_api_lacks_is_refused,
            a_path_that_the_api_lacks_is_refused,
            a_parameter_that_the_api_lacks_is_refused,
            a_body_that_is_no_pointer_is_refused,
            a_body_that_cannot_be_checked_is_refused,
            a_body_of_any_bytes_is_refused_and_the_gateway_lives,
            a_refusal_is_an_operation_outcome_of_spines_profile,
            every_decision_is_in_the_audit_log,
            a_connection_serves_request_after_request,
            without_an_upstream_the_answer_is_502_and_the_connection_is_kept,
        ],
    }
    .run()
}

fn a_pointer_is_created_read_found_updated_and_deleted_by_its_owner(lab: &mut Lab) -> Result<()> {
    let id = create(lab, &pointer(PROVIDER.ods, NHS_NUMBER))?;
    let read = lab
        .client(Host::Ssp)
        .answer(&Message::read(&id).from(&CONSUMER))?;
    ensure!(
        read.status == 200 && *at(&read.json()?, "/id") == *id,
        "{read}: {}",
        read.body
    );
    let found = lab
        .client(Host::Ssp)
        .answer(&Message::search(NHS_NUMBER).from(&CONSUMER))?;
    ensure!(
        found.status == 200 && found.body.contains(&id),
        "{found}: {}",
        found.body
    );

    allowed(lab, &Message::update(&id).from(&PROVIDER), 200)?;
    ensure!(status_of(lab, &id)? == "entered-in-error");
    let other = create(lab, &pointer(PROVIDER.ods, NHS_NUMBER))?;
    allowed(lab, &Message::delete(&other).from(&PROVIDER), 200)?;
    ensure!(
        lab.database()
            .pointer(&other)?
            .is_none_or(|stored| stored.deleted),
        "{other} is still there"
    );
    Ok(())
}

fn a_pointer_is_superseded_by_its_owner(lab: &mut Lab) -> Result<()> {
    let old = pointer(PROVIDER.ods, NHS_NUMBER);
    let old_id = create(lab, &old)?;
    let new_id = create(lab, &superseding(pointer(PROVIDER.ods, NHS_NUMBER), &old))?;
    ensure!(status_of(lab, &old_id)? == "superseded" && status_of(lab, &new_id)? == "current");
    Ok(())
}

fn an_asid_that_is_not_registered_is_refused(lab: &mut Lab) -> Result<()> {
    let unknown = System {
        asid: UNKNOWN_ASID,
        ..CONSUMER
    };
    refused(lab, &search().from(&unknown), 400, "asid_unknown").map(drop)
}

fn an_asid_that_is_switched_off_is_refused(lab: &mut Lab) -> Result<()> {
    refused(lab, &search().from(&INACTIVE), 403, "asid_inactive").map(drop)
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

fn an_interaction_that_the_asid_lacks_is_refused(lab: &mut Lab) -> Result<()> {
    let id = create(lab, &pointer(PROVIDER.ods, NHS_NUMBER))?;
    for (message, system) in [
        (Message::read(&id), WRITER),
        (search(), WRITER),
        (Message::update(&id), WRITER),
        (Message::delete(&id), WRITER),
        (Message::create(&pointer(CONSUMER.ods, NHS_NUMBER)), CONSUMER),
    ] {
        let refused = unchanged(lab, &message.from(&system), 403, "interaction_not_allowed")?;
        ensure!(refused.spine_code() == "ACCESS_DENIED", "{refused}");
    }
    allowed(
        lab,
        &Message::create(&pointer(WRITER.ods, NHS_NUMBER)).from(&WRITER),
        201,
    )
    .map(drop)
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

fn an_asid_with_a_registered_fqdn_needs_the_certificate_of_that_name(lab: &mut Lab) -> Result<()> {
    let message = search().from(&FQDN_BOUND);
    let answer = lab.client(Host::Ssp).with("system")?.answer(&message)?;
    ensure!(answer.status == 200, "with its own certificate: {answer}");
    refused(lab, &message, 401, "asid_fqdn_mismatch").map(drop)
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

fn a_token_of_another_system_is_refused(lab: &mut Lab) -> Result<()> {
    let message = search().from(&CONSUMER).token(&Token::of(&PROVIDER, "read"));
    refused(lab, &message, 400, "jwt_asid_mismatch").map(drop)
}

fn a_token_of_another_organisation_is_refused(lab: &mut Lab) -> Result<()> {
    let elsewhere = System {
        ods: OTHER_PROVIDER.ods,
        ..CONSUMER
    };
    refused(lab, &search().from(&elsewhere), 400, "jwt_ods_mismatch").map(drop)
}

fn another_owners_pointer_cannot_be_created(lab: &mut Lab) -> Result<()> {
    let message = Message::create(&pointer(PROVIDER.ods, NHS_NUMBER)).from(&OTHER_PROVIDER);
    not_owned(&unchanged(lab, &message, 400, "not_owner")?)
}

fn another_owners_pointer_cannot_be_superseded(lab: &mut Lab) -> Result<()> {
    let old = pointer(PROVIDER.ods, NHS_NUMBER);
    create(lab, &old)?;
    let new = |ods| Message::create(&superseding(pointer(ods, NHS_NUMBER), &old)).from(&OTHER_PROVIDER);
    not_owned(&unchanged(
        lab,
        &new(OTHER_PROVIDER.ods),
        400,
        "target_not_owner",
    )?)?;
    not_owned(&unchanged(lab, &new(PROVIDER.ods), 400, "not_owner")?)
}

fn another_owners_pointer_cannot_be_updated(lab: &mut Lab) -> Result<()> {
    let id = create(lab, &pointer(PROVIDER.ods, NHS_NUMBER))?;
    not_owned(&unchanged(
        lab,
        &Message::update(&id).from(&OTHER_PROVIDER),
        400,
        "not_owner",
    )?)?;
    ensure!(status_of(lab, &id)? == "current");
    Ok(())
}

fn another_owners_pointer_cannot_be_deleted(lab: &mut Lab) -> Result<()> {
    let id = create(lab, &pointer(PROVIDER.ods, NHS_NUMBER))?;
    not_owned(&unchanged(
        lab,
        &Message::delete(&id).from(&OTHER_PROVIDER),
        400,
        "not_owner",
    )?)?;
    ensure!(status_of(lab, &id)? == "current");
    Ok(())
}

fn another_patients_pointer_cannot_be_superseded(lab: &mut Lab) -> Result<()> {
    let old = pointer(PROVIDER.ods, NHS_NUMBER);
    create(lab, &old)?;
    let mut new = superseding(pointer(PROVIDER.ods, OTHER_NHS_NUMBER), &old);
    // By its literal reference, since a masterIdentifier is looked up among the new pointer's patient's.
    let old_id = lab
        .database()
        .pointers()?
        .into_iter()
        .find(|stored| stored.body.get("masterIdentifier") == old.get("masterIdentifier"));
    if let (Some(old), Some(target)) = (old_id, new.pointer_mut("/relatesTo/0")) {
        let url = format!("https://edge.lab.nhs.uk/STU3/DocumentReference/{}", old.id);
        *target = json!({ "code": "replaces", "target": { "reference": url } });
    }
    let refused = unchanged(
        lab,
        &Message::create(&new).from(&PROVIDER),
        400,
        "target_patient_mismatch",
    )?;
    not_owned(&refused)
}

fn a_pointer_that_does_not_exist_cannot_be_changed(lab: &mut Lab) -> Result<()> {
    let absent = "5d9d0f1e-9a4c-4a39-8a37-0f6b9f2c1b11-00000000000000000000";
    unchanged(
        lab,
        &Message::update(absent).from(&PROVIDER),
        404,
        "pointer_not_found",
    )?;
    unchanged(
        lab,
        &Message::delete(absent).from(&PROVIDER),
        404,
        "pointer_not_found",
    )?;
    let never = pointer(PROVIDER.ods, NHS_NUMBER);
    let message = Message::create(&superseding(pointer(PROVIDER.ods, NHS_NUMBER), &never)).from(&PROVIDER);
    unchanged(lab, &message, 400, "target_not_found").map(drop)
}

fn a_method_that_the_api_lacks_is_refused(lab: &mut Lab) -> Result<()> {
    for method in ["PUT", "OPTIONS", "TRACE", "PROPFIND", "get"] {
        let message = Message::new(method, "/STU3/DocumentReference/1", "write").from(&PROVIDER);
        unchanged(lab, &message, 405, "method_unknown")?;
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
        "/STU3/DocumentReference/../Patient",
        "/STU3/DocumentReference/%2e%2e",
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
        unchanged(lab, &Message::create(&body).from(&PROVIDER), 400, "body_invalid")?;
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
        unchanged(lab, &message, 400, "body_invalid")?;
    }
    Ok(())
}

fn a_body_that_cannot_be_checked_is_refused(lab: &mut Lab) -> Result<()> {
    for media_type in [
        "application/fhir+xml",
        "text/plain",
        "application/x-www-form-urlencoded",
    ] {
        let message = Message::create(&pointer(PROVIDER.ods, NHS_NUMBER)).from(&PROVIDER);
        unchanged(
            lab,
            &message.header("Content-Type", media_type),
            415,
            "media_type_unsupported",
        )?;
    }
    let large = "x".repeat(2 << 20);
    let message = Message::create(&json!({ "resourceType": large })).from(&PROVIDER);
    unchanged(lab, &message, 413, "body_too_large").map(drop)
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
        unchanged(lab, &message, 400, "body_invalid")?;
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

fn every_decision_is_in_the_audit_log(lab: &mut Lab) -> Result<()> {
    let mark = lab.audit().mark()?;
    allowed(lab, &search().from(&CONSUMER), 200)?;
    refused(lab, &search().from(&WRITER), 403, "interaction_not_allowed")?;
    let entries = lab.audit().since(mark)?;
    let request = |asid: &str| {
        entries
            .iter()
            .find(|entry| entry.to_string().contains(asid) && entry.get("request").is_some())
    };
    let (consumer, writer) = (request(CONSUMER.asid), request(WRITER.asid));
    ensure!(
        consumer.is_some_and(|entry| entry.to_string().contains(Interaction::Search.urn())),
        "{entries:#?}"
    );
    ensure!(
        writer.is_some_and(|entry| *at(entry, "/reason") == "interaction_not_allowed"),
        "{entries:#?}"
    );
    ensure!(
        at(consumer.unwrap_or(&Value::Null), "/decision") != at(writer.unwrap_or(&Value::Null), "/decision")
    );
    Ok(())
}

fn a_connection_serves_request_after_request(lab: &mut Lab) -> Result<()> {
    let (codes, connections) = lab.client(Host::Ssp).repeat(&search().from(&CONSUMER), 25)?;
    ensure!(codes == [200; 25], "{codes:?}");
    ensure!(connections == 1, "{connections} connections for 25 requests");
    Ok(())
}

fn without_an_upstream_the_answer_is_502_and_the_connection_is_kept(lab: &mut Lab) -> Result<()> {
    lab.kill_locator()?;
    let answer = refused(lab, &search().from(&CONSUMER), 502, "upstream_unreachable")?;
    ensure!(
        *at(&answer.json()?, "/resourceType") == "OperationOutcome",
        "{}",
        answer.body
    );
    let (codes, connections) = lab.client(Host::Ssp).repeat(&search().from(&CONSUMER), 5)?;
    ensure!(
        codes == [502; 5] && connections == 1,
        "{codes:?} over {connections} connections"
    );
    lab.start_locator()?;
    allowed(lab, &search().from(&CONSUMER), 200).map(drop)
}

fn search() -> Message {
    Message::search(NHS_NUMBER)
}

fn create(lab: &Lab, pointer: &Value) -> Result<String> {
    identifier_of(&allowed(lab, &Message::create(pointer).from(&PROVIDER), 201)?)
}

fn allowed(lab: &Lab, message: &Message, status: u16) -> Result<Answer> {
    let answer = lab.client(Host::Ssp).answer(message)?;
    ensure!(answer.status == status, "{message}: {answer}: {}", answer.body);
    Ok(answer)
}

fn refused(lab: &Lab, message: &Message, status: u16, wanted: &str) -> Result<Answer> {
    let mark = lab.audit().mark()?;
    let client = lab.client(Host::Ssp);
    let answer = client.answer(message)?;
    ensure!(
        answer.status == status,
        "{message} must get {status} ({wanted}), but: {answer}: {}",
        answer.body
    );
    let reason = lab.audit().refusal(mark, &client.address())?;
    ensure!(
        reason == wanted,
        "{message} was refused for {reason}, not for {wanted}"
    );
    Ok(answer)
}

/// Refused, and nothing in the database is other than it was.
fn unchanged(lab: &Lab, message: &Message, status: u16, wanted: &str) -> Result<Answer> {
    let before = lab.database().pointers()?;
    let answer = refused(lab, message, status, wanted)?;
    ensure!(
        lab.database().pointers()? == before,
        "{message} was refused, but changed the database"
    );
    Ok(answer)
}

fn not_owned(answer: &Answer) -> Result<()> {
    ensure!(
        answer.spine_code() == "INVALID_RESOURCE",
        "{answer}: {}",
        answer.body
    );
    Ok(())
}

fn status_of(lab: &Lab, id: &str) -> Result<String> {
    Ok(lab
        .database()
        .pointer(id)?
        .map_or_else(|| "absent".to_owned(), |stored| stored.status))
}
