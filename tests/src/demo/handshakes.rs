//! Scene 2: handshakes and certificates (R6 to R12).

use anyhow::Result;

use super::story::{Seen, Story};
use crate::{
    client::{Client, Offer},
    lab::Lab,
    netns::Host,
};

pub(super) fn play(story: &mut Story, lab: &Lab) -> Result<()> {
    story.say("\nHandshakes, all from the proxy's address");
    let proxy = || lab.client(Host::Ssp);
    for (who, offer, reason) in [
        ("A TLS 1.3 client", Offer::TLS13, "tls_version"),
        ("A TLS 1.1 client", Offer::TLS11, "tls_version"),
        (
            "A TLS 1.2 client with ECDHE suites alone",
            Offer::ECDHE,
            "no_common_cipher",
        ),
    ] {
        story.step(who, format!("refused: {reason}"), || {
            refused(lab, &proxy(), offer, reason)
        })?;
    }
    story.step(
        "A client without a certificate",
        "refused: certificate_missing",
        || {
            refused(
                lab,
                &proxy().without_certificate(),
                Offer::RIGHT,
                "certificate_missing",
            )
        },
    )?;
    for (what, leaf, reason) in [
        ("self-signed", "self_signed", "chain_unknown_ca"),
        ("from a rogue CA", "rogue", "chain_unknown_ca"),
        (
            "from a SubCA of the same root that is not pinned",
            "other_sub",
            "issuer_not_pinned",
        ),
        ("that has expired", "expired", "certificate_expired"),
        (
            "that is not yet valid",
            "not_yet_valid",
            "certificate_not_yet_valid",
        ),
        ("on the SubCA's CRL", "revoked", "certificate_revoked"),
        ("without clientAuth", "no_client_auth", "wrong_usage"),
        ("of another FQDN", "wrong_fqdn", "fqdn_mismatch"),
    ] {
        story.step(
            format!("A certificate {what}"),
            format!("refused: {reason}"),
            || refused(lab, &proxy().with(leaf)?, Offer::RIGHT, reason),
        )?;
    }
    for (what, leaf) in [
        ("The proxy's certificate", "good"),
        ("One with its name in the CN alone", "cn_only"),
    ] {
        story.step(
            what,
            "TLS 1.2 with DHE-RSA-AES256-SHA256 and a DH key of 2048 bits",
            || {
                let handshake = proxy().with(leaf)?.handshake(Offer::DEFAULT)?;
                let held = handshake.session().is_some_and(|session| {
                    session.protocol == "TLSv1.2"
                        && session.suite == "DHE-RSA-AES256-SHA256"
                        && session.key.starts_with("DH, 2048")
                });
                Ok(Seen::plain(handshake.to_string(), held))
            },
        )?;
    }
    Ok(())
}

/// Makes a handshake that has to fail for a reason.
pub(super) fn refused(lab: &Lab, client: &Client<'_>, offer: Offer, wanted: &str) -> Result<Seen> {
    let mark = lab.audit().mark()?;
    let handshake = client.handshake(offer)?;
    let refused = handshake.session().is_none();
    if !refused {
        return Ok(Seen::plain(handshake.to_string(), false));
    }
    let reason = lab.audit().refusal(mark, &client.address())?;
    Ok(Seen::refused(handshake.to_string(), reason, wanted, refused))
}
