//! `spinegate explain`: what it says of a request, of bytes and of a decision is what the gateway does and did.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use spinegate_tests::{
    client::{Message, NHS_NUMBER, Offer, Token, pointer, superseding},
    command::Finished,
    expect::{allowed, created, handshake_refused, refused},
    json::at,
    lab::{
        CONSUMER, FQDN_BOUND, INACTIVE, Interaction, Lab, PROVIDER, System, UNKNOWN_ASID, WRITER, open_limits,
    },
    netns::Host,
    suite::Suite,
};

fn main() -> ExitCode {
    Suite {
        name: "explain",
        edit: open_limits,
        tests: spinegate_tests::tests![
            a_refused_request_is_explained_by_its_id_and_every_line_names_its_check,
            a_past_refusal_says_whether_the_present_registry_would_refuse_it,
            a_request_as_sent_is_explained_as_it_is_answered,
            of_any_two_faults_on_the_wire_the_earlier_check_answers,
            a_certificate_is_explained_as_its_handshake_ends,
            without_an_agent_the_configuration_explains_the_same,
            what_can_not_be_explained_is_said_with_its_mend,
        ],
    }
    .run()
}

/// A fault, the check that finds it, its reason.
type Fault = (&'static str, &'static str, fn(&mut Draft));

/// A request as bytes, before they are put together.
struct Draft {
    message: Message,
    system: System,
    claims: Vec<(&'static str, Value)>,
    body: Option<Value>,
    /// Stands before the head's end.
    field: &'static str,
}

/// On a create, in the order of the checks. Any two of them fit on one request.
const FAULTS: &[Fault] = &[
    ("framing", "framing_ambiguous", |draft| {
        draft.field = "Transfer-Encoding: chunked\r\n"
    }),
    ("method_and_path", "parameter_invalid", |draft| {
        let body = draft.body.clone().unwrap_or_default();
        draft.message = Message::new("POST", "/STU3/DocumentReference?x=1", "write").json(&body);
    }),
    ("headers", "to_asid_missing", |draft| {
        draft.message = draft.message.clone().without("toASID");
    }),
    ("receiver", "to_asid_invalid", |draft| {
        if draft.message.headers().iter().any(|(name, _)| name == "toASID") {
            draft.message = draft.message.clone().header("toASID", "999999999998");
        }
    }),
    ("token_claims", "jwt_claim_invalid", |draft| {
        draft.claims.push(("reason_for_request", json!("curiosity")));
    }),
    ("asid_known", "asid_unknown", |draft| {
        draft.system.asid = UNKNOWN_ASID
    }),
    ("asid_active", "asid_inactive", |draft| {
        if draft.system.asid != UNKNOWN_ASID {
            draft.system.asid = INACTIVE.asid;
        }
    }),
    ("token_ods", "jwt_ods_mismatch", |draft| {
        let other = "https://fhir.nhs.uk/Id/ods-organization-code|X26";
        draft.claims.push(("requesting_organization", json!(other)));
    }),
    ("interaction", "interaction_not_allowed", |draft| {
        if draft.system.asid == PROVIDER.asid {
            draft.system = CONSUMER;
        }
    }),
    ("body", "media_type_unsupported", |draft| {
        draft.message = draft.message.clone().header("Content-Type", "text/plain");
    }),
    ("ownership", "not_owner", |draft| {
        draft.body = Some(pointer("RGD", NHS_NUMBER))
    }),
];

impl Draft {
    fn create() -> Self {
        let body = pointer(PROVIDER.ods, NHS_NUMBER);
        Self {
            message: Message::create(&body),
            system: PROVIDER,
            claims: Vec::new(),
            body: Some(body),
            field: "",
        }
    }

    fn bytes(self) -> String {
        let mut token = Token::of(&self.system, "write");
        for (claim, value) in self.claims {
            token = token.claim(claim, value);
        }
        let content_type = self
            .message
            .headers()
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case("content-type"))
            .map_or_else(String::new, |(_, value)| value.clone());
        let body = self.body.unwrap_or_default().to_string();
        let message = self.message.header("fromASID", self.system.asid).token(&token);
        let bytes = message.text(&content_type, body).bytes();
        bytes.replacen("\r\n\r\n", &format!("\r\n{}\r\n", self.field), 1)
    }
}

fn a_refused_request_is_explained_by_its_id_and_every_line_names_its_check(lab: &mut Lab) -> Result<()> {
    let id = created(lab, &pointer(PROVIDER.ods, NHS_NUMBER))?;
    let unknown = System {
        asid: UNKNOWN_ASID,
        ..CONSUMER
    };
    let foreign = Message::create(&pointer("RGD", NHS_NUMBER)).from(&PROVIDER);
    for (message, status, check, reason, now) in [
        (
            search().from(&unknown),
            400,
            "asid_known",
            "asid_unknown",
            "refused",
        ),
        (
            search().from(&INACTIVE),
            403,
            "asid_active",
            "asid_inactive",
            "refused",
        ),
        (
            search().from(&FQDN_BOUND),
            401,
            "certificate_name",
            "asid_fqdn_mismatch",
            "refused",
        ),
        (
            Message::delete(&id).from(&WRITER),
            403,
            "interaction",
            "interaction_not_allowed",
            "refused",
        ),
        (foreign, 400, "ownership", "not_owner", "refused"),
        (
            search().from(&CONSUMER).without("toASID"),
            400,
            "headers",
            "to_asid_missing",
            "refused",
        ),
        (
            Message::delete("nobodys").from(&PROVIDER),
            404,
            "ownership",
            "pointer_not_found",
            "unknown",
        ),
    ] {
        let answer = refused(lab, &message, status, reason)?;
        let id = answer
            .header("x-request-id")
            .context("an answer without an id")?
            .to_owned();
        let past = decision(lab, &id)?;
        let explained = at(&past, "/explanation");
        ensure!(
            at(explained, "/decided_by") == check && at(explained, "/reason") == reason,
            "{past}"
        );
        ensure!(*at(&past, "/record/check") == check, "{past}");
        ensure!(*at(&past, "/explanation/told/status") == status, "{past}");
        ensure!(
            *at(&past, "/explanation/told/diagnostics") == answer.diagnostics(),
            "{past}"
        );
        ensure!(at(&past, "/now") == now, "{past}");
        let outcome = |name: &str| {
            let checks = at(explained, "/checks").as_array().into_iter().flatten();
            let mut named = checks.filter(|one| at(one, "/check") == name);
            named
                .next()
                .map(|one| at(one, "/outcome").clone())
                .unwrap_or_default()
        };
        ensure!(outcome("framing") == "pass" && outcome(check) == "fail", "{past}");
    }
    // Whatever else was refused in this lab: no line is without its check.
    let log = fs::read_to_string(lab.files().audit())?;
    for line in log
        .lines()
        .filter(|line| line.contains("\"decision\":\"refuse\""))
    {
        ensure!(line.contains("\"check\":\""), "{line}");
    }
    Ok(())
}

fn a_past_refusal_says_whether_the_present_registry_would_refuse_it(lab: &mut Lab) -> Result<()> {
    let newcomer = System {
        asid: UNKNOWN_ASID,
        ..CONSUMER
    };
    let answer = refused(lab, &search().from(&newcomer), 400, "asid_unknown")?;
    let id = answer
        .header("x-request-id")
        .context("an answer without an id")?
        .to_owned();
    let registry = lab.files().registry();
    let old = fs::read_to_string(&registry)?;
    let entry = |interactions: &str| {
        format!(
            "{old}\n[[system]]\nasid = \"{UNKNOWN_ASID}\"\nods = \"A20047\"\ninteractions = [{interactions}]\n"
        )
    };
    let search_id = format!("\"{}\"", Interaction::Search.urn());
    for (text, now, because) in [
        (entry(&search_id), "allowed", "the registry has changed"),
        (entry(""), "refused", "by interaction now"),
        (old.clone(), "refused", "by the same check"),
    ] {
        fs::write(&registry, text)?;
        lab.agent().order(&["reload"])?;
        let past = decision(lab, &id)?;
        let why = at(&past, "/now_because").as_str().unwrap_or_default();
        ensure!(at(&past, "/now") == now && why.contains(because), "{now}: {past}");
    }
    Ok(())
}

fn a_request_as_sent_is_explained_as_it_is_answered(lab: &mut Lab) -> Result<()> {
    let old = pointer(PROVIDER.ods, NHS_NUMBER);
    let id = created(lab, &old)?;
    let stored = lab
        .client(Host::Ssp)
        .answer(&Message::read(&id).from(&PROVIDER))?
        .body;
    let stored = file(lab, "stored.json", &stored)?;
    let new = superseding(pointer(PROVIDER.ods, NHS_NUMBER), &old);
    for message in [
        Message::create(&new).from(&PROVIDER),
        Message::update(&id).from(&PROVIDER),
        Message::delete(&id).from(&PROVIDER),
        search().from(&CONSUMER),
    ] {
        let (explained, finished) = explain_bytes(lab, &message.bytes(), &["--stored", &stored])?;
        ensure!(
            finished.code == Some(0) && at(&explained, "/decision") == "allow",
            "{explained}"
        );
        let unclear = outcomes(&explained, |name| {
            !name.starts_with("source_") && !name.starts_with("certificate_")
        });
        let unclear = unclear.filter(|outcome| outcome != "pass" && outcome != "not_needed");
        ensure!(unclear.count() == 0, "{explained}");
    }
    let (explained, _) = explain_bytes(lab, "GET / HTTP/1.1\nHost: a\n\n", &[])?;
    ensure!(*at(&explained, "/decided_by") == "framing", "{explained}");
    ensure!(
        explained.to_string().contains("byte 14 of the file"),
        "{explained}"
    );
    Ok(())
}

fn of_any_two_faults_on_the_wire_the_earlier_check_answers(lab: &mut Lab) -> Result<()> {
    for (first, (check, reason, fault)) in FAULTS.iter().enumerate() {
        for other in FAULTS.iter().skip(first) {
            let mut draft = Draft::create();
            fault(&mut draft);
            (other.2)(&mut draft);
            let bytes = draft.bytes();
            let context = || format!("{reason} with {}: {bytes}", other.1);

            let mark = lab.audit().mark()?;
            let client = lab.client(Host::Ssp);
            let mut wire = client.wire()?;
            wire.send(bytes.as_bytes())?;
            let reply = wire.reply()?.with_context(context)?;
            let found = lab
                .audit()
                .refusal(mark, &client.address())
                .with_context(context)?;
            ensure!(found == *reason, "{found}, not {}", context());

            let (explained, finished) = explain_bytes(lab, &bytes, &[])?;
            ensure!(finished.code == Some(1), "{}", finished.said());
            ensure!(
                at(&explained, "/decided_by") == *check && at(&explained, "/reason") == *reason,
                "{}: {explained}",
                context()
            );
            ensure!(
                *at(&explained, "/told/status") == reply.status,
                "{}: {explained}",
                context()
            );
            let told = at(&explained, "/told/diagnostics").as_str().unwrap_or_default();
            let told = told.split(['(', '"']).next().unwrap_or_default();
            ensure!(reply.body.contains(told), "{told:?} was not told: {}", reply.body);
        }
    }
    Ok(())
}

fn a_certificate_is_explained_as_its_handshake_ends(lab: &mut Lab) -> Result<()> {
    for (leaf, check, reason) in [
        ("expired", "certificate_validity", "certificate_expired"),
        ("revoked", "certificate_revocation", "certificate_revoked"),
        ("rogue", "certificate_chain", "chain_unknown_ca"),
        ("other_sub", "certificate_issuer", "issuer_not_pinned"),
        ("no_client_auth", "certificate_usage", "wrong_usage"),
        ("wrong_fqdn", "certificate_fqdn", "fqdn_mismatch"),
    ] {
        let client = lab.client(Host::Ssp).with(leaf)?;
        handshake_refused(lab, &client, Offer::DEFAULT, reason)?;
        let cert = lab.pki().leaf(leaf)?.cert.display().to_string();
        let (explained, finished) = explain(lab, &["--cert", &cert])?;
        ensure!(finished.code == Some(1), "{}", finished.said());
        ensure!(
            at(&explained, "/decided_by") == check && at(&explained, "/reason") == reason,
            "{leaf}: {explained}"
        );
        ensure!(*at(&explained, "/told") == json!({}), "{leaf}: {explained}");
    }
    let cert = lab.pki().leaf("good")?.cert.display().to_string();
    let (explained, finished) = explain(lab, &["--cert", &cert])?;
    ensure!(finished.code == Some(0), "{explained}");
    Ok(())
}

fn without_an_agent_the_configuration_explains_the_same(lab: &mut Lab) -> Result<()> {
    let answer = refused(lab, &search().from(&INACTIVE), 403, "asid_inactive")?;
    let id = answer
        .header("x-request-id")
        .context("an answer without an id")?
        .to_owned();
    let mut draft = Draft::create();
    draft.system = INACTIVE;
    let request = file(lab, "request", &draft.bytes())?;
    let questions: [&[&str]; 3] = [
        &["--request", &request],
        &[
            "--asid",
            PROVIDER.asid,
            "--interaction",
            Interaction::Create.urn(),
        ],
        &["--decision", &id],
    ];
    let mut asked = Vec::new();
    for question in questions {
        let arguments = [&["explain", "--json"], question].concat();
        asked.push(lab.agent().output(&arguments)?);
    }
    lab.stop_agent()?;
    for (question, asked) in questions.into_iter().zip(asked) {
        let arguments = [&["explain", "--json", "--offline"], question].concat();
        let offline = lab.at_edge(&lab.files().config(), &arguments)?;
        ensure!(offline.code == asked.code, "{}: {}", asked.said(), offline.said());
        ensure!(
            offline.stdout == asked.stdout,
            "{}: {}",
            asked.said(),
            offline.said()
        );
        let arguments = [&["explain"], question].concat();
        let without = lab.agent().output(&arguments)?;
        ensure!(without.code == Some(3), "{}", without.said());
    }
    lab.start_agent()
}

fn what_can_not_be_explained_is_said_with_its_mend(lab: &mut Lab) -> Result<()> {
    for (arguments, code, said) in [
        (
            &["--decision", "00000000-0000-4000-8000-000000000000"][..],
            1,
            "X-Request-Id",
        ),
        (&["--request", "/nonexistent"], 2, "correct the path"),
        (&["--asid", "1", "--interaction", "urn:x"], 2, "is not an ASID"),
        (&["--asid", PROVIDER.asid, "--path", "/a b"], 2, "is no path"),
        (
            &["--asid", PROVIDER.asid, "--path", "/", "--header", "x"],
            2,
            "NAME:VALUE",
        ),
        (
            &["--asid", PROVIDER.asid, "--path", "/", "--at", "soon"],
            2,
            "2026-01-31T12:00:00Z",
        ),
        (
            &["--asid", PROVIDER.asid, "--path", "/", "--cert", "/dev/null"],
            2,
            "PEM or DER",
        ),
    ] {
        let finished = lab.agent().output(&[&["explain"], arguments].concat())?;
        ensure!(
            finished.code == Some(code) && finished.stderr.contains(said),
            "{arguments:?}: {}",
            finished.said()
        );
    }
    allowed(lab, &search().from(&CONSUMER), 200).map(drop)
}

fn search() -> Message {
    Message::search(NHS_NUMBER)
}

fn decision(lab: &Lab, id: &str) -> Result<Value> {
    let finished = lab.agent().output(&["explain", "--decision", id, "--json"])?;
    ensure!(finished.code == Some(1), "{}", finished.said());
    serde_json::from_str(&finished.stdout).with_context(|| finished.said())
}

/// What is said of a request that is in order but for this.
fn explain(lab: &Lab, arguments: &[&str]) -> Result<(Value, Finished)> {
    let request = [
        "explain",
        "--json",
        "--asid",
        CONSUMER.asid,
        "--interaction",
        Interaction::Search.urn(),
    ];
    explained(lab, &[&request, arguments].concat())
}

/// What is said of bytes.
fn explain_bytes(lab: &Lab, bytes: &str, arguments: &[&str]) -> Result<(Value, Finished)> {
    let request = file(lab, "request", bytes)?;
    explained(
        lab,
        &[&["explain", "--json", "--request", &request], arguments].concat(),
    )
}

fn explained(lab: &Lab, arguments: &[&str]) -> Result<(Value, Finished)> {
    let finished = lab.agent().output(arguments)?;
    let explained = serde_json::from_str(&finished.stdout).with_context(|| finished.said())?;
    Ok((explained, finished))
}

fn outcomes(explained: &Value, wanted: fn(&str) -> bool) -> impl Iterator<Item = Value> {
    let checks = at(explained, "/checks").as_array().into_iter().flatten();
    let checks = checks.filter(move |check| at(check, "/check").as_str().is_some_and(wanted));
    checks.map(|check| at(check, "/outcome").clone())
}

fn file(lab: &Lab, name: &str, text: &str) -> Result<String> {
    let path: PathBuf = lab.files().folder().join(name);
    fs::write(&path, text)?;
    Ok(path.display().to_string())
}
