//! What has two readings is refused: streams over mTLS, with an upstream that keeps what it gets.

mod cases;
mod peers;
mod pieces;

use std::{
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use spinegate_tests::{
    client::{Message, NHS_NUMBER, Received, Wire, pointer},
    json::at,
    lab::{CONSUMER, GATEWAY_ASID, Interaction, Lab, PROVIDER, UPSTREAM},
    netns::Host,
    pki::{EDGE_FQDN, SSP_FQDN},
    recorder::{Heard, Recorder},
    suite::Suite,
};
use toml::Table;

use cases::{REFUSED, TAKEN};
use pieces::Pieces;

fn main() -> ExitCode {
    Suite {
        name: "framing",
        edit: settings,
        tests: spinegate_tests::tests![
            a_stream_with_two_readings_is_refused_and_nothing_of_it_reaches_the_upstream,
            a_stream_with_one_reading_is_answered_request_by_request,
            the_cases_are_no_fewer_than_they_were,
            other_proxies_let_through_what_the_documentation_says,
            a_stream_is_judged_alike_however_it_is_cut,
            a_head_that_drips_is_refused_in_time,
            a_connection_without_a_request_is_closed_without_an_answer,
            a_client_that_sends_no_more_is_answered,
            a_client_that_leaves_within_a_head_is_not_answered,
            a_refused_client_is_never_asked_for_its_body,
            a_refused_body_keeps_the_connection_only_if_it_is_small,
            a_permitted_client_is_asked_for_its_body_once,
            a_body_that_says_that_it_is_too_large_is_not_asked_for,
            the_upstream_learns_who_it_is_from_the_gateway_alone,
        ],
    }
    .run()
}

const MAX_HEAD: i64 = 8192;
const HEADER_TIMEOUT: Duration = Duration::from_millis(1500);
const IDLE_TIMEOUT: Duration = Duration::from_secs(3);

fn settings(table: &mut Table) {
    let mut set = |section: &str, key: &str, value: toml::Value| {
        if let Some(section) = table.get_mut(section).and_then(toml::Value::as_table_mut) {
            section.insert(key.to_owned(), value);
        }
    };
    // So much is refused here that the proxy would be denied in the middle.
    set("verdict", "proxy_threshold", 1_000_000.into());
    set("gateway", "hosts", vec![EDGE_FQDN, "fd00::1"].into());
    set("gateway", "max_head", MAX_HEAD.into());
    set("gateway", "max_headers", 40.into());
    set("gateway", "max_request_line", 1024.into());
    set("gateway", "header_timeout", "1500ms".into());
    set("gateway", "idle_timeout", "3s".into());
}

/// Each stream stands between two permitted requests, all in one write.
fn a_stream_with_two_readings_is_refused_and_nothing_of_it_reaches_the_upstream(lab: &mut Lab) -> Result<()> {
    let upstream = upstream(lab)?;
    let pieces = Pieces::new();
    for class in REFUSED {
        for (rule, template) in class.cases {
            let stream = pieces.fill(template);
            refused(
                lab,
                &upstream,
                &pieces,
                &stream,
                (class.status, class.reason, rule),
            )
            .with_context(|| format!("{}: {template:?}", class.name))?;
        }
    }
    Ok(())
}

fn a_stream_with_one_reading_is_answered_request_by_request(lab: &mut Lab) -> Result<()> {
    let upstream = upstream(lab)?;
    let pieces = Pieces::new();
    for (template, statuses) in TAKEN {
        let (mark, requests) = (lab.audit().mark()?, upstream.mark());
        let stream = [
            &pieces.read("before"),
            &pieces.fill(template),
            &pieces.last("after"),
        ]
        .map(String::as_str)
        .concat();
        let replies = exchange(lab, &stream).with_context(|| format!("{template:?}"))?;
        let wanted: Vec<u16> = [200].iter().chain(*statuses).chain(&[200]).copied().collect();
        ensure!(statuses_of(&replies) == wanted, "{template:?}: {replies:?}");
        let passed = wanted.iter().filter(|status| **status < 300).count();
        let heard = upstream.since(requests)?;
        ensure!(heard.len() == passed, "{template:?}: the upstream got {heard:?}");
        let judged = decisions(lab, mark)?;
        ensure!(judged.len() == wanted.len(), "{template:?}: {judged:?}");
        for created in heard.iter().filter(|one| one.method == "POST") {
            ensure!(
                created.body == pieces.body.as_bytes(),
                "{template:?}: {created:?}"
            );
        }
    }
    Ok(())
}

fn the_cases_are_no_fewer_than_they_were(_: &mut Lab) -> Result<()> {
    let refused: usize = REFUSED.iter().map(|class| class.cases.len()).sum();
    println!("    {refused} streams are refused, {} are taken", TAKEN.len());
    ensure!(refused >= 200 && TAKEN.len() >= 28, "{refused}, {}", TAKEN.len());
    Ok(())
}

/// `SPINEGATE_WRITE_DOCS=1` writes what was found into docs/http.md.
fn other_proxies_let_through_what_the_documentation_says(lab: &mut Lab) -> Result<()> {
    peers::compare(lab, "other_proxies_let_through_what_the_documentation_says")
}

/// One of each class again, in pieces of one byte: the verdict does not depend on what TLS records a stream comes in.
fn a_stream_is_judged_alike_however_it_is_cut(lab: &mut Lab) -> Result<()> {
    let upstream = upstream(lab)?;
    let pieces = Pieces::new();
    for class in REFUSED.iter().filter(|class| !class.name.starts_with("large")) {
        let Some((rule, template)) = class.cases.first() else {
            continue;
        };
        let mark = lab.audit().mark()?;
        let mut wire = lab.client(Host::Ssp).wire()?;
        for byte in pieces.fill(template).bytes() {
            // The gateway may have refused in the middle.
            if wire.send(&[byte]).is_err() {
                break;
            }
        }
        let replies = wire.replies().with_context(|| class.name)?;
        ensure!(
            statuses_of(&replies) == [class.status],
            "{}: {replies:?}",
            class.name
        );
        one_refusal(lab, mark, class.reason, rule).with_context(|| class.name)?;
    }
    ensure!(upstream.since(0)?.is_empty(), "the upstream got something");
    Ok(())
}

fn a_head_that_drips_is_refused_in_time(lab: &mut Lab) -> Result<()> {
    let upstream = upstream(lab)?;
    let mark = lab.audit().mark()?;
    let mut wire = lab.client(Host::Ssp).wire()?;
    wire.send(Pieces::new().read("whole").as_bytes())?;
    let first = wire.reply()?.context("the first request was not answered")?;
    ensure!(first.status == 200, "{first:?}");
    let begin = Instant::now();
    for byte in Pieces::new().read("dripping").bytes() {
        if begin.elapsed() > HEADER_TIMEOUT * 3 || wire.send(&[byte]).is_err() {
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
    let replies = wire.replies();
    ensure!(begin.elapsed() < HEADER_TIMEOUT * 4, "{:?}", begin.elapsed());
    // A client that goes on writing may find the connection broken before it has seen the answer.
    if let Ok(replies) = replies {
        ensure!(statuses_of(&replies) == [408], "{replies:?}");
    }
    one_refusal(lab, mark, "head_too_slow", "head_time")?;

    // And one that begins and waits.
    let mark = lab.audit().mark()?;
    let mut wire = lab.client(Host::Ssp).wire()?;
    wire.send(b"GET /STU3/DocumentReference/case HTTP/1.1\r\n")?;
    let begin = Instant::now();
    let replies = wire.replies()?;
    let taken = begin.elapsed();
    ensure!(statuses_of(&replies) == [408], "{replies:?}");
    ensure!(
        taken >= HEADER_TIMEOUT - Duration::from_millis(100) && taken < HEADER_TIMEOUT * 2,
        "{taken:?}"
    );
    one_refusal(lab, mark, "head_too_slow", "head_time")?;
    ensure!(upstream.since(1)?.is_empty(), "the upstream got something");
    Ok(())
}

fn a_connection_without_a_request_is_closed_without_an_answer(lab: &mut Lab) -> Result<()> {
    let upstream = upstream(lab)?;
    let mark = lab.audit().mark()?;
    for before in ["", &Pieces::new().read("before")] {
        let mut wire = lab.client(Host::Ssp).wire()?;
        wire.send(before.as_bytes())?;
        if !before.is_empty() {
            wire.reply()?.context("no answer")?;
        }
        let begin = Instant::now();
        ensure!(wire.reply()?.is_none(), "something was answered");
        let taken = begin.elapsed();
        ensure!(
            taken > IDLE_TIMEOUT / 2 && taken < IDLE_TIMEOUT + HEADER_TIMEOUT - Duration::from_millis(200),
            "{taken:?}"
        );
    }
    ensure!(refusals(lab, mark)?.is_empty(), "an idle client was refused");
    ensure!(upstream.mark() == 1, "the upstream got something");
    Ok(())
}

fn a_client_that_sends_no_more_is_answered(lab: &mut Lab) -> Result<()> {
    let upstream = upstream(lab)?;
    let mut wire = lab.client(Host::Ssp).wire()?;
    wire.send((Pieces::new().read("one") + &Pieces::new().read("two")).as_bytes())?;
    let first = wire.reply()?.context("no answer")?;
    let second = wire.reply()?.context("no second answer")?;
    wire.finish()?;
    ensure!(
        (first.status, second.status) == (200, 200),
        "{first:?} {second:?}"
    );
    ensure!(upstream.mark() == 2, "the upstream got something else");
    Ok(())
}

fn a_client_that_leaves_within_a_head_is_not_answered(lab: &mut Lab) -> Result<()> {
    let upstream = upstream(lab)?;
    let mark = lab.audit().mark()?;
    let mut wire = lab.client(Host::Ssp).wire()?;
    wire.send(b"GET /STU3/DocumentReference/case HT")?;
    wire.finish()?;
    let replies = wire.replies().unwrap_or_default();
    ensure!(replies.is_empty(), "{replies:?}");
    ensure!(refusals(lab, mark)?.is_empty(), "a client that left was refused");
    ensure!(upstream.mark() == 0, "the upstream got something");
    Ok(())
}

fn a_refused_client_is_never_asked_for_its_body(lab: &mut Lab) -> Result<()> {
    let upstream = upstream(lab)?;
    let pieces = Pieces::new();
    // This system may only read.
    let head = without_body(
        &Message::create(&pointer(CONSUMER.ods, NHS_NUMBER)).from(&CONSUMER),
        pieces.body.len(),
    );
    let mut wire = lab.client(Host::Ssp).wire()?;
    wire.send(head.as_bytes())?;
    let replies = wire.replies()?;
    ensure!(statuses_of(&replies) == [403], "{replies:?}");
    ensure!(has_line(&replies, "connection: close"), "{replies:?}");
    ensure!(upstream.mark() == 0, "the upstream got something");
    Ok(())
}

fn a_refused_body_keeps_the_connection_only_if_it_is_small(lab: &mut Lab) -> Result<()> {
    let upstream = upstream(lab)?;
    let create = |text: String| {
        let message = Message::create(&Value::Null).from(&CONSUMER);
        message.text("application/fhir+json", text)
    };
    // In two writes: the body is not there yet when the head is refused.
    let small = create("x".repeat(2000)).bytes();
    let (head, body) = small.split_at(small.len() - 1500);
    let mut wire = lab.client(Host::Ssp).wire()?;
    wire.send(head.as_bytes())?;
    thread::sleep(Duration::from_millis(100));
    wire.send((body.to_owned() + &Pieces::new().last("after")).as_bytes())?;
    let replies = wire.replies()?;
    ensure!(statuses_of(&replies) == [403, 200], "{replies:?}");

    let mut wire = lab.client(Host::Ssp).wire()?;
    send(
        &mut wire,
        &(create("x".repeat(200_000)).bytes() + &Pieces::new().last("smuggled")),
    );
    let reply = wire.reply()?.context("no answer")?;
    ensure!(reply.status == 403, "{reply:?}");
    ensure!(
        has_line(&[reply], "connection: close"),
        "the connection is not said to end"
    );
    let heard = upstream.since(0)?;
    ensure!(
        heard.len() == 1 && heard.iter().all(|one| one.target.ends_with("/after")),
        "{heard:?}"
    );
    Ok(())
}

fn a_permitted_client_is_asked_for_its_body_once(lab: &mut Lab) -> Result<()> {
    let upstream = upstream(lab)?;
    let pieces = Pieces::new();
    let message = Message::create(&pointer(PROVIDER.ods, NHS_NUMBER)).from(&PROVIDER);
    let mut wire = lab.client(Host::Ssp).wire()?;
    wire.send(without_body(&message, pieces.body.len()).as_bytes())?;
    let interim = wire.reply()?.context("the body is not asked for")?;
    ensure!(interim.status == 100, "{interim:?}");
    ensure!(
        wire.is_silent(Duration::from_millis(200))?,
        "something comes before the body"
    );
    ensure!(
        upstream.mark() == 0,
        "the upstream got a request without its body"
    );
    wire.send(pieces.body.as_bytes())?;
    let answer = wire.reply()?.context("no answer")?;
    ensure!(answer.status == 201, "{answer:?}");
    // A read has no body, so there is nothing to ask for.
    wire.send(pieces.read_with("after", "Expect: 100-continue\r\n").as_bytes())?;
    let answer = wire.reply()?.context("no answer")?;
    ensure!(answer.status == 200, "{answer:?}");
    let heard = upstream.since(0)?;
    ensure!(heard.len() == 2, "{heard:?}");
    ensure!(
        heard.iter().all(|one| field(one, "expect").is_none()),
        "{heard:?}"
    );
    Ok(())
}

fn a_body_that_says_that_it_is_too_large_is_not_asked_for(lab: &mut Lab) -> Result<()> {
    let upstream = upstream(lab)?;
    let message = Message::create(&pointer(PROVIDER.ods, NHS_NUMBER)).from(&PROVIDER);
    let mark = lab.audit().mark()?;
    let mut wire = lab.client(Host::Ssp).wire()?;
    wire.send(without_body(&message, 1 << 30).as_bytes())?;
    let replies = wire.replies()?;
    ensure!(statuses_of(&replies) == [413], "{replies:?}");
    let reasons = refusals(lab, mark)?;
    ensure!(
        matches!(&reasons[..], [one] if *at(one, "/reason") == "body_too_large"),
        "{reasons:?}"
    );
    ensure!(upstream.mark() == 0, "the upstream got something");
    Ok(())
}

fn the_upstream_learns_who_it_is_from_the_gateway_alone(lab: &mut Lab) -> Result<()> {
    let upstream = upstream(lab)?;
    let claims = "X-Spinegate-Asid: 200000000101\r\nx-spinegate-ods: RR8\r\nX-Spinegate-Interaction: all\r\n\
                  X-Spinegate-Client-Fqdn: a.nhs.uk\r\nX-Spinegate-Other: 1\r\nX-Request-Id: mine\r\nX-Forwarded-For: 192.0.2.1\r\n\
                  Forwarded: for=192.0.2.1\r\nX-Real-IP: 192.0.2.1\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
                  Proxy-Authorization: Basic eDp5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\nTrailer: X-A\r\nCookie: a=b\r\n";
    let replies = exchange(lab, &pieces_last(&Pieces::new(), claims))?;
    ensure!(statuses_of(&replies) == [200], "{replies:?}");
    let heard = upstream.since(0)?;
    let [heard] = &heard[..] else {
        anyhow::bail!("the upstream got {heard:?}");
    };
    let ssp = Host::Ssp.v4().to_string();
    for (name, value) in [
        ("x-spinegate-asid", CONSUMER.asid),
        ("x-spinegate-ods", CONSUMER.ods),
        ("x-spinegate-interaction", Interaction::Read.urn()),
        ("x-spinegate-client-fqdn", SSP_FQDN),
        ("x-forwarded-for", &ssp),
        ("forwarded", &format!("for={ssp};proto=https")),
        ("fromasid", CONSUMER.asid),
        ("toasid", GATEWAY_ASID),
        ("host", UPSTREAM),
    ] {
        ensure!(field(heard, name) == Some(value), "{name}: {heard:?}");
    }
    let id = field(heard, "x-request-id").context("no request id")?;
    ensure!(
        has_line(&replies, &format!("x-request-id: {id}")),
        "{id} is not in {replies:?}"
    );
    let mut names: Vec<&str> = heard.fields.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let wanted = [
        "accept",
        "authorization",
        "forwarded",
        "fromasid",
        "host",
        "toasid",
        "x-forwarded-for",
        "x-request-id",
        "x-spinegate-asid",
        "x-spinegate-client-fqdn",
        "x-spinegate-interaction",
        "x-spinegate-ods",
    ];
    ensure!(names == wanted, "{names:?}");
    Ok(())
}

/// A read with these fields too, and the end of the connection by the client.
fn pieces_last(pieces: &Pieces, fields: &str) -> String {
    pieces.read_with("case", &fields.replace("keep-alive, X-Hop", "close, X-Hop"))
}

fn upstream(lab: &mut Lab) -> Result<Recorder> {
    lab.kill_locator()?;
    Recorder::open(&lab.network().namespace(Host::Edge), UPSTREAM.parse()?)
}

fn exchange(lab: &Lab, stream: &str) -> Result<Vec<Received>> {
    let mut wire = lab.client(Host::Ssp).wire()?;
    send(&mut wire, stream);
    wire.replies()
}

/// The gateway may have refused, and closed, before all of it was written.
fn send(wire: &mut Wire, stream: &str) {
    let _ = wire.send(stream.as_bytes());
}

fn refused(
    lab: &Lab,
    upstream: &Recorder,
    pieces: &Pieces,
    stream: &str,
    (status, reason, rule): (u16, &str, &str),
) -> Result<()> {
    let (mark, requests) = (lab.audit().mark()?, upstream.mark());
    let whole = [&pieces.read("before"), stream, &pieces.last("smuggled")].concat();
    let replies = exchange(lab, &whole)?;
    ensure!(statuses_of(&replies) == [200, status], "{rule}: {replies:?}");
    ensure!(
        replies.last().is_some_and(|last| last
            .head
            .to_ascii_lowercase()
            .contains("\r\nconnection: close\r\n")),
        "{replies:?}"
    );
    let body = replies.last().map_or("", |last| last.body.as_str());
    ensure!(
        body.contains("INVALID_REQUEST_MESSAGE") && body.contains(rule) || stream.starts_with("HEAD "),
        "{rule}: {body}"
    );
    one_refusal(lab, mark, reason, rule)?;
    let heard: Vec<String> = upstream
        .since(requests)?
        .into_iter()
        .map(|one| one.target)
        .collect();
    ensure!(
        heard == ["/STU3/DocumentReference/before"],
        "the upstream got {heard:?}"
    );
    Ok(())
}

/// The audit log has one refusal after the mark, for this reason, with the rule and a position.
fn one_refusal(lab: &Lab, mark: usize, reason: &str, rule: &str) -> Result<()> {
    lab.audit().refusal(mark, &lab.client(Host::Ssp).address())?;
    let refusals = refusals(lab, mark)?;
    let [refusal] = &refusals[..] else {
        anyhow::bail!("{refusals:?}");
    };
    ensure!(*at(refusal, "/reason") == reason, "{reason}: {refusal}");
    let detail = at(refusal, "/detail").as_str().unwrap_or_default();
    ensure!(detail.contains(&format!("{rule} at byte ")), "{rule}: {detail}");
    Ok(())
}

fn refusals(lab: &Lab, mark: usize) -> Result<Vec<Value>> {
    let mut entries = lab.audit().since(mark)?;
    entries.retain(|entry| *at(entry, "/decision") == "refuse");
    Ok(entries)
}

fn decisions(lab: &Lab, mark: usize) -> Result<Vec<Value>> {
    lab.audit().requests(mark)
}

fn statuses_of(replies: &[Received]) -> Vec<u16> {
    replies.iter().map(|reply| reply.status).collect()
}

fn has_line(replies: &[Received], line: &str) -> bool {
    replies
        .iter()
        .any(|reply| reply.head.to_ascii_lowercase().lines().any(|one| one == line))
}

fn field<'h>(heard: &'h Heard, name: &str) -> Option<&'h str> {
    match heard.values(name)[..] {
        [value] => Some(value),
        _ => None,
    }
}

/// The head of a message that announces a body of a length, and waits to be asked for it.
fn without_body(message: &Message, length: usize) -> String {
    let bytes = message.bytes();
    let head = bytes.split("Content-Length: ").next().unwrap_or_default();
    format!("{head}Expect: 100-continue\r\nContent-Length: {length}\r\n\r\n")
}
