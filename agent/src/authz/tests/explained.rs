//! The explanation agrees with the decision.

use http::HeaderValue;

use crate::{
    authz::{Check, Described, Explanation, Verdict, explain},
    nrl::{Fqdn, Interaction, InteractionId, OdsCode},
    registry::Registry,
};

use super::{Case, now, rules, stored};

/// The case as an operator describes it, whole.
fn described(case: &Case) -> Described {
    Described {
        method: case.method.parse().unwrap(),
        uri: case.target.parse().unwrap(),
        headers: case.header_map(),
        whole: true,
        body: Some(case.body.clone().into()),
        fqdn: Fqdn::parse("ssp.example.nhs.uk").ok(),
        custodian: None,
        stored: Some(case.stored.clone()),
    }
}

/// What `--asid` and `--interaction` say of it.
fn bare(case: &Case, declares: bool) -> Described {
    let mut described = Described {
        whole: false,
        body: None,
        fqdn: None,
        stored: None,
        ..described(case)
    };
    for name in ["toasid", "authorization", "content-type"] {
        described.headers.remove(name);
    }
    if declares {
        let route = case.judge().unwrap().subject().interaction.unwrap();
        let id = HeaderValue::from_static(route.ids()[0]);
        described.headers.insert("interactionid", id);
    }
    described
}

fn explained(case: &Case, described: &Described) -> Explanation {
    explain(&rules(), &Registry::of(case.system.clone()), described, now())
}

fn letters(explanation: &Explanation) -> String {
    let letter = |verdict: &Verdict| match verdict {
        Verdict::Passed { .. } => 'p',
        Verdict::Failed { .. } => 'F',
        Verdict::NotReached => '-',
        Verdict::NotGiven { .. } => '?',
        Verdict::NotNeeded { .. } => 'n',
    };
    explanation
        .checks
        .iter()
        .map(|(_, verdict)| letter(verdict))
        .collect()
}

type Fault = fn(&mut Case);

const FAULTS: &[Fault] = &[
    |_| (),
    |c| c.target = "/elsewhere".to_owned(),
    |c| c.from = None,
    |c| c.to = None,
    |c| c.bearer = false,
    |c| c.headers.push(("InteractionID", "urn:x".to_owned())),
    |c| c.to = Some("999999999998".to_owned()),
    |c| c.token = Some("x".to_owned()),
    |c| c.claims["scope"] = "x".into(),
    |c| c.system = None,
    |c| c.system.as_mut().unwrap().active = false,
    |c| c.system.as_mut().unwrap().fqdn = Fqdn::parse("ward.example.nhs.uk").ok(),
    |c| c.claims["requesting_organization"] = "https://fhir.nhs.uk/Id/ods-organization-code|RGD".into(),
    |c| c.system.as_mut().unwrap().interactions.clear(),
    |c| c.headers.retain(|(name, _)| *name != "content-type"),
    |c| c.body.insert(0, b'x'),
];

#[test]
fn the_explanation_is_decided_by_the_denial_that_the_request_meets() {
    for (number, fault) in FAULTS.iter().enumerate() {
        for interaction in Interaction::LOCATOR {
            for custodian in ["RR8", "RGD"] {
                let mut case = Case::of(interaction).with(fault);
                case.stored = vec![stored("p1", custodian)];
                let explanation = explained(&case, &described(&case));
                assert_eq!(
                    explanation.denial,
                    case.judge().err(),
                    "{number} {interaction} {custodian}"
                );
            }
        }
    }
}

#[test]
fn after_a_fault_it_goes_on_as_far_as_there_is_something_to_look_at() {
    let shown = |fault: Fault| {
        let case = Case::of(Interaction::Create).with(fault);
        letters(&explained(&case, &described(&case)))
    };
    for (fault, wanted) in FAULTS.iter().zip([
        "ppppppppppppp",
        "F------------",
        "pF-----------",
        "pF-pppppppppp",
        "pFp--ppp--ppp",
        "pFppppppppppp",
        "ppFpppppppppp",
        "pppF-ppp--ppp",
        "ppppFppp--ppp",
        "pppppF-------",
        "ppppppFpppppp",
        "pppppppFppppp",
        "pppppppppFppp",
        "ppppppppppFpp",
        "pppppppppppFp",
        "pppppppppppF-",
    ]) {
        assert_eq!(shown(*fault), wanted);
    }
}

#[test]
fn two_faults_are_both_shown_and_the_earlier_one_decides() {
    let case = Case::of(Interaction::Delete)
        .with(|c| c.to = Some("999999999998".to_owned()))
        .with(|c| c.system.as_mut().unwrap().interactions.clear());
    let explanation = explained(&case, &described(&case));
    assert_eq!(letters(&explanation), "ppFpppppppFnp");
    assert_eq!(explanation.denial.unwrap().check(), Some(Check::Receiver));
}

#[test]
fn what_is_not_described_is_said_to_be_missing_and_never_fails() {
    for (interaction, wanted) in [
        (Interaction::Read, "p????ppp??pnn".to_owned()),
        (Interaction::Search, "p????ppp??pnn".to_owned()),
        (Interaction::Create, "p????ppp??p??".to_owned()),
        (Interaction::Update, "p????ppp??p??".to_owned()),
        (Interaction::Delete, "p????ppp??pn?".to_owned()),
    ] {
        let case = Case::of(interaction);
        for declares in [false, true] {
            let explanation = explained(&case, &bare(&case, declares));
            assert_eq!(letters(&explanation), wanted, "{interaction}");
            assert_eq!(explanation.denial, None);
        }
    }
    let named = Case::of(Interaction::Read)
        .with(|c| c.system.as_mut().unwrap().fqdn = Fqdn::parse("ssp.example.nhs.uk").ok());
    let explanation = explained(&named, &bare(&named, true));
    assert_eq!(letters(&explanation), "p????pp???pnn");
}

#[test]
fn a_custodian_alone_decides_about_ownership() {
    for interaction in [Interaction::Create, Interaction::Update, Interaction::Delete] {
        let case = Case::of(interaction);
        for (custodian, letter) in [("RR8", 'p'), ("RGD", 'F')] {
            let described = Described {
                custodian: OdsCode::parse(custodian).ok(),
                ..bare(&case, true)
            };
            let explanation = explained(&case, &described);
            assert!(
                letters(&explanation).ends_with(letter),
                "{interaction} {explanation:?}"
            );
        }
    }
}

#[test]
fn a_supersede_is_judged_by_the_pointer_that_is_given_or_by_its_custodian() {
    let case = Case::supersede();
    let of = |stored, custodian: Option<&str>| Described {
        stored,
        custodian: custodian.map(|code| OdsCode::parse(code).unwrap()),
        ..described(&case)
    };
    for (described, letter) in [
        (of(None, None), '?'),
        (of(None, Some("RR8")), 'p'),
        (of(None, Some("RGD")), 'F'),
        (of(Some(vec![stored("p1", "RGD")]), None), 'F'),
        (of(Some(Vec::new()), None), 'F'),
        (of(Some(vec![stored("p1", "RR8")]), None), 'p'),
    ] {
        let explanation = explained(&case, &described);
        assert!(letters(&explanation).ends_with(letter), "{explanation:?}");
    }
}

#[test]
fn an_id_of_the_other_family_is_refused_with_a_hint_at_the_one_that_is_registered() {
    let case = Case::of(Interaction::Read);
    let mut old = bare(&case, false);
    let id = InteractionId::parse(Interaction::Read.ids()[1]).unwrap();
    let declared = HeaderValue::from_str(id.as_str()).unwrap();
    old.headers.insert("interactionid", declared);
    let explanation = explained(&case, &old);
    let Verdict::Failed { denial, hint } = &explanation.checks[10].1 else {
        panic!("{explanation:?}")
    };
    assert_eq!(denial.reason().as_str(), "interaction_not_allowed");
    assert!(
        hint.as_ref().unwrap().contains(Interaction::Read.ids()[0]),
        "{hint:?}"
    );
    assert!(!denial.diagnostics().contains(Interaction::Read.ids()[0]));
}
