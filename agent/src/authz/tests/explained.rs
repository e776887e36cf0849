//! The explanation agrees with the decision.

use crate::{
    authz::{Check, Described, Explanation, Verdict, explain},
    nrl::{Asid, Fqdn, Interaction, InteractionId, OdsCode},
    registry::Registry,
};

use super::{ASID, Case, document, now, rules, stored, token};

fn described(case: &Case, interaction: Interaction, custodian: &str) -> Described {
    Described {
        asid: Asid::parse(case.from.as_deref().unwrap()).unwrap(),
        interaction: InteractionId::parse(interaction.ids()[0]).unwrap(),
        to_asid: Asid::parse(case.to.as_deref().unwrap()).ok(),
        custodian: OdsCode::parse(custodian).ok(),
        fqdn: Fqdn::parse("ssp.example.nhs.uk").ok(),
        token: Some(case.token.clone().unwrap_or_else(|| token(&case.claims))),
    }
}

fn explained(case: &Case, described: &Described) -> Explanation {
    explain(&rules(), &Registry::of(case.system.clone()), described, now())
}

#[test]
fn the_explanation_names_the_check_and_the_reason_that_the_request_meets() {
    type Fault = fn(&mut Case);
    let faults: &[Fault] = &[
        |_| (),
        |c| c.to = Some("999999999998".to_owned()),
        |c| c.token = Some("x".to_owned()),
        |c| c.claims["scope"] = "x".into(),
        |c| c.system = None,
        |c| c.system.as_mut().unwrap().active = false,
        |c| c.system.as_mut().unwrap().fqdn = Fqdn::parse("ward.example.nhs.uk").ok(),
        |c| c.claims["requesting_organization"] = "https://fhir.nhs.uk/Id/ods-organization-code|RGD".into(),
        |c| c.system.as_mut().unwrap().interactions.clear(),
    ];
    for (number, fault) in faults.iter().enumerate() {
        for interaction in Interaction::LOCATOR {
            for custodian in ["RR8", "RGD"] {
                let mut case = Case::of(interaction).with(fault);
                case.stored = vec![stored("p1", custodian)];
                if interaction == Interaction::Create {
                    case.body = document(custodian, None);
                }
                let explanation = explained(&case, &described(&case, interaction, custodian));
                let (check, reason) = match case.judge() {
                    Ok(_) => (None, None),
                    Err(denial) => (denial.check().map(Check::as_str), Some(denial.reason().as_str())),
                };
                assert_eq!(
                    (explanation.decided_by, explanation.reason),
                    (check, reason),
                    "{number} {interaction} {custodian}"
                );
                assert_eq!(explanation.allowed, reason.is_none());
            }
        }
    }
}

#[test]
fn every_check_is_listed_and_what_is_not_described_is_said_to_be_missing() {
    let case = Case::of(Interaction::Delete);
    let bare = Described {
        asid: Asid::parse(ASID).unwrap(),
        interaction: InteractionId::parse(Interaction::Delete.ids()[0]).unwrap(),
        to_asid: None,
        custodian: None,
        fqdn: None,
        token: None,
    };
    let explanation = explained(&case, &bare);
    let names: Vec<_> = explanation.checks.iter().map(|checked| checked.check).collect();
    assert_eq!(names, Check::ALL.map(Check::as_str));
    let results: Vec<_> = explanation
        .checks
        .iter()
        .map(|checked| match checked.verdict {
            Verdict::Passed { .. } => 'p',
            Verdict::Failed { .. } => 'f',
            Verdict::NotGiven { .. } => 'g',
            Verdict::NotNeeded { .. } => 'n',
        })
        .collect();
    assert_eq!(results.into_iter().collect::<String>(), "pggggpppggpng");
    let json = serde_json::to_value(&explanation).unwrap();
    assert_eq!(json["checks"][5]["result"], "passed");
    assert_eq!(json["checks"][12]["result"], "not_given");
}

#[test]
fn an_interaction_that_no_request_performs_is_explained_as_unknown() {
    let case = Case::of(Interaction::Read);
    let mut other = described(&case, Interaction::Read, "RR8");
    other.interaction =
        InteractionId::parse("urn:nhs:names:services:nrl:DocumentReference.content.read").unwrap();
    let explanation = explained(&case, &other);
    assert!(!explanation.allowed);
    assert_eq!(explanation.decided_by, Some("method_and_path"));
}

#[test]
fn an_id_of_the_other_family_is_refused_with_a_hint_at_the_one_that_is_registered() {
    let case = Case::of(Interaction::Read);
    let mut old = described(&case, Interaction::Read, "RR8");
    old.interaction = InteractionId::parse(Interaction::Read.ids()[1]).unwrap();
    let explanation = explained(&case, &old);
    assert_eq!(explanation.reason, Some("interaction_not_allowed"));
    let Verdict::Failed { detail, .. } = &explanation.checks[10].verdict else {
        panic!("{explanation:?}")
    };
    assert!(detail.contains(Interaction::Read.ids()[0]), "{detail}");
}
