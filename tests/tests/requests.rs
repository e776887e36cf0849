//! Requests: who may do what to whose pointer (R1 to R5), told from the answers, the audit log and the database.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use spinegate_tests::{
    client::{Answer, Message, NHS_NUMBER, OTHER_NHS_NUMBER, Token, pointer, superseding},
    expect::{allowed, created, refused, refused_unchanged, stored_status},
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
            an_interaction_that_the_asid_lacks_is_refused,
            an_asid_with_a_registered_fqdn_needs_the_certificate_of_that_name,
            a_token_of_another_system_is_refused,
            a_token_of_another_organisation_is_refused,
            another_owners_pointer_cannot_be_created,
            another_owners_pointer_cannot_be_superseded,
            another_owners_pointer_cannot_be_updated,
            another_owners_pointer_cannot_be_deleted,
            another_patients_pointer_cannot_be_superseded,
            a_pointer_that_does_not_exist_cannot_be_changed,
            every_decision_is_in_the_audit_log,
            a_connection_serves_request_after_request,
            without_an_upstream_the_answer_is_502_and_the_connection_is_kept,
        ],
    }
    .run()
}

fn a_pointer_is_created_read_found_updated_and_deleted_by_its_owner(lab: &mut Lab) -> Result<()> {
    let id = created(lab, &pointer(PROVIDER.ods, NHS_NUMBER))?;
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
    ensure!(stored_status(lab, &id)? == "entered-in-error");
    let other = created(lab, &pointer(PROVIDER.ods, NHS_NUMBER))?;
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
    let old_id = created(lab, &old)?;
    let new_id = created(lab, &superseding(pointer(PROVIDER.ods, NHS_NUMBER), &old))?;
    ensure!(stored_status(lab, &old_id)? == "superseded" && stored_status(lab, &new_id)? == "current");
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

fn an_interaction_that_the_asid_lacks_is_refused(lab: &mut Lab) -> Result<()> {
    let id = created(lab, &pointer(PROVIDER.ods, NHS_NUMBER))?;
    let create = Message::create(&pointer(CONSUMER.ods, NHS_NUMBER));
    for (message, system, interaction) in [
        (Message::read(&id), WRITER, Interaction::Read),
        (search(), WRITER, Interaction::Search),
        (Message::update(&id), WRITER, Interaction::Update),
        (Message::delete(&id), WRITER, Interaction::Delete),
        (create, CONSUMER, Interaction::Create),
    ] {
        let message = message.from(&system);
        let declaring = message.clone().header("InteractionID", interaction.urn());
        for message in [message, declaring] {
            let refused = refused_unchanged(lab, &message, 403, "interaction_not_allowed")?;
            ensure!(refused.spine_code() == "ACCESS_DENIED", "{refused}");
        }
    }
    allowed(
        lab,
        &Message::create(&pointer(WRITER.ods, NHS_NUMBER)).from(&WRITER),
        201,
    )
    .map(drop)
}

fn an_asid_with_a_registered_fqdn_needs_the_certificate_of_that_name(lab: &mut Lab) -> Result<()> {
    let message = search().from(&FQDN_BOUND);
    let answer = lab.client(Host::Ssp).with("system")?.answer(&message)?;
    ensure!(answer.status == 200, "with its own certificate: {answer}");
    refused(lab, &message, 401, "asid_fqdn_mismatch").map(drop)
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
    not_owned(&refused_unchanged(lab, &message, 400, "not_owner")?)
}

fn another_owners_pointer_cannot_be_superseded(lab: &mut Lab) -> Result<()> {
    let old = pointer(PROVIDER.ods, NHS_NUMBER);
    created(lab, &old)?;
    let new = |ods| Message::create(&superseding(pointer(ods, NHS_NUMBER), &old)).from(&OTHER_PROVIDER);
    not_owned(&refused_unchanged(
        lab,
        &new(OTHER_PROVIDER.ods),
        400,
        "target_not_owner",
    )?)?;
    not_owned(&refused_unchanged(lab, &new(PROVIDER.ods), 400, "not_owner")?)?;
    // One's own pointer can't be replaced by another owner's either.
    let own = pointer(OTHER_PROVIDER.ods, NHS_NUMBER);
    allowed(lab, &Message::create(&own).from(&OTHER_PROVIDER), 201)?;
    let new = superseding(pointer(PROVIDER.ods, NHS_NUMBER), &own);
    let message = Message::create(&new).from(&OTHER_PROVIDER);
    not_owned(&refused_unchanged(lab, &message, 400, "not_owner")?)
}

fn another_owners_pointer_cannot_be_updated(lab: &mut Lab) -> Result<()> {
    let id = created(lab, &pointer(PROVIDER.ods, NHS_NUMBER))?;
    refused_unchanged(lab, &Message::update(&id).from(&OTHER_PROVIDER), 404, "not_owner")?;
    ensure!(stored_status(lab, &id)? == "current");
    Ok(())
}

fn another_owners_pointer_cannot_be_deleted(lab: &mut Lab) -> Result<()> {
    let id = created(lab, &pointer(PROVIDER.ods, NHS_NUMBER))?;
    refused_unchanged(lab, &Message::delete(&id).from(&OTHER_PROVIDER), 404, "not_owner")?;
    ensure!(stored_status(lab, &id)? == "current");
    Ok(())
}

fn another_patients_pointer_cannot_be_superseded(lab: &mut Lab) -> Result<()> {
    let old = pointer(PROVIDER.ods, NHS_NUMBER);
    created(lab, &old)?;
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
    let refused = refused_unchanged(
        lab,
        &Message::create(&new).from(&PROVIDER),
        400,
        "target_patient_mismatch",
    )?;
    not_owned(&refused)
}

fn a_pointer_that_does_not_exist_cannot_be_changed(lab: &mut Lab) -> Result<()> {
    let absent = "5d9d0f1e-9a4c-4a39-8a37-0f6b9f2c1b11-00000000000000000000";
    refused_unchanged(
        lab,
        &Message::update(absent).from(&PROVIDER),
        404,
        "pointer_not_found",
    )?;
    refused_unchanged(
        lab,
        &Message::delete(absent).from(&PROVIDER),
        404,
        "pointer_not_found",
    )?;
    let never = pointer(PROVIDER.ods, NHS_NUMBER);
    let message = Message::create(&superseding(pointer(PROVIDER.ods, NHS_NUMBER), &never)).from(&PROVIDER);
    refused_unchanged(lab, &message, 400, "target_not_found").map(drop)
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

fn not_owned(answer: &Answer) -> Result<()> {
    ensure!(
        answer.spine_code() == "INVALID_RESOURCE",
        "{answer}: {}",
        answer.body
    );
    Ok(())
}
