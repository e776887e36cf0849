//! Server and client together, over real sockets.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream as Blocking,
    path::PathBuf,
};

use std::sync::Mutex;

use super::*;
use crate::control::{Answers, ClientError, DropReport, EventsWanted, FailureKind, call, stream};
use crate::metrics::{Counters, Exporter, Observed, Readiness};

/// Echoes the verb and the peer; refuses to lift a verdict.
#[derive(Default)]
struct Echo {
    access: Mutex<Access>,
    journal: Journal,
    errors: Errors,
    rebuffs: Mutex<Vec<Rebuff>>,
}

impl Operations for Echo {
    fn access(&self) -> Access {
        self.access.lock().unwrap().clone()
    }

    fn rebuffed(&self, _: Peer, rebuff: &Rebuff) {
        self.rebuffs.lock().unwrap().push(rebuff.clone());
    }

    fn errors(&self) -> &Errors {
        &self.errors
    }

    fn journal(&self) -> &Journal {
        &self.journal
    }

    async fn hand_over(&self, _: Peer) -> Result<Estate<'_>, Failure> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        Ok(Estate {
            sockets: vec![listener.into()],
            still: Box::new(()),
        })
    }

    async fn stand_down(&self, _: Peer, _: Estate<'_>) -> Result<String, Failure> {
        Ok("gone".to_owned())
    }

    async fn perform(&self, peer: Peer, request: Request) -> Result<Response, Failure> {
        match request {
            Request::VerdictsRemove { source } => Err(Failure::new(
                FailureKind::NotFound,
                format!("{source} has no verdict"),
                "nothing to do",
            )),
            other => Ok(Response::Done(format!("{} by {}", other.verb(), peer.uid))),
        }
    }
}

/// Runs `with` beside a server on a socket of its own; gives its result once the server has ended.
fn beside_a_server<T>(with: impl FnOnce(PathBuf) -> T) -> T {
    beside_an_echo(|path, _, _| with(path))
}

/// As [`beside_a_server`], with what it serves from, and what stops it.
fn beside_an_echo<T>(with: impl FnOnce(PathBuf, &Echo, &CancellationToken) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let stop = CancellationToken::new();
    let server = Server::bind(&path, None).unwrap();
    let echo = Arc::new(Echo::default());
    echo.access.lock().unwrap().own = nix::unistd::geteuid().as_raw();
    let exporter = Exporter::new(Arc::new(Counters::new()), Observed::default);
    let pages = Pages::new(exporter, || Readiness::of([]));
    let serving = runtime.spawn(server.serve(Arc::clone(&echo), Arc::new(pages), stop.clone()));
    let result = with(path.clone(), &echo, &stop);
    stop.cancel();
    runtime.block_on(serving).unwrap();
    assert!(!path.exists(), "the socket was left behind");
    result
}

/// Sends bytes, and reads all that comes back.
fn exchange(path: &Path, bytes: &[u8]) -> String {
    let mut stream = Blocking::connect(path).unwrap();
    stream.set_read_timeout(Some(2 * CALLER_LIMIT)).unwrap();
    let _ = stream.write_all(bytes);
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

/// A request, the last one on its connection.
fn last(line: &str, headers: &str, body: &str) -> String {
    format!(
        "{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Status and body of the answer to a request with a JSON body.
fn ask(path: &Path, line: &str, body: &str) -> (u16, String) {
    let headers = if body.is_empty() {
        ""
    } else {
        "content-type: application/json\r\n"
    };
    split(&exchange(path, last(line, headers, body).as_bytes()))
}

fn split(answer: &str) -> (u16, String) {
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    (
        status.unwrap_or_else(|| panic!("{answer:?}")),
        body.unwrap_or_default(),
    )
}

#[test]
fn a_request_is_carried_out_under_the_peers_user_id() {
    let uid = nix::unistd::geteuid();
    let response = beside_a_server(|path| call(&path, Request::Status)).unwrap();
    assert_eq!(response, Response::Done(format!("status by {uid}")));
}

#[test]
fn a_failure_arrives_with_its_kind_and_mend() {
    let source = "10.0.0.1".parse().unwrap();
    let response = beside_a_server(|path| call(&path, Request::VerdictsRemove { source })).unwrap();
    assert_eq!(
        response,
        Response::Error(Failure::new(
            FailureKind::NotFound,
            "10.0.0.1 has no verdict",
            "nothing to do"
        ))
    );
}

#[test]
fn each_way_of_asking_has_its_status() {
    beside_a_server(|path| {
        for (line, body, status, said) in [
            ("GET /v1/status", "", 200, r#"{"done":"status by"#),
            ("POST /v1/reload", "", 200, r#"{"done":"reload by"#),
            ("POST /v1/reload", "{}", 200, r#"{"done":"reload by"#),
            (
                "GET /v1",
                "",
                200,
                r#"{"routes":[{"method":"GET","path":"/v1/status","role":"read""#,
            ),
            ("GET /metrics", "", 200, "# TYPE spinegate_"),
            ("GET /healthz", "", 200, "ok"),
            ("GET /readyz", "", 200, "{\"ready\":true"),
            (
                "DELETE /v1/verdicts?source=10.0.0.1",
                "",
                404,
                r#"{"error":{"code":"not_found","message":"10.0.0.1 has no verdict","mend":"nothing to do"}}"#,
            ),
            (
                "GET /v1/status?x=1",
                "",
                400,
                r#"{"error":{"code":"usage","message":"`status` has no parameter \"x\"","#,
            ),
            ("GET /v1/status", "{}", 400, "a GET has no body"),
            (
                "POST /v1/verdicts",
                r#"{"source":"10.0.0.1","kind":"deny","for":1}"#,
                400,
                r#"no parameter \"for\""#,
            ),
            ("PUT /v1/verdicts", "", 405, "use GET, POST, DELETE"),
            ("GET /v2/status", "", 404, "the agent speaks version 1 of its API"),
            ("GET /", "", 404, "GET /v1 lists what there is"),
        ] {
            let (found, answer) = ask(&path, line, body);
            assert_eq!(found, status, "{line}: {answer}");
            assert!(answer.contains(said), "{line}: {answer}");
        }
        let plain = last("POST /v1/reload", "content-type: text/plain\r\n", "{}");
        assert_eq!(split(&exchange(&path, plain.as_bytes())).0, 415);
    });
}

#[test]
fn several_requests_on_one_connection_are_answered_in_order() {
    let requests = "GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n".to_owned() + &last("POST /v1/reload", "", "");
    let answers = beside_a_server(|path| exchange(&path, requests.as_bytes()));
    let (first, second) = answers.split_once("reload by").unwrap();
    assert!(
        first.contains("status by") && !second.contains("status by"),
        "{answers}"
    );
}

#[test]
fn what_is_no_http_and_what_is_too_large_is_refused_and_not_kept() {
    beside_a_server(|path| {
        for (bytes, status) in [
            (b"\x16\x03\x01\r\n\r\n".to_vec(), 400),
            (b"GET /v1/status\r\n\r\n".to_vec(), 400),
            (
                b"GET /v1/status HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n".to_vec(),
                400,
            ),
            (
                format!("GET /v1/status HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(MAX_HEAD)).into_bytes(),
                431,
            ),
            (
                format!(
                    "GET /v1/status HTTP/1.1\r\n{}\r\n",
                    "x: y\r\n".repeat(MAX_HEADERS + 1)
                )
                .into_bytes(),
                431,
            ),
            (
                format!(
                    "POST /v1/explain HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{{",
                    MAX_BODY + 1
                )
                .into_bytes(),
                413,
            ),
        ] {
            let answer = exchange(&path, &bytes);
            assert_eq!(split(&answer).0, status, "{answer}");
        }
        assert!(matches!(call(&path, Request::Status), Ok(Response::Done(_))));
    });
}

#[test]
fn callers_over_the_limit_are_told_so_and_the_others_served() {
    beside_a_server(|path| {
        let kept: Vec<Blocking> = (0..MAX_WRITERS)
            .map(|_| {
                let mut stream = Blocking::connect(&path).unwrap();
                stream
                    .write_all(b"GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n")
                    .unwrap();
                let mut status = String::new();
                BufReader::new(&stream).read_line(&mut status).unwrap();
                assert_eq!(status, "HTTP/1.1 200 OK\r\n");
                stream
            })
            .collect();
        let Ok(Response::Error(failure)) = call(&path, Request::Status) else {
            panic!("more than {MAX_WRITERS} were served");
        };
        assert_eq!(failure.kind, FailureKind::Busy);
        assert_eq!(failure.reason.as_deref(), Some("control_busy"));
        assert_eq!(ask(&path, "GET /v1/status", "").0, 503);
        drop(kept);
        let served = || matches!(call(&path, Request::Status), Ok(Response::Done(_)));
        assert!((0..50).any(|_| served() || {
            std::thread::sleep(Duration::from_millis(20));
            false
        }));
    });
}

#[test]
fn each_role_may_what_it_may_and_what_it_may_not_is_recorded() {
    beside_an_echo(|path, echo, _| {
        // The tests run as one user, so it is the agent whose eyes change.
        let own = nix::unistd::geteuid().as_raw();
        if own == 0 {
            return;
        }
        let become_a = |own: u32, writers: &[u32], readers: Option<u32>| {
            *echo.access.lock().unwrap() = Access {
                own,
                writers: writers.to_vec(),
                readers,
            };
        };
        let group = nix::unistd::getegid().as_raw();
        become_a(0, &[own], Some(group));
        assert_eq!(ask(&path, "POST /v1/reload", "").0, 200);
        become_a(0, &[], Some(group));
        assert_eq!(ask(&path, "GET /v1/status", "").0, 200);
        assert_eq!(ask(&path, "POST /v1/reload", "").0, 403);
        become_a(0, &[], None);
        assert_eq!(ask(&path, "GET /v1/status", "").0, 403);
        assert_eq!(
            *echo.rebuffs.lock().unwrap(),
            [Rebuff::ReadOnly("reload"), Rebuff::Stranger]
        );
    });
}

#[test]
fn a_successor_gets_the_sockets_and_has_the_agent_stand_down() {
    beside_an_echo(|path, _, stop| {
        let (predecessor, inheritance) = crate::control::Predecessor::ask(&path).unwrap().unwrap();
        let (server, others) = Server::inherit(&path, None, inheritance).unwrap();
        assert_eq!(others.len(), 1);
        assert_eq!(predecessor.stand_down().unwrap().as_deref(), Some("gone"));
        // Whoever takes over leaves the socket while the other may still come back.
        drop(server);
        assert!(path.exists());
        stop.cancel();
        // The tests' own server expects to remove it.
        std::fs::remove_file(&path).unwrap();
    });
}

#[test]
fn a_command_from_before_http_is_told_what_to_do() {
    let line = b"{\"version\":6,\"request\":{\"verb\":\"status\"}}\n";
    let answer = beside_a_server(|path| exchange(&path, line));
    assert!(
        answer.contains("\"answer\":\"error\"") && answer.ends_with('\n'),
        "{answer}"
    );
    assert!(
        answer.contains("use the `spinegate` command of the running agent"),
        "{answer}"
    );
}

#[test]
fn without_an_agent_the_command_is_told_to_start_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    assert!(matches!(
        call(&path, Request::Status),
        Err(ClientError::NotRunning)
    ));
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let error = call(&path, Request::Status).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the agent is not running; start it with `spinegate run`"
    );
}

fn report(packet: impl ToString) -> DropReport {
    DropReport {
        time: "2026-01-01T00:00:00.000000000Z".to_owned(),
        reason: "verdict_deny".to_owned(),
        monitored: false,
        service: "tcp/443".to_owned(),
        interface: 2,
        interface_name: None,
        length: 60,
        source: None,
        packet: packet.to_string(),
        frame: "x".repeat(1000),
    }
}

fn events(last: usize, follow: bool) -> Request {
    Request::Events(EventsWanted {
        last,
        follow,
        reason: None,
    })
}

fn packet(answers: &mut Answers) -> String {
    match answers.receive().unwrap() {
        Response::EventsBegin => packet(answers),
        Response::Event(report) => report.packet,
        other => panic!("{other:?}"),
    }
}

#[test]
fn events_are_sent_as_they_happen_until_the_agent_stops() {
    beside_an_echo(|path, echo, stop| {
        echo.journal.publish(report("old"));
        let mut answers = stream(&path, events(10, true)).unwrap();
        assert_eq!(packet(&mut answers), "old");
        echo.journal.publish(report("new"));
        assert_eq!(packet(&mut answers), "new");
        stop.cancel();
        assert_eq!(answers.receive().unwrap(), Response::EventsEnd { lost_events: 0 });
    });
}

#[test]
fn a_client_that_does_not_read_loses_events_and_is_told_how_many() {
    const SENT: u64 = 4000;
    beside_an_echo(|path, echo, _| {
        let mut answers = stream(&path, events(1, true)).unwrap();
        echo.journal.publish(report("first"));
        assert_eq!(packet(&mut answers), "first");
        for number in 0..SENT {
            echo.journal.publish(report(number));
        }
        let (mut seen, mut behind) = (0, 0);
        while seen + behind < SENT {
            match answers.receive().unwrap() {
                Response::Event(_) => seen += 1,
                Response::EventsMissed(missed) => behind += missed.behind,
                other => panic!("{other:?}"),
            }
        }
        assert!(behind > 0, "the socket held {SENT} events");
        assert_eq!(seen + behind, SENT);
    });
}

#[test]
fn a_client_that_does_not_read_holds_up_neither_others_nor_the_agents_end() {
    beside_an_echo(|path, echo, _| {
        let mut answers = stream(&path, events(1, true)).unwrap();
        echo.journal.publish(report("first"));
        assert_eq!(packet(&mut answers), "first");
        for number in 0..1000 {
            echo.journal.publish(report(number));
        }
        assert!(matches!(call(&path, Request::Status), Ok(Response::Done(_))));
        // The server is stopped, and waited for, while this client still does not read.
        std::mem::forget(answers);
    });
}

#[test]
fn a_client_that_goes_away_leaves_its_place() {
    beside_a_server(|path| {
        // More often than may follow at once.
        for _ in 0..2 * MAX_WRITERS {
            let mut stream = Blocking::connect(&path).unwrap();
            stream
                .write_all(b"GET /v1/events?follow=true HTTP/1.1\r\nhost: x\r\n\r\n")
                .unwrap();
            let mut status = String::new();
            BufReader::new(&stream).read_line(&mut status).unwrap();
            assert_eq!(status, "HTTP/1.1 200 OK\r\n");
            drop(stream);
            std::thread::sleep(Duration::from_millis(10));
        }
    });
}

#[test]
fn a_caller_who_keeps_the_agent_waiting_is_cut_off() {
    beside_a_server(|path| {
        let slow: Vec<_> = [
            "",
            "GET /v1/sta",
            "GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n",
            "{\"version\"",
        ]
        .map(|beginning| {
            let path = path.clone();
            std::thread::spawn(move || exchange(&path, beginning.as_bytes()))
        })
        .into_iter()
        .collect();
        let begun = std::time::Instant::now();
        slow.into_iter().for_each(|caller| drop(caller.join().unwrap()));
        assert!(begun.elapsed() < CALLER_LIMIT + Duration::from_secs(5));
    });
}
