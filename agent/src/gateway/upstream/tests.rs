//! Upstreams that do what none should, and what becomes of the request.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::Method;
use http_body_util::BodyExt as _;
use spinegate_common::Reason;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::sleep,
};

use super::testing::{Peer, answering, nobody, server, settings, upstream};
use super::*;
use crate::nrl::{ClaimRules, Claims, Interaction, Token};

const SOUND: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

fn count(counter: &AtomicUsize) -> usize {
    counter.load(Ordering::SeqCst)
}

/// Waits for what is done after an answer's end.
async fn settled(upstream: &Upstream, idle: usize) {
    for _ in 0..200 {
        if upstream.status().iter().map(|status| status.idle).sum::<usize>() == idle {
            return;
        }
        sleep(Duration::from_millis(5)).await;
    }
    panic!("{:?}, not {idle} kept connections", upstream.status());
}

fn reason<T>(outcome: Result<T, UpstreamError>) -> Option<Reason> {
    outcome.err().map(|error| error.reason)
}

#[tokio::test]
async fn a_connection_serves_request_after_request() {
    let (address, accepted) = answering(SOUND).await;
    let upstream = upstream(&[address]);
    for _ in 0..3 {
        assert_eq!(upstream.whole(Method::GET).await, Ok((200, "{}".to_owned())));
        settled(&upstream, 1).await;
    }
    assert_eq!(count(&accepted), 1);
    let status = upstream.status().remove(0);
    assert_eq!((status.answered, status.failures, status.outstanding), (3, 0, 0));
}

#[tokio::test]
async fn bytes_behind_an_answer_are_never_another_requests_answer() {
    let evil = [SOUND, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL"].concat();
    let (address, accepted) = answering(evil).await;
    let upstream = upstream(&[address]);
    for _ in 0..3 {
        assert_eq!(upstream.whole(Method::GET).await, Ok((200, "{}".to_owned())));
        sleep(Duration::from_millis(30)).await;
    }
    assert_eq!(count(&accepted), 3);
}

#[tokio::test]
async fn a_kept_connection_that_the_upstream_has_closed_costs_a_request_nothing() {
    let (address, accepted) = server(|mut peer| async move {
        peer.request().await;
        peer.say(SOUND).await;
    })
    .await;
    let upstream = upstream(&[address]);
    for method in [Method::GET, Method::POST, Method::GET] {
        assert_eq!(upstream.whole(method).await, Ok((200, "{}".to_owned())));
        sleep(Duration::from_millis(30)).await;
    }
    assert_eq!((count(&accepted), upstream.status()[0].failures), (3, 0));
}

#[tokio::test]
async fn a_request_that_a_closing_connection_took_is_repeated_if_it_is_a_read_and_else_never() {
    for (method, answered, connections) in [(Method::GET, true, 2), (Method::POST, false, 1)] {
        let (address, accepted) = server(|mut peer| async move {
            peer.request().await;
            peer.say(SOUND).await;
            // The second request is taken, and the connection closed.
            if peer.number == 0 {
                peer.request().await;
            } else {
                sleep(Duration::from_secs(1)).await;
            }
        })
        .await;
        let upstream = upstream(&[address]);
        assert!(upstream.whole(Method::GET).await.is_ok());
        settled(&upstream, 1).await;
        let second = upstream.whole(method.clone()).await;
        assert_eq!(second.is_ok(), answered, "{method}: {second:?}");
        assert_eq!(count(&accepted), connections, "{method}");
    }
}

#[tokio::test]
async fn a_request_is_never_made_a_third_time() {
    let (address, accepted) = server(|mut peer| async move {
        peer.request().await;
        if peer.number == 0 {
            peer.say(SOUND).await;
            peer.request().await;
        }
    })
    .await;
    let upstream = upstream(&[address]);
    assert!(upstream.whole(Method::GET).await.is_ok());
    settled(&upstream, 1).await;
    assert_eq!(
        reason(upstream.whole(Method::GET).await),
        Some(Reason::UpstreamReset)
    );
    assert_eq!(count(&accepted), 2);
}

#[tokio::test]
async fn a_request_that_a_new_connection_took_is_never_repeated() {
    let taking = |mut peer: Peer| async move {
        peer.request().await;
    };
    let (address, accepted) = server(taking).await;
    let (other, others) = server(taking).await;
    let upstream = upstream(&[address, other]);
    assert_eq!(
        reason(upstream.whole(Method::GET).await),
        Some(Reason::UpstreamReset)
    );
    assert_eq!(count(&accepted) + count(&others), 1);
}

#[tokio::test]
async fn a_request_that_found_nobody_goes_to_another_upstream_whatever_it_is() {
    let (alive, _) = answering(SOUND).await;
    let upstream = upstream(&[nobody().await, alive]);
    for method in [Method::GET, Method::POST, Method::DELETE] {
        for _ in 0..8 {
            assert!(upstream.whole(method.clone()).await.is_ok());
        }
    }
    let status = upstream.status();
    assert_eq!((status[0].state.as_str(), status[0].failures), ("ejected", 3));
    assert_eq!(status[1].answered, 24);
    assert!(
        status[0]
            .last_error
            .as_ref()
            .is_some_and(|error| error.starts_with("upstream_unreachable"))
    );
}

#[tokio::test]
async fn when_none_is_left_the_one_that_failed_longest_ago_is_asked() {
    let upstream = upstream(&[nobody().await, nobody().await]);
    for _ in 0..6 {
        assert_eq!(
            reason(upstream.whole(Method::GET).await),
            Some(Reason::UpstreamUnreachable)
        );
    }
    let failures: Vec<_> = upstream.status().iter().map(|status| status.failures).collect();
    assert_eq!(failures, [6, 6]);
}

#[tokio::test]
async fn an_ejected_upstream_comes_back_with_its_first_good_answer() {
    let healthy = Arc::new(AtomicUsize::new(0));
    let state = Arc::clone(&healthy);
    let (address, _) = server(move |mut peer| {
        let state = Arc::clone(&state);
        async move {
            while peer.request().await {
                let answer: &[u8] = match count(&state) {
                    0 => b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
                    _ => SOUND,
                };
                peer.say(answer).await;
            }
        }
    })
    .await;
    let (other, _) = answering(SOUND).await;
    let mut settings = settings(&[address, other]);
    // Longer than the first forty requests take, on a busy machine too.
    settings.health.eject_time = Duration::from_secs(1);
    let upstream = Upstream::new(&settings, None).unwrap();
    let mut refused = 0;
    for _ in 0..40 {
        refused += usize::from(upstream.whole(Method::GET).await.unwrap().0 == 503);
    }
    assert_eq!((refused, upstream.status()[0].state.as_str()), (3, "ejected"));
    healthy.store(1, Ordering::SeqCst);
    sleep(Duration::from_millis(1500)).await;
    assert_eq!(upstream.status()[0].state, "trial");
    for _ in 0..40 {
        assert_eq!(upstream.whole(Method::GET).await.unwrap().0, 200);
    }
    let status = upstream.status().remove(0);
    assert_eq!(status.state, "up");
    assert!(status.answered > 1, "{status:?}");
}

#[tokio::test]
async fn the_upstream_with_the_least_under_way_is_asked_and_one_that_is_full_is_not() {
    let (first, _) = answering(SOUND).await;
    let (second, _) = answering(SOUND).await;
    let mut settings = settings(&[first, second]);
    settings.upstream_max_requests = 8;
    let upstream = Upstream::new(&settings, None).unwrap();
    let mut held = Vec::new();
    for total in 1..=16 {
        held.push(upstream.ask(Method::GET).await.unwrap());
        let under_way: Vec<_> = upstream
            .status()
            .iter()
            .map(|status| status.outstanding)
            .collect();
        assert_eq!(under_way.iter().sum::<usize>(), total);
        assert_eq!(under_way[0].abs_diff(under_way[1]), total % 2, "{under_way:?}");
    }
    assert_eq!(
        reason(upstream.ask(Method::GET).await),
        Some(Reason::UpstreamOverloaded)
    );
    held.pop();
    assert!(upstream.ask(Method::GET).await.is_ok());
}

#[tokio::test]
async fn an_answer_that_breaks_http_is_none() {
    let huge = format!(
        "HTTP/1.1 200 OK\r\nX-Fill: {}\r\nContent-Length: 2\r\n\r\n{{}}",
        "a".repeat(40_000)
    );
    let flood = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(100_000);
    let many = format!(
        "HTTP/1.1 200 OK\r\n{}Content-Length: 2\r\n\r\n{{}}",
        "A: b\r\n".repeat(200)
    );
    for bytes in [
        "not HTTP at all\r\n\r\n",
        "\u{0}\u{1}\u{2}\u{3}\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\n Folded: 1\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\n\r\n{}",
        "HTTP/1.0 200 OK\r\n\r\n{}",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
        &huge,
        &flood,
        &many,
    ] {
        let (address, _) = answering(bytes).await;
        let outcome = upstream(&[address]).whole(Method::GET).await;
        let shown: String = bytes.chars().take(70).collect();
        let detail = outcome.clone().err();
        assert_eq!(
            reason(outcome),
            Some(Reason::UpstreamFraming),
            "{shown:?}: {detail:?}"
        );
    }
}

#[tokio::test]
async fn some_interim_answers_are_passed_over() {
    let answer = [
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
            .repeat(20)
            .as_bytes(),
        SOUND,
    ]
    .concat();
    let (address, _) = answering(answer).await;
    assert_eq!(
        upstream(&[address]).whole(Method::GET).await,
        Ok((200, "{}".to_owned()))
    );
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_an_error_and_its_connection_is_gone() {
    for bytes in [
        "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{\"cut\"",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n{\"cut\"\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n{\"cut\"\r\nnot a length\r\n",
    ] {
        let (address, accepted) = server(move |mut peer| async move {
            peer.request().await;
            peer.say(bytes.as_bytes()).await;
        })
        .await;
        let upstream = upstream(&[address]);
        let reported = Arc::new(AtomicUsize::new(0));
        for _ in 0..2 {
            let report = Arc::clone(&reported);
            let answer = upstream.ask(Method::GET).await.unwrap();
            let body = answer.into_body().reporting(move |error| {
                assert!(error.detail.starts_with("after 6 bytes"), "{error}");
                report.fetch_add(1, Ordering::SeqCst);
            });
            let error = body.collect().await.unwrap_err();
            let wanted = if bytes.contains("length\r\n") {
                Reason::UpstreamFraming
            } else {
                Reason::UpstreamReset
            };
            assert_eq!(error.reason, wanted, "{bytes}: {error}");
        }
        assert_eq!((count(&reported), count(&accepted)), (2, 2));
        let status = upstream.status().remove(0);
        assert_eq!((status.failures, status.outstanding, status.idle), (2, 0, 0));
    }
}

#[tokio::test]
async fn an_upstream_that_stops_is_not_waited_for() {
    let (silent, _) = answering("").await;
    let (stalling, _) = answering("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{").await;
    let with = |address| {
        let mut settings = settings(&[address]);
        settings.upstream_timeout = Duration::from_millis(200);
        settings.upstream_idle_timeout = Duration::from_millis(200);
        Upstream::new(&settings, None).unwrap()
    };
    let upstream = with(silent);
    assert_eq!(
        reason(upstream.whole(Method::GET).await),
        Some(Reason::UpstreamTimeout)
    );
    assert_eq!(
        (upstream.status()[0].failures, upstream.status()[0].outstanding),
        (1, 0)
    );
    let stalled = with(stalling);
    let answer = tokio::time::timeout(Duration::from_secs(5), stalled.whole(Method::GET)).await;
    assert_eq!(
        reason(answer.expect("an end in time")),
        Some(Reason::UpstreamStalled)
    );
}

#[tokio::test]
async fn a_client_that_reads_slowly_is_no_stall_and_holds_little() {
    const PIECE: usize = 64 * 1024;
    const PIECES: usize = 1024;
    let sent = Arc::new(AtomicUsize::new(0));
    let written = Arc::clone(&sent);
    let (address, _) = server(move |mut peer| {
        let written = Arc::clone(&written);
        async move {
            peer.request().await;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", PIECE * PIECES);
            peer.say(head.as_bytes()).await;
            for _ in 0..PIECES {
                peer.say(&[b'a'; PIECE]).await;
                written.fetch_add(1, Ordering::SeqCst);
            }
        }
    })
    .await;
    let mut settings = settings(&[address]);
    settings.upstream_idle_timeout = Duration::from_millis(100);
    let upstream = Upstream::new(&settings, None).unwrap();
    let mut body = upstream.ask(Method::GET).await.unwrap().into_body();
    let mut received = body.frame().await.unwrap().unwrap().into_data().unwrap().len();
    sleep(Duration::from_millis(400)).await;
    // What the two kernels hold, and a buffer of ours: far from the whole.
    assert!(count(&sent) < PIECES / 4, "{} pieces were sent", count(&sent));
    while let Some(frame) = body.frame().await {
        received += frame.unwrap().into_data().unwrap().len();
    }
    assert_eq!(received, PIECE * PIECES);
}

#[tokio::test]
async fn a_request_that_nobody_waits_for_any_more_gives_its_place_back() {
    let (address, _) = answering("").await;
    let upstream = upstream(&[address]);
    let asking = tokio::time::timeout(Duration::from_millis(50), upstream.ask(Method::GET)).await;
    assert!(asking.is_err());
    let status = upstream.status().remove(0);
    assert_eq!((status.outstanding, status.failures, status.idle), (0, 0, 0));
}

#[tokio::test]
async fn an_answer_that_nobody_reads_to_its_end_is_no_success_and_its_connection_is_gone() {
    let (address, accepted) = answering("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n{}").await;
    let upstream = upstream(&[address]);
    for _ in 0..2 {
        drop(upstream.ask(Method::GET).await.unwrap());
        sleep(Duration::from_millis(30)).await;
    }
    let status = upstream.status().remove(0);
    assert_eq!((status.answered, status.idle, status.outstanding), (0, 0, 0));
    assert_eq!(count(&accepted), 2);
}

#[tokio::test]
async fn kept_connections_are_bounded_in_number_and_time() {
    let (address, _) = answering(SOUND).await;
    let mut settings = settings(&[address]);
    settings.upstream_max_idle = 2;
    settings.upstream_keep_alive = Duration::from_millis(100);
    let upstream = Upstream::new(&settings, None).unwrap();
    let mut answers = Vec::new();
    for _ in 0..5 {
        answers.push(upstream.ask(Method::GET).await.unwrap().into_body());
    }
    for answer in answers {
        answer.collect().await.unwrap();
    }
    settled(&upstream, 2).await;
    sleep(Duration::from_millis(120)).await;
    upstream.tend().await;
    settled(&upstream, 0).await;
}

#[tokio::test]
async fn an_upstream_that_does_not_answer_what_it_is_asked_for_is_down_until_it_does() {
    let sick = Arc::new(AtomicUsize::new(0));
    let state = Arc::clone(&sick);
    let (address, _) = server(move |mut peer| {
        let state = Arc::clone(&state);
        async move {
            peer.request().await;
            let answer: &[u8] = match count(&state) {
                0 => b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
                _ => SOUND,
            };
            peer.say(answer).await;
        }
    })
    .await;
    let (other, _) = answering(SOUND).await;
    let mut settings = settings(&[address, other]);
    settings.health.path = Some("/STU3/metadata".parse().unwrap());
    settings.health.interval = Duration::ZERO;
    let upstream = Upstream::new(&settings, None).unwrap();
    for state in ["up", "down", "down"] {
        upstream.tend().await;
        assert_eq!(upstream.status()[0].state, state);
    }
    for _ in 0..10 {
        assert!(upstream.whole(Method::POST).await.is_ok());
    }
    assert_eq!(upstream.status()[1].answered, 10);
    sick.store(1, Ordering::SeqCst);
    for state in ["down", "up"] {
        upstream.tend().await;
        assert_eq!(upstream.status()[0].state, state);
    }
}

#[tokio::test]
async fn a_service_that_does_not_listen_is_unreachable() {
    let fetched = upstream(&[nobody().await])
        .fetch(PathAndQuery::from_static("/x"), SystemTime::now())
        .await;
    assert_eq!(reason(fetched), Some(Reason::UpstreamUnreachable));
}

#[tokio::test]
async fn what_the_upstream_answers_for_a_stored_pointer_is_told_apart() {
    let answer = |status: &str, fields: &str, body: &str| {
        format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n{fields}\r\n{body}",
            body.len()
        )
    };
    let outcome = |code: &str| {
        format!(
            r#"{{"resourceType":"OperationOutcome","issue":[{{"details":{{"coding":[{{"code":"{code}"}}]}}}}]}}"#
        )
    };
    for (answer, wanted) in [
        (answer("200 OK", "", "{}"), "found None"),
        (
            answer("200 OK", "ETag: W/\"3\"\r\n", "{}"),
            "found Some(\"W/\\\"3\\\"\")",
        ),
        (answer("404 Not Found", "", ""), "absent"),
        (answer("410 Gone", "", ""), "absent"),
        (
            answer("400 Bad Request", "", &outcome("BAD_REQUEST")),
            "not current",
        ),
        (
            answer("400 Bad Request", "", &outcome("MISSING_OR_INVALID_HEADER")),
            "upstream_invalid",
        ),
        (answer("400 Bad Request", "", ""), "upstream_invalid"),
        (answer("403 Forbidden", "", ""), "upstream_invalid"),
        (answer("500 Internal Server Error", "", ""), "upstream_invalid"),
    ] {
        let (address, _) = answering(answer.clone()).await;
        let fetched = upstream(&[address])
            .fetch(PathAndQuery::from_static("/x"), SystemTime::now())
            .await;
        let said = match fetched {
            Ok(Fetched::Found(_, _, version)) => format!("found {:?}", version.map(|tag| tag.to_string())),
            Ok(Fetched::Absent) => "absent".to_owned(),
            Ok(Fetched::NotCurrent) => "not current".to_owned(),
            Err(error) => error.reason.as_str().to_owned(),
        };
        assert_eq!(said, wanted, "{answer}");
    }
}

#[tokio::test]
async fn what_the_gateway_asks_for_itself_has_its_own_asid_and_with_its_organisation_a_jwt() {
    for ods in [None, OdsCode::parse("X26").ok()] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut settings = settings(&[listener.local_addr().unwrap()]);
        settings.ods = ods.clone();
        let upstream = Upstream::new(&settings, None).unwrap();
        let hears = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = vec![0; 4096];
            let length = stream.read(&mut head).await.unwrap();
            stream
                .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                .await
                .unwrap();
            String::from_utf8(head[..length].to_vec()).unwrap()
        };
        let asked = upstream.fetch(PathAndQuery::from_static("/x"), SystemTime::now());
        let (head, fetched) = tokio::join!(hears, asked);
        assert!(matches!(fetched, Ok(Fetched::Absent)));
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
        let asid = settings.asid.as_str();
        assert_eq!((field("fromasid: "), field("toasid: ")), (Some(asid), Some(asid)));
        let token = field("authorization: Bearer ").map(|token| Token::parse(token).unwrap());
        assert_eq!(token.is_some(), ods.is_some(), "{head}");
        if let Some(token) = token {
            let rules = ClaimRules {
                unattended_reads: true,
                ..ClaimRules::default()
            };
            let claims = Claims::check(&token, Interaction::Read, &rules, SystemTime::now()).unwrap();
            assert_eq!((claims.asid, Some(claims.ods)), (settings.asid, ods));
        }
    }
}

#[tokio::test]
async fn a_stored_pointer_that_is_too_large_or_cut_off_allows_nothing() {
    let (large, _) = answering(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n{}",
        "a".repeat(200)
    ))
    .await;
    let mut settings = settings(&[large]);
    settings.max_body = 100;
    let fetched = Upstream::new(&settings, None)
        .unwrap()
        .fetch(PathAndQuery::from_static("/x"), SystemTime::now())
        .await;
    assert_eq!(reason(fetched), Some(Reason::UpstreamInvalid));
    let (cut, _) = server(|mut peer| async move {
        peer.request().await;
        peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n{}")
            .await;
    })
    .await;
    let fetched = upstream(&[cut])
        .fetch(PathAndQuery::from_static("/x"), SystemTime::now())
        .await;
    assert_eq!(reason(fetched), Some(Reason::UpstreamReset));
}
