//! The provider profile: the Spine Secure Proxy in front, a provider's record endpoint behind.

use std::{fs, net::SocketAddr, process::ExitCode};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use spinegate_tests::{
    client::{Message, NHS_NUMBER, Offer, Token},
    expect::{allowed, handshake_refused, refused},
    json::at,
    lab::{self, CONSUMER, GATEWAY_ASID, Lab, System, UNKNOWN_ASID, section},
    netns::Host,
    pki::SSP_FQDN,
    recorder::{Heard, Recorder},
    rogue::{Rogue, Step, say},
    suite::Suite,
};
use toml::Table;

const RECORD: &str = "/A20047/Binary/1";
const ENDPOINT: &str = "127.0.0.1:8082";

fn main() -> ExitCode {
    Suite {
        name: "provider",
        edit: |table| {
            let gateway = section(table, "gateway");
            gateway.insert("profile".into(), "provider".into());
            gateway.insert("upstream".into(), format!("http://{ENDPOINT}").into());
            section(gateway, "provider").insert("paths".into(), vec!["/A20047".to_owned()].into());
            let client = section(section(table, "tls"), "client");
            client.insert("fqdns".into(), vec![SSP_FQDN.to_owned()].into());
            lab::open_verdicts(table);
        },
        tests: spinegate_tests::tests![
            a_record_is_retrieved_and_the_provider_sees_the_request_as_it_was,
            every_header_of_the_proxy_must_be_there_once_and_sound,
            nothing_but_a_get_of_a_record_reaches_the_provider,
            the_token_is_one_for_the_proxy,
            no_answer_may_be_stored_and_none_to_a_refusal_either,
            the_audit_log_has_what_a_provider_must_keep,
            a_record_larger_than_any_body_that_is_judged_passes,
            a_client_that_is_not_the_proxy_is_refused_in_its_handshake,
            a_query_passes_where_the_configuration_lets_it,
            where_requesters_must_be_registered_only_those_with_the_interaction_are_served,
        ],
    }
    .run()
}

fn a_record_is_retrieved_and_the_provider_sees_the_request_as_it_was(lab: &mut Lab) -> Result<()> {
    let provider = provider(lab)?;
    for interaction in [
        "urn:nhs:names:services:nrl:DocumentReference.content.read",
        "urn:nhs:names:services:nrl:DocumentReference.content",
    ] {
        let mark = provider.mark();
        let message = retrieve()
            .header("Ssp-InteractionID", interaction)
            .header("Accept", "application/pdf")
            .header("X-Spinegate-Asid", UNKNOWN_ASID)
            .header("fromASID", UNKNOWN_ASID)
            .header("Cookie", "a=b");
        allowed(lab, &message, 200)?;
        let heard = one(&provider, mark)?;
        ensure!(
            (heard.method.as_str(), heard.target.as_str()) == ("GET", RECORD),
            "{}",
            heard.head
        );
        for name in [
            "ssp-from",
            "ssp-to",
            "ssp-interactionid",
            "ssp-traceid",
            "authorization",
            "accept",
        ] {
            let sent = message
                .headers()
                .iter()
                .find(|(one, _)| one.eq_ignore_ascii_case(name));
            let sent = sent.map(|(_, value)| vec![value.as_str()]);
            ensure!(Some(heard.values(name)) == sent, "{name}: {}", heard.head);
        }
        ensure!(
            heard.values("x-spinegate-asid") == [CONSUMER.asid],
            "{}",
            heard.head
        );
        ensure!(
            heard.values("x-spinegate-client-fqdn") == [SSP_FQDN],
            "{}",
            heard.head
        );
        // Nobody has said whose the ASID is, so the gateway doesn't either.
        for name in ["fromasid", "cookie", "x-spinegate-ods"] {
            ensure!(heard.values(name).is_empty(), "{name}: {}", heard.head);
        }
    }
    Ok(())
}

fn every_header_of_the_proxy_must_be_there_once_and_sound(lab: &mut Lab) -> Result<()> {
    let provider = provider(lab)?;
    let mark = provider.mark();
    for (name, missing, invalid, wrong) in [
        ("Ssp-From", "from_asid_missing", "from_asid_invalid", "1"),
        ("Ssp-To", "to_asid_missing", "to_asid_invalid", UNKNOWN_ASID),
        (
            "Ssp-InteractionID",
            "interaction_missing",
            "interaction_mismatch",
            "urn:nhs:names:services:nrl:DocumentReference.read",
        ),
        ("Ssp-TraceID", "trace_id_missing", "trace_id_invalid", "trace"),
        ("Authorization", "jwt_missing", "jwt_invalid", "Bearer a.b"),
    ] {
        let sent = retrieve();
        let value = sent.headers().iter().find(|(one, _)| one == name);
        let value = value.map(|(_, value)| value.clone()).context(name)?;
        for (message, reason) in [
            (sent.clone().without(name), missing),
            (sent.clone().also(name, &value), missing),
            (sent.header(name, wrong), invalid),
        ] {
            let answer = refused(lab, &message, 400, reason)?;
            ensure!(answer.spine_code() == "MISSING_OR_INVALID_HEADER", "{answer}");
        }
    }
    // The headers of a record locator are no substitute.
    let locators = retrieve()
        .without("Ssp-From")
        .header("fromASID", CONSUMER.asid)
        .header("toASID", GATEWAY_ASID);
    refused(lab, &locators, 400, "from_asid_missing")?;
    refused(
        lab,
        &retrieve().also("Ssp_From", CONSUMER.asid),
        400,
        "header_lookalike",
    )?;
    ensure!(provider.mark() == mark, "a refused request reached the provider");
    Ok(())
}

fn nothing_but_a_get_of_a_record_reaches_the_provider(lab: &mut Lab) -> Result<()> {
    let provider = provider(lab)?;
    let mark = provider.mark();
    for (target, reason) in [
        ("/", "path_unknown"),
        ("/A20047x/1", "path_unknown"),
        ("/STU3/DocumentReference/1", "path_unknown"),
        ("/A20047/%2e%2e/admin", "target_refused"),
        ("/A20047/a%2fb", "target_refused"),
    ] {
        let status = if reason == "path_unknown" { 404 } else { 400 };
        refused(lab, &of(target), status, reason)?;
    }
    refused(lab, &of(&format!("{RECORD}?a=b")), 400, "parameter_invalid")?;
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let answer = refused(lab, &retrieve().by(method), 405, "method_unknown")?;
        ensure!(answer.header("allow") == Some("GET"), "{:?}", answer.headers);
    }
    ensure!(provider.mark() == mark, "a refused request reached the provider");
    Ok(())
}

fn the_token_is_one_for_the_proxy(lab: &mut Lab) -> Result<()> {
    let _provider = provider(lab)?;
    let token = || Token::of(&CONSUMER, "read").claim("scope", json!("patient/*.read"));
    allowed(lab, &retrieve().token(&token()), 200)?;
    for (claim, value) in [
        ("scope", json!("patient/DocumentReference.read")),
        ("scope", json!("patient/*.write")),
        ("reason_for_request", json!("patientaccess")),
        ("requesting_user", Value::Null),
        ("exp", json!(0)),
        ("aud", Value::Null),
    ] {
        let message = retrieve().token(&token().claim(claim, value));
        refused(lab, &message, 400, "jwt_claim_invalid").with_context(|| claim.to_owned())?;
    }
    let other = System {
        asid: UNKNOWN_ASID,
        ..CONSUMER
    };
    let token = Token::of(&other, "read").claim("scope", json!("patient/*.read"));
    refused(lab, &retrieve().token(&token), 400, "jwt_asid_mismatch").map(drop)
}

fn no_answer_may_be_stored_and_none_to_a_refusal_either(lab: &mut Lab) -> Result<()> {
    let answer = "HTTP/1.1 200 OK\r\nCache-Control: public, max-age=60\r\nContent-Length: 2\r\n\r\n{}";
    let _provider = says(lab, vec![Step::Read, say(answer), Step::Again])?;
    for (message, status) in [
        (retrieve(), 200),
        (retrieve().without("Ssp-TraceID"), 400),
        (of("/"), 404),
        (retrieve().also("Ssp_From", "1"), 400),
    ] {
        let answer = allowed(lab, &message, status)?;
        let stored: Vec<_> = answer
            .headers
            .iter()
            .filter(|(name, _)| name == "cache-control")
            .collect();
        ensure!(
            stored.len() == 1 && stored.iter().all(|(_, value)| value == "no-store"),
            "{stored:?}"
        );
    }
    drop(_provider);
    let answer = refused(lab, &retrieve(), 502, "upstream_unreachable")?;
    ensure!(
        answer.header("cache-control") == Some("no-store"),
        "{:?}",
        answer.headers
    );
    Ok(())
}

fn the_audit_log_has_what_a_provider_must_keep(lab: &mut Lab) -> Result<()> {
    let answer = "HTTP/1.1 200 OK\r\nETag: W/\"7\"\r\nContent-Length: 2\r\n\r\n{}";
    let _provider = says(lab, vec![Step::Read, say(answer), Step::Again])?;
    let trace = "09a01679-2564-0fb4-5129-aecc81ea2706";
    let citizen = format!("https://fhir.nhs.net/Id/nhs-number|{NHS_NUMBER}");
    let token = Token::of(&CONSUMER, "read")
        .claim("scope", json!("patient/*.read"))
        .claim("reason_for_request", json!("patientaccess"))
        .claim("requesting_user", Value::Null)
        .claim("requesting_patient", json!(citizen))
        .claim("sub", json!(citizen));
    let message = retrieve().header("Ssp-TraceID", trace);
    for (message, user) in [
        (message.clone(), "555021935107"),
        (message.token(&token), "citizen"),
    ] {
        let mark = lab.audit().mark()?;
        let answer = allowed(lab, &message, 200)?;
        let entries = lab.audit().requests(mark)?;
        let entry = entries.first().context("the request has no line")?;
        for (field, expected) in [
            ("/decision", json!("allow")),
            ("/request/id", json!(trace)),
            ("/request/method", json!("GET")),
            ("/request/path", json!(RECORD)),
            ("/request/asid", json!(CONSUMER.asid)),
            ("/request/ods", json!(CONSUMER.ods)),
            ("/request/user", json!(user)),
            ("/request/version", json!("W/\"7\"")),
            ("/request/status", json!(200)),
            (
                "/request/interaction",
                json!("urn:nhs:names:services:nrl:DocumentReference.content.read"),
            ),
        ] {
            ensure!(*at(entry, field) == expected, "{field}: {entry:#}");
        }
        ensure!(
            at(entry, "/ts").as_str().is_some_and(|time| time.ends_with('Z')),
            "{entry:#}"
        );
        ensure!(
            answer.header("x-request-id") == at(entry, "/decision_id").as_str(),
            "{:?}",
            answer.headers
        );
        ensure!(!entry.to_string().contains(NHS_NUMBER), "{entry:#}");
    }
    Ok(())
}

fn a_record_larger_than_any_body_that_is_judged_passes(lab: &mut Lab) -> Result<()> {
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let answer = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n",
        chunk.repeat(64)
    );
    let _provider = says(lab, vec![Step::Read, say(answer), Step::Again])?;
    let answer = allowed(lab, &retrieve(), 200)?;
    ensure!(answer.body.len() == 64 * 0x10000, "{} bytes", answer.body.len());
    Ok(())
}

fn a_client_that_is_not_the_proxy_is_refused_in_its_handshake(lab: &mut Lab) -> Result<()> {
    let client = lab.client(Host::System);
    handshake_refused(lab, &client, Offer::RIGHT, "fqdn_mismatch")
}

fn a_query_passes_where_the_configuration_lets_it(lab: &mut Lab) -> Result<()> {
    let provider = provider(lab)?;
    configured(lab, |provider| {
        drop(provider.insert("queries".into(), true.into()))
    })?;
    let mark = provider.mark();
    let target = format!("{RECORD}?version=2&name=a%20b");
    allowed(lab, &of(&target), 200)?;
    ensure!(one(&provider, mark)?.target == target);
    configured(lab, |provider| drop(provider.remove("queries")))?;
    refused(lab, &of(&target), 400, "parameter_invalid").map(drop)
}

fn where_requesters_must_be_registered_only_those_with_the_interaction_are_served(
    lab: &mut Lab,
) -> Result<()> {
    let provider = provider(lab)?;
    let reader = System {
        asid: "200000000107",
        name: "retrieving consumer",
        ..CONSUMER
    };
    let entry = format!(
        "\n[[system]]\nasid = \"{}\"\nods = \"{}\"\ninteractions = [\"urn:nhs:names:services:nrl:DocumentReference.content\"]\n",
        reader.asid, reader.ods
    );
    let registry = lab.files().registry();
    let before = fs::read_to_string(&registry)?;
    fs::write(&registry, format!("{before}{entry}"))?;
    configured(lab, |provider| {
        drop(provider.insert("requester".into(), "registered".into()))
    })?;

    let mark = provider.mark();
    allowed(lab, &Message::retrieve(RECORD, &reader), 200)?;
    let heard = one(&provider, mark)?;
    ensure!(heard.values("x-spinegate-ods") == [reader.ods], "{}", heard.head);
    ensure!(
        heard.values("x-spinegate-interaction") == ["urn:nhs:names:services:nrl:DocumentReference.content"],
        "{}",
        heard.head
    );
    let mark = provider.mark();
    refused(lab, &retrieve(), 403, "interaction_not_allowed")?;
    let unknown = System {
        asid: UNKNOWN_ASID,
        ..CONSUMER
    };
    refused(lab, &Message::retrieve(RECORD, &unknown), 400, "asid_unknown")?;
    let elsewhere = System { ods: "RGD", ..reader };
    refused(
        lab,
        &Message::retrieve(RECORD, &elsewhere),
        400,
        "jwt_ods_mismatch",
    )?;
    ensure!(provider.mark() == mark, "a refused request reached the provider");

    fs::write(&registry, before)?;
    configured(lab, |provider| drop(provider.remove("requester")))?;
    allowed(lab, &Message::retrieve(RECORD, &unknown), 200).map(drop)
}

fn retrieve() -> Message {
    of(RECORD)
}

fn of(target: &str) -> Message {
    Message::retrieve(target, &CONSUMER)
}

fn provider(lab: &Lab) -> Result<Recorder> {
    Recorder::open(&lab.network().namespace(Host::Edge), endpoint()?)
}

fn says(lab: &Lab, script: Vec<Step>) -> Result<Rogue> {
    Rogue::open(&lab.network().namespace(Host::Edge), endpoint()?, script)
}

fn endpoint() -> Result<SocketAddr> {
    Ok(ENDPOINT.parse()?)
}

/// The one request that has come since a mark.
fn one(provider: &Recorder, mark: usize) -> Result<Heard> {
    let mut heard = provider.since(mark)?;
    ensure!(heard.len() == 1, "{heard:#?}");
    heard.pop().context("nothing came")
}

fn configured(lab: &Lab, edit: impl FnOnce(&mut Table)) -> Result<()> {
    lab.reconfigure(|table| edit(section(section(table, "gateway"), "provider")))
}
