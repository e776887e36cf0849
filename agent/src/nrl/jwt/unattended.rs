//! The JWT of a system that asks for itself, with nobody at it (NRL "JWT" page, "Unattended system").

use std::time::SystemTime;

use serde_json::json;

use super::{
    claims::{MAX_LIFETIME, ORGANISATION, SYSTEM},
    unsecured,
};
use crate::{
    clock::unix_seconds,
    nrl::{Asid, OdsCode},
};

/// A token for reading pointers at a service, made now. A clock before 1970 gives one of 1970.
#[must_use]
pub fn unattended(asid: &Asid, ods: &OdsCode, audience: &str, now: SystemTime) -> String {
    let now = unix_seconds(now);
    let system = format!("{SYSTEM}|{asid}");
    unsecured(&json!({
        "iss": audience,
        "sub": system,
        "aud": audience,
        "iat": now,
        "exp": now + MAX_LIFETIME.as_secs(),
        "reason_for_request": "directcare",
        "scope": "patient/DocumentReference.read",
        "requesting_system": system,
        "requesting_organization": format!("{ORGANISATION}|{ods}"),
    }))
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
