//! The gateway's limits, from outside: what is over one is refused or closed with its own reason, and what is in goes on.

use std::{
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use spinegate_tests::{
    client::{Line, Message, NHS_NUMBER, Offer, pointer},
    expect::serves,
    json::at,
    lab::{CONSUMER, Lab, PROVIDER, System, UNKNOWN_ASID, open_limits, open_metrics, section},
    netns::Host,
    pki::SSP_FQDN,
    suite::Suite,
};
use toml::{Table, Value};

fn main() -> ExitCode {
    Suite {
        name: "limits",
        edit: |table| {
            open_limits(table);
            open_metrics(table);
        },
        tests: spinegate_tests::tests![
            over_the_limit_of_requests_new_ones_are_shed_and_those_under_way_finish,
            one_asid_can_not_take_the_places_of_another,
            after_so_many_requests_a_connection_is_closed_with_an_answer,
            a_connection_that_is_old_is_closed_between_requests,
            a_client_that_was_silent_for_a_while_goes_on_over_its_connection,
            a_body_of_which_nothing_comes_is_refused,
            a_body_that_trickles_is_refused_when_its_time_is_over,
            a_client_that_does_not_read_is_cut_off,
            a_refused_party_is_told_why_without_its_secrets,
            connections_beyond_the_limit_are_turned_away,
        ],
    }
    .run()
}

fn over_the_limit_of_requests_new_ones_are_shed_and_those_under_way_finish(lab: &mut Lab) -> Result<()> {
    limit(lab, &[("max_requests", 2.into())])?;
    let mark = lab.audit().mark()?;
    let held = [half_sent(lab, &PROVIDER)?, half_sent(lab, &PROVIDER)?];
    let reply = search(lab, &CONSUMER)?;
    ensure!(
        reply.status == 503
            && reply.header("retry-after") == Some("1")
            && reply.body.contains("OperationOutcome")
            && reply.body.contains("throttled"),
        "{reply:?}"
    );
    ensure!(lab.audit().refusal(mark, &peer(lab))? == "overloaded");
    for (mut line, rest) in held {
        line.send(&rest)?;
        let reply = line.reply()?;
        ensure!(reply.status == 201, "{reply:?}");
    }
    serves(lab)
}

fn one_asid_can_not_take_the_places_of_another(lab: &mut Lab) -> Result<()> {
    limit(lab, &[("max_requests_per_client", 1.into())])?;
    let mark = lab.audit().mark()?;
    let (mut line, rest) = half_sent(lab, &PROVIDER)?;
    let reply = search(lab, &PROVIDER)?;
    ensure!(
        reply.status == 429 && reply.header("retry-after") == Some("1"),
        "{reply:?}"
    );
    ensure!(lab.audit().refusal(mark, &peer(lab))? == "client_overloaded");
    ensure!(search(lab, &CONSUMER)?.status == 200);
    line.send(&rest)?;
    ensure!(line.reply()?.status == 201);
    ensure!(search(lab, &PROVIDER)?.status == 200);
    Ok(())
}

fn after_so_many_requests_a_connection_is_closed_with_an_answer(lab: &mut Lab) -> Result<()> {
    limit(lab, &[("requests_per_connection", 3.into())])?;
    let mut line = lab.client(Host::Ssp).line()?;
    for number in 1..=3 {
        let reply = line.ask(&Message::search(NHS_NUMBER).from(&CONSUMER))?;
        ensure!(
            reply.status == 200 && reply.closes() == (number == 3),
            "answer {number}: {reply:?}"
        );
    }
    ensure!(line.ends_within(Duration::from_secs(1))?, "it stays open");
    recorded(lab, "connection_requests")
}

fn a_connection_that_is_old_is_closed_between_requests(lab: &mut Lab) -> Result<()> {
    limit(lab, &[("connection_age", "1s".into())])?;
    let (mut busy, mut idle) = (lab.client(Host::Ssp).line()?, lab.client(Host::Ssp).line()?);
    let begin = Instant::now();
    loop {
        let reply = busy.ask(&Message::search(NHS_NUMBER).from(&CONSUMER))?;
        ensure!(reply.status == 200, "{reply:?}");
        if reply.closes() {
            break;
        }
        ensure!(begin.elapsed() < Duration::from_secs(3), "it stays open");
        thread::sleep(Duration::from_millis(50));
    }
    ensure!(
        begin.elapsed() > Duration::from_millis(800),
        "it was closed at once"
    );
    ensure!(
        idle.ends_within(Duration::from_secs(3))?,
        "the idle one stays open"
    );
    recorded(lab, "connection_age")
}

fn a_client_that_was_silent_for_a_while_goes_on_over_its_connection(lab: &mut Lab) -> Result<()> {
    limit(lab, &[("idle_timeout", "3s".into())])?;
    let mut line = lab.client(Host::Ssp).line()?;
    for number in 1..=3 {
        // Beyond a second of silence the gateway has no HTTP parser for it.
        thread::sleep(Duration::from_millis(1500));
        let (get, post) = (
            Message::search(NHS_NUMBER).from(&CONSUMER),
            Message::create(&pointer(PROVIDER.ods, NHS_NUMBER)).from(&PROVIDER),
        );
        for (message, status) in [(get, 200), (post, 201)] {
            let reply = line.ask(&message)?;
            ensure!(reply.status == status, "answer {number}: {reply:?}");
        }
    }
    ensure!(
        line.ends_within(Duration::from_millis(3500))?,
        "its time does not end"
    );
    serves(lab)
}

fn a_body_of_which_nothing_comes_is_refused(lab: &mut Lab) -> Result<()> {
    limit(lab, &[("body_idle_timeout", "500ms".into())])?;
    let mark = lab.audit().mark()?;
    let (mut line, _) = half_sent(lab, &PROVIDER)?;
    let reply = line.reply()?;
    ensure!(reply.status == 408 && reply.closes(), "{reply:?}");
    ensure!(lab.audit().refusal(mark, &peer(lab))? == "body_idle");
    Ok(())
}

fn a_body_that_trickles_is_refused_when_its_time_is_over(lab: &mut Lab) -> Result<()> {
    limit(
        lab,
        &[
            ("body_idle_timeout", "1s".into()),
            ("body_timeout", "1500ms".into()),
        ],
    )?;
    let mark = lab.audit().mark()?;
    let (mut line, rest) = half_sent(lab, &PROVIDER)?;
    for byte in rest.chars().take(12) {
        // The gateway may have had enough.
        let _ = line.send(&byte.to_string());
        thread::sleep(Duration::from_millis(200));
    }
    let reply = line.reply()?;
    ensure!(reply.status == 408 && reply.closes(), "{reply:?}");
    ensure!(lab.audit().refusal(mark, &peer(lab))? == "body_timeout");
    Ok(())
}

fn a_client_that_does_not_read_is_cut_off(lab: &mut Lab) -> Result<()> {
    limit(lab, &[("answer_timeout", "1s".into())])?;
    let mark = lab.audit().mark()?;
    let mut line = lab.client(Host::Ssp).line()?;
    line.take_little()?;
    let request = Message::search(NHS_NUMBER).from(&CONSUMER).bytes();
    // Until the gateway takes no more, or is through with this client.
    for _ in 0..5_000 {
        if line.send(&request).is_err() {
            break;
        }
    }
    ensure!(lab.audit().refusal(mark, &peer(lab))? == "answer_stalled");
    serves(lab)
}

fn a_refused_party_is_told_why_without_its_secrets(lab: &mut Lab) -> Result<()> {
    limit(lab, &[])?;
    let mut line = lab.client(Host::Ssp).line()?;
    let unknown = Message::search(NHS_NUMBER)
        .from(&CONSUMER)
        .header("fromASID", UNKNOWN_ASID);
    ensure!(line.ask(&unknown)?.status == 400);
    let id = line
        .ask(&unknown)?
        .header("x-request-id")
        .unwrap_or_default()
        .to_owned();
    let in_path = Message::new("GET", &format!("/STU3/Patient/{NHS_NUMBER}"), "read").from(&CONSUMER);
    ensure!(line.ask(&in_path)?.status == 404);
    lab.client(Host::Ssp)
        .without_certificate()
        .handshake(Offer::RIGHT)?;
    // A head that is refused by its form: its position is told.
    let mut malformed = lab.client(Host::Ssp).line()?;
    malformed.send("GET / HTTP/1.1\r\nHost : a\r\n\r\n")?;
    ensure!(malformed.reply()?.status == 400);

    let finished = lab.at_edge(&lab.files().config(), &["errors", "--last", "5", "--json"])?;
    ensure!(finished.code == Some(0), "{}", finished.said());
    let told: Vec<serde_json::Value> = finished
        .stdout
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let reasons: Vec<_> = told.iter().map(|one| at(one, "/reason")).collect();
    ensure!(
        reasons.len() == 5
            && [0, 1]
                .iter()
                .all(|n| reasons.get(*n).is_some_and(|reason| **reason == "asid_unknown"))
            && reasons.iter().any(|reason| **reason == "path_unknown")
            && reasons.iter().any(|reason| **reason == "certificate_missing"),
        "{reasons:?}"
    );
    let second = told.get(1).context("no second")?;
    ensure!(
        *at(second, "/decision_id") == id && *at(second, "/asid") == UNKNOWN_ASID,
        "{second}"
    );
    ensure!(
        *at(second, "/side") == "client" && *at(second, "/fqdn") == SSP_FQDN,
        "{second}"
    );
    let last = told.last().context("none")?;
    ensure!(at(last, "/position").is_u64(), "{last}");
    ensure!(
        !finished.stdout.contains(NHS_NUMBER) && !finished.stdout.contains("eyJ"),
        "a secret is told: {}",
        finished.stdout
    );
    let table = lab.at_edge(&lab.files().config(), &["errors"])?;
    ensure!(
        table.stdout.contains("by the client") && !table.stdout.contains(NHS_NUMBER),
        "{}",
        table.said()
    );
    Ok(())
}

/// A create of which the head and a half of the body are sent, and the other half.
/// The last test: it starts the agent anew, which takes this limit over at no reload.
fn connections_beyond_the_limit_are_turned_away(lab: &mut Lab) -> Result<()> {
    lab.stop_agent()?;
    lab.configure(|table| {
        if let Some(Value::Table(gateway)) = table.get_mut("gateway") {
            gateway.insert("max_connections".into(), 2.into());
        }
    })?;
    lab.start_agent()?;
    let held = [lab.client(Host::Ssp).line()?, lab.client(Host::Ssp).line()?];
    let mark = lab.audit().mark()?;
    ensure!(lab.client(Host::Ssp).line().is_err(), "a third one got in");
    ensure!(lab.audit().refusal(mark, &peer(lab))? == "connection_limit");
    drop(held);
    serves(lab)
}

fn half_sent(lab: &Lab, system: &System) -> Result<(Line, String)> {
    let whole = Message::create(&pointer(system.ods, NHS_NUMBER))
        .from(system)
        .bytes();
    let (now, later) = whole.split_at(whole.len() - 40);
    let mut line = lab.client(Host::Ssp).line()?;
    line.send(now)?;
    // Long enough for the gateway to have read it.
    thread::sleep(Duration::from_millis(200));
    Ok((line, later.to_owned()))
}

fn search(lab: &Lab, system: &System) -> Result<spinegate_tests::client::Heard> {
    lab.client(Host::Ssp)
        .line()?
        .ask(&Message::search(NHS_NUMBER).from(system))
}

fn peer(lab: &Lab) -> String {
    lab.client(Host::Ssp).address()
}

/// An end of a connection is recorded with its reason and counted, and is no refusal.
fn recorded(lab: &Lab, reason: &str) -> Result<()> {
    let entries = lab.audit().since(0)?;
    let found = entries.iter().find(|entry| *at(entry, "/reason") == reason);
    ensure!(
        found.is_some_and(|entry| *at(entry, "/decision") == "done"),
        "{found:?}"
    );
    let metrics = lab.metrics()?;
    let counted = format!("spinegate_connections_retired_total{{reason=\"{reason}\"}} ");
    ensure!(
        metrics
            .lines()
            .any(|line| line.strip_prefix(&counted).is_some_and(|count| count != "0")),
        "{counted} is not in\n{metrics}"
    );
    Ok(())
}

/// Sets these of the gateway's limits, and no others, on the running agent.
fn limit(lab: &Lab, limits: &[(&str, Value)]) -> Result<()> {
    const ALL: [&str; 8] = [
        "max_requests",
        "max_requests_per_client",
        "requests_per_connection",
        "connection_age",
        "idle_timeout",
        "body_idle_timeout",
        "body_timeout",
        "answer_timeout",
    ];
    lab.reconfigure(|table| {
        let gateway = section(table, "gateway");
        ALL.iter().for_each(|key| drop(gateway.remove(*key)));
        let limits = limits
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.clone()));
        gateway.extend(Table::from_iter(limits));
    })
}
