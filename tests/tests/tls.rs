//! Handshakes and client certificates (R6 to R12): what is refused, with which reason, and what is not.

use std::{
    fs,
    process::ExitCode,
    thread,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, ensure};
use openssl::x509::X509;
use spinegate_tests::{
    client::{Client, Message, NHS_NUMBER, Offer},
    expect::{accepted, agreed, handshake_refused},
    lab::{CONSUMER, Lab, open_verdicts},
    netns::Host,
    pki::{Identity, KeyCache, Leaf, SSP_FQDN, Validity},
    suite::Suite,
};
use toml::Value;

const SUITE: &str = "DHE-RSA-AES256-SHA256";

fn main() -> ExitCode {
    Suite {
        name: "tls",
        // So many handshakes fail here that the proxy would be denied in the middle.
        edit: open_verdicts,
        tests: spinegate_tests::tests![
            a_client_that_offers_everything_gets_tls_1_2,
            a_client_of_tls_1_3_alone_is_refused,
            a_client_of_tls_1_1_alone_is_refused,
            a_client_of_tls_1_0_alone_is_refused,
            only_one_cipher_suite_is_ever_agreed_on,
            a_client_with_every_suite_but_the_right_one_is_refused,
            a_client_with_ecdhe_suites_alone_is_refused,
            of_application_protocols_http_1_1_is_chosen_and_an_offer_without_it_refused,
            the_dh_group_is_ffdhe2048_and_its_key_fresh_in_each_handshake,
            a_session_is_never_resumed,
            renegotiation_is_refused,
            nothing_is_compressed,
            a_client_without_a_certificate_is_refused,
            a_good_certificate_is_accepted,
            a_self_signed_certificate_is_refused,
            a_certificate_of_a_rogue_ca_is_refused,
            a_certificate_of_another_subca_of_the_same_root_is_refused,
            a_certificate_issued_by_the_root_itself_is_refused,
            an_expired_certificate_is_refused,
            a_certificate_that_is_not_yet_valid_is_refused,
            a_revoked_certificate_is_refused,
            a_certificate_of_a_revoked_subca_is_refused,
            without_a_crl_of_the_issuer_no_configuration_comes_into_force,
            a_certificate_is_refused_where_the_crl_of_its_issuer_is_stale,
            an_open_connection_is_refused_once_its_certificate_is_revoked,
            an_open_connection_is_refused_once_its_certificate_has_expired,
            a_certificate_without_client_auth_is_refused,
            a_certificate_of_another_fqdn_is_refused,
            a_certificate_with_the_right_cn_but_another_san_is_refused,
            a_certificate_with_its_name_in_the_cn_alone_is_accepted,
            garbage_instead_of_a_handshake_is_refused,
            a_client_that_goes_away_after_the_gateways_part_has_abandoned_its_handshake,
            a_refused_client_learns_the_alert_that_the_rfc_names,
            with_resumption_on_a_session_is_taken_up_until_the_next_reload,
        ],
    }
    .run()
}

fn a_client_that_offers_everything_gets_tls_1_2(lab: &mut Lab) -> Result<()> {
    let session = agreed(&lab.client(Host::Ssp), Offer::DEFAULT)?;
    ensure!(session.protocol == "TLSv1.2", "{session:?}");
    Ok(())
}

fn a_client_of_tls_1_3_alone_is_refused(lab: &mut Lab) -> Result<()> {
    handshake_refused(lab, &lab.client(Host::Ssp), Offer::TLS13, "tls_version")
}

fn a_client_of_tls_1_1_alone_is_refused(lab: &mut Lab) -> Result<()> {
    handshake_refused(lab, &lab.client(Host::Ssp), Offer::TLS11, "tls_version")
}

fn a_client_of_tls_1_0_alone_is_refused(lab: &mut Lab) -> Result<()> {
    handshake_refused(lab, &lab.client(Host::Ssp), Offer::TLS10, "tls_version")
}

fn only_one_cipher_suite_is_ever_agreed_on(lab: &mut Lab) -> Result<()> {
    for offer in [
        Offer::RIGHT,
        Offer::DEFAULT,
        Offer::of(&["-tls1_2", "-cipher", "ALL:@SECLEVEL=0"]),
    ] {
        let session = agreed(&lab.client(Host::Ssp), offer)?;
        ensure!(session.suite == SUITE, "{offer:?} got {}", session.suite);
    }
    Ok(())
}

fn a_client_with_every_suite_but_the_right_one_is_refused(lab: &mut Lab) -> Result<()> {
    handshake_refused(
        lab,
        &lab.client(Host::Ssp),
        Offer::ALL_BUT_RIGHT,
        "no_common_cipher",
    )
}

fn of_application_protocols_http_1_1_is_chosen_and_an_offer_without_it_refused(lab: &mut Lab) -> Result<()> {
    let client = lab.client(Host::Ssp);
    for offer in [
        Offer::of(&["-tls1_2", "-alpn", "http/1.1"]),
        Offer::of(&["-tls1_2", "-alpn", "h2,http/1.1,http/1.0"]),
    ] {
        let session = agreed(&client, offer)?;
        ensure!(
            session.printed.contains("ALPN protocol: http/1.1"),
            "{}",
            session.printed
        );
    }
    ensure!(
        agreed(&client, Offer::RIGHT)?
            .printed
            .contains("No ALPN negotiated")
    );
    for offer in [
        Offer::of(&["-tls1_2", "-alpn", "h2"]),
        Offer::of(&["-tls1_2", "-alpn", "http/1.0,http/1.1x"]),
    ] {
        handshake_refused(lab, &client, offer, "no_common_protocol")?;
    }
    Ok(())
}

fn a_client_with_ecdhe_suites_alone_is_refused(lab: &mut Lab) -> Result<()> {
    handshake_refused(lab, &lab.client(Host::Ssp), Offer::ECDHE, "no_common_cipher")
}

fn the_dh_group_is_ffdhe2048_and_its_key_fresh_in_each_handshake(lab: &mut Lab) -> Result<()> {
    let offer = Offer::of(&["-tls1_2", "-cipher", SUITE, "-msg"]);
    let mut keys = Vec::new();
    for _ in 0..3 {
        let session = agreed(&lab.client(Host::Ssp), offer)?;
        let (prime, key) = dh_parameters(&session.printed)?;
        // RFC 7919 appendix A.1: the first and the last words that tell ffdhe2048 from the other groups.
        ensure!(prime.len() == 256, "a prime of {} bytes", prime.len());
        ensure!(prime.starts_with(&[
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xad, 0xf8, 0x54, 0x58
        ]));
        ensure!(prime.ends_with(&[
            0x88, 0x6b, 0x42, 0x38, 0x61, 0x28, 0x5c, 0x97, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff
        ]));
        ensure!(!keys.contains(&key), "a DH key was used twice");
        keys.push(key);
    }
    Ok(())
}

fn a_session_is_never_resumed(lab: &mut Lab) -> Result<()> {
    let session = agreed(
        &lab.client(Host::Ssp),
        Offer::of(&["-tls1_2", "-cipher", SUITE, "-reconnect"]),
    )?;
    ensure!(session.printed.contains("New, TLSv1.2"), "{}", session.printed);
    ensure!(!session.printed.contains("Reused, "), "a session was resumed");
    ensure!(
        !session.printed.contains("TLS session ticket"),
        "a session ticket was sent"
    );
    Ok(())
}

fn renegotiation_is_refused(lab: &mut Lab) -> Result<()> {
    let said = lab
        .client(Host::Ssp)
        .converse(Offer::RIGHT, "sleep 0.3; echo R; sleep 0.5")?;
    ensure!(said.contains("RENEGOTIATING"), "the client did not try: {said}");
    ensure!(
        said.contains("no renegotiation"),
        "renegotiation was not refused: {said}"
    );
    Ok(())
}

fn nothing_is_compressed(lab: &mut Lab) -> Result<()> {
    let session = agreed(
        &lab.client(Host::Ssp),
        Offer::of(&["-tls1_2", "-cipher", SUITE, "-comp"]),
    )?;
    ensure!(
        session.printed.contains("Compression: NONE"),
        "{}",
        session.printed
    );
    Ok(())
}

fn a_client_without_a_certificate_is_refused(lab: &mut Lab) -> Result<()> {
    handshake_refused(
        lab,
        &lab.client(Host::Ssp).without_certificate(),
        Offer::RIGHT,
        "certificate_missing",
    )
}

fn a_good_certificate_is_accepted(lab: &mut Lab) -> Result<()> {
    accepted(&lab.client(Host::Ssp).with("good")?)?;
    accepted(&lab.client(Host::Ssp).with("system")?)
}

fn a_self_signed_certificate_is_refused(lab: &mut Lab) -> Result<()> {
    leaf_refused(lab, "self_signed", "chain_unknown_ca")
}

fn a_certificate_of_a_rogue_ca_is_refused(lab: &mut Lab) -> Result<()> {
    leaf_refused(lab, "rogue", "chain_unknown_ca")
}

fn a_certificate_of_another_subca_of_the_same_root_is_refused(lab: &mut Lab) -> Result<()> {
    leaf_refused(lab, "other_sub", "issuer_not_pinned")
}

fn a_certificate_issued_by_the_root_itself_is_refused(lab: &mut Lab) -> Result<()> {
    let pem = |key: &_| lab.pki().root_authority.issue(&Leaf::client(SSP_FQDN), key);
    let identity = own(lab, "by_root", pem)?;
    handshake_refused(
        lab,
        &lab.client(Host::Ssp).with_identity(identity),
        Offer::RIGHT,
        "issuer_not_pinned",
    )
}

fn an_expired_certificate_is_refused(lab: &mut Lab) -> Result<()> {
    leaf_refused(lab, "expired", "certificate_expired")
}

fn a_certificate_that_is_not_yet_valid_is_refused(lab: &mut Lab) -> Result<()> {
    leaf_refused(lab, "not_yet_valid", "certificate_not_yet_valid")
}

fn a_revoked_certificate_is_refused(lab: &mut Lab) -> Result<()> {
    leaf_refused(lab, "revoked", "certificate_revoked")
}

fn a_certificate_of_a_revoked_subca_is_refused(lab: &mut Lab) -> Result<()> {
    let pki = lab.pki();
    fs::write(
        pki.crls.join("root.pem"),
        pki.root_authority
            .crl(&[pki.sub_authority.certificate()], Validity::days(-1, 30))?,
    )?;
    lab.agent().order(&["reload"])?;
    leaf_refused(lab, "good", "certificate_revoked")?;
    restore_crls(lab)
}

fn without_a_crl_of_the_issuer_no_configuration_comes_into_force(lab: &mut Lab) -> Result<()> {
    fs::remove_file(lab.pki().crls.join("sub.pem"))?;
    let reload = lab.agent().output(&["reload"])?;
    ensure!(
        reload.code == Some(2) && reload.stderr.contains("tls.client.crls"),
        "{:?}: {}",
        reload.code,
        reload.said()
    );
    accepted(&lab.client(Host::Ssp))?;
    leaf_refused(lab, "revoked", "certificate_revoked")?;
    restore_crls(lab)
}

fn a_certificate_is_refused_where_the_crl_of_its_issuer_is_stale(lab: &mut Lab) -> Result<()> {
    lab.pki().publish_crls(Validity::days(-30, -1))?;
    lab.agent().order(&["reload"])?;
    leaf_refused(lab, "good", "crl_stale")?;
    restore_crls(lab)
}

fn an_open_connection_is_refused_once_its_certificate_is_revoked(lab: &mut Lab) -> Result<()> {
    let client = lab.client(Host::Ssp);
    let good = X509::from_pem(&fs::read(&lab.pki().leaf("good")?.cert)?)?;
    let crl = lab.pki().sub_authority.crl(&[&good], Validity::days(-1, 30))?;
    refused_from_now_on(lab, &client, "certificate_revoked", || {
        fs::write(lab.pki().crls.join("sub.pem"), &crl)?;
        lab.agent().order(&["reload"]).map(drop)
    })?;
    restore_crls(lab)
}

fn an_open_connection_is_refused_once_its_certificate_has_expired(lab: &mut Lab) -> Result<()> {
    let end = SystemTime::now() + Duration::from_secs(2);
    let validity = Validity {
        to: end,
        ..Validity::present()
    };
    let identity = own(lab, "ending", |key| {
        let leaf = Leaf::client(SSP_FQDN).valid(validity);
        lab.pki().sub_authority.issue(&leaf, key)
    })?;
    let client = lab.client(Host::Ssp).with_identity(identity);
    refused_from_now_on(lab, &client, "certificate_expired", || {
        // Its last second counts.
        let over = end + Duration::from_secs(1);
        thread::sleep(over.duration_since(SystemTime::now()).unwrap_or_default());
        Ok(())
    })
}

fn a_certificate_without_client_auth_is_refused(lab: &mut Lab) -> Result<()> {
    leaf_refused(lab, "no_client_auth", "wrong_usage")
}

fn a_certificate_of_another_fqdn_is_refused(lab: &mut Lab) -> Result<()> {
    leaf_refused(lab, "wrong_fqdn", "fqdn_mismatch")
}

fn a_certificate_with_the_right_cn_but_another_san_is_refused(lab: &mut Lab) -> Result<()> {
    let leaf = Leaf::client(SSP_FQDN).with_san("elsewhere.lab.nhs.uk");
    let identity = own(lab, "other_san", |key| {
        Ok([
            lab.pki().sub_authority.issue(&leaf, key)?,
            lab.pki().sub_authority.pem()?,
        ]
        .concat())
    })?;
    handshake_refused(
        lab,
        &lab.client(Host::Ssp).with_identity(identity),
        Offer::RIGHT,
        "fqdn_mismatch",
    )
}

fn a_certificate_with_its_name_in_the_cn_alone_is_accepted(lab: &mut Lab) -> Result<()> {
    accepted(&lab.client(Host::Ssp).with("cn_only")?)
}

fn garbage_instead_of_a_handshake_is_refused(lab: &mut Lab) -> Result<()> {
    let client = lab.client(Host::Ssp);
    let long = [b"\x16\x03\x01\x40\x00".as_slice(), &[0xff; 0x4000]].concat();
    for bytes in [
        b"GET / HTTP/1.1\r\n\r\n".as_slice(),
        &[0; 600],
        b"\x16\x03\x03\x00\x04\x01\x00\x00\x00",
        &long,
    ] {
        let mark = lab.audit().mark()?;
        client.raw(bytes)?;
        let reason = lab.audit().refusal(mark, &client.address())?;
        ensure!(reason == "handshake_malformed", "{:?}…: {reason}", bytes.get(..9));
    }
    accepted(&client)
}

fn a_client_that_goes_away_after_the_gateways_part_has_abandoned_its_handshake(lab: &mut Lab) -> Result<()> {
    let client = lab.client(Host::Ssp);
    let mark = lab.audit().mark()?;
    client.abandon()?;
    let reason = lab.audit().refusal(mark, &client.address())?;
    ensure!(reason == "handshake_abandoned", "refused for {reason}");
    Ok(())
}

/// RFC 5246 section 7.2.2, and for a missing certificate section 7.4.6.
fn a_refused_client_learns_the_alert_that_the_rfc_names(lab: &mut Lab) -> Result<()> {
    const HANDSHAKE_FAILURE: u8 = 40;
    let client = lab.client(Host::Ssp);
    let nobody = client.clone().without_certificate();
    let mut table = vec![
        (client.clone(), Offer::TLS13, 70),
        (client.clone(), Offer::ALL_BUT_RIGHT, HANDSHAKE_FAILURE),
        (nobody, Offer::RIGHT, HANDSHAKE_FAILURE),
        (client.clone(), Offer::of(&["-tls1_2", "-alpn", "h2"]), 120),
    ];
    for (leaf, alert) in [
        ("no_client_auth", 43),
        ("revoked", 44),
        ("expired", 45),
        ("not_yet_valid", 45),
        ("wrong_fqdn", 46),
        ("rogue", 48),
        ("self_signed", 48),
        ("other_sub", 48),
    ] {
        table.push((client.clone().with(leaf)?, Offer::RIGHT, alert));
    }
    for (client, offer, wanted) in table {
        let mark = lab.audit().mark()?;
        let handshake = client.handshake(offer)?;
        let reason = lab.audit().refusal(mark, &client.address())?;
        ensure!(
            handshake.alert() == Some(wanted),
            "{reason}: wanted alert {wanted}, but: {handshake}"
        );
    }
    Ok(())
}

fn with_resumption_on_a_session_is_taken_up_until_the_next_reload(lab: &mut Lab) -> Result<()> {
    let switch = |lab: &Lab, word: &str| {
        lab.configure(|table| {
            if let Some(tls) = table.get_mut("tls").and_then(Value::as_table_mut) {
                tls.insert("resumption".into(), word.into());
            }
        })?;
        lab.agent().order(&["reload"]).map(drop)
    };
    switch(lab, "on")?;
    // An offer's words live as long as the program.
    let session = lab.files().pki().join("session");
    let session: &'static str = session.to_str().context("a path in UTF-8")?.to_owned().leak();
    let client = lab.client(Host::Ssp);
    let offer = |option| Offer::of(vec!["-tls1_2", "-cipher", SUITE, option, session].leak());
    let (first, again) = (offer("-sess_out"), offer("-sess_in"));
    let reused = |offer| -> Result<bool> { Ok(agreed(&client, offer)?.printed.contains("Reused, ")) };
    ensure!(!reused(first)?, "there was no session to take up");
    ensure!(reused(again)?, "the session was not taken up");
    lab.agent().order(&["reload"])?;
    ensure!(!reused(again)?, "a session outlived a reload");

    ensure!(!reused(first)?, "there was no session to take up");
    let good = X509::from_pem(&fs::read(&lab.pki().leaf("good")?.cert)?)?;
    let crl = lab.pki().sub_authority.crl(&[&good], Validity::days(-1, 30))?;
    fs::write(lab.pki().crls.join("sub.pem"), &crl)?;
    lab.agent().order(&["reload"])?;
    handshake_refused(lab, &client, again, "certificate_revoked")?;
    switch(lab, "off")?;
    restore_crls(lab)
}

/// A leaf of the lab is refused, in the handshake and as a client of HTTP.
fn leaf_refused(lab: &Lab, leaf: &str, wanted: &str) -> Result<()> {
    let client = lab.client(Host::Ssp).with(leaf)?;
    handshake_refused(lab, &client, Offer::RIGHT, wanted)?;
    let mark = lab.audit().mark()?;
    let outcome = client.send(&Message::search(NHS_NUMBER).from(&CONSUMER))?;
    ensure!(outcome.status().is_none(), "{leaf} got an answer: {outcome}");
    // The client is gone before the log has its refusal, which the next test would take for its own.
    let reason = lab.audit().refusal(mark, &client.address())?;
    ensure!(
        reason == wanted,
        "{leaf} was refused for {reason}, not for {wanted}"
    );
    Ok(())
}

/// A connection that served a request is cut off by what happens then, or refuses the next request at the latest.
fn refused_from_now_on(
    lab: &Lab,
    client: &Client<'_>,
    wanted: &str,
    act: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let mark = lab.audit().mark()?;
    let statuses = client.before_and_after(&Message::search(NHS_NUMBER).from(&CONSUMER), act)?;
    ensure!(matches!(statuses, (200, None | Some(403))), "{statuses:?}");
    let reason = lab.audit().refusal(mark, &client.address())?;
    ensure!(reason == wanted, "refused for {reason}, not for {wanted}");
    Ok(())
}

/// A certificate of one's own making, over a key of its own.
fn own(
    lab: &Lab,
    name: &str,
    issue: impl FnOnce(&openssl::pkey::PKey<openssl::pkey::Private>) -> Result<Vec<u8>>,
) -> Result<Identity> {
    let folder = lab.files().pki();
    let key = KeyCache::in_folder(&folder).get(name)?;
    let identity = Identity {
        cert: folder.join(format!("{name}.pem")),
        key: folder.join(format!("{name}.key")),
    };
    fs::write(&identity.cert, issue(&key)?)?;
    Ok(identity)
}

fn restore_crls(lab: &Lab) -> Result<()> {
    lab.pki().publish_crls(Validity::days(-1, 30))?;
    lab.agent().order(&["reload"])?;
    accepted(&lab.client(Host::Ssp))
}

/// The prime and the gateway's public key in the ServerKeyExchange that `-msg` prints (RFC 5246 section 7.4.3).
fn dh_parameters(printed: &str) -> Result<(Vec<u8>, Vec<u8>)> {
    let dump = printed
        .split("ServerKeyExchange")
        .nth(1)
        .context("no ServerKeyExchange was printed")?;
    let mut bytes = Vec::new();
    for line in dump.lines().skip(1).take_while(|line| line.starts_with("    ")) {
        for byte in line.split_whitespace() {
            bytes.push(u8::from_str_radix(byte, 16)?);
        }
    }
    let mut rest = bytes.get(4..).context("the ServerKeyExchange has no body")?;
    let mut vector = || -> Result<Vec<u8>> {
        let (length, after) = rest.split_first_chunk::<2>().context("a length is cut off")?;
        let (vector, after) = after
            .split_at_checked(u16::from_be_bytes(*length).into())
            .context("a vector is cut off")?;
        rest = after;
        Ok(vector.to_vec())
    };
    let (prime, _generator, key) = (vector()?, vector()?, vector()?);
    Ok((prime, key))
}
