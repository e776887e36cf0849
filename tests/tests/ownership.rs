//! Ownership under whatever name, at whatever time: conditional forms, supersede by each target, what strangers learn, and
//! what holds when requests and reloads overlap.

use std::{
    collections::BTreeMap,
    fs,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use fastrand::Rng;
use serde_json::{Value, json};
use spinegate_tests::{
    client::{Answer, Dialer, Heard, Line, Message, NHS_NUMBER, OTHER_NHS_NUMBER, pointer, superseding},
    expect::{allowed, created, refused, refused_unchanged, stored_status},
    json::at,
    lab::{self, CONSUMER, Lab, OTHER_PROVIDER, PROVIDER, System, section},
    netns::Host,
    seed::seed,
    suite::Suite,
    wait::{wait_for, wait_until},
};
use toml::{Table, Value as Setting};

const ABSENT: &str = "5d9d0f1e-9a4c-4a39-8a37-0f6b9f2c1b11-00000000000000000000";
const POINTERS: &str = "/STU3/DocumentReference";
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    Suite {
        name: "ownership",
        edit: lab::open_limits,
        tests: spinegate_tests::tests![
            a_conditional_form_changes_the_one_pointer_that_it_names,
            a_conditional_form_for_anothers_pointer_changes_nothing,
            what_a_conditional_form_does_not_define_is_refused,
            the_doubly_encoded_form_needs_its_switch,
            a_supersede_is_by_reference_by_identifier_or_by_both_if_they_agree,
            of_anothers_pointer_a_stranger_learns_as_much_as_of_none_and_the_audit_has_the_truth,
            with_existence_shown_a_stranger_is_told_and_the_second_time_without_asking,
            an_owner_that_is_remembered_saves_its_owner_a_round_trip_and_no_stranger_one,
            a_pointer_that_is_changed_between_check_and_use_is_left_alone,
            a_clients_if_match_must_name_the_version_that_was_judged,
            while_the_record_locator_cannot_be_asked_nothing_is_changed,
            no_sequence_of_concurrent_requests_changes_anothers_pointer,
            no_swap_of_registries_allows_what_neither_allows,
        ],
    }
    .run()
}

fn a_conditional_form_changes_the_one_pointer_that_it_names(lab: &mut Lab) -> Result<()> {
    let [updated, deleted, kept] = [(); 3].map(|()| pointer(PROVIDER.ods, NHS_NUMBER));
    let elsewhere = pointer(PROVIDER.ods, OTHER_NHS_NUMBER);
    let [updated_id, deleted_id, kept_id, elsewhere_id] =
        [&updated, &deleted, &kept, &elsewhere].map(|new| created(lab, new));
    let (updated_id, deleted_id, kept_id, elsewhere_id) = (updated_id?, deleted_id?, kept_id?, elsewhere_id?);
    let mark = lab.audit().mark()?;
    let update = Message::update("").by_identifier_of(&updated).from(&PROVIDER);
    let answer = allowed(lab, &update, 200)?;
    ensure!(
        answer.spine_code() == "RESOURCE_UPDATED" && answer.diagnostics().ends_with(&updated_id),
        "{}",
        answer.body
    );
    let entry = request(lab, mark, &updated_id)?;
    ensure!(
        *at(&entry, "/request/action") == "update" && *at(&entry, "/request/custodian") == PROVIDER.ods,
        "{entry}"
    );
    let delete = Message::delete("").by_identifier_of(&deleted).from(&PROVIDER);
    let format = format!("{}&_format=application/fhir+json", delete.target());
    allowed(lab, &delete.at(&format), 200)?;
    let by_parameter = Message::delete("").at(&format!("{POINTERS}?_id={elsewhere_id}"));
    allowed(lab, &by_parameter.from(&PROVIDER), 200)?;

    ensure!(
        stored_status(lab, &updated_id)? == "entered-in-error" && stored_status(lab, &kept_id)? == "current"
    );
    for id in [deleted_id, elsewhere_id] {
        let stored = lab.database().pointer(&id)?;
        ensure!(stored.is_some_and(|stored| stored.deleted), "{id} is still there");
    }
    // And once more: it names none any longer.
    refused_unchanged(lab, &update, 404, "pointer_not_found")?;
    let never = pointer(PROVIDER.ods, NHS_NUMBER);
    let never = Message::delete("").by_identifier_of(&never).from(&PROVIDER);
    refused_unchanged(lab, &never, 404, "pointer_not_found").map(drop)
}

fn a_conditional_form_for_anothers_pointer_changes_nothing(lab: &mut Lab) -> Result<()> {
    let theirs = pointer(PROVIDER.ods, NHS_NUMBER);
    let id = created(lab, &theirs)?;
    for message in [
        Message::update("").by_identifier_of(&theirs),
        Message::delete("").by_identifier_of(&theirs),
        Message::delete("").at(&format!("{POINTERS}?_id={id}")),
    ] {
        refused_unchanged(lab, &message.from(&OTHER_PROVIDER), 404, "not_owner")?;
    }
    // Of one's own patient's identifier with another patient nothing is found.
    let mut other_patient = theirs;
    if let Some(subject) = other_patient.pointer_mut("/subject/reference") {
        *subject = pointer("RR8", OTHER_NHS_NUMBER)
            .pointer("/subject/reference")
            .cloned()
            .unwrap_or_default();
    }
    let message = Message::delete("")
        .by_identifier_of(&other_patient)
        .from(&PROVIDER);
    refused_unchanged(lab, &message, 404, "pointer_not_found").map(drop)
}

fn what_a_conditional_form_does_not_define_is_refused(lab: &mut Lab) -> Result<()> {
    let own = pointer(PROVIDER.ods, NHS_NUMBER);
    let id = created(lab, &own)?;
    let right = Message::delete("").by_identifier_of(&own);
    let with = |more: &str| format!("{}{more}", right.target());
    let subject = right.target().split('&').next().unwrap_or_default().to_owned();
    for target in [
        with("&_cascade=delete"),
        with("&_id=1"),
        with("&custodian=RR8"),
        with("&_method=PUT"),
        with("%2Curn%3Aoid%3A2"),
        with(&format!(
            "&{}",
            with("").split('&').next_back().unwrap_or_default()
        )),
        subject,
        format!("{POINTERS}?identifier=a%7Cb"),
        format!("{POINTERS}?_id={id}&subject=x"),
        format!("{POINTERS}/{id}?_id={id}"),
        POINTERS.to_owned(),
    ] {
        for message in [Message::delete("").at(&target), Message::update("").at(&target)] {
            refused_unchanged(lab, &message.from(&PROVIDER), 400, "parameter_invalid")?;
        }
    }
    let update_by_parameter = Message::update("")
        .at(&format!("{POINTERS}?_id={id}"))
        .from(&PROVIDER);
    refused_unchanged(lab, &update_by_parameter, 400, "parameter_invalid").map(drop)
}

fn the_doubly_encoded_form_needs_its_switch(lab: &mut Lab) -> Result<()> {
    let own = pointer(PROVIDER.ods, NHS_NUMBER);
    let theirs = pointer(OTHER_PROVIDER.ods, NHS_NUMBER);
    let id = created(lab, &own)?;
    allowed(lab, &Message::create(&theirs).from(&OTHER_PROVIDER), 201)?;
    // As on the NRL's pages: the separator is encoded, and the pipe twice.
    let doubly = |new: &Value| {
        let message = Message::delete("").by_identifier_of(new);
        let target = message
            .target()
            .replace("%7C", "%257C")
            .replace("&identifier=", "%26identifier%3D");
        message.at(&target).from(&PROVIDER)
    };
    refused_unchanged(lab, &doubly(&own), 400, "parameter_invalid")?;
    let switch = |on: bool| {
        behind(lab, |gateway| {
            let mut compat = Table::new();
            compat.insert("double_encoded".into(), on.into());
            gateway.insert("compat".into(), compat.into());
        })
    };
    switch(true)?;
    let done = refused_unchanged(lab, &doubly(&theirs), 404, "not_owner")
        .and_then(|_| allowed(lab, &doubly(&own), 200));
    switch(false)?;
    done?;
    ensure!(lab.database().pointer(&id)?.is_some_and(|stored| stored.deleted));
    Ok(())
}

fn a_supersede_is_by_reference_by_identifier_or_by_both_if_they_agree(lab: &mut Lab) -> Result<()> {
    let target = |old: &str| json!({ "reference": format!("https://edge.lab.nhs.uk{POINTERS}/{old}") });
    let with = |identifier: &Value, mut target: Value| {
        if let Some(target) = target.as_object_mut() {
            target.insert("identifier".into(), at(identifier, "/masterIdentifier").clone());
        }
        target
    };
    let new = || pointer(PROVIDER.ods, NHS_NUMBER);
    let [first, second, third] = [(); 3].map(|()| new());
    let first_id = created(lab, &first)?;
    let second_id = created(lab, &replacing(second.clone(), target(&first_id)))?;
    ensure!(stored_status(lab, &first_id)? == "superseded");
    let disagreeing = replacing(new(), with(&first, target(&second_id)));
    refused_unchanged(
        lab,
        &Message::create(&disagreeing).from(&PROVIDER),
        400,
        "target_not_found",
    )?;
    let mark = lab.audit().mark()?;
    created(lab, &replacing(third, with(&second, target(&second_id))))?;
    ensure!(stored_status(lab, &second_id)? == "superseded");
    let entry = request(lab, mark, &second_id)?;
    ensure!(
        *at(&entry, "/request/action") == "supersede"
            && at(&entry, "/request/interaction")
                .as_str()
                .is_some_and(|id| id.ends_with(".create")),
        "{entry}"
    );
    let stale = replacing(new(), target(&first_id));
    refused_unchanged(
        lab,
        &Message::create(&stale).from(&PROVIDER),
        400,
        "target_not_found",
    )?;
    for reference in [
        format!("{POINTERS}/{second_id}"),
        format!("https://edge.lab.nhs.uk{POINTERS}/{second_id}/_history/1"),
        format!("https://edge.lab.nhs.uk{POINTERS}?_id={second_id}"),
        format!("https://edge.lab.nhs.uk/STU3/Patient/{second_id}"),
    ] {
        let odd = replacing(new(), json!({ "reference": reference }));
        refused_unchanged(lab, &Message::create(&odd).from(&PROVIDER), 400, "body_invalid")?;
    }
    Ok(())
}

fn of_anothers_pointer_a_stranger_learns_as_much_as_of_none_and_the_audit_has_the_truth(
    lab: &mut Lab,
) -> Result<()> {
    let theirs = pointer(PROVIDER.ods, NHS_NUMBER);
    let id = created(lab, &theirs)?;
    let never = pointer(PROVIDER.ods, NHS_NUMBER);
    let reference = |id: &str| json!({ "reference": format!("https://edge.lab.nhs.uk{POINTERS}/{id}") });
    let new = || pointer(OTHER_PROVIDER.ods, NHS_NUMBER);
    let by_parameter = |id: &str| Message::delete("").at(&format!("{POINTERS}?_id={id}"));
    let withdrawn = pointer(PROVIDER.ods, NHS_NUMBER);
    let withdrawn_id = created(lab, &withdrawn)?;
    allowed(lab, &Message::update(&withdrawn_id).from(&PROVIDER), 200)?;
    let pairs = [
        (Message::update(&id), Message::update(ABSENT), "not_owner"),
        (Message::delete(&id), Message::delete(ABSENT), "not_owner"),
        (
            Message::delete(&id).header("If-Match", "W/\"7\""),
            Message::delete(ABSENT),
            "not_owner",
        ),
        (by_parameter(&id), by_parameter(ABSENT), "not_owner"),
        (
            Message::delete(&withdrawn_id),
            Message::delete(ABSENT),
            "pointer_not_current",
        ),
        (
            Message::update("").by_identifier_of(&theirs),
            Message::update("").by_identifier_of(&never),
            "not_owner",
        ),
        (
            Message::delete("").by_identifier_of(&theirs),
            Message::delete("").by_identifier_of(&never),
            "not_owner",
        ),
        (
            Message::create(&replacing(new(), reference(&id))),
            Message::create(&replacing(new(), reference(ABSENT))),
            "target_not_owner",
        ),
        (
            Message::create(&superseding(new(), &theirs)),
            Message::create(&superseding(new(), &never)),
            "target_not_owner",
        ),
    ];
    for (foreign, missing, truth) in pairs {
        let (foreign, missing) = (foreign.from(&OTHER_PROVIDER), missing.from(&OTHER_PROVIDER));
        // The second time its owner is remembered.
        for _ in 0..2 {
            let (hidden, trips) = counted(lab, || {
                let status = if truth.starts_with("target") { 400 } else { 404 };
                refused_unchanged(lab, &foreign, status, truth)
            })?;
            let mark = lab.audit().mark()?;
            let client = lab.client(Host::Ssp);
            let (absent, trips_of_absent) = counted(lab, || client.answer(&missing))?;
            let reason = lab.audit().refusal(mark, &client.address())?;
            ensure!(reason.ends_with("_not_found"), "{missing}: {reason}");
            ensure!(
                likeness(&hidden, &foreign, &theirs, &id, &withdrawn_id)?
                    == likeness(&absent, &missing, &never, ABSENT, ABSENT)?,
                "{foreign}: {}\n{missing}: {}",
                hidden.body,
                absent.body
            );
            ensure!(
                (trips, trips_of_absent) == (1, 1),
                "{foreign} asked the locator {trips} times, {missing} {trips_of_absent}"
            );
        }
    }
    Ok(())
}

/// An answer without what differs from request to request, or is the request's own word for the pointer.
fn likeness(answer: &Answer, message: &Message, new: &Value, id: &str, other: &str) -> Result<String> {
    let decision = answer
        .header("x-request-id")
        .with_context(|| format!("{message}: no X-Request-ID"))?;
    let name = at(new, "/masterIdentifier/value").as_str().unwrap_or_default();
    let fields: String = answer
        .headers
        .iter()
        .filter(|(name, _)| name != "date")
        .map(|(name, value)| format!("{name}: {value}\n"))
        .collect();
    let whole = format!("{}\n{fields}\n{}", answer.status, answer.body);
    Ok([decision, name, id, other]
        .iter()
        .fold(whole, |whole, own| whole.replace(own, "…")))
}

fn with_existence_shown_a_stranger_is_told_and_the_second_time_without_asking(lab: &mut Lab) -> Result<()> {
    let theirs = pointer(PROVIDER.ods, NHS_NUMBER);
    let id = created(lab, &theirs)?;
    let show = |hide: bool| {
        behind(lab, |gateway| {
            drop(gateway.insert("hide_existence".into(), hide.into()))
        })
    };
    show(false)?;
    let delete = Message::delete(&id).from(&OTHER_PROVIDER);
    let told = || {
        for trips in [1, 0] {
            let (answer, asked) = counted(lab, || refused_unchanged(lab, &delete, 400, "not_owner"))?;
            ensure!(
                answer.diagnostics() == "The Custodian ODS code is not affiliated with the sender ASID.",
                "{}",
                answer.body
            );
            ensure!(asked == trips, "the locator was asked {asked} times, not {trips}");
        }
        let target = Message::create(&superseding(pointer(OTHER_PROVIDER.ods, NHS_NUMBER), &theirs));
        let answer = refused_unchanged(lab, &target.from(&OTHER_PROVIDER), 400, "target_not_owner")?;
        ensure!(
            answer.diagnostics().contains("not associated with custodian"),
            "{}",
            answer.body
        );
        let absent = Message::delete(ABSENT).from(&OTHER_PROVIDER);
        refused_unchanged(lab, &absent, 404, "pointer_not_found").map(drop)
    };
    let told = told();
    show(true)?;
    told
}

fn an_owner_that_is_remembered_saves_its_owner_a_round_trip_and_no_stranger_one(lab: &mut Lab) -> Result<()> {
    let id = created(lab, &pointer(PROVIDER.ods, NHS_NUMBER))?;
    let stranger = Message::delete(&id).from(&OTHER_PROVIDER);
    let (_, trips) = counted(lab, || refused_unchanged(lab, &stranger, 404, "not_owner"))?;
    ensure!(trips == 1, "{trips}");
    // Known by what the stranger asked: the owner's update goes straight to the locator, which judges the status.
    let update = Message::update(&id).from(&PROVIDER);
    let (_, trips) = counted(lab, || allowed(lab, &update, 200))?;
    ensure!(trips == 1, "{trips}");
    let (answer, trips) = counted(lab, || allowed(lab, &update, 400))?;
    ensure!(
        answer.spine_code() == "BAD_REQUEST" && trips == 1,
        "{answer}, {trips} round trips"
    );
    let (_, trips) = counted(lab, || {
        refused_unchanged(lab, &stranger, 404, "pointer_not_current")
    })?;
    ensure!(trips == 1, "{trips}");
    // A reload remembers nothing.
    let other = created(lab, &pointer(PROVIDER.ods, NHS_NUMBER))?;
    refused_unchanged(
        lab,
        &Message::delete(&other).from(&OTHER_PROVIDER),
        404,
        "not_owner",
    )?;
    lab.agent().order(&["reload"])?;
    let (_, trips) = counted(lab, || {
        allowed(lab, &Message::delete(&other).from(&PROVIDER), 200)
    })?;
    ensure!(trips == 2, "{trips} round trips after a reload");
    Ok(())
}

fn a_pointer_that_is_changed_between_check_and_use_is_left_alone(lab: &mut Lab) -> Result<()> {
    for update in [true, false] {
        let own = pointer(PROVIDER.ods, NHS_NUMBER);
        let id = created(lab, &own)?;
        for message in [
            if update {
                Message::update(&id)
            } else {
                Message::delete(&id)
            },
            if update {
                Message::update("")
            } else {
                Message::delete("")
            }
            .by_identifier_of(&own),
        ] {
            // Otherwise the owner may be remembered, and the version is not looked at.
            lab.agent().order(&["reload"])?;
            let message = message.from(&PROVIDER);
            let mark = lab.audit().mark()?;
            let client = lab.client(Host::Ssp);
            let before = lab.database().pointer(&id)?.context("it is not stored")?;
            let answer = thread::scope(|scope| {
                let asking = lab.database().overtake(&id, || {
                    let asking = scope.spawn(|| client.answer(&message));
                    wait_until("the locator to be asked", PATIENCE, || {
                        Ok(answered(lab)? == 1 && outstanding(lab)? == 1)
                    })?;
                    Ok(asking)
                })?;
                asking.join().map_err(|_| anyhow!("the client panicked"))?
            })?;
            ensure!(
                answer.status == 412 && answer.spine_code() == "BAD_REQUEST",
                "{answer}: {}",
                answer.body
            );
            let reason = lab.audit().refusal(mark, &client.address())?;
            ensure!(reason == "pointer_changed", "{reason}");
            let after = lab.database().pointer(&id)?.context("it is gone")?;
            ensure!(
                (after.version, after.status, after.deleted)
                    == (before.version + 1, before.status, before.deleted),
                "{message} changed it"
            );
        }
        // What is sent again is judged again.
        lab.agent().order(&["reload"])?;
        allowed(lab, &Message::delete(&id).from(&PROVIDER), 200)?;
    }
    Ok(())
}

fn a_clients_if_match_must_name_the_version_that_was_judged(lab: &mut Lab) -> Result<()> {
    let own = pointer(PROVIDER.ods, NHS_NUMBER);
    let id = created(lab, &own)?;
    let read = allowed(lab, &Message::read(&id).from(&CONSUMER), 200)?;
    ensure!(read.header("etag") == Some("W/\"1\""), "{:?}", read.headers);
    for stale in ["W/\"2\"", "1", "\"11\"", ""] {
        for message in [Message::delete(&id), Message::delete("").by_identifier_of(&own)] {
            lab.agent().order(&["reload"])?;
            let message = message.from(&PROVIDER).header("If-Match", stale);
            let message = if stale.is_empty() {
                message.header("If-Match", "\"\"")
            } else {
                message
            };
            refused_unchanged(lab, &message, 412, "version_mismatch")?;
        }
    }
    // With its owner remembered, it is the locator that compares.
    refused(lab, &Message::delete(&id).from(&OTHER_PROVIDER), 404, "not_owner")?;
    let before = lab.database().pointers()?;
    let stale = Message::delete(&id).from(&PROVIDER).header("If-Match", "W/\"2\"");
    allowed(lab, &stale, 412)?;
    ensure!(lab.database().pointers()? == before, "{stale} changed something");
    let right = Message::delete(&id)
        .from(&PROVIDER)
        .header("If-Match", "W/\"0\", W/\"1\"");
    allowed(lab, &right, 200).map(drop)
}

fn while_the_record_locator_cannot_be_asked_nothing_is_changed(lab: &mut Lab) -> Result<()> {
    let own = pointer(PROVIDER.ods, NHS_NUMBER);
    let id = created(lab, &own)?;
    let new = || pointer(PROVIDER.ods, NHS_NUMBER);
    lab.kill_locator()?;
    let before = lab.database().pointers()?;
    for message in [
        Message::update(&id),
        Message::delete(&id),
        Message::delete("").by_identifier_of(&own),
        Message::create(&superseding(new(), &own)),
        Message::create(&new()),
    ] {
        refused(lab, &message.from(&PROVIDER), 502, "upstream_unreachable")?;
    }
    lab.start_locator()?;
    ensure!(lab.database().pointers()? == before);
    // An upstream that was failing may be left alone for a moment.
    lab.agent().order(&["reload"])?;
    allowed(lab, &Message::delete(&id).from(&PROVIDER), 200).map(drop)
}

/// What a system's requests have done, by the answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Done {
    created: usize,
    superseded: usize,
    updated: usize,
    deleted: usize,
}

fn no_sequence_of_concurrent_requests_changes_anothers_pointer(lab: &mut Lab) -> Result<()> {
    const REQUESTS: usize = 120;
    let seed = seed()?;
    let begun = Instant::now();
    let mut shared = Vec::new();
    for system in [PROVIDER, OTHER_PROVIDER].iter().cycle().take(60) {
        let new = pointer(system.ods, NHS_NUMBER);
        allowed(lab, &Message::create(&new).from(system), 201)?;
    }
    for stored in lab.database().pointers()? {
        if stored.status == "current" && !stored.deleted {
            shared.push((stored.id, stored.body));
        }
    }
    let before = changes(lab)?;
    let dialer = lab.client(Host::Ssp).dialer()?;
    let workers = [PROVIDER, OTHER_PROVIDER, PROVIDER, OTHER_PROVIDER];
    let done: Vec<(System, Done)> = thread::scope(|scope| {
        let running: Vec<_> = workers
            .iter()
            .enumerate()
            .map(|(number, system)| {
                let (dialer, shared) = (&dialer, &shared);
                scope.spawn(move || {
                    let rng = Rng::with_seed(seed ^ number as u64);
                    let done = requests(dialer, *system, shared, rng, REQUESTS)?;
                    Ok((*system, done))
                })
            })
            .collect();
        let joined = running
            .into_iter()
            .map(|worker| worker.join().map_err(|_| anyhow!("a worker panicked"))?);
        joined.collect::<Result<_>>()
    })?;
    let after = changes(lab)?;
    for system in [PROVIDER, OTHER_PROVIDER] {
        let mut expected = before.get(system.ods).copied().unwrap_or_default();
        for (_, done) in done.iter().filter(|(by, _)| by.asid == system.asid) {
            expected.created += done.created;
            expected.superseded += done.superseded;
            expected.updated += done.updated;
            expected.deleted += done.deleted;
        }
        let stored = after.get(system.ods).copied().unwrap_or_default();
        ensure!(
            stored == expected,
            "of {}'s pointers the database has {stored:?}, its own requests made {expected:?}",
            system.ods
        );
        ensure!(
            expected.superseded > 0 && expected.updated > 0 && expected.deleted > 0,
            "too little was done: {expected:?}"
        );
    }
    println!(
        "{} requests in {:.1} s: {done:?}",
        workers.len() * REQUESTS,
        begun.elapsed().as_secs_f32()
    );
    Ok(())
}

/// Sends random requests of a system, most of them about pointers that others change at the same time, and counts those
/// that were answered with success.
fn requests(
    dialer: &Dialer,
    system: System,
    shared: &[(String, Value)],
    mut rng: Rng,
    times: usize,
) -> Result<Done> {
    let mut line: Option<Line> = None;
    let mut done = Done::default();
    for _ in 0..times {
        let (id, old) = rng.choice(shared).context("there are no pointers")?;
        // Now and then in the other's name.
        let custodian = if rng.u8(..8) == 0 { "RGD" } else { system.ods };
        let new = || pointer(custodian, NHS_NUMBER);
        let reference = json!({ "reference": format!("https://edge.lab.nhs.uk{POINTERS}/{id}") });
        let mut both = reference.clone();
        if let Some(both) = both.as_object_mut() {
            both.insert("identifier".into(), at(old, "/masterIdentifier").clone());
        }
        let (message, count): (Message, fn(&mut Done)) = match rng.u8(..10) {
            0 => (Message::create(&new()), |done| done.created += 1),
            1 => (Message::update(id), |done| done.updated += 1),
            2 => (Message::update("").by_identifier_of(old), |done| {
                done.updated += 1
            }),
            3 => (Message::delete(id), |done| done.deleted += 1),
            4 => (Message::delete("").by_identifier_of(old), |done| {
                done.deleted += 1
            }),
            5 => (Message::delete("").at(&format!("{POINTERS}?_id={id}")), |done| {
                done.deleted += 1
            }),
            kind => {
                let body = match kind {
                    6 => superseding(new(), old),
                    7 => replacing(new(), both),
                    _ => replacing(new(), reference),
                };
                (Message::create(&body), |done| {
                    done.created += 1;
                    done.superseded += 1;
                })
            }
        };
        let message = match message.from(&system) {
            message if rng.bool() => message.in_xml()?,
            message => message,
        };
        let heard = ask(dialer, &mut line, &message)?;
        match heard.status {
            200 | 201 => count(&mut done),
            400 | 404 | 412 => {}
            status => anyhow::bail!("{message} got {status}: {}", heard.body),
        }
    }
    Ok(done)
}

fn ask(dialer: &Dialer, line: &mut Option<Line>, message: &Message) -> Result<Heard> {
    let mut open = match line.take() {
        Some(line) => line,
        None => dialer.line()?,
    };
    let heard = open.ask(message)?;
    if !heard.closes() {
        *line = Some(open);
    }
    Ok(heard)
}

/// What was done to the pointers of each owner since the database was made.
fn changes(lab: &Lab) -> Result<BTreeMap<String, Done>> {
    let mut all: BTreeMap<String, Done> = BTreeMap::new();
    for stored in lab.database().pointers()? {
        let done = all.entry(stored.custodian).or_default();
        done.created += 1;
        match (stored.deleted, stored.status.as_str()) {
            (true, _) => done.deleted += 1,
            (false, "superseded") => done.superseded += 1,
            (false, "entered-in-error") => done.updated += 1,
            (false, _) => {}
        }
    }
    Ok(all)
}

fn no_swap_of_registries_allows_what_neither_allows(lab: &mut Lab) -> Result<()> {
    const SWAPS: usize = 12;
    let file = lab.files().registry();
    let original = fs::read_to_string(&file)?;
    // In the one the provider has the organisation and lacks the interaction, in the other it is the other way round.
    let changed = |ods: &str, interaction: &str| {
        let mut registry: Table = toml::from_str(&original)?;
        let systems = registry.get_mut("system").and_then(Setting::as_array_mut);
        for system in systems.into_iter().flatten().filter_map(Setting::as_table_mut) {
            if system.get("asid").and_then(Setting::as_str) == Some(PROVIDER.asid) {
                system.insert("ods".into(), ods.into());
                let id = format!("urn:nhs:names:services:nrl:DocumentReference.{interaction}");
                system.insert("interactions".into(), vec![id].into());
            }
        }
        Ok::<_, anyhow::Error>(toml::to_string(&registry)?)
    };
    let registries = [
        changed(PROVIDER.ods, "read")?,
        changed(OTHER_PROVIDER.ods, "create")?,
    ];
    let swap = |text: &str| {
        fs::write(&file, text)?;
        lab.agent().order(&["reload"]).map(drop)
    };
    let [first, _] = &registries;
    swap(first)?;
    let before = lab.database().pointers()?;
    let dialer = lab.client(Host::Ssp).dialer()?;
    let ended = AtomicBool::new(false);
    let statuses = thread::scope(|scope| {
        let asking: Vec<_> = (0..3)
            .map(|_| {
                let (dialer, ended) = (&dialer, &ended);
                scope.spawn(move || {
                    let (mut line, mut statuses) = (None, BTreeMap::<u16, usize>::new());
                    while !ended.load(Ordering::Relaxed) {
                        let create = Message::create(&pointer(PROVIDER.ods, NHS_NUMBER)).from(&PROVIDER);
                        let heard = ask(dialer, &mut line, &create)?;
                        *statuses.entry(heard.status).or_default() += 1;
                    }
                    Ok::<_, anyhow::Error>(statuses)
                })
            })
            .collect();
        let swaps = registries
            .iter()
            .cycle()
            .skip(1)
            .take(SWAPS)
            .try_for_each(|registry| swap(registry));
        ended.store(true, Ordering::Relaxed);
        let mut all = BTreeMap::<u16, usize>::new();
        for asker in asking {
            for (status, times) in asker.join().map_err(|_| anyhow!("a client panicked"))?? {
                *all.entry(status).or_default() += times;
            }
        }
        swaps.map(|()| all)
    });
    swap(&original)?;
    let statuses = statuses?;
    println!("{SWAPS} swaps: {statuses:?}");
    ensure!(
        lab.database().pointers()? == before,
        "a pointer was created: {statuses:?}"
    );
    ensure!(
        statuses.keys().copied().collect::<Vec<_>>() == [400, 403],
        "both registries must have decided, and nothing else: {statuses:?}"
    );
    allowed(
        lab,
        &Message::create(&pointer(PROVIDER.ods, NHS_NUMBER)).from(&PROVIDER),
        201,
    )
    .map(drop)
}

fn replacing(mut new: Value, target: Value) -> Value {
    if let Some(fields) = new.as_object_mut() {
        fields.insert(
            "relatesTo".into(),
            json!([{ "code": "replaces", "target": target }]),
        );
    }
    new
}

/// The audit log's entry after a mark for the request about a pointer.
fn request(lab: &Lab, mark: usize, id: &str) -> Result<Value> {
    wait_for("the request in the audit log", PATIENCE, || {
        let entries = lab.audit().since(mark)?;
        Ok(entries
            .into_iter()
            .find(|entry| *at(entry, "/request/pointer") == id))
    })
}

/// Does something, and counts what the record locator was asked for meanwhile.
fn counted<T>(lab: &Lab, act: impl FnOnce() -> Result<T>) -> Result<(T, u64)> {
    let before = answered(lab)?;
    let done = act()?;
    Ok((done, answered(lab)? - before))
}

fn answered(lab: &Lab) -> Result<u64> {
    upstream(lab, "answered")
}

fn outstanding(lab: &Lab) -> Result<u64> {
    upstream(lab, "outstanding")
}

fn upstream(lab: &Lab, field: &str) -> Result<u64> {
    let status = lab.agent().json(&["status"])?;
    at(&status, &format!("/upstreams/0/{field}"))
        .as_u64()
        .with_context(|| format!("no {field} of the upstream: {status}"))
}

/// Changes `[gateway]` and reloads.
fn behind(lab: &Lab, edit: impl FnOnce(&mut Table)) -> Result<()> {
    lab.reconfigure(|table| edit(section(table, "gateway")))
}
