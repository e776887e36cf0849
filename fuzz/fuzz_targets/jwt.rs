//! Any bytes as a token, or as the payload of one: the claims that are accepted are those that a naive reading finds. Run by
//! `cargo +nightly fuzz run jwt`.
#![no_main]

use std::time::{Duration, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;

use spinegate::nrl::{ClaimRules, Claims, Interaction, Token};

/// When the corpus's tokens are valid.
const NOW: u64 = 1_700_000_000;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((kind, rest)) = bytes.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(rest) else {
        return;
    };
    if kind % 2 == 0 {
        hold(text);
    } else {
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
        hold(&format!("{header}.{}.", URL_SAFE_NO_PAD.encode(text)));
    }
});

fn hold(text: &str) {
    let Ok(token) = Token::parse(text) else {
        return;
    };
    let sections: Vec<&str> = text.split('.').collect();
    assert_eq!((sections.len(), sections[2]), (3, ""));
    let read = |section: &str| -> Value {
        let bytes = URL_SAFE_NO_PAD.decode(section).expect("a section in base64url");
        serde_json::from_slice(&bytes).expect("a section in JSON")
    };
    assert_eq!(read(sections[0])["alg"], "none");
    let payload = read(sections[1]);
    let now = UNIX_EPOCH + Duration::from_secs(NOW);
    for unattended_reads in [false, true] {
        let rules = ClaimRules {
            tolerance: Duration::from_secs(30),
            unattended_reads,
        };
        for interaction in Interaction::ALL {
            if let Ok(claims) = Claims::check(&token, interaction, &rules, now) {
                agree(&payload, &claims, interaction);
            }
        }
    }
}

fn agree(payload: &Value, claims: &Claims, interaction: Interaction) {
    let text = |name: &str| payload[name].as_str().expect("a claim of text");
    let number = |name: &str| payload[name].as_u64().expect("a claim of digits");
    let id = |name: &str| -> String {
        let plain = text(name).replace("%7C", "|").replace("%7c", "|");
        plain.rsplit('|').next().unwrap_or_default().to_owned()
    };
    assert_eq!(claims.issuer, text("iss"));
    assert_eq!(claims.subject, text("sub"));
    assert_eq!(claims.scope, text("scope"));
    assert_eq!(claims.asid.to_string(), id("requesting_system"));
    assert_eq!(
        claims.ods.to_string(),
        id("requesting_organization").to_uppercase()
    );
    let access = if interaction.writes() { ".write" } else { ".read" };
    assert!(text("scope").ends_with(access));
    assert!(number("exp") + 30 > NOW && number("iat") <= NOW + 30);
    assert!(number("exp") >= number("iat") && number("exp") <= NOW + 330);
    assert!(payload["requesting_user"].is_null() || payload["requesting_patient"].is_null());
    assert!(["directcare", "patientaccess"].contains(&text("reason_for_request")));
}
