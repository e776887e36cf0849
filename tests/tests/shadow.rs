//! Shadow: what would be refused goes on, is recorded and counts against nobody; what is enforced stays so.

use std::{fs, process::ExitCode};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use spinegate_tests::{
    client::{Answer, Message, NHS_NUMBER, Token, identifier_of, pointer, superseding},
    expect::{allowed, created, refused, stored_status},
    json::at,
    lab::{
        CONSUMER, FQDN_BOUND, INACTIVE, Interaction, Lab, OTHER_PROVIDER, PROVIDER, System, UNKNOWN_ASID,
        UPSTREAM, WRITER, open_metrics, section,
    },
    netns::Host,
    recorder::Recorder,
    suite::Suite,
};
use toml::{Table, Value as Setting};

const RECORDER: &str = "127.0.0.1:8083";

fn main() -> ExitCode {
    Suite {
        name: "shadow",
        edit: |table| {
            section(table, "authz").insert("mode".into(), "shadow".into());
            open_metrics(table);
        },
        tests: spinegate_tests::tests![
            what_would_be_refused_reaches_the_locator_and_the_log,
            another_owners_pointer_is_changed_as_it_would_have_been_without_a_gateway,
            what_says_who_is_asking_or_cannot_be_classified_is_refused,
            a_request_in_shadow_is_no_strike_against_a_source,
            an_explanation_speaks_of_shadow_only_where_permission_decides,
            the_service_is_told_nothing_that_is_not_proven,
            check_and_status_warn_of_it,
            one_interaction_of_one_system_is_in_shadow,
            one_system_of_the_registry_is_in_shadow,
            without_shadow_everything_is_enforced,
        ],
    }
    .run()
}

fn what_would_be_refused_reaches_the_locator_and_the_log(lab: &mut Lab) -> Result<()> {
    let unknown = System {
        asid: UNKNOWN_ASID,
        ..CONSUMER
    };
    let elsewhere = System {
        ods: OTHER_PROVIDER.ods,
        ..CONSUMER
    };
    let before = metric(lab, "spinegate_shadowed_total{reason=\"asid_unknown\"}")?;
    for (message, status, reason, check) in [
        (search().from(&unknown), 200, "asid_unknown", "asid_known"),
        (search().from(&elsewhere), 200, "jwt_ods_mismatch", "token_ods"),
        (
            search().from(&CONSUMER).token(&Token::of(&PROVIDER, "read")),
            200,
            "jwt_asid_mismatch",
            "token_asid",
        ),
        (
            search().from(&WRITER),
            200,
            "interaction_not_allowed",
            "interaction",
        ),
        (
            Message::create(&pointer(CONSUMER.ods, NHS_NUMBER)).from(&CONSUMER),
            201,
            "interaction_not_allowed",
            "interaction",
        ),
    ] {
        in_shadow(lab, &message, status, reason, check)?;
    }
    let after = metric(lab, "spinegate_shadowed_total{reason=\"asid_unknown\"}")?;
    ensure!(after == before + 1, "{before} then {after}");
    ensure!(metric(lab, "spinegate_shadow")? == 1);
    ensure!(
        metric(
            lab,
            "spinegate_refusals_total{reason=\"asid_unknown\",side=\"client\"}"
        )? == 0
    );
    // What passes is allowed, and no more than that.
    let mark = lab.audit().mark()?;
    allowed(lab, &search().from(&CONSUMER), 200)?;
    ensure!(*at(&request_since(lab, mark)?, "/decision") == "allow");
    Ok(())
}

fn another_owners_pointer_is_changed_as_it_would_have_been_without_a_gateway(lab: &mut Lab) -> Result<()> {
    let create = Message::create(&pointer(PROVIDER.ods, NHS_NUMBER)).from(&OTHER_PROVIDER);
    in_shadow(lab, &create, 201, "not_owner", "ownership")?;
    let id = created(lab, &pointer(PROVIDER.ods, NHS_NUMBER))?;
    let update = Message::update(&id).from(&OTHER_PROVIDER);
    in_shadow(lab, &update, 200, "not_owner", "ownership")?;
    ensure!(stored_status(lab, &id)? == "entered-in-error");

    let old = pointer(PROVIDER.ods, NHS_NUMBER);
    let old_id = created(lab, &old)?;
    let new = superseding(pointer(OTHER_PROVIDER.ods, NHS_NUMBER), &old);
    let supersede = Message::create(&new).from(&OTHER_PROVIDER);
    let answer = in_shadow(lab, &supersede, 201, "target_not_owner", "ownership")?;
    ensure!(stored_status(lab, &old_id)? == "superseded");
    let delete = Message::delete(&identifier_of(&answer)?).from(&PROVIDER);
    in_shadow(lab, &delete, 200, "not_owner", "ownership").map(drop)
}

fn what_says_who_is_asking_or_cannot_be_classified_is_refused(lab: &mut Lab) -> Result<()> {
    let unknown = System {
        asid: UNKNOWN_ASID,
        ..PROVIDER
    };
    let create = || Message::create(&pointer(PROVIDER.ods, NHS_NUMBER)).from(&unknown);
    let before = lab.database().pointers()?;
    for (message, status, reason) in [
        (search().from(&INACTIVE), 403, "asid_inactive"),
        (search().from(&FQDN_BOUND), 401, "asid_fqdn_mismatch"),
        (search().from(&unknown).without("toASID"), 400, "to_asid_missing"),
        (
            search().from(&unknown).header("Authorization", "Bearer x"),
            400,
            "jwt_invalid",
        ),
        (
            search().from(&unknown).token(&Token::of(&unknown, "write")),
            400,
            "jwt_claim_invalid",
        ),
        (
            Message::new("GET", "/STU3/Patient/1", "read").from(&unknown),
            404,
            "path_unknown",
        ),
        (
            Message::new("PUT", "/STU3/DocumentReference", "write").from(&unknown),
            405,
            "method_unknown",
        ),
        (
            create().json(&json!({"resourceType": "Patient"})),
            400,
            "body_invalid",
        ),
        (create().text("text/plain", "x"), 415, "media_type_unsupported"),
        (create().also("from_asid", PROVIDER.asid), 400, "header_lookalike"),
    ] {
        refused(lab, &message, status, reason)?;
    }
    ensure!(
        lab.database().pointers()? == before,
        "a refused request changed the database"
    );
    Ok(())
}

fn a_request_in_shadow_is_no_strike_against_a_source(lab: &mut Lab) -> Result<()> {
    let unknown = System {
        asid: UNKNOWN_ASID,
        ..CONSUMER
    };
    // Five refusals deny a dedicated system in this lab.
    for _ in 0..12 {
        let client = lab.client(Host::System);
        let answer = client.answer(&search().from(&unknown))?;
        ensure!(answer.status == 200, "{answer}");
    }
    let verdicts = lab.agent().json(&["verdicts", "list"])?;
    ensure!(!verdicts.to_string().contains("\"deny\""), "{verdicts}");
    Ok(())
}

fn the_service_is_told_nothing_that_is_not_proven(lab: &mut Lab) -> Result<()> {
    let recorder = Recorder::open(&lab.network().namespace(Host::Edge), RECORDER.parse()?)?;
    let upstream = |address: &str| {
        let address = format!("http://{address}");
        lab.reconfigure(|table| drop(section(table, "gateway").insert("upstream".into(), address.into())))
    };
    upstream(RECORDER)?;
    for (system, proven) in [(CONSUMER, true), (WRITER, false)] {
        let mark = recorder.mark();
        let message = search().from(&system).header("X-Spinegate-Asid", system.asid);
        allowed(lab, &message, 200)?;
        let heard = recorder.since(mark)?;
        let [heard] = heard.as_slice() else {
            anyhow::bail!("{heard:#?}");
        };
        let has = |name: &str| heard.fields.iter().any(|(one, _)| one == name);
        for name in ["x-spinegate-asid", "x-spinegate-ods", "x-spinegate-interaction"] {
            ensure!(has(name) == proven, "{name}: {}", heard.head);
        }
        for name in [
            "fromasid",
            "authorization",
            "x-request-id",
            "x-spinegate-client-fqdn",
        ] {
            ensure!(has(name), "{name}: {}", heard.head);
        }
    }
    upstream(UPSTREAM).map(drop)
}

fn check_and_status_warn_of_it(lab: &mut Lab) -> Result<()> {
    let said = lab.agent().order(&["status"])?;
    ensure!(
        said.lines()
            .any(|line| line.starts_with("permission")
                && line.ends_with("IN SHADOW, not enforced: all requests")),
        "{said}"
    );
    ensure!(
        said.contains("warning: ") && said.contains("authz: SHADOW: nobody is refused"),
        "{said}"
    );
    let status = lab.agent().json(&["status"])?;
    ensure!(*at(&status, "/shadow") == json!(["all requests"]), "{status}");
    let checked = lab.at_edge(&lab.files().config(), &["check"])?;
    ensure!(
        checked.code == Some(0) && checked.stdout.contains("authz: SHADOW: nobody is refused"),
        "{}",
        checked.stdout
    );
    Ok(())
}

fn an_explanation_speaks_of_shadow_only_where_permission_decides(lab: &mut Lab) -> Result<()> {
    let create = Interaction::Create.urn();
    for (leaf, decision, notes) in [("good", "allow", 1), ("expired", "refuse", 0)] {
        let cert = lab.pki().leaf(leaf)?.cert.display().to_string();
        let question = ["--asid", CONSUMER.asid, "--interaction", create, "--cert", &cert];
        let said = lab
            .agent()
            .output(&[&["explain", "--json"], &question[..]].concat())?;
        let explained: Value = serde_json::from_str(&said.stdout)?;
        let of_shadow = at(&explained, "/notes").as_array().into_iter().flatten();
        let of_shadow = of_shadow.filter(|note| note.to_string().contains("in shadow"));
        ensure!(
            *at(&explained, "/decision") == decision && of_shadow.count() == notes,
            "{leaf}: {explained}"
        );
    }
    Ok(())
}

fn one_interaction_of_one_system_is_in_shadow(lab: &mut Lab) -> Result<()> {
    configured(lab, |authz| {
        authz.insert("mode".into(), "enforce".into());
        let case = Table::from_iter([
            ("interaction".to_owned(), Setting::from(Interaction::Search.urn())),
            ("asid".to_owned(), WRITER.asid.into()),
        ]);
        authz.insert("shadow".into(), vec![case].into());
    })?;
    in_shadow(
        lab,
        &search().from(&WRITER),
        200,
        "interaction_not_allowed",
        "interaction",
    )?;
    refused(
        lab,
        &Message::read("1").from(&WRITER),
        403,
        "interaction_not_allowed",
    )?;
    let create = Message::create(&pointer(CONSUMER.ods, NHS_NUMBER)).from(&CONSUMER);
    refused(lab, &create, 403, "interaction_not_allowed")?;
    let status = lab.agent().json(&["status"])?;
    let said = format!("every search of {}", WRITER.asid);
    ensure!(*at(&status, "/shadow") == json!([said]), "{status}");
    configured(lab, |authz| drop(authz.remove("shadow")))
}

fn one_system_of_the_registry_is_in_shadow(lab: &mut Lab) -> Result<()> {
    let registry = lab.files().registry();
    let before = fs::read_to_string(&registry)?;
    let asid = format!("asid = \"{}\"\n", WRITER.asid);
    ensure!(before.contains(&asid), "{before}");
    fs::write(
        &registry,
        before.replace(&asid, &format!("{asid}mode = \"shadow\"\n")),
    )?;
    lab.agent().order(&["reload"])?;
    in_shadow(
        lab,
        &search().from(&WRITER),
        200,
        "interaction_not_allowed",
        "interaction",
    )?;
    let create = Message::create(&pointer(OTHER_PROVIDER.ods, NHS_NUMBER)).from(&WRITER);
    in_shadow(lab, &create, 201, "not_owner", "ownership")?;
    let create = Message::create(&pointer(CONSUMER.ods, NHS_NUMBER)).from(&CONSUMER);
    refused(lab, &create, 403, "interaction_not_allowed")?;
    let checked = lab.at_edge(&lab.files().config(), &["check"])?;
    ensure!(
        checked.stdout.contains("SHADOW: 1 of its systems"),
        "{}",
        checked.stdout
    );
    fs::write(&registry, before)?;
    lab.agent().order(&["reload"]).map(drop)
}

fn without_shadow_everything_is_enforced(lab: &mut Lab) -> Result<()> {
    refused(lab, &search().from(&WRITER), 403, "interaction_not_allowed")?;
    let create = Message::create(&pointer(PROVIDER.ods, NHS_NUMBER)).from(&OTHER_PROVIDER);
    refused(lab, &create, 400, "not_owner")?;
    let status = lab.agent().json(&["status"])?;
    ensure!(*at(&status, "/shadow") == json!([]), "{status}");
    ensure!(metric(lab, "spinegate_shadow")? == 0);
    Ok(())
}

fn search() -> Message {
    Message::search(NHS_NUMBER)
}

/// A request gets this status of the locator's, and its line says that it is in shadow, and why.
fn in_shadow(lab: &Lab, message: &Message, status: u16, reason: &str, check: &str) -> Result<Answer> {
    let mark = lab.audit().mark()?;
    let answer = allowed(lab, message, status)?;
    let entry = request_since(lab, mark)?;
    for (field, expected) in [
        ("/decision", json!("shadow")),
        ("/reason", json!(reason)),
        ("/check", json!(check)),
        ("/request/status", json!(status)),
    ] {
        ensure!(*at(&entry, field) == expected, "{message}: {field}: {entry:#}");
    }
    ensure!(at(&entry, "/detail").is_string(), "{entry:#}");
    Ok(answer)
}

fn request_since(lab: &Lab, mark: usize) -> Result<Value> {
    let mut requests = lab.audit().requests(mark)?.into_iter();
    requests.next().context("the request has no line")
}

fn metric(lab: &Lab, name: &str) -> Result<u64> {
    let text = lab.metrics()?;
    // Another metric may begin with its name.
    let values = |line| str::strip_prefix(line, name)?.strip_prefix(' ');
    let line = text.lines().find_map(values);
    let value = line.with_context(|| format!("no {name} in\n{text}"))?;
    Ok(value.trim().parse()?)
}

fn configured(lab: &Lab, edit: impl FnOnce(&mut Table)) -> Result<()> {
    lab.reconfigure(|table| edit(section(table, "authz")))
}
