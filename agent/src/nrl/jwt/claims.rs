//! The claims of a JWT, and the rules that make them consistent with one another and with the request.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use spinegate_common::Reason;

use crate::nrl::{
    Asid, Interaction, NhsNumber, OdsCode, Refusal,
    json::{Element, Fault},
};

use super::Token;

/// The claims of a request's JWT (NRL "JSON Web Token guidance" page). What they say is the client's word only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// `iss`: who made the token.
    pub issuer: String,
    /// `sub`: on whose behalf the request is made.
    pub subject: String,
    /// `requesting_system`
    pub asid: Asid,
    /// `requesting_organization`
    pub ods: OdsCode,
    /// Which of the three kinds of request it is.
    pub actor: Actor,
    /// `scope`
    pub scope: String,
}

/// On whose behalf a request is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// A professional: the id of the role profile in `requesting_user`.
    User(String),
    /// A citizen: `requesting_patient`.
    Patient(NhsNumber),
    /// Nobody: the system works unattended.
    Unattended,
}

const SYSTEM_PREFIX: &str = "https://fhir.nhs.uk/Id/accredited-system|";
const ORGANISATION_PREFIX: &str = "https://fhir.nhs.uk/Id/ods-organization-code|";
const USER_PREFIX: &str = "https://fhir.nhs.uk/Id/sds-role-profile-id|";
const PATIENT_PREFIX: &str = "https://fhir.nhs.net/Id/nhs-number|";

/// How far the client's clock may be off.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(30);
/// How long a token may be valid (Spine Core: `exp` is five minutes after `iat`).
const MAX_LIFETIME: Duration = Duration::from_secs(5 * 60);

impl Claims {
    /// Checks a token's claims for an interaction, at a time.
    ///
    /// # Errors
    /// [`Reason::JwtClaimInvalid`] with the claim's name: for a claim that is missing, malformed, out of time
    /// or contradicts another one or the interaction.
    pub fn check(token: &Token, interaction: Interaction, now: SystemTime) -> Result<Self, Refusal> {
        let payload = token.payload.root();
        let issuer = text(&payload, "iss")?;
        let subject = text(&payload, "sub")?;
        text(&payload, "aud")?;
        check_times(number(&payload, "exp")?, number(&payload, "iat")?, now)?;
        let reason = text(&payload, "reason_for_request")?;
        let scope = text(&payload, "scope")?;
        let system = text(&payload, "requesting_system")?;
        let organisation = text(&payload, "requesting_organization")?;

        check_scope(scope, interaction)?;
        let asid = prefixed("requesting_system", system, SYSTEM_PREFIX, |text| {
            Asid::parse(text).ok()
        })?;
        let ods = prefixed(
            "requesting_organization",
            organisation,
            ORGANISATION_PREFIX,
            |text| OdsCode::parse(text).ok(),
        )?;
        let actor = actor(&payload, subject, system, reason)?;
        Ok(Self {
            issuer: issuer.to_owned(),
            subject: subject.to_owned(),
            asid,
            ods,
            actor,
            scope: scope.to_owned(),
        })
    }
}

fn actor(payload: &Element<'_>, subject: &str, system: &str, reason: &str) -> Result<Actor, Refusal> {
    let user = payload.string("requesting_user").map_err(wrong)?;
    let patient = payload.string("requesting_patient").map_err(wrong)?;
    let (actor, name, same_as_subject, wanted) = match (user, patient) {
        (Some(_), Some(_)) => {
            return Err(invalid(
                "requesting_user and requesting_patient must not both be supplied",
            ));
        }
        (Some(user), None) => {
            let id = prefixed("requesting_user", user, USER_PREFIX, |id| {
                (!id.is_empty()).then(|| id.to_owned())
            })?;
            (Actor::User(id), "requesting_user", user, "directcare")
        }
        (None, Some(patient)) => {
            let number = prefixed("requesting_patient", patient, PATIENT_PREFIX, |n| {
                NhsNumber::parse(n).ok()
            })?;
            if let Some(act) = payload.object("act").map_err(wrong)? {
                act.required_string("sub").map_err(wrong)?;
            }
            (
                Actor::Patient(number),
                "requesting_patient",
                patient,
                "patientaccess",
            )
        }
        (None, None) => (Actor::Unattended, "requesting_system", system, "directcare"),
    };
    // The NRL's own example of a citizen's token has http:// in one claim and https:// in the other.
    if without_scheme(same_as_subject) != without_scheme(subject) {
        return Err(invalid(format!(
            "{name} ({same_as_subject}) and sub ({subject}) claim's values must match"
        )));
    }
    if reason != wanted {
        return Err(invalid(format!(
            "reason_for_request ({reason}) must be '{wanted}'"
        )));
    }
    Ok(actor)
}

fn check_times(expires: u64, issued: u64, now: SystemTime) -> Result<(), Refusal> {
    // A clock before 1970 is broken; time 0 then makes every token one from the future.
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let tolerance = CLOCK_TOLERANCE.as_secs();
    if expires.saturating_add(tolerance) <= now {
        return Err(invalid(format!("exp ({expires}) must be in the future")));
    }
    if issued > now.saturating_add(tolerance) {
        return Err(invalid(format!("iat ({issued}) must not be in the future")));
    }
    match expires.checked_sub(issued) {
        Some(lifetime) if lifetime <= MAX_LIFETIME.as_secs().saturating_add(tolerance) => Ok(()),
        _ => Err(invalid(format!(
            "exp ({expires}) must be at most 5 minutes after iat ({issued})"
        ))),
    }
}

/// The spec's own examples write the resource type with a small r, against its rule: both spellings are taken.
fn check_scope(scope: &str, interaction: Interaction) -> Result<(), Refusal> {
    let access = if interaction.writes() { "write" } else { "read" };
    let same = scope
        .strip_suffix(access)
        .is_some_and(|rest| matches!(rest, "patient/DocumentReference." | "patient/Documentreference."));
    if same {
        Ok(())
    } else {
        Err(invalid(format!(
            "scope ({scope}) must match patient/DocumentReference.{access}"
        )))
    }
}

fn text<'a>(payload: &Element<'a>, claim: &str) -> Result<&'a str, Refusal> {
    payload
        .string(claim)
        .map_err(wrong)?
        .filter(|text| !text.is_empty())
        .ok_or_else(|| missing(claim))
}

fn number(payload: &Element<'_>, claim: &str) -> Result<u64, Refusal> {
    payload
        .whole_number(claim)
        .map_err(wrong)?
        .ok_or_else(|| missing(claim))
}

fn prefixed<T>(
    claim: &str,
    value: &str,
    prefix: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, Refusal> {
    value
        .strip_prefix(prefix)
        .and_then(parse)
        .ok_or_else(|| invalid(format!("{claim} ({value}) must be of the form {prefix}[value]")))
}

fn without_scheme(uri: &str) -> &str {
    uri.strip_prefix("https://")
        .or_else(|| uri.strip_prefix("http://"))
        .unwrap_or(uri)
}

fn missing(claim: &str) -> Refusal {
    invalid(format!(
        "The mandatory claim {claim} from the JWT associated with the Authorisation header is missing"
    ))
}

fn wrong(fault: Fault) -> Refusal {
    invalid(format!("The claim {fault}"))
}

fn invalid(diagnostics: impl AsRef<str>) -> Refusal {
    Refusal::new(Reason::JwtClaimInvalid, diagnostics)
}

#[cfg(test)]
mod tests {
    use super::{Actor, Claims};
    use crate::nrl::{Interaction, Token};
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use serde_json::{Value, json};
    use spinegate_common::Reason;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    const NOW: u64 = 1_700_000_000;

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(NOW)
    }

    fn professional() -> Value {
        json!({
            "iss": "https://consumer.nhs.uk",
            "sub": "https://fhir.nhs.uk/Id/sds-role-profile-id|555254242106",
            "aud": "https://nrl.nhs.uk",
            "exp": NOW + 300, "iat": NOW,
            "reason_for_request": "directcare",
            "scope": "patient/DocumentReference.read",
            "requesting_system": "https://fhir.nhs.uk/Id/accredited-system|200000000205",
            "requesting_organization": "https://fhir.nhs.uk/Id/ods-organization-code|RR8",
            "requesting_user": "https://fhir.nhs.uk/Id/sds-role-profile-id|555254242106",
        })
    }

    fn check(claims: &Value, interaction: Interaction) -> Result<Claims, String> {
        let payload = URL_SAFE_NO_PAD.encode(claims.to_string());
        let token = Token::parse(&format!("eyJhbGciOiJub25lIn0.{payload}.")).unwrap();
        Claims::check(&token, interaction, now()).map_err(|refusal| {
            assert_eq!(refusal.reason(), Reason::JwtClaimInvalid);
            refusal.diagnostics().to_owned()
        })
    }

    fn changed(changes: Value) -> Result<Claims, String> {
        let mut claims = professional();
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        check(&claims, Interaction::Read)
    }

    #[test]
    fn a_professionals_token_is_accepted_and_read() {
        let claims = changed(json!({})).unwrap();
        assert_eq!(claims.asid.as_str(), "200000000205");
        assert_eq!(claims.ods.as_str(), "RR8");
        assert_eq!(claims.actor, Actor::User("555254242106".to_owned()));
    }

    #[test]
    fn every_mandatory_claim_is_missed_by_name() {
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
            let mut claims = professional();
            claims.as_object_mut().unwrap().remove(claim);
            assert_eq!(
                check(&claims, Interaction::Read).unwrap_err(),
                format!(
                    "The mandatory claim {claim} from the JWT associated with the Authorisation header is missing"
                )
            );
            assert!(changed(json!({ claim: null })).is_err(), "{claim}");
            assert!(changed(json!({ claim: "" })).is_err(), "{claim}");
        }
    }

    #[test]
    fn scope_follows_the_interaction_and_the_specs_own_spelling_is_taken() {
        for (interaction, scope) in [
            (Interaction::Read, "read"),
            (Interaction::Search, "read"),
            (Interaction::Create, "write"),
            (Interaction::Update, "write"),
            (Interaction::Delete, "write"),
        ] {
            for (spelling, good) in [
                ("patient/DocumentReference", true),
                ("patient/Documentreference", true),
                ("patient/documentreference", false),
                ("patient/*", false),
            ] {
                for access in ["read", "write", "*"] {
                    let mut claims = professional();
                    claims["scope"] = json!(format!("{spelling}.{access}"));
                    assert_eq!(
                        check(&claims, interaction).is_ok(),
                        good && access == scope,
                        "{interaction} {spelling}.{access}"
                    );
                }
            }
        }
        assert_eq!(
            changed(json!({"scope": "x"})).unwrap_err(),
            "scope (x) must match patient/DocumentReference.read"
        );
    }

    #[test]
    fn times_have_thirty_seconds_of_tolerance_and_five_minutes_between_them() {
        for (issued, expires, good) in [
            (NOW, NOW + 300, true),
            (NOW + 30, NOW + 330, true),
            (NOW + 31, NOW + 331, false),
            (NOW - 300, NOW, true),
            (NOW - 300, NOW - 29, true),
            (NOW - 300, NOW - 30, false),
            (NOW, NOW + 330, true),
            (NOW, NOW + 331, false),
            (NOW, NOW - 1, false),
            (0, NOW + 300, false),
            (NOW, u64::MAX, false),
            (u64::MAX, u64::MAX, false),
        ] {
            assert_eq!(
                changed(json!({"iat": issued, "exp": expires})).is_ok(),
                good,
                "{issued} {expires}"
            );
        }
        for bad in [json!("1700000300"), json!(-1), json!(1.5), json!([])] {
            assert!(changed(json!({"exp": bad})).is_err());
        }
    }

    #[test]
    fn a_token_is_that_of_a_professional_a_citizen_or_an_unattended_system() {
        let patient = "https://fhir.nhs.net/Id/nhs-number|9876543210";
        let system = "https://fhir.nhs.uk/Id/accredited-system|200000000205";
        let without_user = |changes: Value| {
            let mut claims = professional();
            claims.as_object_mut().unwrap().remove("requesting_user");
            for (name, value) in changes.as_object().unwrap() {
                claims[name] = value.clone();
            }
            check(&claims, Interaction::Read)
        };
        assert_eq!(
            without_user(json!({"sub": system})).unwrap().actor,
            Actor::Unattended
        );
        let citizen =
            json!({"sub": patient, "requesting_patient": patient, "reason_for_request": "patientaccess"});
        assert!(matches!(
            without_user(citizen.clone()).unwrap().actor,
            Actor::Patient(_)
        ));
        let mut other_scheme = citizen.clone();
        other_scheme["sub"] = json!(patient.replace("https", "http"));
        assert!(without_user(other_scheme).is_ok());
        let mut delegated = citizen.clone();
        delegated["act"] = json!({});
        assert!(without_user(delegated).is_err());

        assert_eq!(
            changed(json!({"sub": "other"})).unwrap_err(),
            "requesting_user (https://fhir.nhs.uk/Id/sds-role-profile-id|555254242106) and sub (other) claim's values must match"
        );
        assert_eq!(
            changed(json!({"reason_for_request": "patientaccess"})).unwrap_err(),
            "reason_for_request (patientaccess) must be 'directcare'"
        );
        assert!(changed(citizen).is_err());
        assert!(without_user(json!({"sub": patient, "requesting_patient": patient})).is_err());
        assert!(without_user(json!({"sub": system, "reason_for_request": "patientaccess"})).is_err());
        assert!(without_user(json!({"sub": "other"})).is_err());
    }

    #[test]
    fn values_have_the_specs_form() {
        for (claim, bad) in [
            ("requesting_system", "200000000205"),
            (
                "requesting_system",
                "https://fhir.nhs.uk/Id/accredited-system|20000000020",
            ),
            (
                "requesting_system",
                "https://fhir.nhs.uk/Id/accredited-system|200000000205 ",
            ),
            (
                "requesting_organization",
                "https://fhir.nhs.uk/Id/ods-organization-code|",
            ),
            ("requesting_organization", "RR8"),
            ("requesting_user", "https://fhir.nhs.uk/Id/sds-role-profile-id|"),
        ] {
            assert!(
                changed(json!({ claim: bad })).unwrap_err().starts_with(claim),
                "{claim} {bad}"
            );
        }
    }
}
