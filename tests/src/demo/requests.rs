//! Scene 3: requests, and who may do what to whose pointer (R1 to R5).

use anyhow::{Context, Result, ensure};

use super::story::{Seen, Story};
use crate::{
    client::{Answer, Message, NHS_NUMBER, identifier_of, pointer, superseding},
    json::at,
    lab::{CONSUMER, Lab, OTHER_PROVIDER, PROVIDER, System, UNKNOWN_ASID},
    netns::Host,
};

pub(super) fn play(story: &mut Story, lab: &Lab) -> Result<()> {
    story.say("\nRequests, through the proxy");
    let mut first = None;
    let plan = pointer(PROVIDER.ods, NHS_NUMBER);
    story.step(
        "Provider RR8 creates a pointer of its own",
        "201, stored as current",
        || {
            let id = created(lab, &Message::create(&plan).from(&PROVIDER))?;
            let seen = state(lab, &id, "201", "current");
            first = Some(id);
            seen
        },
    )?;
    let first = first.context("without a pointer the story can't go on")?;

    story.step("A consumer reads it", "200 with the pointer", || {
        let answer = lab
            .client(Host::Ssp)
            .answer(&Message::read(&first).from(&CONSUMER))?;
        let held = answer.status == 200 && *at(&answer.json()?, "/id") == first.as_str();
        Ok(Seen::plain(answer.to_string(), held))
    })?;
    story.step(
        "A consumer searches the patient's pointers",
        "200 with one pointer in the bundle",
        || {
            let answer = lab
                .client(Host::Ssp)
                .answer(&Message::search(NHS_NUMBER).from(&CONSUMER))?;
            let total = at(&answer.json()?, "/total").clone();
            Ok(Seen::plain(
                format!("{answer}, total {total}"),
                answer.status == 200 && total == 1,
            ))
        },
    )?;

    let refuse = |message: &Message, status: u16, reason: &str| refused(lab, message, status, reason);
    story.step(
        "The consumer creates a pointer, which its ASID may not",
        "403: interaction_not_allowed",
        || {
            let message = Message::create(&pointer(CONSUMER.ods, NHS_NUMBER)).from(&CONSUMER);
            refuse(&message, 403, "interaction_not_allowed")
        },
    )?;
    story.step("A system with an unknown ASID reads", "400: asid_unknown", || {
        let unknown = System {
            asid: UNKNOWN_ASID,
            ..CONSUMER
        };
        refuse(&Message::read(&first).from(&unknown), 400, "asid_unknown")
    })?;

    strangers_hands(story, lab, &first, &plan)?;
    own_hands(story, lab, &first, &plan)
}

/// What the other provider tries on RR8's pointer.
fn strangers_hands(story: &mut Story, lab: &Lab, id: &str, plan: &serde_json::Value) -> Result<()> {
    let new = pointer(OTHER_PROVIDER.ods, NHS_NUMBER);
    // Of what is not its own, a stranger is told that it does not exist.
    const ABSENT: (u16, &str) = (404, "NO_RECORD_FOUND");
    const INVALID: (u16, &str) = (400, "INVALID_RESOURCE");
    for (what, message, (status, code), reason) in [
        (
            "creates a pointer in RR8's name",
            Message::create(&pointer(PROVIDER.ods, NHS_NUMBER)),
            INVALID,
            "not_owner",
        ),
        (
            "supersedes RR8's pointer",
            Message::create(&superseding(new, plan)),
            INVALID,
            "target_not_owner",
        ),
        ("updates RR8's pointer", Message::update(id), ABSENT, "not_owner"),
        ("deletes RR8's pointer", Message::delete(id), ABSENT, "not_owner"),
    ] {
        let expected = format!("{status} {code}: {reason}; the database unchanged");
        story.step(format!("Provider RGD {what}"), expected, || {
            let before = lab.database().pointers()?;
            let mut seen = refused(lab, &message.from(&OTHER_PROVIDER), status, reason)?;
            let unchanged = lab.database().pointers()? == before;
            seen.held &= unchanged && seen.observed.contains(code);
            seen.observed += if unchanged {
                "; the database unchanged"
            } else {
                "; THE DATABASE CHANGED"
            };
            Ok(seen)
        })?;
    }
    Ok(())
}

/// What RR8 may do with pointers of its own.
fn own_hands(story: &mut Story, lab: &Lab, first: &str, plan: &serde_json::Value) -> Result<()> {
    let mut second = None;
    story.step(
        "Provider RR8 supersedes its pointer",
        "201; the old one superseded, the new one current",
        || {
            let message = Message::create(&superseding(pointer(PROVIDER.ods, NHS_NUMBER), plan));
            let id = created(lab, &message.from(&PROVIDER))?;
            let (old, new) = (
                state(lab, first, "old", "superseded")?,
                state(lab, &id, "new", "current")?,
            );
            second = Some(id);
            Ok(Seen::plain(
                format!("201; {}; {}", old.observed, new.observed),
                old.held && new.held,
            ))
        },
    )?;
    let second = second.context("without the second pointer the story can't go on")?;
    story.step(
        "Provider RR8 marks its pointer as entered in error",
        "200, stored so",
        || {
            let answer = accepted(lab, &Message::update(&second).from(&PROVIDER), 200)?;
            state(lab, &second, &answer.to_string(), "entered-in-error")
        },
    )?;
    story.step(
        "Provider RR8 creates and deletes another one",
        "200; no longer there to be read",
        || {
            let third = created(
                lab,
                &Message::create(&pointer(PROVIDER.ods, NHS_NUMBER)).from(&PROVIDER),
            )?;
            let deleted = accepted(lab, &Message::delete(&third).from(&PROVIDER), 200)?;
            let read = lab
                .client(Host::Ssp)
                .answer(&Message::read(&third).from(&PROVIDER))?;
            let gone = lab
                .database()
                .pointer(&third)?
                .is_none_or(|stored| stored.deleted);
            Ok(Seen::plain(
                format!("{deleted}; then read: {read}"),
                read.status == 404 && gone,
            ))
        },
    )
}

fn created(lab: &Lab, message: &Message) -> Result<String> {
    identifier_of(&accepted(lab, message, 201)?)
}

fn accepted(lab: &Lab, message: &Message, status: u16) -> Result<Answer> {
    let answer = lab.client(Host::Ssp).answer(message)?;
    ensure!(answer.status == status, "{message}: {answer}: {}", answer.body);
    Ok(answer)
}

/// Looks up a pointer in the database, and compares its status.
fn state(lab: &Lab, id: &str, what: &str, wanted: &str) -> Result<Seen> {
    let stored = lab.database().pointer(id)?;
    let status = stored.as_ref().map_or("absent", |stored| stored.status.as_str());
    Ok(Seen::plain(
        format!("{what}: {status} in the database"),
        status == wanted,
    ))
}

/// Sends a request that has to be refused for a reason.
fn refused(lab: &Lab, message: &Message, status: u16, wanted: &str) -> Result<Seen> {
    let mark = lab.audit().mark()?;
    let client = lab.client(Host::Ssp);
    let answer = client.answer(message)?;
    if answer.status < 400 {
        return Ok(Seen::plain(answer.to_string(), false));
    }
    let reason = lab.audit().refusal(mark, &client.address())?;
    let observed = format!("{answer}: {}", answer.diagnostics());
    Ok(Seen::refused(observed, reason, wanted, answer.status == status))
}
