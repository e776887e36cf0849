//! The order of the checks: of two faults, the one of the earlier check answers.

use spinegate_common::Reason;

use crate::{
    authz::Check,
    nrl::{Fqdn, Interaction},
};

use super::{Case, document, stored};

type Fault = (Check, Reason, fn(&mut Case));

/// One fault or more for each check, in the published order. Any two of them fit on one request.
const FAULTS: &[Fault] = &[
    (Check::MethodAndPath, Reason::PathUnknown, |c| {
        c.target = c.target.replace("STU3", "R4")
    }),
    (Check::MethodAndPath, Reason::MethodUnknown, |c| c.method = "PUT"),
    (Check::MethodAndPath, Reason::ParameterInvalid, |c| {
        c.target.push_str("?x=1")
    }),
    (Check::Headers, Reason::FromAsidMissing, |c| c.from = None),
    (Check::Headers, Reason::ToAsidMissing, |c| c.to = None),
    (Check::Headers, Reason::JwtMissing, |c| c.bearer = false),
    (Check::Headers, Reason::InteractionMismatch, |c| {
        c.headers.push(("InteractionID", "urn:x".to_owned()))
    }),
    (Check::Receiver, Reason::ToAsidInvalid, |c| {
        if let Some(to) = &mut c.to {
            *to = "999999999998".to_owned();
        }
    }),
    (Check::TokenForm, Reason::JwtInvalid, |c| {
        c.token = Some("a.b".to_owned())
    }),
    (Check::TokenClaims, Reason::JwtClaimInvalid, |c| {
        c.claims["scope"] = "x".into()
    }),
    (Check::AsidKnown, Reason::AsidUnknown, |c| c.system = None),
    (Check::AsidActive, Reason::AsidInactive, |c| {
        if let Some(system) = &mut c.system {
            system.active = false;
        }
    }),
    (Check::CertificateName, Reason::AsidFqdnMismatch, |c| {
        if let Some(system) = &mut c.system {
            system.fqdn = Fqdn::parse("ward.example.nhs.uk").ok();
        }
    }),
    (Check::TokenAsid, Reason::JwtAsidMismatch, |c| {
        let other = "https://fhir.nhs.uk/Id/accredited-system|200000000206";
        c.claims["requesting_system"] = other.into();
        if c.claims.get("requesting_user").is_none() {
            c.claims["sub"] = other.into();
        }
    }),
    (Check::TokenOds, Reason::JwtOdsMismatch, |c| {
        c.claims["requesting_organization"] = "https://fhir.nhs.uk/Id/ods-organization-code|RGD".into();
    }),
    (Check::Interaction, Reason::InteractionNotAllowed, |c| {
        if let Some(system) = &mut c.system {
            system.interactions.clear();
        }
    }),
    (Check::Body, Reason::MediaTypeUnsupported, |c| {
        c.headers.retain(|(name, _)| *name != "content-type")
    }),
    (Check::Body, Reason::BodyMalformed, |c| c.body.insert(0, b'x')),
    (Check::Ownership, Reason::NotOwner, |c| {
        c.stored = vec![stored("p1", "RGD")];
        if c.method == "POST" {
            let broken = c.body.first() == Some(&b'x');
            c.body = document("RGD", None);
            if broken {
                c.body.insert(0, b'x');
            }
        }
    }),
];

#[test]
fn of_any_two_faults_the_earlier_check_answers() {
    type Base = fn() -> Case;
    let bases: [(Base, bool, bool); 6] = [
        (|| Case::of(Interaction::Create), true, true),
        (Case::supersede, true, true),
        (|| Case::of(Interaction::Update), true, true),
        (|| Case::of(Interaction::Delete), false, true),
        (|| Case::of(Interaction::Read), false, false),
        (|| Case::of(Interaction::Search), false, false),
    ];
    for (number, (base, has_body, has_owner)) in bases.into_iter().enumerate() {
        let applies = |(check, _, _): &&Fault| match check {
            Check::Body => has_body,
            Check::Ownership => has_owner,
            _ => true,
        };
        let faults: Vec<&Fault> = FAULTS.iter().filter(applies).collect();
        for (first, (check, reason, fault)) in faults.iter().enumerate() {
            let alone = base().with(fault).judge().expect_err(reason.as_str());
            assert_eq!(
                (alone.check(), alone.reason()),
                (Some(*check), *reason),
                "{number}"
            );
            for (_, later, other) in &faults[first + 1..] {
                let both = base().with(fault).with(other).judge().expect_err(reason.as_str());
                assert_eq!(both.reason(), *reason, "{number} with {}", later.as_str());
            }
        }
    }
}

#[test]
fn a_denial_tells_which_checks_were_passed_before_the_one_that_failed() {
    for (check, reason, fault) in FAULTS {
        let denial = Case::of(Interaction::Create)
            .with(fault)
            .judge()
            .expect_err(reason.as_str());
        for other in Check::ALL {
            assert_eq!(
                denial.subject().passed.contains(other),
                other < *check,
                "{} for {}",
                other.as_str(),
                reason.as_str()
            );
        }
    }
    for interaction in Interaction::LOCATOR {
        let permit = Case::of(interaction).judge().unwrap();
        let passed = permit.subject().passed;
        for check in Check::ALL {
            let needed = match check {
                Check::Body => matches!(interaction, Interaction::Create | Interaction::Update),
                Check::Ownership => interaction.writes(),
                _ => true,
            };
            assert_eq!(passed.contains(check), needed, "{} {interaction}", check.as_str());
        }
    }
}

#[test]
fn the_faults_cover_every_check_in_the_published_order() {
    let mut checks: Vec<Check> = FAULTS.iter().map(|(check, _, _)| *check).collect();
    checks.dedup();
    assert_eq!(checks, Check::ALL);
}
