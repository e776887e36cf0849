//! Server and client together, over real sockets.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream as Blocking,
    path::PathBuf,
};

use proptest::prelude::*;

use super::*;
use crate::control::{Answers, ClientError, DropReport, EventsWanted, call, stream};

/// Echoes the verb and the peer; refuses to lift a verdict.
#[derive(Default)]
struct Echo {
    journal: Journal,
    errors: Errors,
}

impl Operations for Echo {
    fn errors(&self) -> &Errors {
        &self.errors
    }

    fn journal(&self) -> &Journal {
        &self.journal
    }

    async fn hand_over(&self) -> Result<Estate<'_>, Failure> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        Ok(Estate {
            sockets: vec![listener.into()],
            still: Box::new(()),
        })
    }

    async fn stand_down(&self, _: Peer, _: Estate<'_>) -> Result<Response, Failure> {
        Ok(Response::Done("gone".to_owned()))
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
    let server = {
        let _inside = runtime.enter();
        Server::bind(&path).unwrap()
    };
    let echo = Arc::new(Echo::default());
    let serving = runtime.spawn(server.serve(Arc::clone(&echo), stop.clone()));
    let result = with(path.clone(), &echo, &stop);
    stop.cancel();
    runtime.block_on(serving).unwrap();
    assert!(!path.exists(), "the socket was left behind");
    result
}

/// Sends bytes, closes the sending side, and reads all that comes back.
fn exchange(path: &Path, bytes: &[u8]) -> String {
    let mut stream = Blocking::connect(path).unwrap();
    let _ = stream.write_all(bytes);
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
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
fn several_calls_on_one_connection_are_answered_in_order() {
    let line = r#"{"version":6,"request":{"verb":"status"}}
{"version":6,"request":{"verb":"reload"}}
"#;
    let answers = beside_a_server(|path| exchange(&path, line.as_bytes()));
    let lines: Vec<&str> = answers.lines().collect();
    assert!(
        lines[0].contains("status by") && lines[1].contains("reload by"),
        "{answers}"
    );
}

#[test]
fn what_is_no_call_is_answered_with_usage_and_the_connection_goes_on() {
    let answers = beside_a_server(|path| {
        exchange(&path, b"nonsense\n{\"version\":7,\"request\":{\"new\":1}}\n{\"version\":6,\"request\":{\"verb\":\"status\"}}\n")
    });
    let lines: Vec<&str> = answers.lines().collect();
    assert_eq!(lines.len(), 3, "{answers}");
    assert!(
        lines[0].contains(r#""kind":"usage","message":"the call is not understood"#),
        "{}",
        lines[0]
    );
    assert!(
        lines[1].contains("protocol version 7, the agent speaks 6"),
        "{}",
        lines[1]
    );
    assert!(lines[2].contains("status by"), "{}", lines[2]);
}

#[test]
fn a_line_without_end_is_refused_and_not_kept() {
    let answer = beside_a_server(|path| exchange(&path, &vec![b'x'; MAX_LINE as usize + 1]));
    assert!(answer.contains("longer than 4194304 bytes"), "{answer}");
}

#[test]
fn clients_over_the_limit_are_turned_away_and_the_others_served() {
    beside_a_server(|path| {
        let line = b"{\"version\":6,\"request\":{\"verb\":\"status\"}}\n";
        let mut kept: Vec<Blocking> = Vec::new();
        for _ in 0..MAX_CLIENTS {
            let mut stream = Blocking::connect(&path).unwrap();
            stream.write_all(line).unwrap();
            let mut answer = String::new();
            BufReader::new(&stream).read_line(&mut answer).unwrap();
            assert!(answer.contains("status by"), "{answer}");
            kept.push(stream);
        }
        assert!(matches!(
            call(&path, Request::Status),
            Err(ClientError::Broken { .. } | ClientError::Answer { .. })
        ));
        kept[0].write_all(line).unwrap();
        let mut answer = String::new();
        BufReader::new(&kept[0]).read_line(&mut answer).unwrap();
        assert!(answer.contains("status by"), "{answer}");
    });
}

#[test]
fn only_root_and_the_agents_own_user_may_give_orders() {
    assert!(may_order(0, 1000) && may_order(1000, 1000));
    assert!(!may_order(1001, 1000) && !may_order(1000, 0));
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
fn another_call_ends_the_events_and_is_answered() {
    let lines = r#"{"version":6,"request":{"verb":"events","follow":true}}
{"version":6,"request":{"verb":"status"}}
"#;
    let answers = beside_a_server(|path| exchange(&path, lines.as_bytes()));
    let lines: Vec<&str> = answers.lines().collect();
    assert_eq!(lines.len(), 3, "{answers}");
    assert!(
        lines[1].contains("events_end") && lines[2].contains("status by"),
        "{answers}"
    );
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
    let follow = b"{\"version\":6,\"request\":{\"verb\":\"events\",\"follow\":true}}\n";
    beside_a_server(|path| {
        // More often than may follow at once.
        for _ in 0..2 * MAX_CLIENTS {
            let said = exchange(&path, follow);
            assert!(said.contains("events_end"), "{said}");
        }
    });
}

proptest! {
    #[test]
    fn any_line_is_a_request_or_a_failure_without_a_panic(line in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&line);
    }
}
