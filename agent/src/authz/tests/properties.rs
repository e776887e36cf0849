//! What holds for every request: nothing panics, and no permit without ownership.

use http::{HeaderMap, HeaderValue, Method, Uri};
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::json;

use crate::{
    authz::{Admitted, Judged, Requester, admit},
    nrl::{Asid, Fqdn, Interaction, NhsNumber, OdsCode, Pointer, Status, answer_format},
    registry::{Registry, System},
};

use super::{Case, document, now, rules, stored, system};

/// Codes that are easily taken for one another.
fn code() -> impl Strategy<Value = &'static str> {
    select(&["RR8", "rr8", "RR80", "RGD"][..])
}

/// Mostly current, so that ownership decides most cases.
fn status() -> impl Strategy<Value = Status> {
    prop_oneof![
        4 => Just(Status::Current),
        1 => Just(Status::Superseded),
        1 => Just(Status::EnteredInError),
    ]
}

fn kind() -> impl Strategy<Value = (Interaction, bool)> {
    select(
        &[
            (Interaction::Create, false),
            (Interaction::Create, true),
            (Interaction::Update, false),
            (Interaction::Delete, false),
        ][..],
    )
}

/// Methods that the API has, so that what comes after them is reached; and any other.
fn method() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => select(&["GET", "POST", "PATCH", "DELETE"][..]).prop_map(str::to_owned),
        1 => "[A-Z]{1,7}",
    ]
}

/// All that a header's value may hold (RFC 9110 section 5.5).
fn value() -> impl Strategy<Value = HeaderValue> {
    let byte = prop_oneof![Just(b'\t'), b' '..=b'~', 0x80_u8..];
    vec(byte, 0..40).prop_map(|bytes| HeaderValue::from_bytes(&bytes).unwrap())
}

proptest! {
    #[test]
    fn no_permit_without_ownership(
        (interaction, supersedes) in kind(),
        ods in code(),
        new in code(),
        old in code(),
        old_status in status(),
        same_patient in prop::bool::weighted(0.8),
    ) {
        let ods = OdsCode::parse(ods).unwrap();
        let mut old = Pointer { status: old_status, ..stored("p1", old) };
        if !same_patient {
            old.subject = NhsNumber::parse("9000000009").unwrap();
        }
        let target = json!({"reference": "https://nrl.nhs.uk/DocumentReference/p1"});
        let case = Case::of(interaction).with(|c| {
            if let Some(system) = &mut c.system {
                system.ods = ods.clone();
            }
            c.claims["requesting_organization"] = format!("https://fhir.nhs.uk/Id/ods-organization-code|{ods}").into();
            if interaction == Interaction::Create {
                c.body = document(new, supersedes.then_some(&target));
            }
            c.stored = vec![old.clone()];
        });
        let new_is_own = OdsCode::parse(new).unwrap() == ods;
        let old_is_own = old.custodian == ods && old.status == Status::Current;
        let may = match (interaction, supersedes) {
            (Interaction::Create, false) => new_is_own,
            (Interaction::Create, true) => new_is_own && old_is_own && same_patient,
            _ => old_is_own,
        };
        prop_assert_eq!(case.judge().is_ok(), may);
    }

    #[test]
    fn no_bytes_anywhere_panic_or_pass_by_chance(
        method in method(),
        path in prop_oneof![Just("p1".to_owned()), "[ -~]{0,40}"],
        under in any::<bool>(),
        values in vec((select(&["fromASID", "toASID", "authorization", "InteractionID", "content-type"][..]), value()), 0..8),
        body in vec(any::<u8>(), 0..100),
    ) {
        let target = if under { format!("/STU3/DocumentReference/{path}") } else { path };
        let mut headers = HeaderMap::new();
        for (name, value) in values {
            headers.append(name, value);
        }
        if let (Ok(method), Ok(uri)) = (method.parse::<Method>(), target.parse::<Uri>()) {
            let registry = Registry::of([system([])]);
            let requester = Requester::without_fqdn();
            prop_assert!(admit(&rules(), &registry, &requester, &method, &uri, &headers, now()).is_err());
        }
        let case = Case::of(Interaction::Create).with(|c| c.body = body);
        prop_assert!(case.judge().is_err());
    }

    #[test]
    fn no_bytes_in_one_header_of_a_request_that_passes_panic(
        interaction in select(&Interaction::LOCATOR[..]),
        name in select(&["fromASID", "toASID", "authorization", "InteractionID", "content-type", "content-encoding", "accept"][..]),
        value in value(),
        beside in any::<bool>(),
    ) {
        let case = Case::of(interaction);
        let (method, uri) = (case.method.parse::<Method>().unwrap(), case.target.parse::<Uri>().unwrap());
        let mut headers = case.header_map();
        if beside {
            headers.append(name, value);
        } else {
            headers.insert(name, value);
        }
        let registry = Registry::of(case.system.clone());
        let admitted = admit(&rules(), &registry, &case.requester, &method, &uri, &headers, now());
        let decides = !matches!(name, "content-type" | "content-encoding" | "accept");
        prop_assert!(admitted.is_err() || !decides);
        let _ = answer_format(uri.query(), &headers);
    }

    #[test]
    fn one_changed_byte_in_a_body_never_makes_anothers_pointer_pass(index in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut body = document("RGD", None);
        let place = index.index(body.len());
        body[place] = byte;
        prop_assert!(Case::of(Interaction::Create).with(|c| c.body = body).judge().is_err());
    }

    #[test]
    fn no_claims_panic(claim in select(&["sub", "exp", "iat", "scope", "requesting_system", "act"][..]), text in "\\PC{0,30}", number in option::of(any::<i64>())) {
        let case = Case::of(Interaction::Read).with(|c| c.claims[claim] = number.map_or(json!(text), |number| json!(number)));
        let _ = case.judge();
    }

    #[test]
    fn every_answer_says_no_more_than_the_limit(from in "[ -~]{0,2000}") {
        let case = Case::of(Interaction::Read).with(|c| c.from = Some(from));
        if let Err(denial) = case.judge() {
            prop_assert!(denial.diagnostics().chars().count() <= 401);
        }
    }
}

proptest! {
    #[test]
    fn a_further_system_changes_no_decision_about_another(
        (interaction, supersedes) in kind(),
        owner in code(),
        others in vec((200_000_000_300_u64..200_000_000_400, code(), any::<bool>()), 1..6),
        same_name in any::<bool>(),
    ) {
        let target = json!({"reference": "https://nrl.nhs.uk/DocumentReference/p1"});
        let case = Case::of(interaction).with(|c| {
            if supersedes {
                c.body = document("RR8", Some(&target));
            }
            c.stored = vec![stored("p1", owner)];
        });
        let alone = case.judge().map(|permit| (permit.path_and_query().clone(), permit.subject().clone()));
        let further = others.iter().map(|(asid, ods, active)| System {
            asid: Asid::parse(&asid.to_string()).unwrap(),
            ods: OdsCode::parse(ods).unwrap(),
            fqdn: same_name.then(|| Fqdn::parse("ssp.example.nhs.uk").unwrap()),
            active: *active,
            ..system(Interaction::LOCATOR.iter().flat_map(|interaction| interaction.ids()))
        });
        let registry = Registry::of(case.system.clone().into_iter().chain(further));
        let among = case.judge_by(&registry, &crate::authz::Stored::Pointers(case.stored.clone()));
        let among = among.map(|permit| (permit.path_and_query().clone(), permit.subject().clone()));
        prop_assert_eq!(among, alone);
    }
}

#[test]
fn a_permit_of_a_read_has_no_body_and_a_body_stage_is_never_skipped() {
    let case = Case::of(Interaction::Update);
    let registry = Registry::of(case.system.clone());
    let (method, uri) = (
        case.method.parse::<Method>().unwrap(),
        case.target.parse::<Uri>().unwrap(),
    );
    let admitted = admit(
        &rules(),
        &registry,
        &case.requester,
        &method,
        &uri,
        &case.header_map(),
        now(),
    )
    .unwrap();
    let Admitted::NeedsBody(waiting) = admitted else {
        panic!("{admitted:?}")
    };
    let judged = waiting.judge_body(case.body.clone().into()).unwrap();
    assert!(matches!(judged, Judged::NeedsStored(_)));
    assert!(
        Case::of(Interaction::Read)
            .with(|c| c.body = b"x".to_vec())
            .judge()
            .unwrap()
            .body()
            .is_empty()
    );
}
