//! The provider profile: a retrieval that passes, its faults one by one, and two at a time.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use proptest::prelude::*;
use serde_json::{Value, json};
use spinegate_common::Reason;

use crate::{
    authz::{Check, Denial, Described, Provider, Requester, Retrieval, Rules, Verdict, checks, explain},
    nrl::{Asid, ClaimRules, Claims, Endpoint, ErrorTable, Fqdn, Interaction, Token},
    registry::{Registry, System},
};

use super::{ASID, GATEWAY, NOW, ODS, USER, now, system, token};

const TRACE: &str = "09a01679-2564-0fb4-5129-aecc81ea2706";
const OTHER: &str = "200000000206";

/// A retrieval with all that decides on it.
#[derive(Clone)]
struct Case {
    provider: Provider,
    system: Option<System>,
    method: &'static str,
    target: String,
    fields: Vec<(&'static str, String)>,
    claims: Value,
    token: Option<String>,
}

impl Case {
    fn any() -> Self {
        let [declared, _] = Interaction::Retrieve.ids();
        Self {
            provider: Provider {
                endpoint: Endpoint {
                    paths: vec!["/RR8".to_owned()],
                    ..Endpoint::default()
                },
                registered: false,
            },
            system: None,
            method: "GET",
            target: "/RR8/Binary/1".to_owned(),
            fields: [
                ("Ssp-From", ASID),
                ("Ssp-To", GATEWAY),
                ("Ssp-InteractionID", declared),
                ("Ssp-TraceID", TRACE),
            ]
            .map(|(name, value)| (name, value.to_owned()))
            .to_vec(),
            claims: json!({
                "iss": "https://system.nhs.uk", "aud": "https://provider.nhs.uk", "sub": USER,
                "iat": NOW, "exp": NOW + 300,
                "reason_for_request": "directcare", "scope": "patient/*.read",
                "requesting_system": format!("https://fhir.nhs.uk/Id/accredited-system|{ASID}"),
                "requesting_organization": format!("https://fhir.nhs.uk/Id/ods-organization-code|{ODS}"),
                "requesting_user": USER,
            }),
            token: None,
        }
    }

    fn registered() -> Self {
        let mut case = Self::any();
        case.provider.registered = true;
        case.system = Some(system([Interaction::Retrieve.ids()[1]]));
        case
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn set(&mut self, name: &str, value: &str) {
        for (_, old) in self.fields.iter_mut().filter(|(one, _)| *one == name) {
            value.clone_into(old);
        }
    }

    fn repeat(&mut self, name: &str) {
        let again: Vec<_> = self
            .fields
            .iter()
            .filter(|(one, _)| *one == name)
            .cloned()
            .collect();
        self.fields.extend(again);
    }

    fn rules(&self) -> Rules {
        Rules {
            provider: Some(self.provider.clone()),
            ..super::rules()
        }
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.fields {
            headers.append(
                name.parse::<HeaderName>().unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        let token = self.token.clone().unwrap_or_else(|| token(&self.claims));
        if !token.is_empty() {
            let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
            headers.insert(header::AUTHORIZATION, value);
        }
        headers
    }

    fn judge(&self) -> Result<Retrieval, Denial> {
        self.judge_with(&self.headers())
    }

    fn judge_with(&self, headers: &HeaderMap) -> Result<Retrieval, Denial> {
        let registry = Registry::of(self.system.clone());
        let requester = Requester::with_fqdn(Fqdn::parse("ssp.example.nhs.uk").unwrap());
        let line = (
            &self.method.parse::<Method>().unwrap(),
            &self.target.parse::<Uri>().unwrap(),
        );
        let rules = self.rules();
        let head = (line.0, line.1, headers);
        Retrieval::admit((&rules, &self.provider), &registry, &requester, head, now())
    }
}

type Fault = (Check, Reason, &'static str, fn(&mut Case));

/// One fault or more for each check, in the published order. Any two of them fit on one request.
const FAULTS: &[Fault] = &[
    (
        Check::MethodAndPath,
        Reason::PathUnknown,
        "The path /RGD/Binary/1 is not served here",
        |c| {
            c.target = c.target.replace("RR8", "RGD");
        },
    ),
    (
        Check::MethodAndPath,
        Reason::MethodUnknown,
        "The method HEAD is not supported for the retrieval of a record",
        |c| c.method = "HEAD",
    ),
    (
        Check::MethodAndPath,
        Reason::ParameterInvalid,
        "The URL of a record has no query here",
        |c| {
            c.target.push_str("?a=b");
        },
    ),
    (
        Check::Headers,
        Reason::FromAsidMissing,
        "Ssp-From HTTP Header is missing",
        |c| {
            c.fields.retain(|(name, _)| *name != "Ssp-From");
        },
    ),
    (
        Check::Headers,
        Reason::FromAsidInvalid,
        "Ssp-From (20000000020) HTTP Header is not an ASID of 12 digits",
        |c| c.set("Ssp-From", "20000000020"),
    ),
    (
        Check::Headers,
        Reason::ToAsidMissing,
        "Ssp-To HTTP Header is sent more than once",
        |c| {
            c.repeat("Ssp-To");
        },
    ),
    (
        Check::Headers,
        Reason::InteractionMissing,
        "Ssp-InteractionID HTTP Header is sent more than once",
        |c| c.repeat("Ssp-InteractionID"),
    ),
    (
        Check::Headers,
        Reason::InteractionMismatch,
        "Ssp-InteractionID (urn:nhs:names:services:nrl:DocumentReference.read) HTTP Header does not name the retrieval of \
         a record",
        |c| c.set("Ssp-InteractionID", Interaction::Read.ids()[0]),
    ),
    (
        Check::Headers,
        Reason::TraceIdMissing,
        "Ssp-TraceID HTTP Header is sent more than once",
        |c| {
            c.repeat("Ssp-TraceID");
        },
    ),
    (
        Check::Headers,
        Reason::TraceIdInvalid,
        "Ssp-TraceID (1) HTTP Header is not a UUID",
        |c| {
            c.set("Ssp-TraceID", "1");
        },
    ),
    (
        Check::Headers,
        Reason::JwtMissing,
        "The Authorisation header must be supplied",
        |c| {
            c.token = Some(String::new());
        },
    ),
    (
        Check::Receiver,
        Reason::ToAsidInvalid,
        "Ssp-To (999999999998) HTTP Header is not the ASID of this service",
        |c| c.set("Ssp-To", "999999999998"),
    ),
    (
        Check::TokenForm,
        Reason::JwtInvalid,
        "The JWT associated with the Authorisation header must have the 3 sections",
        |c| {
            c.token.get_or_insert_with(|| "a.b".to_owned());
        },
    ),
    (
        Check::TokenClaims,
        Reason::JwtClaimInvalid,
        "scope (patient/DocumentReference.read) must match patient/*.read",
        |c| c.claims["scope"] = "patient/DocumentReference.read".into(),
    ),
    (
        Check::AsidKnown,
        Reason::AsidUnknown,
        "The ASID defined in the Ssp-From (200000000205) HTTP Header is unknown",
        |c| c.system = None,
    ),
    (
        Check::AsidActive,
        Reason::AsidInactive,
        "The ASID 200000000205 has no access at present",
        |c| {
            if let Some(system) = &mut c.system {
                system.active = false;
            }
        },
    ),
    (
        Check::CertificateName,
        Reason::AsidFqdnMismatch,
        "The client certificate is not that of the ASID 200000000205",
        |c| {
            if let Some(system) = &mut c.system {
                system.fqdn = Fqdn::parse("ward.example.nhs.uk").ok();
            }
        },
    ),
    (
        Check::TokenAsid,
        Reason::JwtAsidMismatch,
        "The ASID defined in the requesting_system (200000000206) is unknown",
        |c| {
            c.claims["requesting_system"] = format!("https://fhir.nhs.uk/Id/accredited-system|{OTHER}").into()
        },
    ),
    (
        Check::TokenOds,
        Reason::JwtOdsMismatch,
        "requesting_system ASID (200000000205) is not associated with the requesting_organization ODS code (RGD)",
        |c| c.claims["requesting_organization"] = "https://fhir.nhs.uk/Id/ods-organization-code|RGD".into(),
    ),
    (
        Check::Interaction,
        Reason::InteractionNotAllowed,
        "The interaction urn:nhs:names:services:nrl:DocumentReference.content.read is not associated with the ASID \
         200000000205",
        |c| {
            if let Some(system) = &mut c.system {
                system.interactions.clear();
            }
        },
    ),
];

/// Whether the registry is asked for a check.
fn asks(check: Check) -> bool {
    matches!(
        check,
        Check::AsidKnown | Check::AsidActive | Check::CertificateName | Check::TokenOds | Check::Interaction
    )
}

#[test]
fn a_retrieval_without_a_fault_is_permitted_as_it_was_judged() {
    for case in [Case::any(), Case::registered()] {
        let retrieval = case.judge().unwrap();
        let subject = retrieval.subject();
        assert_eq!(retrieval.path_and_query().as_str(), case.target);
        assert_eq!(subject.asid.unwrap().as_str(), ASID);
        assert_eq!(subject.trace.as_ref().unwrap().as_str(), TRACE);
        assert_eq!(subject.interaction, Some(Interaction::Retrieve));
        // The registry's word, where it was asked; never the client's.
        assert_eq!(subject.ods.is_some(), case.provider.registered);
        let [declared, registered] = Interaction::Retrieve.ids();
        let id = if case.provider.registered {
            registered
        } else {
            declared
        };
        assert_eq!(subject.interaction_id.as_ref().unwrap().as_str(), id);
    }
    let queries = Case::any().with(|c| {
        c.provider.endpoint.queries = true;
        c.target.push_str("?version=2&a=%20b");
    });
    let retrieval = queries.judge().unwrap();
    assert_eq!(
        retrieval.path_and_query().as_str(),
        "/RR8/Binary/1?version=2&a=%20b"
    );
}

#[test]
fn each_fault_has_its_check_reason_status_and_diagnostics() {
    for (check, reason, diagnostics, fault) in FAULTS {
        let denial = Case::registered().with(fault).judge().expect_err(diagnostics);
        assert_eq!(
            (denial.check(), denial.reason()),
            (Some(*check), *reason),
            "{diagnostics}"
        );
        assert_eq!(denial.diagnostics(), *diagnostics);
        let status = match reason {
            Reason::PathUnknown => 404,
            Reason::MethodUnknown => 405,
            Reason::AsidFqdnMismatch => 401,
            Reason::AsidInactive | Reason::InteractionNotAllowed => 403,
            _ => 400,
        };
        let outcome = denial.outcome(ErrorTable::Nrl);
        assert_eq!(outcome.status.as_u16(), status, "{diagnostics}");
        if *reason == Reason::MethodUnknown {
            assert_eq!(denial.header(outcome.status).unwrap().1, "GET");
        }
    }
}

#[test]
fn of_any_two_faults_the_earlier_check_answers() {
    for (first, (_, reason, _, fault)) in FAULTS.iter().enumerate() {
        for (_, later, _, other) in &FAULTS[first + 1..] {
            let both = Case::registered().with(fault).with(other).judge();
            let both = both.expect_err(reason.as_str());
            assert_eq!(both.reason(), *reason, "with {}", later.as_str());
        }
    }
}

#[test]
fn the_faults_cover_every_check_that_a_retrieval_has_in_the_published_order() {
    let mut checks: Vec<Check> = FAULTS.iter().map(|(check, ..)| *check).collect();
    checks.dedup();
    let with = |check: &Check| !matches!(check, Check::Body | Check::Ownership);
    assert_eq!(checks, Check::ALL.into_iter().filter(with).collect::<Vec<_>>());
}

#[test]
fn where_the_registry_is_not_asked_everything_else_still_decides() {
    for (check, reason, diagnostics, fault) in FAULTS {
        let judged = Case::any().with(fault).judge();
        let expected = (!asks(*check)).then_some(*reason);
        assert_eq!(
            judged.err().map(|denial| denial.reason()),
            expected,
            "{diagnostics}"
        );
    }
    // Whose the other ASID is, nobody says then.
    let fault = FAULTS
        .iter()
        .find(|(check, ..)| *check == Check::TokenAsid)
        .unwrap()
        .3;
    assert_eq!(
        Case::any().with(fault).judge().unwrap_err().diagnostics(),
        "requesting_system ASID (200000000206) is not that of the Ssp-From (200000000205) HTTP Header"
    );
}

#[test]
fn another_systems_asid_in_the_token_is_told_from_one_that_nobody_has() {
    let case = Case::any();
    let text = token(&with_asid(&case.claims, OTHER));
    let claims = Claims::check(
        &Token::parse(&text).unwrap(),
        Interaction::Retrieve,
        &ClaimRules::default(),
        now(),
    )
    .unwrap();
    let from = Asid::parse(ASID).unwrap();
    let other = System {
        asid: Asid::parse(OTHER).unwrap(),
        ..system([])
    };
    for (registry, said) in [
        (
            Registry::of([]),
            "The ASID defined in the requesting_system (200000000206) is unknown",
        ),
        (
            Registry::of([other]),
            "requesting_system ASID (200000000206) is not that of the fromASID (200000000205) HTTP Header",
        ),
    ] {
        let refusal = checks::token_asid(&checks::Names::LOCATOR, Some((&registry, now())), &claims, &from);
        assert_eq!(refusal.unwrap_err().diagnostics(), said);
    }
}

fn with_asid(claims: &Value, asid: &str) -> Value {
    let mut claims = claims.clone();
    claims["requesting_system"] = format!("https://fhir.nhs.uk/Id/accredited-system|{asid}").into();
    claims
}

#[test]
fn the_locators_headers_say_nothing_to_a_provider() {
    let [declared, _] = Interaction::Retrieve.ids();
    let locators = Case::any().with(|c| {
        c.fields = [
            ("fromASID", ASID),
            ("toASID", GATEWAY),
            ("InteractionID", declared),
        ]
        .map(|(name, value)| (name, value.to_owned()))
        .to_vec();
    });
    assert_eq!(locators.judge().unwrap_err().reason(), Reason::FromAsidMissing);
}

#[test]
fn a_denial_tells_the_audit_the_trace_id_as_soon_as_it_is_known() {
    let fault = FAULTS
        .iter()
        .find(|(check, ..)| *check == Check::TokenForm)
        .unwrap()
        .3;
    let denial = Case::any().with(fault).judge().unwrap_err();
    assert_eq!(denial.subject().trace.as_ref().unwrap().as_str(), TRACE);
}

#[test]
fn explanations_agree_with_decisions() {
    let described = |case: &Case| Described {
        method: case.method.parse().unwrap(),
        uri: case.target.parse().unwrap(),
        headers: case.headers(),
        whole: true,
        body: None,
        fqdn: Fqdn::parse("ssp.example.nhs.uk").ok(),
        custodian: None,
        stored: None,
    };
    let explained = |case: &Case, described: &Described| {
        explain(
            &case.rules(),
            &Registry::of(case.system.clone()),
            described,
            now(),
        )
    };
    for (_, _, diagnostics, fault) in FAULTS {
        for case in [Case::any(), Case::registered()] {
            let case = case.with(fault);
            let explanation = explained(&case, &described(&case));
            assert_eq!(explanation.denial, case.judge().err(), "{diagnostics}");
        }
    }
    // What only names the requester lacks everything else, and nothing of it fails.
    for (case, wanted) in [
        (Case::any(), "p????nnn?nnnn"),
        (Case::registered(), "p????ppp??pnn"),
    ] {
        let mut bare = Described {
            whole: false,
            fqdn: None,
            ..described(&case)
        };
        bare.headers.clear();
        bare.headers.insert("ssp-from", HeaderValue::from_static(ASID));
        let explanation = explained(&case, &bare);
        let letters: String = explanation
            .checks
            .iter()
            .map(|(_, verdict)| match verdict {
                Verdict::Passed { .. } => 'p',
                Verdict::NotGiven { .. } => '?',
                Verdict::NotNeeded { .. } => 'n',
                Verdict::Failed { .. } | Verdict::NotReached => 'F',
            })
            .collect();
        assert_eq!(letters, wanted);
    }
}

proptest! {
    #[test]
    fn no_bytes_in_one_header_panic_or_pass_where_it_decides(
        name in prop::sample::select(&["Ssp-From", "Ssp-To", "Ssp-InteractionID", "Ssp-TraceID", "authorization"][..]),
        bytes in prop::collection::vec(prop_oneof![Just(b'\t'), b' '..=b'~', 0x80_u8..], 0..60),
        beside in any::<bool>(),
    ) {
        let case = Case::registered();
        let mut headers = case.headers();
        let value = HeaderValue::from_bytes(&bytes).unwrap();
        if beside {
            headers.append(name, value);
        } else {
            headers.insert(name, value);
        }
        prop_assert!(case.judge_with(&headers).is_err());
    }

    #[test]
    fn no_path_is_served_outside_of_the_configured_ones(path in "/[a-zA-Z0-9/.%;_-]{0,20}") {
        let case = Case::any().with(|c| c.target = path.clone());
        if let Ok(retrieval) = case.judge() {
            let served = retrieval.path_and_query().path();
            prop_assert!(served == "/RR8" || served.starts_with("/RR8/"), "{}", served);
        }
    }
}
