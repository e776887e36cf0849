//! The JWT of a system that asks for itself, with nobody at it (NRL "JWT" page, "Unattended system").

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;

use crate::nrl::{Asid, OdsCode};

/// How long a token is good for: what the NRL allows at most.
const LIFETIME: Duration = Duration::from_mins(5);

/// A token for reading pointers at a service, made now. A clock before 1970 gives one of 1970.
#[must_use]
pub fn unattended(asid: &Asid, ods: &OdsCode, audience: &str, now: SystemTime) -> String {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let system = format!("https://fhir.nhs.uk/Id/accredited-system|{asid}");
    let header = json!({ "alg": "none", "typ": "JWT" });
    let claims = json!({
        "iss": audience,
        "sub": system,
        "aud": audience,
        "iat": now.as_secs(),
        "exp": (now + LIFETIME).as_secs(),
        "reason_for_request": "directcare",
        "scope": "patient/DocumentReference.read",
        "requesting_system": system,
        "requesting_organization": format!("https://fhir.nhs.uk/Id/ods-organization-code|{ods}"),
    });
    let section = |part: serde_json::Value| URL_SAFE_NO_PAD.encode(part.to_string());
    format!("{}.{}.", section(header), section(claims))
}

#[cfg(test)]
mod tests {
    use super::unattended;
    use crate::nrl::{Asid, ClaimRules, Claims, Interaction, OdsCode, Token};
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn the_gateways_own_token_passes_its_own_checks_for_reads_alone() {
        let (asid, ods) = (
            Asid::parse("200000000370").unwrap(),
            OdsCode::parse("X26").unwrap(),
        );
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        // The NRL has unattended systems write alone: who guards a locator lets its own gateway read.
        let rules = ClaimRules {
            unattended_reads: true,
            ..ClaimRules::default()
        };
        let token = unattended(&asid, &ods, "http://127.0.0.1:8080/STU3", now);
        let token = Token::parse(&token).unwrap();
        for interaction in [Interaction::Read, Interaction::Search] {
            let claims = Claims::check(&token, interaction, &rules, now).unwrap();
            assert_eq!((claims.asid, claims.ods), (asid, ods.clone()));
        }
        assert!(Claims::check(&token, Interaction::Delete, &rules, now).is_err());
        assert!(Claims::check(&token, Interaction::Read, &rules, now + Duration::from_hours(1)).is_err());
    }
}
