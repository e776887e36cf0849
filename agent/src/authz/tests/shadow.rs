//! Shadow: what goes on though it was refused, and what never does.

use bytes::Bytes;
use http::{Method, Uri};
use proptest::{prelude::*, sample::select};
use spinegate_common::{Layer, Reason};

use crate::{
    authz::{Check, Denial, Shadow, ShadowCase, Shadowed, Subject},
    nrl::{Asid, Fqdn, Interaction, Refusal, Status},
    registry::Registry,
};

use super::{ASID, Case, document, now, stored};

fn everything() -> Shadow {
    Shadow {
        everything: true,
        cases: Vec::new(),
    }
}

fn of(interaction: Interaction, asid: Option<&str>) -> Shadow {
    Shadow {
        everything: false,
        cases: vec![ShadowCase {
            interaction,
            asid: asid.map(|asid| Asid::parse(asid).unwrap()),
        }],
    }
}

/// What becomes of a refused case, as the gateway asks for it.
fn tried(case: &Case, shadow: &Shadow, denial: Denial) -> Result<Shadowed, Denial> {
    let registry = Registry::of(case.system.clone());
    let (method, uri) = (
        case.method.parse::<Method>().unwrap(),
        case.target.parse::<Uri>().unwrap(),
    );
    let body = Bytes::from(case.body.clone());
    Shadowed::of(
        (shadow, &registry, now()),
        denial,
        (&method, &uri, &case.header_map()),
        body,
    )
}

type Fault = (Reason, fn(&mut Case));

/// Faults of permission, which shadow lets go on.
const TRIED: &[Fault] = &[
    (Reason::AsidUnknown, |c| c.system = None),
    (Reason::JwtAsidMismatch, |c| {
        for claim in ["sub", "requesting_system"] {
            c.claims[claim] = "https://fhir.nhs.uk/Id/accredited-system|200000000206".into();
        }
    }),
    (Reason::JwtOdsMismatch, |c| {
        c.claims["requesting_organization"] = "https://fhir.nhs.uk/Id/ods-organization-code|RGD".into();
    }),
    (Reason::InteractionNotAllowed, |c| {
        if let Some(system) = &mut c.system {
            system.interactions.clear();
        }
    }),
    (Reason::NotOwner, |c| {
        c.body = document("RGD", None);
    }),
];

/// Faults that are never tried.
const ENFORCED: &[Fault] = &[
    (Reason::PathUnknown, |c| {
        c.target = "/R4/DocumentReference".to_owned()
    }),
    (Reason::MethodUnknown, |c| c.method = "PUT"),
    (Reason::ParameterInvalid, |c| c.target.push_str("?x=1")),
    (Reason::FromAsidMissing, |c| c.from = None),
    (Reason::ToAsidInvalid, |c| c.to = Some("999999999998".to_owned())),
    (Reason::InteractionMismatch, |c| {
        c.headers.push(("InteractionID", "urn:x".to_owned()));
    }),
    (Reason::JwtMissing, |c| c.bearer = false),
    (Reason::JwtInvalid, |c| c.token = Some("a.b".to_owned())),
    (Reason::JwtClaimInvalid, |c| c.claims["scope"] = "x".into()),
    (Reason::AsidInactive, |c| {
        if let Some(system) = &mut c.system {
            system.active = false;
        }
    }),
    (Reason::AsidFqdnMismatch, |c| {
        if let Some(system) = &mut c.system {
            system.fqdn = Fqdn::parse("ward.example.nhs.uk").ok();
        }
    }),
    (Reason::MediaTypeUnsupported, |c| {
        c.headers.retain(|(name, _)| *name != "content-type");
    }),
    (Reason::BodyInvalid, |c| c.body = b"{}".to_vec()),
];

#[test]
fn in_shadow_a_fault_of_permission_goes_on_as_it_came_with_its_reason() {
    for (reason, fault) in TRIED {
        let case = Case::of(Interaction::Create).with(fault);
        let denial = case.judge().expect_err(reason.as_str());
        let shadowed = tried(&case, &everything(), denial).unwrap_or_else(|_| panic!("{}", reason.as_str()));
        assert_eq!(shadowed.denial().reason(), *reason);
        assert_eq!(
            (shadowed.method().as_str(), shadowed.path_and_query().as_str()),
            (case.method, case.target.as_str())
        );
        assert_eq!(shadowed.body(), &case.body);
    }
}

#[test]
fn what_is_enforced_is_so_in_shadow_too() {
    for (reason, fault) in ENFORCED {
        let case = Case::of(Interaction::Create).with(fault);
        let denial = case.judge().expect_err(reason.as_str());
        let refused = tried(&case, &everything(), denial).expect_err(reason.as_str());
        assert_eq!(refused.reason(), *reason);
    }
}

#[test]
fn a_fault_of_permission_hides_none_that_is_enforced() {
    for (tried_reason, tried_fault) in TRIED {
        for (reason, fault) in ENFORCED {
            // The second would mend or overwrite the first.
            if matches!((tried_reason, reason), (Reason::NotOwner, Reason::BodyInvalid)) {
                continue;
            }
            let case = Case::of(Interaction::Create).with(tried_fault).with(fault);
            let unknown = *tried_reason == Reason::AsidUnknown
                && matches!(reason, Reason::AsidInactive | Reason::AsidFqdnMismatch);
            let denial = case.judge().expect_err(reason.as_str());
            let judged = tried(&case, &everything(), denial);
            if unknown {
                // Nothing is registered that could be switched off or have a name.
                assert!(judged.is_ok());
            } else {
                let refused = judged.expect_err(reason.as_str());
                assert_eq!(refused.reason(), *reason, "with {}", tried_reason.as_str());
            }
        }
    }
}

#[test]
fn an_update_in_shadow_is_an_update_all_the_same() {
    let update = |body: &[u8]| {
        Case::of(Interaction::Update).with(|c| {
            c.system = None;
            c.body = body.to_vec();
        })
    };
    let sound = Case::of(Interaction::Update).body;
    for (body, goes_on) in [
        (sound.as_slice(), true),
        (b"{\"resourceType\":\"Parameters\"}", false),
        (b"", false),
    ] {
        let case = update(body);
        let judged = tried(&case, &everything(), case.judge().unwrap_err());
        assert_eq!(judged.is_ok(), goes_on, "{body:?}");
    }
}

#[test]
fn stored_pointers_and_targets_are_tried_too() {
    for (case, reason) in [
        (
            Case::of(Interaction::Delete).with(|c| c.stored = vec![stored("p1", "RGD")]),
            Reason::NotOwner,
        ),
        (
            Case::of(Interaction::Update).with(|c| c.stored[0].status = Status::Superseded),
            Reason::PointerNotCurrent,
        ),
        (
            Case::supersede().with(|c| c.stored = vec![stored("p1", "RGD")]),
            Reason::TargetNotOwner,
        ),
        (
            Case::supersede().with(|c| c.stored.clear()),
            Reason::TargetNotFound,
        ),
    ] {
        let denial = case.judge().expect_err(reason.as_str());
        let shadowed = tried(&case, &everything(), denial).unwrap_or_else(|_| panic!("{}", reason.as_str()));
        assert_eq!(shadowed.denial().reason(), reason);
        assert_eq!(shadowed.body(), &case.body);
    }
}

#[test]
fn only_what_is_named_is_in_shadow() {
    let refused =
        |interaction| Case::of(interaction).with(|c| c.system.as_mut().unwrap().interactions.clear());
    let goes_on = |case: &Case, shadow: &Shadow| tried(case, shadow, case.judge().unwrap_err()).is_ok();
    let read = refused(Interaction::Read);
    let delete = refused(Interaction::Delete);
    assert!(!goes_on(&read, &Shadow::default()));
    for (shadow, reads, deletes) in [
        (of(Interaction::Read, None), true, false),
        (of(Interaction::Delete, Some(ASID)), false, true),
        (of(Interaction::Read, Some("200000000206")), false, false),
    ] {
        assert_eq!(
            (goes_on(&read, &shadow), goes_on(&delete, &shadow)),
            (reads, deletes),
            "{shadow:?}"
        );
    }
    let by_registry = refused(Interaction::Read).with(|c| c.system.as_mut().unwrap().shadow = true);
    assert!(goes_on(&by_registry, &Shadow::default()));
    // The name of a system in shadow is no way round for who has another's certificate.
    let stranger =
        by_registry.with(|c| c.system.as_mut().unwrap().fqdn = Fqdn::parse("ward.example.nhs.uk").ok());
    assert!(!goes_on(&stranger, &Shadow::default()));
}

#[test]
fn what_no_check_of_permission_refused_is_never_in_shadow() {
    let case = Case::of(Interaction::Read);
    let subject = case.judge().unwrap().subject().clone();
    for reason in Reason::ALL {
        let denial = || Denial::new(Refusal::new(*reason, ""), subject.clone());
        // Only a locator that did not say whose a pointer is leaves its owner untold.
        let untold = reason.layer() == Layer::Upstream;
        assert_eq!(
            tried(&case, &everything(), denial()).is_ok(),
            untold,
            "{}",
            reason.as_str()
        );
    }
    let nothing_known = Denial::new(Refusal::new(Reason::UpstreamInvalid, ""), Subject::default());
    assert!(tried(&case, &everything(), nothing_known).is_err());
}

proptest! {
    #[test]
    fn shadow_never_lets_go_on_what_it_was_not_told_to(
        interaction in select(&[Interaction::Create, Interaction::Update, Interaction::Delete][..]),
        fault in select(TRIED),
        second in select(ENFORCED),
        named in select(&[Interaction::Read, Interaction::Create, Interaction::Update, Interaction::Delete][..]),
        asid in select(&[None, Some(ASID), Some("200000000206")][..]),
    ) {
        let shadow = of(named, asid);
        let case = Case::of(interaction).with(fault.1);
        if let Err(denial) = case.judge() {
            let check = denial.check();
            let goes_on = tried(&case, &shadow, denial);
            if goes_on.is_ok() {
                prop_assert!(named == interaction && asid != Some("200000000206"));
                prop_assert!(check.is_some_and(|check| check >= Check::AsidKnown && check != Check::Body));
            }
        }
        let both = case.with(second.1);
        if let Err(denial) = both.judge()
            && !matches!(denial.check(), Some(Check::AsidKnown))
            && interaction == Interaction::Create
            && !(fault.0 == Reason::NotOwner && second.0 == Reason::BodyInvalid)
        {
            prop_assert!(tried(&both, &everything(), denial).is_err());
        }
    }
}
