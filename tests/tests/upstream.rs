//! The upstream side: services that break HTTP, stop, go away or can't prove who they are, and what clients get then.

use std::{
    fs,
    net::SocketAddr,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use openssl::ssl::{SslAcceptor, SslAcceptorBuilder, SslFiletype, SslMethod, SslVerifyMode, SslVersion};
use serde_json::Value;
use spinegate_tests::{
    client::{Message, NHS_NUMBER, Outcome, pointer},
    expect::{allowed, refused, serves},
    json::at,
    lab::{CONSUMER, Lab, PROVIDER, UPSTREAM, section},
    netns::Host,
    pki::{Authority, Identity, KeyCache, Leaf, Validity},
    rogue::{Rogue, Script, Step, say},
    suite::Suite,
    wait::wait_until,
};
use toml::{Table, Value as Setting};

const SOUND: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
const ROGUE: &str = "127.0.0.1:8081";
const NAME: &str = "locator.lab.nhs.uk";
const PATIENCE: Duration = Duration::from_secs(10);
/// Shorter than any limit.
const DRIP: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    Suite {
        name: "upstream",
        edit: |table| {
            let gateway = section(table, "gateway");
            for key in ["connect_timeout", "upstream_timeout", "upstream_idle_timeout"] {
                gateway.insert(key.into(), "1s".into());
            }
        },
        tests: spinegate_tests::tests![
            an_answer_that_breaks_http_is_502_and_the_client_keeps_its_connection,
            a_flood_of_interim_answers_is_cut_off,
            an_upstream_that_says_nothing_is_504,
            an_answer_that_is_cut_off_or_stops_never_looks_whole,
            bytes_beyond_an_answer_reach_nobody,
            a_kept_connection_that_the_upstream_closes_costs_no_request,
            a_request_that_may_have_been_done_is_not_repeated,
            what_is_internal_to_the_upstream_stays_there,
            of_two_upstreams_the_living_serves_and_the_other_comes_back,
            an_upstream_with_too_many_requests_is_503,
            an_upstream_over_tls_must_prove_its_name_under_the_pinned_ca,
            an_upstream_that_asks_for_a_certificate_gets_the_configured_one,
            a_tls_setting_that_cannot_work_changes_nothing,
        ],
    }
    .run()
}

fn an_answer_that_breaks_http_is_502_and_the_client_keeps_its_connection(lab: &mut Lab) -> Result<()> {
    let head = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n{{}}");
    let huge = head(&format!(
        "X-Fill: {}\r\nContent-Length: 2\r\n",
        "a".repeat(70_000)
    ));
    for (what, script, reason) in [
        ("a reset", vec![Step::Read, Step::Reset], "upstream_reset"),
        ("a close", vec![Step::Read], "upstream_reset"),
        (
            "a reset within the head",
            vec![Step::Read, say("HTTP/1.1 200 OK\r\nConte"), Step::Reset],
            "upstream_reset",
        ),
        ("garbage", says("\u{1}\u{2}garbage\r\n\r\n"), "upstream_framing"),
        (
            "both lengths",
            says(head("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n")),
            "upstream_framing",
        ),
        (
            "two lengths",
            says(head("Content-Length: 2\r\nContent-Length: 2\r\n")),
            "upstream_framing",
        ),
        ("no length", says(head("")), "upstream_framing"),
        (
            "a negative length",
            says(head("Content-Length: -2\r\n")),
            "upstream_framing",
        ),
        (
            "a length with a sign",
            says(head("Content-Length: +2\r\n")),
            "upstream_framing",
        ),
        (
            "a list of lengths",
            says(head("Content-Length: 2, 2\r\n")),
            "upstream_framing",
        ),
        (
            "a hexadecimal length",
            says(head("Content-Length: 0x2\r\n")),
            "upstream_framing",
        ),
        (
            "a length beyond all",
            says(head("Content-Length: 18446744073709551618\r\n")),
            "upstream_framing",
        ),
        (
            "another coding",
            says(head("Transfer-Encoding: gzip, chunked\r\n")),
            "upstream_framing",
        ),
        (
            "a coding that is none",
            says(head("Transfer-Encoding: identity\r\n")),
            "upstream_framing",
        ),
        (
            "a line that is folded",
            says(head("Content-Length: 2\r\nX-A: b\r\n c\r\n")),
            "upstream_framing",
        ),
        (
            "a version of its own",
            says("HTTP/3.0 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
            "upstream_framing",
        ),
        ("a huge head", says(huge), "upstream_framing"),
        (
            "another protocol",
            says("HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n"),
            "upstream_framing",
        ),
    ] {
        let rogue = rogue(lab, script)?;
        let answer = refused(lab, &search(), 502, reason).with_context(|| what.to_owned())?;
        let body = answer.json()?;
        ensure!(*at(&body, "/resourceType") == "OperationOutcome", "{body}");
        ensure!(
            answer
                .header("x-request-id")
                .is_some_and(|id| *at(&body, "/id") == id),
            "{answer:?}"
        );
        let (codes, connections) = lab.client(Host::Ssp).repeat(&search(), 3)?;
        ensure!(
            codes == [502; 3] && connections == 1,
            "{what}: {codes:?} over {connections} connections"
        );
        // Not one of them was tried twice.
        ensure!(rogue.requests() == 4, "{what}: {} requests", rogue.requests());
    }
    let metrics = lab.audit().since(0)?;
    let sides = metrics.iter().filter(|entry| *at(entry, "/side") == "upstream");
    ensure!(
        sides.count() >= 72,
        "the audit log does not say whose doing it was"
    );
    Ok(())
}

fn a_flood_of_interim_answers_is_cut_off(lab: &mut Lab) -> Result<()> {
    let hint = "HTTP/1.1 103 Early Hints\r\n\r\n";
    let script = vec![Step::Read, say(hint.repeat(100_000)), say(SOUND), Step::Hold];
    let _rogue = rogue(lab, script)?;
    refused(lab, &search(), 502, "upstream_framing")?;
    let few = vec![Step::Read, say(hint.repeat(5)), say(SOUND), Step::Again];
    drop(_rogue);
    let _few = Rogue::open(&edge(lab), address(), few)?;
    allowed(lab, &search(), 200).map(drop)
}

fn an_upstream_that_says_nothing_is_504(lab: &mut Lab) -> Result<()> {
    for script in [
        vec![Step::Read, Step::Hold],
        vec![Step::Read, say("HTTP/1.1 200 OK\r\nContent-Le"), Step::Hold],
        // Something comes all the time, but never an answer.
        std::iter::once(Step::Read)
            .chain(vec![[say("HTTP/1.1 103 Early Hints\r\n\r\n"), Step::Wait(DRIP)]; 20].concat())
            .collect(),
        std::iter::once(Step::Read)
            .chain([say("HTTP/1.1 200 OK\r\n")])
            .chain(vec![[say("X-A: b\r\n"), Step::Wait(DRIP)]; 20].concat())
            .collect(),
    ] {
        let _rogue = rogue(lab, script)?;
        let begin = Instant::now();
        refused(lab, &search(), 504, "upstream_timeout")?;
        ensure!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    }
    Ok(())
}

fn an_answer_that_is_cut_off_or_stops_never_looks_whole(lab: &mut Lab) -> Result<()> {
    let long = "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{\"cut\"";
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n{\"cut\"\r\n";
    for (text, end, reason) in [
        (long, None, "upstream_reset"),
        (long, Some(Step::Reset), "upstream_reset"),
        (long, Some(Step::Hold), "upstream_stalled"),
        (chunked, None, "upstream_reset"),
        (chunked, Some(Step::Reset), "upstream_reset"),
        (chunked, Some(Step::Hold), "upstream_stalled"),
        (chunked, Some(say("not a length\r\n")), "upstream_framing"),
        (chunked, Some(say("-1\r\nx\r\n0\r\n\r\n")), "upstream_framing"),
        (chunked, Some(say("1\r\nxyz\r\n0\r\n\r\n")), "upstream_framing"),
        (chunked, Some(say("ffffffffffffffff1\r\n")), "upstream_framing"),
    ] {
        let script = [Step::Read, say(text)].into_iter().chain(end.clone()).collect();
        let rogue = rogue(lab, script)?;
        let mark = lab.audit().mark()?;
        let client = lab.client(Host::Ssp);
        match client.send(&search())? {
            // 18: less than was promised. 56: broken off in a chunk, or by TLS.
            Outcome::Unanswered { code: 18 | 56, .. } => {}
            other => bail!("{text:?} then {end:?}: {other}"),
        }
        let found = lab.audit().refusal(mark, &client.address())?;
        ensure!(found == reason, "{text:?} then {end:?}: {found}, not {reason}");
        // Its connection is not used again.
        ensure!(client.send(&search())?.status().is_none());
        ensure!(rogue.connections() == 2, "{} connections", rogue.connections());
    }
    Ok(())
}

fn bytes_beyond_an_answer_reach_nobody(lab: &mut Lab) -> Result<()> {
    let evil = format!("{SOUND}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL");
    let rogue = rogue(lab, vec![Step::Read, say(evil), Step::Again])?;
    for _ in 0..20 {
        let answer = allowed(lab, &search(), 200)?;
        ensure!(answer.body == "{}", "{}", answer.body);
    }
    ensure!(rogue.connections() == 20, "{} connections", rogue.connections());
    Ok(())
}

fn a_kept_connection_that_the_upstream_closes_costs_no_request(lab: &mut Lab) -> Result<()> {
    // One answer and a close; an answer, the next request, and a close instead of an answer.
    let one = vec![Step::Read, say(SOUND)];
    let taken = vec![Step::Read, say(SOUND), Step::Read];
    for script in [one, taken] {
        let rogue = rogue(lab, script)?;
        let (codes, _) = lab.client(Host::Ssp).repeat(&search(), 10)?;
        ensure!(codes == [200; 10], "{codes:?}");
        ensure!(rogue.connections() >= 5, "{} connections", rogue.connections());
        let upstream = upstream_status(lab, 0)?;
        ensure!(*at(&upstream, "/failures") == 0, "{upstream}");
    }
    Ok(())
}

fn a_request_that_may_have_been_done_is_not_repeated(lab: &mut Lab) -> Result<()> {
    let rogue = rogue(lab, vec![Step::Read, say(SOUND), Step::Read])?;
    allowed(lab, &search(), 200)?;
    wait_until("the connection to be kept", PATIENCE, || {
        Ok(*at(&upstream_status(lab, 0)?, "/idle") == 1)
    })?;
    let create = Message::create(&pointer(PROVIDER.ods, NHS_NUMBER)).from(&PROVIDER);
    refused(lab, &create, 502, "upstream_reset")?;
    ensure!(
        (rogue.connections(), rogue.requests()) == (1, 2),
        "{} connections, {} requests",
        rogue.connections(),
        rogue.requests()
    );
    Ok(())
}

fn what_is_internal_to_the_upstream_stays_there(lab: &mut Lab) -> Result<()> {
    let text = "HTTP/1.1 200 OK\r\nServer: Apache-Coyote/1.1\r\nX-Powered-By: Servlet/3.0\r\n\
                Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nVia: 1.1 inside\r\n\
                X-Request-Id: theirs\r\nX-Spinegate-Asid: 1\r\nCache-Control: public, max-age=60\r\n\
                ETag: W/\"1\"\r\nContent-Type: application/fhir+json\r\nContent-Length: 2\r\n\r\n{}";
    let _rogue = rogue(lab, vec![Step::Read, say(text), Step::Again])?;
    let answer = allowed(lab, &search(), 200)?;
    for name in [
        "server",
        "x-powered-by",
        "x-hop",
        "keep-alive",
        "via",
        "x-spinegate-asid",
    ] {
        ensure!(answer.header(name).is_none(), "{name}: {:?}", answer.headers);
    }
    let stores: Vec<_> = answer
        .headers
        .iter()
        .filter(|(name, _)| name == "cache-control")
        .map(|(_, value)| value.as_str())
        .collect();
    ensure!(stores == ["no-store"], "{stores:?}");
    ensure!(
        answer.header("x-request-id").is_some_and(|id| id.len() == 36),
        "{:?}",
        answer.headers
    );
    ensure!(answer.header("etag") == Some("W/\"1\""), "{:?}", answer.headers);
    Ok(())
}

fn of_two_upstreams_the_living_serves_and_the_other_comes_back(lab: &mut Lab) -> Result<()> {
    behind(lab, |gateway| {
        let both = [ROGUE, UPSTREAM].map(|address| format!("http://{address}"));
        gateway.insert("upstream".into(), both.to_vec().into());
        let health = Table::from_iter([("eject_time".to_owned(), Setting::from("300ms"))]);
        gateway.insert("health".into(), health.into());
    })?;
    let create = || Message::create(&pointer(PROVIDER.ods, NHS_NUMBER)).from(&PROVIDER);
    for _ in 0..10 {
        serves(lab)?;
        allowed(lab, &create(), 201)?;
    }
    let dead = upstream_status(lab, 0)?;
    ensure!(
        *at(&dead, "/state") != "up"
            && *at(&dead, "/answered") == 0
            && at(&dead, "/last_error")
                .as_str()
                .is_some_and(|error| error.starts_with("upstream_unreachable")),
        "{dead}"
    );
    let table = lab.agent().order(&["status"])?;
    ensure!(
        table.lines().any(
            |line| line.starts_with(&format!("http://{ROGUE} ")) && line.contains("upstream_unreachable")
        ),
        "{table}"
    );
    let rogue = Rogue::open(&edge(lab), address(), vec![Step::Read, say(SOUND), Step::Again])?;
    wait_until("the upstream to be back", PATIENCE, || {
        serves(lab)?;
        Ok(*at(&upstream_status(lab, 0)?, "/state") == "up")
    })?;
    ensure!(rogue.requests() > 0);
    Ok(())
}

fn an_upstream_with_too_many_requests_is_503(lab: &mut Lab) -> Result<()> {
    let rogue = rogue(lab, vec![Step::Read, Step::Hold])?;
    behind(lab, |gateway| {
        gateway.insert("upstream".into(), format!("http://{ROGUE}").into());
        gateway.insert("upstream_max_requests".into(), 1.into());
        gateway.insert("upstream_timeout".into(), "8s".into());
    })?;
    std::thread::scope(|scope| {
        let holding = lab.client(Host::System);
        scope.spawn(move || holding.send(&search()));
        wait_until("the first request to be under way", PATIENCE, || {
            Ok(rogue.requests() == 1)
        })?;
        let answer = refused(lab, &search(), 503, "upstream_overloaded")?;
        ensure!(answer.header("retry-after") == Some("1"), "{:?}", answer.headers);
        Ok(())
    })?;
    behind(lab, |gateway| {
        gateway.remove("upstream_max_requests");
        gateway.insert("upstream_timeout".into(), "1s".into());
    })
}

fn an_upstream_over_tls_must_prove_its_name_under_the_pinned_ca(lab: &mut Lab) -> Result<()> {
    let own = Authority::root("Lab Upstream Authority", key(lab, "upstream_ca")?)?;
    let other = Authority::root("Lab Other Upstream Authority", key(lab, "other_upstream_ca")?)?;
    let ca = lab.files().pki().join("upstream_ca.pem");
    fs::write(&ca, own.pem()?)?;
    secured(lab, |tls| drop(tls.insert("ca".into(), text(&ca).into())))?;
    let sound = Leaf::server(NAME);
    for (what, authority, leaf, words) in [
        ("the right one", &own, sound.clone(), None),
        (
            "another CA",
            &other,
            sound.clone(),
            Some("unable to get local issuer certificate"),
        ),
        (
            "another name",
            &own,
            Leaf::server("elsewhere.lab.nhs.uk"),
            Some("hostname mismatch"),
        ),
        (
            "expired",
            &own,
            sound.valid(Validity::past()),
            Some("certificate has expired"),
        ),
    ] {
        let identity = issued(lab, "upstream", authority, &leaf)?;
        let acceptor = acceptor(&identity, None)?.build();
        let script = vec![Step::Read, say(SOUND), Step::Again];
        let rogue = Rogue::open_tls(&edge(lab), address(), acceptor, script)?;
        let mark = lab.audit().mark()?;
        match words {
            None => {
                let (codes, _) = lab.client(Host::Ssp).repeat(&search(), 5)?;
                let connections = rogue.connections();
                ensure!(
                    codes == [200; 5] && connections < 5,
                    "{what}: {codes:?} over {connections}"
                );
                // Those that are kept were proven when they were made.
                drop(rogue);
                behind(lab, |_| {})?;
            }
            Some(words) => {
                refused(lab, &search(), 502, "upstream_tls").with_context(|| what.to_owned())?;
                let said = format!("{:?}", lab.audit().since(mark)?);
                ensure!(said.contains(words), "{what}: {said}");
                ensure!(rogue.requests() == 0, "{what}: a request got through");
            }
        }
    }
    // The name is that of the address unless another is configured.
    let identity = issued(lab, "upstream", &own, &Leaf::server(NAME))?;
    let script = vec![Step::Read, say(SOUND), Step::Again];
    let _rogue = Rogue::open_tls(&edge(lab), address(), acceptor(&identity, None)?.build(), script)?;
    secured(lab, |tls| drop(tls.remove("server_name")))?;
    refused(lab, &search(), 502, "upstream_tls").map(drop)
}

fn an_upstream_that_asks_for_a_certificate_gets_the_configured_one(lab: &mut Lab) -> Result<()> {
    let own = Authority::root("Lab Upstream Authority", key(lab, "upstream_ca")?)?;
    let ca = lab.files().pki().join("upstream_ca.pem");
    fs::write(&ca, own.pem()?)?;
    let identity = issued(lab, "upstream", &own, &Leaf::server(NAME))?;
    let script = vec![Step::Read, say(SOUND), Step::Again];
    // The trust that the lab's proxies have serves the upstream as well.
    let (roots, client) = (lab.pki().root.clone(), lab.pki().leaf("good")?.clone());
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let mut acceptor = acceptor(&identity, Some(&roots))?;
        acceptor.set_min_proto_version(Some(version))?;
        acceptor.set_max_proto_version(Some(version))?;
        let rogue = Rogue::open_tls(&edge(lab), address(), acceptor.build(), script.clone())?;
        secured(lab, |tls| {
            tls.remove("certificate");
            tls.remove("private_key");
            tls.insert("ca".into(), text(&ca).into());
        })?;
        if version == SslVersion::TLS1_2 {
            refused(lab, &search(), 502, "upstream_tls")?;
        } else {
            // The alert comes after the handshake, and a reset may overtake it.
            allowed(lab, &search(), 502)?;
        }
        ensure!(
            rogue.requests() == 0,
            "a request got through without a certificate"
        );
        secured(lab, |tls| {
            tls.insert("certificate".into(), text(&client.cert).into());
            tls.insert("private_key".into(), text(&client.key).into());
        })?;
        allowed(lab, &search(), 200)?;
    }
    Ok(())
}

fn a_tls_setting_that_cannot_work_changes_nothing(lab: &mut Lab) -> Result<()> {
    let before = fs::read_to_string(lab.files().config())?;
    let (good, system) = (lab.pki().leaf("good")?.clone(), lab.pki().leaf("system")?.clone());
    let ca = lab.pki().root.clone();
    for (what, edit, words) in [
        (
            "no CA",
            Table::new(),
            "gateway.upstream_tls.ca: is missing".to_owned(),
        ),
        (
            "no such file",
            Table::from_iter([("ca".to_owned(), Setting::from("/nowhere/ca.pem"))]),
            "/nowhere/ca.pem".to_owned(),
        ),
        (
            "another's key",
            Table::from_iter([
                ("ca".to_owned(), Setting::from(text(&ca))),
                ("certificate".to_owned(), text(&good.cert).into()),
                ("private_key".to_owned(), text(&system.key).into()),
            ]),
            "is not the key of the certificate".to_owned(),
        ),
    ] {
        lab.configure(|table| {
            let gateway = section(table, "gateway");
            gateway.insert("upstream".into(), format!("https://{ROGUE}").into());
            gateway.insert("upstream_tls".into(), edit.into());
        })?;
        let finished = lab.agent().output(&["reload"])?;
        ensure!(
            finished.code == Some(2) && finished.said().contains(&words),
            "{what}: {finished:?}"
        );
        let checked = lab.at_edge(&lab.files().config(), &["check"])?;
        ensure!(
            checked.code == Some(2) && checked.said().contains(&words),
            "{what}: {checked:?}"
        );
        fs::write(lab.files().config(), &before)?;
    }
    behind(lab, |gateway| {
        gateway.insert("upstream".into(), format!("http://{UPSTREAM}").into());
        gateway.remove("upstream_tls");
    })?;
    serves(lab)
}

fn search() -> Message {
    Message::search(NHS_NUMBER).from(&CONSUMER)
}

fn says(text: impl AsRef<[u8]>) -> Script {
    vec![Step::Read, say(text), Step::Hold]
}

fn edge(lab: &Lab) -> String {
    lab.network().namespace(Host::Edge)
}

fn address() -> SocketAddr {
    let (host, port) = ROGUE.split_once(':').unwrap_or((ROGUE, "0"));
    SocketAddr::new(
        host.parse().unwrap_or([127, 0, 0, 1].into()),
        port.parse().unwrap_or_default(),
    )
}

/// An upstream with a script, and the gateway in front of it alone.
fn rogue(lab: &Lab, script: Script) -> Result<Rogue> {
    let rogue = Rogue::open(&edge(lab), address(), script)?;
    behind(lab, |gateway| {
        gateway.insert("upstream".into(), format!("http://{ROGUE}").into());
        gateway.remove("upstream_tls");
    })?;
    Ok(rogue)
}

/// The gateway in front of an upstream of this name that speaks TLS.
fn secured(lab: &Lab, edit: impl FnOnce(&mut Table)) -> Result<()> {
    behind(lab, |gateway| {
        gateway.insert("upstream".into(), format!("https://{ROGUE}").into());
        let mut tls = match gateway.remove("upstream_tls") {
            Some(Setting::Table(tls)) => tls,
            _ => Table::new(),
        };
        tls.insert("server_name".into(), NAME.into());
        edit(&mut tls);
        gateway.insert("upstream_tls".into(), tls.into());
    })
}

/// Changes `[gateway]` and reloads.
fn behind(lab: &Lab, edit: impl FnOnce(&mut Table)) -> Result<()> {
    lab.reconfigure(|table| edit(section(table, "gateway")))
}

fn upstream_status(lab: &Lab, position: usize) -> Result<Value> {
    let status = lab.agent().json(&["status"])?;
    Ok(at(&status, &format!("/upstreams/{position}")).clone())
}

fn key(lab: &Lab, name: &str) -> Result<openssl::pkey::PKey<openssl::pkey::Private>> {
    KeyCache::in_folder(lab.files().pki()).get(name)
}

fn issued(lab: &Lab, name: &str, authority: &Authority, leaf: &Leaf) -> Result<Identity> {
    let folder = lab.files().pki();
    let key = key(lab, name)?;
    let identity = Identity {
        cert: folder.join(format!("{name}.pem")),
        key: folder.join(format!("{name}.key")),
    };
    fs::write(&identity.cert, authority.issue(leaf, &key)?)?;
    Ok(identity)
}

/// A server's side of TLS; with roots, it asks for a client's certificate under them.
fn acceptor(identity: &Identity, roots: Option<&std::path::Path>) -> Result<SslAcceptorBuilder> {
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    acceptor.set_certificate_chain_file(&identity.cert)?;
    acceptor.set_private_key_file(&identity.key, SslFiletype::PEM)?;
    if let Some(roots) = roots {
        acceptor.set_ca_file(roots)?;
        acceptor.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    }
    Ok(acceptor)
}

fn text(path: &std::path::Path) -> String {
    path.to_string_lossy().into_owned()
}
