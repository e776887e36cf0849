//! A token that passes, for requests that are only described.

use std::time::SystemTime;

use serde_json::json;

use super::{
    claims::{MAX_LIFETIME, ORGANISATION, SYSTEM, USER},
    unsecured,
};
use crate::{clock::unix_seconds, nrl::Interaction};

/// A token of a professional whose system asks for an interaction now.
#[must_use]
pub fn sample_token(interaction: Interaction, asid: &str, ods: &str, now: SystemTime) -> String {
    let now = unix_seconds(now);
    let access = if interaction.writes() { "write" } else { "read" };
    let resource = match interaction {
        Interaction::Retrieve => "*",
        _ => "DocumentReference",
    };
    let user = format!("{USER}|000000000000");
    unsecured(&json!({
        "iss": "https://sample.example.nhs.uk",
        "sub": user,
        "aud": "https://sample.example.nhs.uk",
        "iat": now,
        "exp": now + MAX_LIFETIME.as_secs(),
        "reason_for_request": "directcare",
        "scope": format!("patient/{resource}.{access}"),
        "requesting_system": format!("{SYSTEM}|{asid}"),
        "requesting_organization": format!("{ORGANISATION}|{ods}"),
        "requesting_user": user,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nrl::{ClaimRules, Claims, Token};

    #[test]
    fn it_passes_for_every_interaction() {
        let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
        for interaction in Interaction::ALL {
            let token = Token::parse(&sample_token(interaction, "200000000205", "RR8", now)).unwrap();
            let claims = Claims::check(&token, interaction, &ClaimRules::default(), now);
            assert_eq!(claims.map(|claims| claims.ods.to_string()), Ok("RR8".to_owned()));
        }
    }
}
