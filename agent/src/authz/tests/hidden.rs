//! What a stranger learns of another's pointer: with `hide_existence`, nothing that it would not learn of one that does not
//! exist.

use serde_json::json;
use spinegate_common::Reason;

use crate::{
    authz::{Action, Admitted, ByOwner, Denial, Stored, admit},
    nrl::{ErrorTable, Interaction, OdsCode, Pointer, Status},
    registry::Registry,
};

use super::{Case, document, identifier, now, stored};

/// Every form of request that names a stored pointer.
fn forms() -> Vec<Case> {
    let target = json!({"identifier": {"system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2.3"}});
    let mut both = target.clone();
    both["reference"] = "https://nrl.nhs.uk/STU3/DocumentReference/p1".into();
    vec![
        Case::of(Interaction::Update),
        Case::of(Interaction::Delete),
        Case::of(Interaction::Delete).with(|c| c.target = "/STU3/DocumentReference?_id=p1".to_owned()),
        Case::conditional(Interaction::Update),
        Case::conditional(Interaction::Delete),
        Case::supersede(),
        Case::supersede().with(|c| c.body = document("RR8", Some(&target))),
        Case::supersede().with(|c| c.body = document("RR8", Some(&both))),
    ]
}

fn denied(case: Case, hide: bool, pointers: &[Pointer]) -> Denial {
    let case = case.with(|c| {
        c.rules.hide_existence = hide;
        c.stored = pointers.to_vec();
    });
    case.judge().expect_err(&case.target)
}

/// All that is answered, but for the decision's id.
fn answer(denial: &Denial) -> (u16, &'static str, &'static str, &'static str, String) {
    let outcome = denial.outcome(ErrorTable::Nrl);
    (
        outcome.status.as_u16(),
        outcome.issue,
        outcome.code,
        outcome.display,
        format!("{:?} {}", denial.header(outcome.status), denial.diagnostics()),
    )
}

#[test]
fn a_pointer_of_somebody_else_is_answered_like_one_that_does_not_exist() {
    for (number, ((missing, hidden), shown)) in forms().into_iter().zip(forms()).zip(forms()).enumerate() {
        let foreign = [stored("p1", "RGD")];
        let absent = denied(missing, true, &[]);
        let hidden = denied(hidden, true, &foreign);
        let shown = denied(shown, false, &foreign);
        assert_eq!(answer(&hidden), answer(&absent), "{number}");
        assert_eq!(
            hidden.told_reason(),
            absent.reason(),
            "what is told is what weighs"
        );
        assert_ne!(answer(&shown), answer(&absent), "{number}");
        for told in [&hidden, &shown] {
            assert!(
                matches!(told.reason(), Reason::NotOwner | Reason::TargetNotOwner),
                "the audit has the truth: {number} {told}"
            );
            assert_eq!(told.subject().custodian, OdsCode::parse("RGD").ok(), "{number}");
            assert_eq!(told.detail(), shown.diagnostics(), "{number}");
        }
        assert!(matches!(
            absent.reason(),
            Reason::PointerNotFound | Reason::TargetNotFound
        ));
    }
}

#[test]
fn neither_status_nor_patient_nor_number_of_anothers_pointers_shows() {
    for (number, (missing, foreign)) in forms().into_iter().zip(forms()).enumerate() {
        let absent = denied(missing, true, &[]);
        let mut withdrawn = stored("p1", "RGD");
        withdrawn.status = Status::EnteredInError;
        assert_eq!(
            answer(&denied(foreign, true, &[withdrawn])),
            answer(&absent),
            "{number}"
        );
    }
    for form in [Interaction::Update, Interaction::Delete].map(Case::conditional) {
        let twice = [stored("p1", "RGD"), stored("p2", "RGD")];
        let denial = denied(form, true, &twice);
        assert_eq!(denial.reason(), Reason::PointerAmbiguous);
        assert_eq!(denial.outcome(ErrorTable::Nrl).status, 404);
    }
    let two = [stored("p1", "RR8"), stored("p2", "RR8")];
    let shown = denied(Case::conditional(Interaction::Delete), false, &two);
    assert_eq!(
        (shown.reason(), shown.outcome(ErrorTable::Nrl).status.as_u16()),
        (Reason::PointerAmbiguous, 412)
    );
}

#[test]
fn a_pointer_that_the_locator_does_not_show_since_it_is_not_current_is_not_found() {
    for (hide, form) in [true, false]
        .into_iter()
        .flat_map(|hide| forms().into_iter().map(move |form| (hide, form)))
    {
        let form = form.with(|c| c.rules.hide_existence = hide);
        let denial = form.judge_answered(&Stored::NotCurrent).unwrap_err();
        let absent = form.judge_answered(&Stored::Pointers(Vec::new())).unwrap_err();
        match denial.reason() {
            Reason::PointerNotCurrent => assert_eq!(answer(&denial), answer(&absent)),
            reason => {
                assert_eq!(reason, Reason::TargetNotFound);
                assert_eq!(answer(&denial) == answer(&absent), hide);
            }
        }
    }
}

#[test]
fn an_owner_is_told_what_is_wrong_with_its_own_pointer() {
    let case = Case::supersede().with(|c| {
        c.rules.hide_existence = true;
        c.stored[0].status = Status::Superseded;
    });
    assert_eq!(
        case.judge().unwrap_err().diagnostics(),
        "Referenced DocumentReference is not current."
    );
}

/// A delete that waits for its pointer.
fn waiting(hide: bool) -> crate::authz::AwaitingStored {
    let case = Case::of(Interaction::Delete).with(|c| c.rules.hide_existence = hide);
    let registry = Registry::of(case.system.clone());
    let (method, uri) = (case.method.parse().unwrap(), case.target.parse().unwrap());
    let admitted = admit(
        &case.rules,
        &registry,
        &case.requester,
        &method,
        &uri,
        &case.header_map(),
        now(),
    );
    match admitted.unwrap() {
        Admitted::NeedsStored(waiting) => waiting,
        other => panic!("{other:?}"),
    }
}

#[test]
fn by_its_remembered_owner_a_pointer_is_permitted_and_refused_only_where_that_takes_no_less_time() {
    let (own, foreign) = (OdsCode::parse("RR8").unwrap(), OdsCode::parse("RGD").unwrap());
    for hide in [true, false] {
        let ByOwner::Permitted(permit) = waiting(hide).judge_owner(&own).unwrap() else {
            panic!("{hide}")
        };
        assert_eq!(permit.path_and_query(), "/STU3/DocumentReference/p1");
        assert_eq!((permit.if_match(), permit.adds_if_match()), (None, false));
        assert_eq!(permit.subject().custodian.as_ref(), Some(&own));
    }
    let refused = waiting(false).judge_owner(&foreign).unwrap_err();
    assert_eq!(refused.reason(), Reason::NotOwner);
    // What is not there is asked for at the locator, and so is what is not the requester's.
    let ByOwner::NeedsStored(still) = waiting(true).judge_owner(&foreign).unwrap() else {
        panic!("permitted to a stranger")
    };
    let refused = still
        .judge_stored(&Stored::Pointers(vec![stored("p1", "RGD")]))
        .unwrap_err();
    assert_eq!(refused.reason(), Reason::NotOwner);
}

#[test]
fn a_conditional_form_is_judged_and_forwarded_by_the_id_of_the_one_pointer_that_it_names() {
    for interaction in [Interaction::Update, Interaction::Delete] {
        let mut namesake = stored("p3", "RGD");
        namesake.master_identifier = Some(identifier("urn:oid:9"));
        let mut elsewhere = stored("p4", "RGD");
        elsewhere.subject = crate::nrl::NhsNumber::parse("9000000009").unwrap();
        let case = Case::conditional(interaction).with(|c| {
            c.target.push_str("&_format=application/fhir+json");
            c.stored = vec![namesake, elsewhere, stored("p1", "RR8")];
        });
        let permit = case.judge().unwrap();
        assert_eq!(
            permit.path_and_query(),
            "/STU3/DocumentReference/p1?_format=application/fhir+json"
        );
        assert_eq!(permit.subject().pointer.as_ref().unwrap().as_str(), "p1");
        for spoil in [
            |p: &mut Pointer| p.status = Status::Superseded,
            |p: &mut Pointer| p.master_identifier = None,
            |p: &mut Pointer| p.custodian = OdsCode::parse("RGD").unwrap(),
            |p: &mut Pointer| p.id = None,
        ] {
            let spoilt = Case::conditional(interaction).with(|c| c.stored.iter_mut().for_each(spoil));
            assert!(spoilt.judge().is_err());
        }
    }
    let by_id =
        Case::of(Interaction::Delete).with(|c| c.target = "/STU3/DocumentReference?_id=p1".to_owned());
    assert_eq!(
        by_id.judge().unwrap().path_and_query(),
        "/STU3/DocumentReference/p1"
    );
}

#[test]
fn a_supersede_is_named_as_one_with_the_pointer_that_it_replaces() {
    let permit = Case::supersede().judge().unwrap();
    let subject = permit.subject();
    assert_eq!(subject.action.map(Action::as_str), Some("supersede"));
    assert_eq!(subject.interaction, Some(Interaction::Create));
    assert_eq!(subject.pointer.as_ref().unwrap().as_str(), "p1");
    let create = Case::of(Interaction::Create).judge().unwrap();
    assert_eq!(create.subject().action.map(Action::as_str), Some("create"));
}
