//! A connection's requests, one after the other.

use std::{convert::Infallible, io, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Either, LengthLimitError, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use spinegate_common::Reason;
use tokio::{net::UnixStream, sync::mpsc, time::timeout};

use super::{
    super::{
        Failure, FailureKind, Request, Response, Role, VERSION,
        access::Caller,
        errors::ErrorFeed,
        journal::Feed,
        redact::redact,
        routes::{self, Found, ROUTES, Route},
        wire,
    },
    CALLER_LIMIT, END_LIMIT, Hall, MAX_BODY, MAX_HEAD, MAX_HEADERS, Operations, Rebuff,
    answer::{self, Answer, Fault, Lines},
    farewell,
    pace::Pace,
};
use crate::metrics::Pages;

const SERVER: HeaderValue = HeaderValue::from_static(concat!("spinegate/", env!("CARGO_PKG_VERSION")));

impl<O: Operations> Hall<O> {
    pub(super) async fn answer_calls(self: Arc<Self>, stream: UnixStream, caller: Caller) -> io::Result<()> {
        let pace = Pace::new(CALLER_LIMIT);
        let service = service_fn(|request| {
            let (hall, caller, pace) = (&self, &caller, &pace);
            async move {
                pace.work();
                let mut answer = match hall.answer(caller, request).await {
                    Ok(answer) => answer,
                    Err(fault) => answer::of(Err(fault)),
                };
                match answer.body() {
                    Either::Left(_) => pace.answered(CALLER_LIMIT),
                    Either::Right(_) if hall.stop.is_cancelled() => pace.answered(END_LIMIT),
                    Either::Right(_) => pace.follow(),
                }
                answer.headers_mut().insert(header::SERVER, SERVER);
                Ok::<_, Infallible>(answer)
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(CALLER_LIMIT)
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let mut stops = false;
        loop {
            tokio::select! {
                served = connection.as_mut() => return served.map_err(io::Error::other),
                () = pace.over() => return Err(io::ErrorKind::TimedOut.into()),
                () = self.stop.cancelled(), if !stops => {
                    stops = true;
                    pace.end(END_LIMIT);
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }

    async fn answer(
        self: &Arc<Self>,
        caller: &Caller,
        request: http::Request<Incoming>,
    ) -> Result<Answer, Fault> {
        let Some(role) = self.role(caller) else {
            self.operations.rebuffed(caller.peer, &Rebuff::Stranger);
            return Err(farewell::forbidden().into());
        };
        if Pages::has(request.uri().path()) {
            return Ok(self.pages.answer(&request).map(Either::Left));
        }
        let (head, body) = request.into_parts();
        let (method, path) = (&head.method, head.uri.path());
        if path == index_path() && method == http::Method::GET {
            return Ok(answer::json(StatusCode::OK, &Index { routes: ROUTES }));
        }
        let (route, captured) = match routes::find(method, path) {
            Found::Route(route, captured) => (route, captured),
            Found::Methods(methods) => return Ok(other_methods(&methods)),
            Found::Nothing => return Err(no_such_path(path)),
        };
        if route.role > role {
            self.operations
                .rebuffed(caller.peer, &Rebuff::ReadOnly(route.verb));
            return Err(read_only(caller, route).into());
        }
        let read = whole(&head.headers, body).await.and_then(|body| {
            let read = wire::read(route, captured, head.uri.query(), &body);
            read.map_err(|failure| failure.because(Reason::ControlMalformed).into())
        });
        let request = read.inspect_err(|fault: &Fault| {
            if route.changes() {
                let rebuff = Rebuff::Malformed(route.verb, fault.failure.clone());
                self.operations.rebuffed(caller.peer, &rebuff);
            }
        })?;
        match request {
            Request::Events(wanted) => {
                let feed = self.operations.journal().feed(&wanted)?;
                Ok(self.relay(Source::Events(feed), role))
            }
            Request::Errors(wanted) => {
                let feed = self.operations.errors().feed(&wanted)?;
                Ok(self.relay(Source::Errors(feed), role))
            }
            request => {
                let mut response = self.perform(caller.peer, request).await?;
                if role == Role::Read {
                    redact(&mut response);
                }
                Ok(answer::of(Ok(response)))
            }
        }
    }

    /// Sends events until there are no more, the caller goes away, or the agent stops.
    fn relay(self: &Arc<Self>, mut source: Source, role: Role) -> Answer {
        // A caller that is slow loses events and is told so, but may stay, as a pager does.
        let (sender, receiver) = mpsc::channel(1);
        let hall = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                let response = tokio::select! {
                    biased;
                    () = hall.stop.cancelled() => None,
                    response = source.next() => response,
                    () = sender.closed() => return,
                };
                let Some(mut response) = response else { break };
                if role == Role::Read {
                    redact(&mut response);
                }
                let sent = tokio::select! {
                    biased;
                    sent = sender.send(answer::line(&response)) => sent,
                    () = hall.stop.cancelled() => break,
                };
                if sent.is_err() {
                    return;
                }
            }
            let lost_events = match source {
                Source::Events(_) => hall.operations.journal().lost(),
                Source::Errors(_) => 0,
            };
            let _ = sender
                .send(answer::line(&Response::EventsEnd { lost_events }))
                .await;
        });
        answer::lines(Lines(receiver))
    }
}

/// What a caller follows.
enum Source {
    Events(Feed),
    Errors(ErrorFeed),
}

impl Source {
    async fn next(&mut self) -> Option<Response> {
        match self {
            Self::Events(feed) => feed.next().await,
            Self::Errors(feed) => feed.next().await,
        }
    }
}

/// The whole body, if it is one that is understood.
async fn whole(headers: &HeaderMap, body: Incoming) -> Result<Bytes, Fault> {
    if body.size_hint().lower() > MAX_BODY {
        return Err(too_long());
    }
    let body = timeout(CALLER_LIMIT, Limited::new(body, MAX_BODY as usize).collect()).await;
    let body = match body {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(too_long()),
        Ok(Err(error)) => {
            let message = format!("the body broke off: {error}");
            return Err(Fault::usage(StatusCode::BAD_REQUEST, message, "send all of it"));
        }
        Err(_) => {
            let message = format!("the body did not come within {} s", CALLER_LIMIT.as_secs());
            return Err(Fault::usage(
                StatusCode::REQUEST_TIMEOUT,
                message,
                "send it at once",
            ));
        }
    };
    let is_json = headers.get(header::CONTENT_TYPE).is_some_and(|given| {
        let given = given.to_str().unwrap_or_default();
        let media_type = given.split(';').next().unwrap_or_default();
        media_type.trim().eq_ignore_ascii_case("application/json")
    });
    if !body.is_empty() && !is_json {
        return Err(Fault::usage(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the body is not said to be JSON",
            "send `Content-Type: application/json`, as `curl --json` does",
        ));
    }
    Ok(body)
}

fn too_long() -> Fault {
    Fault::usage(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("the body is longer than {MAX_BODY} bytes"),
        "ask for less in one request",
    )
}

/// What there is.
#[derive(Serialize)]
struct Index {
    routes: &'static [&'static Route],
}

fn index_path() -> String {
    format!("/v{VERSION}")
}

fn other_methods(methods: &[routes::Method]) -> Answer {
    let methods: Vec<_> = methods.iter().map(ToString::to_string).collect();
    let methods = methods.join(", ");
    let fault = Fault::usage(
        StatusCode::METHOD_NOT_ALLOWED,
        "the resource does not have this method",
        format!("use {methods}"),
    );
    let mut answer = answer::of(Err(fault));
    if let Ok(methods) = HeaderValue::from_str(&methods) {
        answer.headers_mut().insert(header::ALLOW, methods);
    }
    answer
}

fn no_such_path(path: &str) -> Fault {
    let index = index_path();
    Fault::from(
        Failure::new(
            FailureKind::NotFound,
            format!("there is no {path}: the agent speaks version {VERSION} of its API"),
            format!("GET {index} lists what there is; use the `spinegate` command of the running agent"),
        )
        .because(Reason::ControlMalformed),
    )
}

fn read_only(caller: &Caller, route: &Route) -> Failure {
    let uid = caller.peer.uid;
    let user = nix::unistd::User::from_uid(uid.into())
        .ok()
        .flatten()
        .map_or_else(|| uid.to_string(), |user| user.name);
    Failure::new(
        FailureKind::Forbidden,
        format!("user {user} may look, but not give the order `{}`", route.verb),
        "run the command as root, or put the user into `control.writers` and reload",
    )
    .because(Reason::ControlReadOnly)
}
