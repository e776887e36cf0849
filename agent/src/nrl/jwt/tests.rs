//! Tokens, good and bad, with what the gateway says of each (docs/jwt.md has the rules).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue, header};
use proptest::prelude::*;
use serde_json::{Value, json};
use spinegate_common::Reason;

use super::{Actor, ClaimRules, Claims, Token, bearer};
use crate::nrl::{Interaction, NhsNumber, Refusal};

const NOW: u64 = 1_700_000_000;
const HEADER: &str = r#"{"alg":"none","typ":"JWT"}"#;
const SYSTEM: &str = "https://fhir.nhs.uk/Id/accredited-system|200000000205";
const ORGANISATION: &str = "https://fhir.nhs.uk/Id/ods-organization-code|RR8";
const USER: &str = "https://fhir.nhs.uk/Id/sds-role-profile-id|555254242106";
const PATIENT: &str = "https://fhir.nhs.net/Id/nhs-number|9876543210";
const PATIENT_OVER_HTTP: &str = "http://fhir.nhs.net/Id/nhs-number|9876543210";

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

fn token(header: &str, payload: &str) -> String {
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.", encode(header), encode(payload))
}

/// A professional's token for a read.
fn professional() -> Value {
    json!({
        "iss": "https://consumer.nhs.uk", "sub": USER, "aud": "https://nrl.nhs.uk",
        "iat": NOW, "exp": NOW + 300,
        "reason_for_request": "directcare", "scope": "patient/DocumentReference.read",
        "requesting_system": SYSTEM, "requesting_organization": ORGANISATION, "requesting_user": USER,
    })
}

/// With these claims; those that are null are taken out.
fn with(mut claims: Value, changes: Value) -> Value {
    let (Some(all), Value::Object(changes)) = (claims.as_object_mut(), changes) else {
        panic!("claims are objects");
    };
    for (name, value) in changes {
        match value {
            Value::Null => drop(all.remove(&name)),
            value => drop(all.insert(name, value)),
        }
    }
    claims
}

/// A citizen's token for a read.
fn citizen() -> Value {
    let changes = json!({
        "sub": PATIENT, "requesting_patient": PATIENT, "requesting_user": null, "reason_for_request": "patientaccess",
    });
    with(professional(), changes)
}

/// A token for a write on nobody's behalf.
fn unattended() -> Value {
    let changes = json!({
        "sub": SYSTEM, "requesting_user": null, "scope": "patient/DocumentReference.write",
    });
    with(professional(), changes)
}

fn judge(token: &str, interaction: Interaction, rules: &ClaimRules) -> Result<Claims, Refusal> {
    Claims::check(&Token::parse(token)?, interaction, rules, now())
}

fn said(token: &str, interaction: Interaction) -> Result<Claims, (Reason, String)> {
    judge(token, interaction, &ClaimRules::default())
        .map_err(|refusal| (refusal.reason(), refusal.diagnostics().to_owned()))
}

/// What is said of claims for an interaction; the reason of a refusal is that of claims.
fn of_claims(claims: &Value, interaction: Interaction) -> Result<Claims, String> {
    said(&token(HEADER, &claims.to_string()), interaction).map_err(|(reason, diagnostics)| {
        assert_eq!(reason, Reason::JwtClaimInvalid, "{diagnostics}");
        diagnostics
    })
}

fn missing(claim: &str) -> String {
    format!("The mandatory claim {claim} from the JWT associated with the Authorisation header is missing")
}

#[test]
fn tokens_that_are_taken() {
    use Interaction::{Create, Delete, Read, Retrieve, Search, Update};
    let read = |changes: Value| with(professional(), changes);
    let write = |changes: Value| with(unattended(), changes);
    let encoded = |value: &str| value.replace('|', "%7C");
    let rows: Vec<(&str, Value, Interaction)> = vec![
        ("a professional reads", professional(), Read),
        ("a professional searches", professional(), Search),
        (
            "a professional creates",
            read(json!({"scope": "patient/DocumentReference.write"})),
            Create,
        ),
        (
            "a professional retrieves",
            read(json!({"scope": "patient/*.read"})),
            Retrieve,
        ),
        ("a citizen reads", citizen(), Read),
        ("a citizen searches", citizen(), Search),
        (
            "a citizen retrieves",
            with(citizen(), json!({"scope": "patient/*.read"})),
            Retrieve,
        ),
        (
            "a citizen's sub over http",
            with(citizen(), json!({"sub": PATIENT_OVER_HTTP})),
            Read,
        ),
        (
            "a citizen's delegate",
            with(citizen(), json!({"act": {"sub": "somebody"}})),
            Read,
        ),
        ("a system creates", unattended(), Create),
        ("a system updates", unattended(), Update),
        ("a system deletes", unattended(), Delete),
        (
            "the examples' spelling of the scope",
            read(json!({"scope": "patient/Documentreference.read"})),
            Read,
        ),
        (
            "the same for a write",
            write(json!({"scope": "patient/Documentreference.write"})),
            Create,
        ),
        (
            "an ODS code in lower case",
            read(json!({"requesting_organization": ORGANISATION.replace("RR8", "rr8")})),
            Read,
        ),
        (
            "an encoded bar in the system",
            read(json!({"requesting_system": encoded(SYSTEM)})),
            Read,
        ),
        (
            "in the organisation",
            read(json!({"requesting_organization": encoded(ORGANISATION)})),
            Read,
        ),
        (
            "in the user",
            read(json!({"requesting_user": encoded(USER)})),
            Read,
        ),
        (
            "in user and sub",
            read(json!({"requesting_user": encoded(USER), "sub": encoded(USER)})),
            Read,
        ),
        (
            "in lower case",
            read(json!({"requesting_system": SYSTEM.replace('|', "%7c")})),
            Read,
        ),
        (
            "in the patient",
            with(citizen(), json!({"requesting_patient": encoded(PATIENT)})),
            Read,
        ),
        (
            "in the sub of a system",
            write(json!({"sub": encoded(SYSTEM)})),
            Create,
        ),
        ("a shorter life", read(json!({"exp": NOW + 10})), Read),
        (
            "a clock that is ahead",
            read(json!({"iat": NOW + 30, "exp": NOW + 330})),
            Read,
        ),
        (
            "a clock that is behind",
            read(json!({"iat": NOW - 329, "exp": NOW - 29})),
            Read,
        ),
        (
            "a life of five minutes and the tolerance",
            read(json!({"exp": NOW + 330})),
            Read,
        ),
        (
            "no life but the tolerance's",
            read(json!({"iat": NOW, "exp": NOW})),
            Read,
        ),
        ("nbf", read(json!({"nbf": NOW + 30})), Read),
        (
            "claims that nobody knows",
            read(json!({"jti": "1", "x": {"sub": [1]}})),
            Read,
        ),
        (
            "an empty claim of another mode",
            read(json!({"requesting_patient": ""})),
            Read,
        ),
    ];
    for (what, claims, interaction) in &rows {
        if let Err(said) = of_claims(claims, *interaction) {
            panic!("{what}: {said}");
        }
    }
    for header in [
        HEADER,
        r#"{"alg":"none"}"#,
        r#" { "typ" : "jwt" , "alg" : "none" } "#,
        r#"{"alg":"none","kid":"1","cty":"x"}"#,
    ] {
        let token = token(header, &professional().to_string());
        assert!(said(&token, Read).is_ok(), "{header}");
    }
}

#[test]
fn claims_that_are_refused_with_their_diagnostics() {
    use Interaction::{Create, Read, Retrieve, Search};
    let read = |changes: Value| with(professional(), changes);
    let patient = |changes: Value| with(citizen(), changes);
    let system = |changes: Value| with(unattended(), changes);
    let other_user = USER.replace("555", "556");
    let other_patient = PATIENT.replace("987", "986");
    let lifetime =
        |issued: u64, expires: u64| format!("exp ({expires}) must be at most 5 minutes after iat ({issued})");
    let form = |claim: &str, value: &str, form: &str| format!("{claim} ({value}) must be of the form {form}");
    let system_form = "https://fhir.nhs.uk/Id/accredited-system|[ASID]";
    let organisation_form = "https://fhir.nhs.uk/Id/ods-organization-code|[ODSCode]";
    let user_form = "https://fhir.nhs.uk/Id/sds-role-profile-id|[SDSRoleProfileID]";
    let patient_form = "https://fhir.nhs.net/Id/nhs-number|[NHSNumber]";
    let wrong_scope = |given: &str, wanted: &str| format!("scope ({given}) must match {wanted}");
    let mismatch = |name: &str, value: &str, subject: &str| {
        format!("{name} ({value}) and sub ({subject}) claim's values must match")
    };
    let mut rows: Vec<(Value, Interaction, String)> = vec![
        // Times.
        (
            read(json!({"iat": NOW - 330, "exp": NOW - 30})),
            Read,
            format!("exp ({}) must be in the future", NOW - 30),
        ),
        (
            read(json!({"exp": 0})),
            Read,
            "exp (0) must be in the future".to_owned(),
        ),
        (
            read(json!({"iat": NOW + 31, "exp": NOW + 300})),
            Read,
            format!("iat ({}) must not be in the future", NOW + 31),
        ),
        (
            read(json!({"iat": u64::MAX, "exp": u64::MAX})),
            Read,
            format!("iat ({}) must not be in the future", u64::MAX),
        ),
        (
            read(json!({"nbf": NOW + 31})),
            Read,
            format!("nbf ({}) must not be in the future", NOW + 31),
        ),
        (read(json!({"exp": NOW + 331})), Read, lifetime(NOW, NOW + 331)),
        (
            read(json!({"iat": NOW + 30, "exp": NOW + 331})),
            Read,
            lifetime(NOW + 30, NOW + 331),
        ),
        (
            read(json!({"iat": NOW, "exp": NOW - 1})),
            Read,
            lifetime(NOW, NOW - 1),
        ),
        (read(json!({"iat": 0})), Read, lifetime(0, NOW + 300)),
        (read(json!({"exp": u64::MAX})), Read, lifetime(NOW, u64::MAX)),
        (
            read(json!({"exp": (NOW + 300).to_string()})),
            Read,
            "The claim exp must be a whole number".to_owned(),
        ),
        (
            read(json!({"iat": 1.5})),
            Read,
            "The claim iat must be a whole number".to_owned(),
        ),
        (
            read(json!({"exp": -1})),
            Read,
            "The claim exp must be a whole number".to_owned(),
        ),
        (
            read(json!({"nbf": "0"})),
            Read,
            "The claim nbf must be a whole number".to_owned(),
        ),
        // Scope.
        (
            read(json!({"scope": "x"})),
            Read,
            wrong_scope("x", "patient/DocumentReference.read"),
        ),
        (
            professional(),
            Create,
            wrong_scope(
                "patient/DocumentReference.read",
                "patient/DocumentReference.write",
            ),
        ),
        (
            unattended(),
            Search,
            wrong_scope(
                "patient/DocumentReference.write",
                "patient/DocumentReference.read",
            ),
        ),
        (
            read(json!({"scope": "patient/documentreference.read"})),
            Read,
            wrong_scope("patient/documentreference.read", "patient/DocumentReference.read"),
        ),
        (
            read(json!({"scope": "patient/DocumentReference.Read"})),
            Read,
            wrong_scope("patient/DocumentReference.Read", "patient/DocumentReference.read"),
        ),
        (
            read(json!({"scope": "patient/DocumentReference.*"})),
            Read,
            wrong_scope("patient/DocumentReference.*", "patient/DocumentReference.read"),
        ),
        (
            read(json!({"scope": "patient/*.read"})),
            Read,
            wrong_scope("patient/*.read", "patient/DocumentReference.read"),
        ),
        (
            professional(),
            Retrieve,
            wrong_scope("patient/DocumentReference.read", "patient/*.read"),
        ),
        (
            read(json!({"scope": "patient/*.write"})),
            Retrieve,
            wrong_scope("patient/*.write", "patient/*.read"),
        ),
        (
            read(json!({"scope": "patient/DocumentReference.read patient/DocumentReference.write"})),
            Read,
            wrong_scope(
                "patient/DocumentReference.read patient/DocumentReference.write",
                "patient/DocumentReference.read",
            ),
        ),
        // Values.
        (
            read(json!({"requesting_system": "200000000205"})),
            Read,
            form("requesting_system", "200000000205", system_form),
        ),
        (
            read(json!({"requesting_system": format!("{SYSTEM} ")})),
            Read,
            form("requesting_system", &format!("{SYSTEM} "), system_form),
        ),
        (
            read(json!({"requesting_system": SYSTEM.replace("205", "20")})),
            Read,
            form("requesting_system", &SYSTEM.replace("205", "20"), system_form),
        ),
        (
            read(json!({"requesting_system": SYSTEM.replace("https", "http")})),
            Read,
            form("requesting_system", &SYSTEM.replace("https", "http"), system_form),
        ),
        (
            read(json!({"requesting_system": SYSTEM.replace("/Id/", "/id/")})),
            Read,
            form("requesting_system", &SYSTEM.replace("/Id/", "/id/"), system_form),
        ),
        (
            read(json!({"requesting_system": SYSTEM.replace('|', "/")})),
            Read,
            form("requesting_system", &SYSTEM.replace('|', "/"), system_form),
        ),
        (
            read(json!({"requesting_organization": "RR8"})),
            Read,
            form("requesting_organization", "RR8", organisation_form),
        ),
        (
            read(json!({"requesting_organization": ORGANISATION.replace("RR8", "R8")})),
            Read,
            form(
                "requesting_organization",
                &ORGANISATION.replace("RR8", "R8"),
                organisation_form,
            ),
        ),
        (
            read(json!({"requesting_user": USER.replace("555254242106", "")})),
            Read,
            form("requesting_user", &USER.replace("555254242106", ""), user_form),
        ),
        (
            read(json!({"requesting_user": "x", "sub": "x"})),
            Read,
            form("requesting_user", "x", user_form),
        ),
        (
            patient(json!({"requesting_patient": "9876543210"})),
            Read,
            form("requesting_patient", "[NHSNumber]", patient_form),
        ),
        (
            patient(json!({"requesting_patient": PATIENT_OVER_HTTP})),
            Read,
            form("requesting_patient", "[NHSNumber]", patient_form),
        ),
        (
            patient(json!({"requesting_patient": format!("{PATIENT}1")})),
            Read,
            form("requesting_patient", "[NHSNumber]", patient_form),
        ),
        (
            read(json!({"iss": "a\nb"})),
            Read,
            "The claim iss must have no control characters".to_owned(),
        ),
        (
            read(json!({"aud": ["https://nrl.nhs.uk"]})),
            Read,
            "The claim aud must be a string".to_owned(),
        ),
        (
            read(json!({"requesting_user": 5})),
            Read,
            "The claim requesting_user must be a string".to_owned(),
        ),
        // On whose behalf.
        (
            read(json!({"sub": "other"})),
            Read,
            mismatch("requesting_user", USER, "other"),
        ),
        (
            read(json!({"sub": other_user})),
            Read,
            mismatch("requesting_user", USER, &other_user),
        ),
        (
            read(json!({"sub": USER.replace("https", "http")})),
            Read,
            mismatch("requesting_user", USER, &USER.replace("https", "http")),
        ),
        (
            read(json!({"sub": PATIENT})),
            Read,
            mismatch("requesting_user", USER, "[NHSNumber]"),
        ),
        (
            patient(json!({"sub": other_patient})),
            Read,
            mismatch("requesting_patient", "[NHSNumber]", "[NHSNumber]"),
        ),
        (
            patient(json!({"sub": USER})),
            Read,
            mismatch("requesting_patient", "[NHSNumber]", USER),
        ),
        (
            system(json!({"sub": "other"})),
            Create,
            mismatch("requesting_system", SYSTEM, "other"),
        ),
        (system(json!({"sub": USER})), Create, missing("requesting_user")),
        (
            system(json!({"sub": PATIENT})),
            Create,
            missing("requesting_patient"),
        ),
        (
            system(json!({"sub": PATIENT_OVER_HTTP})),
            Create,
            missing("requesting_patient"),
        ),
        (
            read(json!({"requesting_patient": PATIENT})),
            Read,
            "requesting_user and requesting_patient must not both be supplied".to_owned(),
        ),
        (
            read(json!({"reason_for_request": "patientaccess"})),
            Read,
            "reason_for_request (patientaccess) must be 'directcare'".to_owned(),
        ),
        (
            read(json!({"reason_for_request": "DirectCare"})),
            Read,
            "reason_for_request (DirectCare) must be 'directcare'".to_owned(),
        ),
        (
            patient(json!({"reason_for_request": "directcare"})),
            Read,
            "reason_for_request (directcare) must be 'patientaccess'".to_owned(),
        ),
        (
            system(json!({"reason_for_request": "patientaccess"})),
            Create,
            "reason_for_request (patientaccess) must be 'directcare'".to_owned(),
        ),
        (
            patient(json!({"act": {}})),
            Read,
            "The claim act.sub is missing".to_owned(),
        ),
        (patient(json!({"act": {"sub": ""}})), Read, missing("act.sub")),
        (
            patient(json!({"act": "somebody"})),
            Read,
            "The claim act must be an object".to_owned(),
        ),
        (
            read(json!({"act": {"sub": "somebody"}})),
            Read,
            "act must be supplied with requesting_patient alone".to_owned(),
        ),
        // Nobody reads unattended.
        (
            system(json!({"scope": "patient/DocumentReference.read"})),
            Read,
            missing("requesting_user"),
        ),
        (
            system(json!({"scope": "patient/*.read"})),
            Retrieve,
            missing("requesting_user"),
        ),
    ];
    for claim in [
        "iss",
        "sub",
        "aud",
        "exp",
        "iat",
        "reason_for_request",
        "scope",
        "requesting_system",
        "requesting_organization",
    ] {
        rows.push((read(json!({ claim: null })), Read, missing(claim)));
        if !matches!(claim, "exp" | "iat") {
            rows.push((read(json!({ claim: "" })), Read, missing(claim)));
        }
    }
    assert!(rows.len() >= 75, "{}", rows.len());
    for (claims, interaction, diagnostics) in &rows {
        match of_claims(claims, *interaction) {
            Err(said) => assert_eq!(said, *diagnostics, "{claims}"),
            Ok(_) => panic!("{claims} is taken, but: {diagnostics}"),
        }
    }
}

#[test]
fn texts_that_are_no_unsecured_jwt_are_refused_with_their_diagnostics() {
    let payload = professional().to_string();
    let good = token(HEADER, &payload);
    let sections = "must have the 3 sections";
    let unsecured = |why: &str| format!("has a header that is not that of an unsecured JWT: {why}");
    let base64 = |part: &str| format!("has a {part} that is not base64url without padding");
    let encoded = |text: &str| URL_SAFE_NO_PAD.encode(text);
    // The last character of this holds bits that belong to no byte.
    let loose = format!("{}.{}.", encoded(HEADER), "e31");
    let rows: Vec<(String, String)> = vec![
        (String::new(), sections.to_owned()),
        ("a.b".to_owned(), sections.to_owned()),
        (good.trim_end_matches('.').to_owned(), sections.to_owned()),
        (format!("{good}."), sections.to_owned()),
        (good.replace('.', ""), sections.to_owned()),
        (
            format!("{good}c2ln"),
            "must have an empty signature, as its alg is none".to_owned(),
        ),
        (
            format!("{good} "),
            "must have an empty signature, as its alg is none".to_owned(),
        ),
        (format!(" {good}"), base64("header")),
        (good.replacen('.', "=.", 1), base64("header")),
        (
            format!("{}.{}=.", encoded(HEADER), encoded("{}")),
            base64("payload"),
        ),
        (
            format!("{}.{}+/.", encoded(HEADER), encoded("{}")),
            base64("payload"),
        ),
        (loose, base64("payload")),
        (
            token(r#"{"alg":"RS256"}"#, &payload),
            unsecured("alg must be none"),
        ),
        (
            token(r#"{"alg":"None"}"#, &payload),
            unsecured("alg must be none"),
        ),
        (token(r#"{"alg":""}"#, &payload), unsecured("alg must be none")),
        (token(r#"{"alg":1}"#, &payload), unsecured("alg must be a string")),
        (token("{}", &payload), unsecured("alg is missing")),
        (
            token(r#"{"Alg":"none"}"#, &payload),
            unsecured("Alg is not how alg is written"),
        ),
        (
            token(r#"{"alg":"none","typ":"JWE"}"#, &payload),
            unsecured("typ must be JWT"),
        ),
        (
            token(r#"{"alg":"none","typ":null}"#, &payload),
            unsecured("typ must be a string"),
        ),
        (
            token(r#"{"alg":"none","crit":["exp"]}"#, &payload),
            unsecured("crit is not supported"),
        ),
        (
            token(HEADER, &format!("{{\"x\":\"{}\"}}", "x".repeat(9000))),
            "is longer than 8192 bytes".to_owned(),
        ),
    ];
    for (text, why) in rows {
        let refused = (
            Reason::JwtInvalid,
            format!("The JWT associated with the Authorisation header {why}"),
        );
        assert_eq!(said(&text, Interaction::Read), Err(refused), "{text}");
    }
    // What is wrong in the JSON is said in its parser's words.
    let twice = payload.replacen('{', r#"{"sub":"x","#, 1);
    let cased = payload.replacen('{', r#"{"SUB":"x","#, 1);
    let hidden = payload.replacen('{', r#"{"\u0073ub":"x","#, 1);
    for (header, payload) in [
        ("", payload.as_str()),
        ("x", &payload),
        ("[]", &payload),
        (r#"{"alg":"none","alg":"none"}"#, &payload),
        (r#"{"alg":"none","ALG":"RS256"}"#, &payload),
        (HEADER, ""),
        (HEADER, "null"),
        (HEADER, "[]"),
        (HEADER, "{}x"),
        (HEADER, "\u{feff}{}"),
        (HEADER, &twice),
        (HEADER, &cased),
        (HEADER, &hidden),
    ] {
        let (reason, _) = said(&token(header, payload), Interaction::Read).unwrap_err();
        assert_eq!(reason, Reason::JwtInvalid, "{header} {payload}");
    }
}

#[test]
fn the_rules_set_the_tolerance_and_whether_a_system_may_read() {
    let judged = |claims: &Value, rules: &ClaimRules| {
        judge(&token(HEADER, &claims.to_string()), Interaction::Read, rules).is_ok()
    };
    for (seconds, behind, taken) in [
        (0, 299, true),
        (0, 300, false),
        (30, 329, true),
        (30, 330, false),
        (60, 359, true),
        (60, 360, false),
    ] {
        let rules = ClaimRules {
            tolerance: Duration::from_secs(seconds),
            ..ClaimRules::default()
        };
        let claims = with(
            professional(),
            json!({"iat": NOW - behind, "exp": NOW + 300 - behind}),
        );
        assert_eq!(judged(&claims, &rules), taken, "{seconds} {behind}");
    }
    let read = with(unattended(), json!({"scope": "patient/DocumentReference.read"}));
    let lenient = ClaimRules {
        unattended_reads: true,
        ..ClaimRules::default()
    };
    assert!(judged(&read, &lenient) && !judged(&read, &ClaimRules::default()));
}

#[test]
fn what_claims_say_is_read() {
    let claims = of_claims(&professional(), Interaction::Read).unwrap();
    assert_eq!(claims.asid.as_str(), "200000000205");
    assert_eq!(claims.ods.as_str(), "RR8");
    assert_eq!(claims.actor, Actor::User("555254242106".to_owned()));
    assert_eq!(
        (
            claims.issuer.as_str(),
            claims.subject.as_str(),
            claims.scope.as_str()
        ),
        ("https://consumer.nhs.uk", USER, "patient/DocumentReference.read")
    );
    let patient = NhsNumber::parse("9876543210").unwrap();
    assert_eq!(
        of_claims(&citizen(), Interaction::Read).unwrap().actor,
        Actor::Patient(patient)
    );
    assert_eq!(
        of_claims(&unattended(), Interaction::Create).unwrap().actor,
        Actor::Unattended
    );
}

#[test]
fn the_authorization_header_holds_one_bearer_token() {
    let mut headers = HeaderMap::new();
    let refused = |headers: &HeaderMap, why: &str| {
        let refusal = bearer(headers).unwrap_err();
        assert_eq!(
            (refusal.reason(), refusal.diagnostics()),
            (Reason::JwtMissing, why)
        );
    };
    refused(&headers, "The Authorisation header must be supplied");
    for bad in [
        "",
        "Bearer",
        "Bearer ",
        "Basic eA==",
        "a.b.",
        "Bearer\ta.b.",
        "Bearera.b.",
    ] {
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static(bad));
        refused(&headers, "The Authorisation header must be Bearer and a JWT");
    }
    headers.insert(
        header::AUTHORIZATION,
        HeaderValue::from_bytes(b"Bearer \xff").unwrap(),
    );
    refused(&headers, "The Authorisation header must be Bearer and a JWT");
    for good in ["bearer a.b.", "BEARER a.b.", "Bearer a.b."] {
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static(good));
        assert_eq!(bearer(&headers), Ok("a.b."));
    }
    headers.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer a.b."));
    refused(&headers, "The Authorisation header must be supplied once");
}

#[test]
fn no_nhs_number_comes_back_in_diagnostics() {
    for claims in [
        with(citizen(), json!({"sub": USER})),
        with(citizen(), json!({"requesting_patient": "9876543210"})),
        with(professional(), json!({"sub": PATIENT})),
        with(
            professional(),
            json!({"sub": PATIENT_OVER_HTTP.replace('|', "%7C")}),
        ),
    ] {
        let said = of_claims(&claims, Interaction::Read).unwrap_err();
        assert!(!said.contains("9876543210"), "{said}");
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,80}", header in "\\PC{0,40}", payload in "\\PC{0,40}") {
        let _ = said(&text, Interaction::Read);
        let _ = said(&token(&header, &payload), Interaction::Create);
        let _ = said(&token(HEADER, &payload), Interaction::Retrieve);
    }

    #[test]
    fn whatever_is_taken_says_what_another_parser_reads(
        claim in prop::sample::select(&["sub", "requesting_system", "requesting_organization", "requesting_user", "scope"][..]),
        at in any::<prop::sample::Index>(),
        byte in b' '..=b'~',
    ) {
        let mut claims = professional();
        let mut value = claims[claim].as_str().unwrap().as_bytes().to_vec();
        let place = at.index(value.len());
        value[place] = byte;
        claims[claim] = String::from_utf8(value).unwrap().into();
        if let Ok(taken) = of_claims(&claims, Interaction::Read) {
            let last = |claim: &str| claims[claim].as_str().unwrap().rsplit('|').next().unwrap().to_owned();
            prop_assert_eq!(taken.asid.as_str(), last("requesting_system"));
            prop_assert_eq!(taken.ods.as_str(), last("requesting_organization").to_uppercase());
        }
    }
}
