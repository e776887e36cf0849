//! Ownership (R3, R4, R5, and create): no pointer is touched but by its owner.

use serde_json::json;
use spinegate_common::Reason;

use crate::nrl::{Interaction, NhsNumber, Pointer, Status};

use super::{Case, document, identifier, stored, system};

fn reason(case: &Case) -> Option<Reason> {
    case.judge().err().map(|denial| denial.reason())
}

#[test]
fn r2_an_interaction_that_the_asid_lacks_is_refused_for_each_interaction() {
    for interaction in Interaction::LOCATOR {
        let others = Interaction::LOCATOR
            .into_iter()
            .filter(|other| *other != interaction);
        let lacking = system(others.flat_map(Interaction::ids));
        let silent = Case::of(interaction).with(|c| c.system = Some(lacking));
        assert_eq!(
            reason(&silent),
            Some(Reason::InteractionNotAllowed),
            "{interaction}"
        );
        let declaring = silent.with(|c| c.headers.push(("InteractionID", interaction.ids()[0].to_owned())));
        assert_eq!(
            reason(&declaring),
            Some(Reason::InteractionNotAllowed),
            "{interaction}, declared"
        );
    }
}

#[test]
fn r3_a_supersede_is_refused_if_the_new_pointer_is_anothers() {
    let target = json!({"reference": "https://nrl.nhs.uk/DocumentReference/p1"});
    let case = Case::supersede().with(|c| c.body = document("RGD", Some(&target)));
    assert_eq!(reason(&case), Some(Reason::NotOwner));
}

#[test]
fn r3_a_supersede_is_refused_if_the_old_pointer_is_anothers() {
    let case = Case::supersede().with(|c| c.stored = vec![stored("p1", "RGD")]);
    assert_eq!(reason(&case), Some(Reason::TargetNotOwner));
}

#[test]
fn r4_an_update_is_refused_if_the_stored_pointer_is_anothers() {
    let case = Case::of(Interaction::Update).with(|c| c.stored = vec![stored("p1", "RGD")]);
    assert_eq!(reason(&case), Some(Reason::NotOwner));
}

#[test]
fn r5_a_delete_is_refused_if_the_stored_pointer_is_anothers() {
    let case = Case::of(Interaction::Delete).with(|c| c.stored = vec![stored("p1", "RGD")]);
    assert_eq!(reason(&case), Some(Reason::NotOwner));
}

#[test]
fn a_create_is_refused_if_the_pointer_is_anothers() {
    let case = Case::of(Interaction::Create).with(|c| c.body = document("RGD", None));
    assert_eq!(reason(&case), Some(Reason::NotOwner));
}

#[test]
fn a_stranger_learns_no_status_of_a_pointer() {
    let foreign = |status| {
        let pointer = Pointer {
            status,
            ..stored("p1", "RGD")
        };
        Case::of(Interaction::Delete).with(|c| c.stored = vec![pointer])
    };
    assert_eq!(
        reason(&foreign(Status::Superseded)),
        reason(&foreign(Status::Current))
    );
}

#[test]
fn a_new_pointer_is_current() {
    let body = String::from_utf8(document("RR8", None))
        .unwrap()
        .replace("\"current\"", "\"superseded\"");
    let case = Case::of(Interaction::Create).with(|c| c.body = body.into_bytes());
    assert_eq!(reason(&case), Some(Reason::StatusNotCurrent));
}

#[test]
fn the_target_is_exactly_one_current_pointer_of_the_same_patient() {
    let id = json!({"reference": "https://nrl.nhs.uk/DocumentReference/p1"});
    let name = json!({"identifier": {"system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2.3"}});
    let both = json!({"reference": id["reference"], "identifier": name["identifier"]});
    let own = || stored("p1", "RR8");
    let renamed = || Pointer {
        master_identifier: Some(identifier("urn:oid:9")),
        ..own()
    };
    let unnamed = || Pointer {
        master_identifier: None,
        ..own()
    };
    let superseded = || Pointer {
        status: Status::Superseded,
        ..own()
    };
    let strange = || Pointer {
        subject: NhsNumber::parse("9000000009").unwrap(),
        ..own()
    };
    let other = || Pointer {
        master_identifier: Some(identifier("urn:oid:9")),
        ..stored("p2", "RGD")
    };
    let same_name = || stored("p2", "RR8");
    let cases = [
        (&id, vec![own()], None),
        (&id, vec![renamed()], None),
        (&name, vec![own()], None),
        (&name, vec![other(), own()], None),
        (&both, vec![own()], None),
        (&id, vec![], Some(Reason::TargetNotFound)),
        (&id, vec![other()], Some(Reason::TargetNotFound)),
        (&id, vec![superseded()], Some(Reason::TargetNotFound)),
        (&name, vec![renamed()], Some(Reason::TargetNotFound)),
        (&name, vec![unnamed()], Some(Reason::TargetNotFound)),
        (&name, vec![own(), same_name()], Some(Reason::TargetNotFound)),
        (&both, vec![renamed()], Some(Reason::TargetNotFound)),
        (&both, vec![unnamed()], Some(Reason::TargetNotFound)),
        (&both, vec![same_name()], Some(Reason::TargetNotFound)),
        (&id, vec![strange()], Some(Reason::TargetPatientMismatch)),
        (&name, vec![strange()], Some(Reason::TargetPatientMismatch)),
    ];
    for (target, candidates, expected) in cases {
        let case = Case::supersede().with(|c| {
            c.body = document("RR8", Some(target));
            c.stored = candidates;
        });
        assert_eq!(reason(&case), expected, "{target} {:?}", case.stored);
    }
}
