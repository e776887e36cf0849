//! One request: judged stage by stage, forwarded with its permit or answered with an OperationOutcome, and recorded.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime},
};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode,
    header::{self, HeaderName},
    uri::PathAndQuery,
};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use spinegate_common::{Layer, Reason};

use super::{
    Policy,
    connection::Connection,
    load::Share,
    upstream::{AnswerBody, Body, Fetched, Origin, UpstreamError, whole},
};
use crate::{
    audit::{self, Decision, Record},
    authz::{
        self, Action, Admitted, AwaitingStored, AwaitingTarget, ByOwner, Check, Denial, Judged, Leave,
        Permit, Retrieval, Shadowed, Stored, Subject,
    },
    nrl::{Actor, Format, NhsNumber, Outcome, Pointer, PointerId, Refusal, Selector, answer_format},
    registry::Registry,
};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

const DECISION_ID: HeaderName = HeaderName::from_static("x-request-id");
/// How much of a refused request's body is read, and for how long, to keep its connection.
const UNREAD: usize = 64 * 1024;
const UNREAD_TIME: Duration = Duration::from_secs(1);
/// The longest ETag that the audit log takes for a version.
const LONGEST_VERSION: usize = 128;

/// Answers one request. Whatever happens, there is an answer, and a record of it that was written before.
pub(super) async fn answer(
    connection: &Arc<Connection>,
    request: Request<Incoming>,
    now: SystemTime,
) -> Response<Body> {
    let begun = Instant::now();
    let policy = connection.gateway.policy();
    let (head, body) = request.into_parts();
    let format = answer_format(head.uri.query(), &head.headers);
    let mut record = Box::new(connection.record(Decision::Allow));
    let id = record.decision_id.to_string();
    let mut seen = Arc::new(audit::Request::new(
        id.clone(),
        head.method.as_str(),
        head.uri.path(),
    ));

    let mut body = Some(body);
    let mut share = connection.gateway.load.enter(policy.settings.max_requests);
    let mut read = None;
    // One snapshot for all that is decided of a request.
    let registry = connection.gateway.registry.load();
    let permitted = match &mut share {
        Some(share) => {
            let by = (&*policy, &*registry, now);
            match judge(connection, by, &head, (&mut body, &mut read), share).await {
                Err(denial) => {
                    Box::pin(shadowed(
                        connection,
                        by,
                        &head,
                        (&mut body, read),
                        (denial, share),
                    ))
                    .await
                }
                permitted => permitted,
            }
        }
        None => Err(overloaded(Reason::Overloaded, Subject::default())),
    };
    let mut close = false;
    let answered = match permitted {
        Ok(leave) => {
            let origin = Origin {
                request_id: &id,
                peer: connection.peer.ip(),
                client: &connection.client.fqdn().to_string(),
            };
            match policy.upstream.forward(&leave, &head.headers, &origin).await {
                // The version that was judged is no longer the newest, and the client has not asked for that one.
                Ok(answer) if leave.adds_if_match() && answer.status() == StatusCode::PRECONDITION_FAILED => {
                    Err((changed(leave.into_subject()), None))
                }
                Ok(answer) => {
                    if let Some(denial) = leave.denial() {
                        note_shadow(connection, &mut record, denial);
                    }
                    let subject = leave.into_subject();
                    let about = Arc::make_mut(&mut seen);
                    describe(about, &subject);
                    about.version = version(answer.headers());
                    about.status = Some(answer.status().as_u16());
                    // For the case that its answer breaks off.
                    let seen = Arc::clone(&seen);
                    Ok((answer.map(|body| watched(connection, body, seen)), subject))
                }
                Err(error) => {
                    let denial = unavailable(&error, leave.into_subject());
                    Err((denial, Some(error.detail)))
                }
            }
        }
        Err(denial) => {
            // Its certificate is void, or its framing can't be trusted: nothing more is read from this connection.
            close = matches!(denial.reason().layer(), Layer::Certificate)
                || matches!(
                    denial.reason(),
                    Reason::BodyTooLarge
                        | Reason::BodyTimeout
                        | Reason::BodyIdle
                        | Reason::RequestMalformed
                        | Reason::FramingAmbiguous
                )
                || !is_read_off(body, head.headers.contains_key(header::EXPECT)).await;
            Err((denial, None))
        }
    };
    let (mut answer, subject, told) = match answered {
        Ok((answer, subject)) => (answer, subject, None),
        Err((denial, detail)) => {
            let detail = detail.unwrap_or_else(|| denial.detail().to_owned());
            let told = note_refusal(connection, &mut record, &denial, detail);
            let answer = outcome(&denial, &policy, format, &id);
            let subject = denial.into_subject();
            let about = Arc::make_mut(&mut seen);
            describe(about, &subject);
            about.status = Some(answer.status().as_u16());
            (answer, subject, Some(told))
        }
    };

    record.request = Some(seen);
    record.duration = Some(begun.elapsed());
    if !connection.gateway.is_recorded(&record).await {
        answer = unrecorded(format, &id);
    }
    match record.reason {
        None => connection.gateway.counters.request_allowed(),
        Some(reason) if record.decision == Decision::Shadow => {
            connection.gateway.counters.request_shadowed(reason);
        }
        Some(reason) => connection.gateway.counters.request_refused(reason),
    }
    if let Some(action) = subject.action {
        let refused = record.decision == Decision::Refuse;
        connection.gateway.counters.action_decided(action, refused);
    }
    // What is hidden from a client must not weigh otherwise than what it is told.
    if let Some(told) = told {
        connection.gateway.strike(connection.peer, told);
    }
    let served = connection.requests.fetch_add(1, Ordering::Relaxed) + 1;
    if served == policy.settings.requests_per_connection && !close {
        connection
            .gateway
            .record_retired(connection, Reason::ConnectionRequests);
        connection.drain.cancel();
    }
    finish(&mut answer, &id, close || connection.drain.is_cancelled());
    match share {
        Some(share) => answer.map(|body| share.until_sent(body)),
        None => answer,
    }
}

/// What a request is judged by.
type By<'r> = (&'r Policy, &'r Registry, SystemTime);

/// All checks in their order, with what each stage waits for fetched in between. What few requests need is boxed, so that all
/// others do without its room.
async fn judge(
    connection: &Connection,
    (policy, registry, now): By<'_>,
    head: &http::request::Parts,
    (body, read): (&mut Option<Incoming>, &mut Option<Bytes>),
    share: &mut Share,
) -> Result<Leave, Denial> {
    // The certificate may have expired or been revoked since the handshake (R10, R11).
    if let Err(refusal) = connection
        .gateway
        .acceptor
        .trust()
        .recheck(&connection.client, now)
    {
        return Err(Denial::new(
            Refusal::new(refusal.reason, refusal.reason.meaning()),
            Subject::default(),
        ));
    }
    let (rules, requester) = (&policy.rules, (&connection.client).into());
    if let Some(provider) = &rules.provider {
        let line = (&head.method, &head.uri, &head.headers);
        let retrieval = Retrieval::admit((rules, provider), registry, &requester, line, now)?;
        take_share(connection, policy, share, retrieval.subject())?;
        return Ok(Leave::Retrieval(retrieval));
    }
    let admitted = authz::admit(
        rules,
        registry,
        &requester,
        &head.method,
        &head.uri,
        &head.headers,
        now,
    )?;
    let subject = match &admitted {
        Admitted::Permitted(permit) => permit.subject(),
        Admitted::NeedsBody(awaiting) => awaiting.subject(),
        Admitted::NeedsStored(awaiting) => awaiting.subject(),
    };
    take_share(connection, policy, share, subject)?;
    let permit = match admitted {
        Admitted::Permitted(permit) => Ok(permit),
        Admitted::NeedsBody(awaiting) => {
            let body = match body.take() {
                Some(body) => Box::pin(read_body(connection, policy, body, awaiting.subject())).await?,
                None => Bytes::new(),
            };
            *read = Some(body.clone());
            match awaiting.judge_body(body)? {
                Judged::Permitted(permit) => Ok(permit),
                Judged::NeedsStored(awaiting) => Box::pin(judge_stored(policy, awaiting, now)).await,
                Judged::NeedsTarget(awaiting) => Box::pin(judge_target(policy, awaiting, now)).await,
            }
        }
        Admitted::NeedsStored(awaiting) => Box::pin(judge_stored(policy, awaiting, now)).await,
    };
    permit.map(Leave::Permit)
}

/// Counts a request for its client, if that may have one more under way.
fn take_share(
    connection: &Connection,
    policy: &Policy,
    share: &mut Share,
    subject: &Subject,
) -> Result<(), Denial> {
    let Some(asid) = subject.asid else { return Ok(()) };
    let client = (asid, connection.client.fqdn().clone());
    if share.of(client, policy.settings.max_requests_per_client) {
        return Ok(());
    }
    Err(overloaded(Reason::ClientOverloaded, subject.clone()))
}

/// Leave for a refused request that is in shadow; else what refused it. `read` is its body, where that was read already.
async fn shadowed(
    connection: &Connection,
    (policy, registry, now): By<'_>,
    head: &http::request::Parts,
    (body, read): (&mut Option<Incoming>, Option<Bytes>),
    (denial, share): (Denial, &mut Share),
) -> Result<Leave, Denial> {
    let shadow = &policy.rules.shadow;
    if !shadow.covers((registry, now), &denial) {
        return Err(denial);
    }
    if !share.is_counted() {
        take_share(connection, policy, share, denial.subject())?;
    }
    let whole = match (read, body.take()) {
        (Some(read), _) => read,
        (None, Some(body)) => read_body(connection, policy, body, denial.subject()).await?,
        (None, None) => Bytes::new(),
    };
    let line = (&head.method, &head.uri, &head.headers);
    Shadowed::of((shadow, registry, now), denial, line, whole).map(Leave::Shadowed)
}

/// Asks for the body: with the first poll of it hyper sends 100 Continue to a client that waits for that.
async fn read_body(
    connection: &Connection,
    policy: &Policy,
    body: Incoming,
    subject: &Subject,
) -> Result<Bytes, Denial> {
    let limit = policy.settings.max_body;
    let refuse = |reason, text: String| Denial::new(Refusal::new(reason, text), subject.clone());
    let too_large = || {
        refuse(
            Reason::BodyTooLarge,
            format!("The body is larger than {limit} bytes"),
        )
    };
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let idle = policy.settings.body_idle_timeout;
    let reading = collect(Limited::new(body, limit), idle);
    match tokio::time::timeout(policy.settings.body_timeout, reading).await {
        Ok(Ok(Some(body))) => Ok(body),
        Ok(Ok(None)) => Err(refuse(
            Reason::BodyIdle,
            format!(
                "Nothing of the body came for {}",
                humantime::format_duration(idle)
            ),
        )),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(match connection.fault.take() {
            Some(violation) => refuse(violation.rule.reason(), violation.told()),
            None => refuse(Reason::RequestMalformed, format!("The body broke off: {error}")),
        }),
        Err(_) => Err(refuse(
            Reason::BodyTimeout,
            "The body did not arrive in time".to_owned(),
        )),
    }
}

/// Reads a body to its end; none if nothing of it came for `idle`.
async fn collect(mut body: Limited<Incoming>, idle: Duration) -> Result<Option<Bytes>, BoxError> {
    let mut whole = BytesMut::new();
    loop {
        match tokio::time::timeout(idle, body.frame()).await {
            Err(_) => return Ok(None),
            Ok(None) => return Ok(Some(whole.freeze())),
            Ok(Some(frame)) => {
                if let Ok(data) = frame?.into_data() {
                    whole.extend_from_slice(&data);
                }
            }
        }
    }
}

fn overloaded(reason: Reason, subject: Subject) -> Denial {
    Denial::new(Refusal::new(reason, reason.meaning()), subject)
}

/// Whether the connection is at the end of a refused request, so that another can follow: what is small, and on its way in
/// any case, is read.
async fn is_read_off(body: Option<Incoming>, expects: bool) -> bool {
    let Some(body) = body.filter(|body| !body.is_end_stream()) else {
        return true;
    };
    if expects {
        // The client may send its body all the same, or go on with another request: nothing tells which.
        return false;
    }
    let reading = Limited::new(body, UNREAD).collect();
    matches!(tokio::time::timeout(UNREAD_TIME, reading).await, Ok(Ok(_)))
}

async fn judge_stored(policy: &Policy, awaiting: AwaitingStored, now: SystemTime) -> Result<Permit, Denial> {
    let known = match awaiting.selector() {
        Selector::Id(id) => policy.owners.of(id, Instant::now()),
        Selector::Identifier { .. } => None,
    };
    let awaiting = match known {
        None => awaiting,
        Some(custodian) => match awaiting.judge_owner(&custodian)? {
            ByOwner::Permitted(permit) => return Ok(permit),
            ByOwner::NeedsStored(awaiting) => awaiting,
        },
    };
    let stored = match awaiting.selector() {
        Selector::Id(id) => fetch_pointer(policy, id, now).await,
        Selector::Identifier { subject, .. } => fetch_pointers_of(policy, subject, now).await,
    };
    match stored {
        Ok(stored) => awaiting.judge_stored(&stored),
        Err(error) => Err(unavailable(&error, awaiting.subject().clone())),
    }
}

async fn judge_target(policy: &Policy, awaiting: AwaitingTarget, now: SystemTime) -> Result<Permit, Denial> {
    let candidates = match awaiting.target().id() {
        Some(id) => fetch_pointer(policy, id, now).await,
        None => fetch_pointers_of(policy, awaiting.patient(), now).await,
    };
    match candidates {
        Ok(candidates) => awaiting.judge_target(&candidates),
        Err(error) => Err(unavailable(&error, awaiting.subject().clone())),
    }
}

async fn fetch_pointer(policy: &Policy, id: &PointerId, now: SystemTime) -> Result<Stored, UpstreamError> {
    let path = format!("{}/{id}", policy.rules.pointers_path());
    let (format, body, version) = match fetch(policy, path, now).await? {
        Fetched::Absent => return Ok(Stored::Pointers(Vec::new())),
        Fetched::NotCurrent => return Ok(Stored::NotCurrent),
        Fetched::Found(format, body, version) => (format, body, version),
    };
    let mut pointer = Pointer::read(format, &body).map_err(|error| invalid(&error))?;
    // What ETag says is what If-Match is compared with.
    pointer.version = version.or(pointer.version);
    if pointer.id.as_ref() == Some(id) {
        policy.owners.learn(&pointer, Instant::now());
    }
    Ok(Stored::Pointers(vec![pointer]))
}

async fn fetch_pointers_of(
    policy: &Policy,
    patient: &NhsNumber,
    now: SystemTime,
) -> Result<Stored, UpstreamError> {
    // The number is digits alone, so this is the encoded form of the reference.
    const PATIENT: &str = "https%3A%2F%2Fdemographics.spineservices.nhs.uk%2FSTU3%2FPatient%2F";
    let pointers = policy.rules.pointers_path();
    let path = format!("{pointers}?subject={PATIENT}{}", patient.as_str());
    let pointers = match fetch(policy, path, now).await? {
        Fetched::Absent => Vec::new(),
        Fetched::NotCurrent => {
            return Err(invalid(
                &"the search of a patient's pointers was answered with BAD_REQUEST",
            ));
        }
        Fetched::Found(format, body, _) => {
            Pointer::read_searchset(format, &body).map_err(|error| invalid(&error))?
        }
    };
    Ok(Stored::Pointers(pointers))
}

async fn fetch(policy: &Policy, path: String, now: SystemTime) -> Result<Fetched, UpstreamError> {
    let target = PathAndQuery::try_from(path).map_err(|error| invalid(&error))?;
    policy.upstream.fetch(target, now).await
}

/// Another request has changed the pointer between its check and this one's arrival.
fn changed(subject: Subject) -> Denial {
    let reason = Reason::PointerChanged;
    Denial::new(Refusal::new(reason, reason.meaning()), subject)
}

fn invalid(error: &dyn std::fmt::Display) -> UpstreamError {
    UpstreamError::new(Reason::UpstreamInvalid, error.to_string())
}

/// A body whose breaking off is recorded: the client's connection ends with it, so that it does not look whole.
fn watched(connection: &Arc<Connection>, body: AnswerBody, request: Arc<audit::Request>) -> Body {
    let connection = Arc::clone(connection);
    body.reporting(move |error| {
        connection
            .gateway
            .record_broken_answer(&connection, request, error)
    })
    .boxed_unsync()
}

/// The client learns that the service failed, and nothing of how.
fn unavailable(error: &UpstreamError, subject: Subject) -> Denial {
    tracing::warn!(
        reason = error.reason.as_str(),
        detail = error.detail,
        "the upstream failed"
    );
    Denial::new(Refusal::new(error.reason, error.reason.meaning()), subject)
}

/// Gives the reason that the client is told.
fn note_refusal(connection: &Connection, record: &mut Record, denial: &Denial, detail: String) -> Reason {
    let reason = denial.reason();
    record.refuse(reason);
    match denial.check() {
        Some(check) => record.check = Some(check.as_str()),
        // The head is in order: what is wrong with the request's form is wrong with its body.
        None if denial.subject().passed.contains(Check::TokenAsid) && reason.layer() == Layer::Request => {
            record.check = Some("body_arrival");
        }
        None => {}
    }
    record.detail = Some(detail);
    tracing::debug!(peer = %connection.peer, reason = reason.as_str(), "request refused");
    denial.told_reason()
}

/// A request in shadow goes on: no refusal, and no strike.
fn note_shadow(connection: &Connection, record: &mut Record, denial: &Denial) {
    record.decision = Decision::Shadow;
    record.reason = Some(denial.reason());
    record.check = Some(denial.check().unwrap_or(Check::Ownership).as_str());
    record.detail = Some(denial.detail().to_owned());
    tracing::debug!(peer = %connection.peer, reason = denial.reason().as_str(), "request in shadow");
}

fn outcome(denial: &Denial, policy: &Policy, format: Format, id: &str) -> Response<Body> {
    let outcome = denial.outcome(policy.settings.errors);
    let mut answer = resource(&outcome, format, id, denial.diagnostics());
    if let Some((name, value)) = denial.header(outcome.status) {
        answer.headers_mut().insert(name, value);
    }
    answer
}

/// The audit log could not take the decision: what it allowed is not answered for.
fn unrecorded(format: Format, id: &str) -> Response<Body> {
    let outcome = Outcome::of(Reason::AuditFailed);
    resource(&outcome, format, id, Reason::AuditFailed.meaning())
}

fn resource(outcome: &Outcome, format: Format, id: &str, diagnostics: &str) -> Response<Body> {
    let mut answer = Response::new(whole(outcome.render(format, id, diagnostics)));
    *answer.status_mut() = outcome.status;
    answer.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(format.content_type()),
    );
    answer
}

fn finish(answer: &mut Response<Body>, id: &str, close: bool) {
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(DECISION_ID, id);
    }
    if close {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

fn describe(seen: &mut audit::Request, subject: &Subject) {
    if let Some(trace) = &subject.trace {
        trace.as_str().clone_into(&mut seen.id);
    }
    seen.user = subject.claims.as_ref().map(|claims| user(&claims.actor));
    seen.asid = subject.asid.map(|asid| asid.to_string());
    // Where the registry was not asked, the token says it.
    let claimed = subject.claims.as_ref().map(|claims| &claims.ods);
    let claimed = claimed.filter(|_| subject.trace.is_some());
    seen.ods = subject.ods.as_ref().or(claimed).map(ToString::to_string);
    seen.action = subject.action.map(Action::as_str);
    seen.pointer = subject.pointer.as_ref().map(ToString::to_string);
    seen.custodian = subject.custodian.as_ref().map(ToString::to_string);
    seen.interaction = subject
        .interaction_id
        .as_ref()
        .map(ToString::to_string)
        .or_else(|| {
            subject
                .interaction
                .map(|interaction| interaction.as_str().to_owned())
        });
}

/// On whose behalf, as the token says. A citizen is not named: the number would identify a patient.
fn user(actor: &Actor) -> String {
    match actor {
        Actor::User(role_profile) => role_profile.clone(),
        Actor::Patient(_) => "citizen".to_owned(),
        Actor::Unattended => "unattended".to_owned(),
    }
}

/// The version of the record, as its service names it.
fn version(headers: &HeaderMap) -> Option<String> {
    let tag = headers.get(header::ETAG)?.to_str().ok()?;
    (tag.len() <= LONGEST_VERSION).then(|| tag.to_owned())
}
