//! The claims of a JWT, and the rules that make them consistent with one another and with the request (docs/jwt.md).

use std::time::{Duration, SystemTime};

use spinegate_common::Reason;

use crate::{
    clock::unix_seconds,
    nrl::{
        Asid, Interaction, NhsNumber, OdsCode, Refusal,
        tree::{Element, Fault},
    },
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

/// `[gateway.jwt]`: where the operator has a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimRules {
    /// How far a client's clock may be off.
    pub tolerance: Duration,
    /// Whether a system may read on nobody's behalf; the NRL leaves that to providers, which write.
    pub unattended_reads: bool,
}

impl Default for ClaimRules {
    fn default() -> Self {
        Self {
            tolerance: Duration::from_secs(30),
            unattended_reads: false,
        }
    }
}

pub(super) const SYSTEM: &str = "https://fhir.nhs.uk/Id/accredited-system";
pub(super) const ORGANISATION: &str = "https://fhir.nhs.uk/Id/ods-organization-code";
pub(super) const USER: &str = "https://fhir.nhs.uk/Id/sds-role-profile-id";
const PATIENT: &str = "https://fhir.nhs.net/Id/nhs-number";
/// The NRL's own example of a citizen's token has this in `sub`.
const PATIENT_OVER_HTTP: &str = "http://fhir.nhs.net/Id/nhs-number";

/// How long a token may be valid (Spine Core: `exp` is five minutes after `iat`).
pub(super) const MAX_LIFETIME: Duration = Duration::from_mins(5);

impl Claims {
    /// Checks a token's claims for an interaction, at a time.
    ///
    /// # Errors
    /// [`Reason::JwtClaimInvalid`] with the claim's name: for a claim that is missing, malformed, out of time
    /// or contradicts another one or the interaction.
    pub fn check(
        token: &Token,
        interaction: Interaction,
        rules: &ClaimRules,
        now: SystemTime,
    ) -> Result<Self, Refusal> {
        let payload = token.payload.root();
        let issuer = text(&payload, "iss")?;
        let subject = text(&payload, "sub")?;
        text(&payload, "aud")?;
        let (expires, issued) = (number(&payload, "exp")?, number(&payload, "iat")?);
        let not_before = payload.whole_number("nbf").map_err(wrong)?;
        check_times(expires, issued, not_before, rules.tolerance, now)?;
        let reason = text(&payload, "reason_for_request")?;
        let scope = text(&payload, "scope")?;
        let system = text(&payload, "requesting_system")?;
        let organisation = text(&payload, "requesting_organization")?;

        check_scope(scope, interaction)?;
        let asid = identifier(system, SYSTEM)
            .and_then(|id| Asid::parse(id).ok())
            .ok_or_else(|| malformed("requesting_system", system, SYSTEM, "ASID"))?;
        let ods = identifier(organisation, ORGANISATION)
            .and_then(|id| OdsCode::parse(id).ok())
            .ok_or_else(|| malformed("requesting_organization", organisation, ORGANISATION, "ODSCode"))?;
        let actor = actor(&payload, subject, (system, &asid), reason)?;
        if actor == Actor::Unattended && !interaction.writes() && !rules.unattended_reads {
            return Err(missing("requesting_user"));
        }
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

fn actor(
    payload: &Element<'_>,
    subject: &str,
    (system, asid): (&str, &Asid),
    reason: &str,
) -> Result<Actor, Refusal> {
    let user = optional_text(payload, "requesting_user")?;
    let patient = optional_text(payload, "requesting_patient")?;
    if let Some(act) = payload.object("act").map_err(wrong)? {
        act.required_string("sub")
            .map_err(wrong)
            .and_then(|by| by_somebody(by, patient))?;
    }
    let (actor, name, value, same, wanted) = match (user, patient) {
        (Some(_), Some(_)) => {
            return Err(invalid(
                "requesting_user and requesting_patient must not both be supplied",
            ));
        }
        (Some(user), None) => {
            let id = identifier(user, USER)
                .filter(|id| !id.is_empty())
                .ok_or_else(|| malformed("requesting_user", user, USER, "SDSRoleProfileID"))?;
            let same = identifier(subject, USER) == Some(id);
            let actor = Actor::User(id.to_owned());
            (actor, "requesting_user", user, same, "directcare")
        }
        (None, Some(patient)) => {
            let number = identifier(patient, PATIENT)
                .and_then(|id| NhsNumber::parse(id).ok())
                .ok_or_else(|| malformed("requesting_patient", patient, PATIENT, "NHSNumber"))?;
            let same = patient_in(subject) == Some(number.as_str());
            let actor = Actor::Patient(number);
            (actor, "requesting_patient", patient, same, "patientaccess")
        }
        // Whose behalf it is says `sub` alone, which is not enough.
        (None, None) if identifier(subject, USER).is_some() => return Err(missing("requesting_user")),
        (None, None) if patient_in(subject).is_some() => return Err(missing("requesting_patient")),
        (None, None) => {
            let same = identifier(subject, SYSTEM) == Some(asid.as_str());
            (Actor::Unattended, "requesting_system", system, same, "directcare")
        }
    };
    if !same {
        let (value, subject) = (shown(value), shown(subject));
        return Err(invalid(format!(
            "{name} ({value}) and sub ({subject}) claim's values must match"
        )));
    }
    if reason != wanted {
        return Err(invalid(format!(
            "reason_for_request ({reason}) must be '{wanted}'"
        )));
    }
    Ok(actor)
}

/// `act` names who acts for a citizen.
fn by_somebody(by: &str, patient: Option<&str>) -> Result<(), Refusal> {
    if by.is_empty() {
        return Err(missing("act.sub"));
    }
    if patient.is_none() {
        return Err(invalid("act must be supplied with requesting_patient alone"));
    }
    Ok(())
}

fn check_times(
    expires: u64,
    issued: u64,
    not_before: Option<u64>,
    tolerance: Duration,
    now: SystemTime,
) -> Result<(), Refusal> {
    // A clock before 1970 is broken; time 0 then makes every token one from the future.
    let now = unix_seconds(now);
    let (tolerance, lifetime) = (tolerance.as_secs(), MAX_LIFETIME.as_secs());
    let latest = now.saturating_add(tolerance);
    if expires.saturating_add(tolerance) <= now {
        return Err(invalid(format!("exp ({expires}) must be in the future")));
    }
    if issued > latest {
        return Err(invalid(format!("iat ({issued}) must not be in the future")));
    }
    if let Some(begins) = not_before.filter(|begins| *begins > latest) {
        return Err(invalid(format!("nbf ({begins}) must not be in the future")));
    }
    let sound = expires
        .checked_sub(issued)
        .is_some_and(|length| length <= lifetime.saturating_add(tolerance));
    // However far off the client's clock is, nobody can use the token for longer.
    if !sound || expires > latest.saturating_add(lifetime) {
        return Err(invalid(format!(
            "exp ({expires}) must be at most 5 minutes after iat ({issued})"
        )));
    }
    Ok(())
}

/// The spec's own examples write the resource type with a small r, against its rule: both spellings are taken. Through
/// the Secure Proxy the scope names no resource type.
fn check_scope(scope: &str, interaction: Interaction) -> Result<(), Refusal> {
    let access = if interaction.writes() { "write" } else { "read" };
    let (named, examples) = match interaction {
        Interaction::Retrieve => ("patient/*", "patient/*"),
        _ => ("patient/DocumentReference", "patient/Documentreference"),
    };
    match scope.rsplit_once('.') {
        Some((of, given)) if given == access && (of == named || of == examples) => Ok(()),
        _ => Err(invalid(format!("scope ({scope}) must match {named}.{access}"))),
    }
}

/// The text of a claim that must be there.
fn text<'a>(payload: &Element<'a>, claim: &str) -> Result<&'a str, Refusal> {
    optional_text(payload, claim)?.ok_or_else(|| missing(claim))
}

/// The text of a claim; one that is empty counts as missing.
fn optional_text<'a>(payload: &Element<'a>, claim: &str) -> Result<Option<&'a str>, Refusal> {
    let text = payload.string(claim).map_err(wrong)?;
    if text.is_some_and(|text| text.chars().any(char::is_control)) {
        return Err(invalid(format!(
            "The claim {claim} must have no control characters"
        )));
    }
    Ok(text.filter(|text| !text.is_empty()))
}

fn number(payload: &Element<'_>, claim: &str) -> Result<u64, Refusal> {
    payload
        .whole_number(claim)
        .map_err(wrong)?
        .ok_or_else(|| missing(claim))
}

/// The identifier of `[system]|[identifier]`; the bar may be percent-encoded, as NHS Digital's provider stub takes it.
fn identifier<'a>(value: &'a str, system: &str) -> Option<&'a str> {
    let rest = value.strip_prefix(system)?;
    ["|", "%7C", "%7c"]
        .into_iter()
        .find_map(|bar| rest.strip_prefix(bar))
}

/// The NHS number of a citizen's `sub`.
fn patient_in(subject: &str) -> Option<&str> {
    identifier(subject, PATIENT).or_else(|| identifier(subject, PATIENT_OVER_HTTP))
}

/// A claim's value as it may stand in an answer, and so in the audit log: without the NHS number of a citizen.
fn shown(value: &str) -> &str {
    if patient_in(value).is_some() {
        "[NHSNumber]"
    } else {
        value
    }
}

fn malformed(claim: &str, value: &str, system: &str, kind: &str) -> Refusal {
    // Whatever stands in this claim may be an NHS number.
    let value = if system == PATIENT { "[NHSNumber]" } else { value };
    invalid(format!("{claim} ({value}) must be of the form {system}|[{kind}]"))
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
