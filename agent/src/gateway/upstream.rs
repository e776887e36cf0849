//! The guarded service: forwarding what was permitted, and fetching stored pointers for ownership checks.

mod address;
mod answer;
mod body;
mod connection;
mod error;
mod health;
mod member;
mod probe;
mod wire;

use std::{
    convert::Infallible,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response,
    header::{self, HeaderName},
    uri::PathAndQuery,
};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited, combinators::UnsyncBoxBody};
use spinegate_common::Reason;
use tokio::time::Instant;

use self::{
    address::Address,
    connection::Connection,
    health::State,
    member::{Lease, Member, Settings},
};
pub(super) use self::{body::AnswerBody, error::UpstreamError};
use crate::{
    authz::{Leave, Subject},
    config,
    control::UpstreamStatus,
    metrics::UpstreamObserved,
    nrl::{Asid, EntityTag, Format, Interaction, OdsCode, Refusal, body_format, spine_codes, unattended},
    tls::Connector,
};

/// A body on its way to a client.
pub(super) type Body = UnsyncBoxBody<Bytes, UpstreamError>;

/// What of a client's head goes upstream. Everything else, framing and hop-by-hop headers with it, ends here.
static FORWARDED: [HeaderName; 5] = [
    header::ACCEPT,
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    HeaderName::from_static("fromasid"),
    HeaderName::from_static("toasid"),
];

/// The same to a provider: the Secure Proxy's headers reach it as they came.
static FORWARDED_TO_PROVIDER: [HeaderName; 6] = [
    header::ACCEPT,
    header::AUTHORIZATION,
    HeaderName::from_static("ssp-from"),
    HeaderName::from_static("ssp-interactionid"),
    HeaderName::from_static("ssp-to"),
    HeaderName::from_static("ssp-traceid"),
];

/// What of that there can be, with the gateway's own and the host.
const MOST_HEADERS: usize = 16;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const ASID: HeaderName = HeaderName::from_static("x-spinegate-asid");
const ODS: HeaderName = HeaderName::from_static("x-spinegate-ods");
const INTERACTION: HeaderName = HeaderName::from_static("x-spinegate-interaction");
const CLIENT_FQDN: HeaderName = HeaderName::from_static("x-spinegate-client-fqdn");

/// The guarded service: its upstreams, which all hold the same.
pub(super) struct Upstream {
    members: Vec<Arc<Member>>,
    connector: Option<Connector>,
    connect_timeout: Duration,
    timeout: Duration,
    idle_timeout: Duration,
    largest_answer: usize,
    own: Own,
    health: config::Health,
    probes: probe::Clock,
}

/// Where a permitted request comes from, besides what its permit says.
pub(super) struct Origin<'r> {
    pub(super) request_id: &'r str,
    pub(super) peer: IpAddr,
    /// The name in the client's certificate.
    pub(super) client: &'r str,
}

/// Who the gateway is when it asks for itself.
struct Own {
    asid: Asid,
    /// Where it is known, requests have a JWT.
    ods: Option<OdsCode>,
    /// What the JWT is made for: the first upstream.
    audience: String,
}

/// A stored resource as the guarded service answers for it.
pub(super) enum Fetched {
    /// With its ETag.
    Found(Format, Bytes, Option<EntityTag>),
    Absent,
    NotCurrent,
}

/// A request that ended without an answer, and whether it may be made again.
struct Failure {
    error: UpstreamError,
    again: Again,
}

/// Whether a request may be made again, once.
enum Again {
    /// By another upstream: none of it has gone out.
    Elsewhere(Arc<Member>),
    /// Over a new connection: the kept one was closed by the other end.
    Anew,
    No,
}

impl Upstream {
    /// The upstreams of the configuration; none where one of them has no host.
    pub(super) fn new(config: &config::Gateway, connector: Option<Connector>) -> Option<Self> {
        let settings = Settings {
            health: config.health.clone(),
            max_requests: config.upstream_max_requests,
            max_idle: config.upstream_max_idle,
            keep_alive: config.upstream_keep_alive,
        };
        let members = config.upstreams.iter().map(|uri| {
            let address = Address::of(uri)?;
            Some(Arc::new(Member::new(address, settings.clone())))
        });
        Some(Self {
            members: members.collect::<Option<_>>()?,
            connector,
            connect_timeout: config.connect_timeout,
            timeout: config.upstream_timeout,
            idle_timeout: config.upstream_idle_timeout,
            largest_answer: config.max_body,
            own: Own {
                asid: config.asid,
                ods: config.ods.clone(),
                audience: config.upstreams.first().map_or_else(String::new, |uri| {
                    format!("{}{}", uri.to_string().trim_end_matches('/'), config.base_path)
                }),
            },
            health: config.health.clone(),
            probes: probe::Clock::default(),
        })
    }

    /// Sends a permitted request on, as it was judged. The head is built anew: only [`FORWARDED`] headers of the
    /// client's survive, and who it is stands in headers of the gateway's own.
    pub(super) async fn forward(
        &self,
        leave: &Leave,
        headers: &HeaderMap,
        origin: &Origin<'_>,
    ) -> Result<Response<AnswerBody>, UpstreamError> {
        let request = || forwarded(leave, headers, origin);
        let mut answer = self.exchange(request, Instant::now() + self.timeout).await?;
        answer::clean(answer.headers_mut());
        Ok(answer)
    }

    /// Fetches a resource under the gateway's own ASID.
    pub(super) async fn fetch(
        &self,
        target: PathAndQuery,
        now: SystemTime,
    ) -> Result<Fetched, UpstreamError> {
        let deadline = Instant::now() + self.timeout;
        let answer = self
            .exchange(|| Ok(self.own.request(&target, now)), deadline)
            .await?;
        let status = answer.status();
        let format = stored_format(answer.headers());
        let version = EntityTag::of_answer(answer.headers());
        let reading = Limited::new(answer.into_body(), self.largest_answer).collect();
        let Ok(body) = tokio::time::timeout_at(deadline, reading).await else {
            return Err(self.timed_out());
        };
        let body = body.map_err(|error| match error.downcast::<UpstreamError>() {
            Ok(error) => *error,
            Err(error) => UpstreamError::new(
                Reason::UpstreamInvalid,
                if error.is::<LengthLimitError>() {
                    format!("the stored pointer is larger than {} bytes", self.largest_answer)
                } else {
                    error.to_string()
                },
            ),
        })?;
        let body = body.to_bytes();
        let codes = || {
            let format = format.as_ref().ok().copied();
            format.map_or_else(Vec::new, |format| spine_codes(format, &body))
        };
        match status.as_u16() {
            200 => match format {
                Ok(format) => Ok(Fetched::Found(format, body, version)),
                Err(refusal) => Err(UpstreamError::new(
                    Reason::UpstreamInvalid,
                    format!("the stored pointer can't be read: {}", refusal.diagnostics()),
                )),
            },
            404 | 410 => Ok(Fetched::Absent),
            // NRL "Read" page: a pointer that is not current. Every other 400 finds fault with the gateway's request.
            400 if codes().iter().any(|code| code == "BAD_REQUEST") => Ok(Fetched::NotCurrent),
            other => Err(UpstreamError::new(
                Reason::UpstreamInvalid,
                format!(
                    "the stored pointer was answered with status {other} {}",
                    codes().join(" ")
                ),
            )),
        }
    }

    /// How each upstream is.
    pub(super) fn status(&self) -> Vec<UpstreamStatus> {
        let now = std::time::Instant::now();
        let status = |member: &Arc<Member>| {
            let health = member.health();
            let state = health.state(now);
            UpstreamStatus {
                address: member.address.to_string(),
                state: state.as_str().to_owned(),
                ejected_seconds: match state {
                    State::Ejected(left) => Some(left.as_secs().saturating_add(1)),
                    State::Up | State::Trial | State::Down => None,
                },
                outstanding: member.outstanding(),
                idle: member.idle(),
                answered: member.answered(),
                failures: health.all_failures(),
                ejections: health.all_ejections(),
                last_error: health.last_error().map(ToOwned::to_owned),
            }
        };
        self.members.iter().map(status).collect()
    }

    /// The same, with how long each took to answer.
    pub(super) fn observe(&self) -> Vec<UpstreamObserved> {
        let latencies = self.members.iter().map(|member| member.latency.clone());
        let observed = self.status().into_iter().zip(latencies);
        observed
            .map(|(status, latency)| UpstreamObserved { status, latency })
            .collect()
    }

    /// Makes a request, and once more where that can do no harm: it is built anew then, as few ever are made twice.
    async fn exchange(
        &self,
        request: impl Fn() -> Result<Request<Full<Bytes>>, UpstreamError>,
        deadline: Instant,
    ) -> Result<Response<AnswerBody>, UpstreamError> {
        let lease = self.choose(None)?;
        let failure = match self.attempt(lease, request()?, deadline, false).await {
            Ok(answer) => return Ok(answer),
            Err(failure) => failure,
        };
        let second = match &failure.again {
            Again::No => return Err(failure.error),
            Again::Elsewhere(_) if self.members.len() == 1 => return Err(failure.error),
            Again::Elsewhere(member) => self.choose(Some(member)),
            Again::Anew => self.choose(None),
        };
        let lease = second.map_err(|_| failure.error.clone())?;
        tracing::debug!(error = %failure.error, upstream = %lease.member.address, "a request is made again");
        let again = self.attempt(lease, request()?, deadline, true).await;
        again.map_err(|second| second.error)
    }

    async fn attempt(
        &self,
        lease: Lease,
        mut request: Request<Full<Bytes>>,
        deadline: Instant,
        fresh: bool,
    ) -> Result<Response<AnswerBody>, Failure> {
        let (member, began) = (Arc::clone(&lease.member), Instant::now());
        let repeatable = request.method() == Method::GET;
        let fail = |error: UpstreamError, again| {
            member.failed(&error);
            Failure { error, again }
        };
        let kept = if fresh { None } else { member.take() };
        let mut connection = match kept {
            Some(connection) => connection,
            None => {
                let (address, connector) = (&member.address, self.connector.as_ref());
                Connection::open(address, connector, self.connect_timeout, deadline)
                    .await
                    .map_err(|error| fail(error, Again::Elsewhere(Arc::clone(&member))))?
            }
        };
        request
            .headers_mut()
            .insert(header::HOST, member.address.field().clone());
        let answer = match connection.send(request, deadline).await {
            Ok(answer) => answer,
            Err(unanswered) if unanswered.stale => {
                // Closing a kept connection is the other end's right, and no failure of its.
                member.forget();
                return Err(Failure {
                    again: if unanswered.unsent || repeatable {
                        Again::Anew
                    } else {
                        Again::No
                    },
                    error: unanswered.error,
                });
            }
            Err(unanswered) => {
                let again = if unanswered.unsent {
                    Again::Elsewhere(Arc::clone(&member))
                } else {
                    Again::No
                };
                let error = if unanswered.error.reason == Reason::UpstreamTimeout {
                    self.timed_out()
                } else {
                    unanswered.error
                };
                return Err(fail(error, again));
            }
        };
        member.latency.observe(began.elapsed().as_secs_f64());
        let (head, body) = answer.into_parts();
        if let Some(fault) = answer::fault(&head) {
            return Err(fail(fault, Again::No));
        }
        let sound = !answer::is_failure(head.status);
        if !sound {
            member.failed(&format_args!("answered with status {}", head.status.as_u16()));
        }
        let body = AnswerBody::new(body, connection, lease, sound, self.idle_timeout);
        Ok(Response::from_parts(head, body))
    }

    /// The upstream with the least requests under way, of those that are given any; of several the dice choose. When none is
    /// given any, that which failed the longest ago: a guess is better than no service.
    fn choose(&self, except: Option<&Arc<Member>>) -> Result<Lease, UpstreamError> {
        let now = std::time::Instant::now();
        let candidates: Vec<_> = self
            .members
            .iter()
            .filter(|member| except.is_none_or(|except| !Arc::ptr_eq(member, except)))
            .collect();
        let mut eligible: Vec<_> = candidates
            .iter()
            .filter(|member| member.is_eligible(now))
            .map(|member| (member.outstanding(), fastrand::u32(..), *member))
            .collect();
        if eligible.is_empty() {
            let last = candidates.iter().min_by_key(|member| member.health().failed_at());
            return last
                .and_then(|member| member.lease())
                .ok_or_else(|| self.overloaded());
        }
        eligible.sort_unstable_by_key(|(outstanding, roll, _)| (*outstanding, *roll));
        eligible
            .iter()
            .find_map(|(.., member)| member.lease())
            .ok_or_else(|| self.overloaded())
    }

    fn timed_out(&self) -> UpstreamError {
        UpstreamError::new(
            Reason::UpstreamTimeout,
            format!("no answer within {}", humantime::format_duration(self.timeout)),
        )
    }

    fn overloaded(&self) -> UpstreamError {
        let under_way: usize = self.members.iter().map(|member| member.outstanding()).sum();
        UpstreamError::new(
            Reason::UpstreamOverloaded,
            format!("{under_way} requests are under way"),
        )
    }
}

/// The format of a stored resource: JSON was asked for, so that is what it is where nothing else is said.
fn stored_format(headers: &HeaderMap) -> Result<Format, Refusal> {
    if headers.contains_key(header::CONTENT_TYPE) || headers.contains_key(header::CONTENT_ENCODING) {
        body_format(headers)
    } else {
        Ok(Format::Json)
    }
}

impl Own {
    /// A request for a resource, under the gateway's own ASID.
    fn request(&self, target: &PathAndQuery, now: SystemTime) -> Request<Full<Bytes>> {
        let mut request = request(Method::GET, target.clone(), Bytes::new());
        let headers = request.headers_mut();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/fhir+json"));
        if let Ok(asid) = HeaderValue::from_str(self.asid.as_str()) {
            headers.insert("fromasid", asid.clone());
            headers.insert("toasid", asid);
        }
        if let Some(ods) = &self.ods {
            let token = unattended(&self.asid, ods, &self.audience, now);
            if let Ok(bearer) = HeaderValue::try_from(format!("Bearer {token}")) {
                headers.insert(header::AUTHORIZATION, bearer);
            }
        }
        request
    }
}

fn request(method: Method, target: PathAndQuery, body: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = target.into();
    request.headers_mut().reserve(MOST_HEADERS);
    request
}

/// A permitted request as it goes on: the headers that may, and those that say who sent it.
fn forwarded(
    leave: &Leave,
    headers: &HeaderMap,
    origin: &Origin<'_>,
) -> Result<Request<Full<Bytes>>, UpstreamError> {
    let mut request = request(
        leave.method().clone(),
        leave.path_and_query().clone(),
        leave.body(),
    );
    let forwarded: &[HeaderName] = match leave.subject().interaction {
        Some(Interaction::Retrieve) => &FORWARDED_TO_PROVIDER,
        _ => &FORWARDED,
    };
    for name in forwarded {
        if let Some(value) = headers.get(name) {
            request.headers_mut().insert(name.clone(), value.clone());
        }
    }
    if let Some(version) = leave.if_match() {
        request.headers_mut().insert(header::IF_MATCH, version);
    }
    for (name, value) in identity(leave, origin) {
        let value = HeaderValue::try_from(value).map_err(|error| {
            let detail = format!("{name}: {error}");
            UpstreamError::new(Reason::UpstreamInvalid, detail)
        })?;
        request.headers_mut().insert(name, value);
    }
    Ok(request)
}

/// Who sent a request, as the checks have proven it: of one that failed a check, its certificate alone.
fn identity(leave: &Leave, origin: &Origin<'_>) -> Vec<(HeaderName, String)> {
    let unproven = Subject::default();
    let subject = match leave.denial() {
        None => leave.subject(),
        Some(_) => &unproven,
    };
    let peer = origin.peer.to_canonical();
    // RFC 7239 section 6: an IPv6 address stands in brackets and quotes.
    let node = match peer {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("\"[{address}]\""),
    };
    let proven = [
        (ASID, subject.asid.map(|asid| asid.to_string())),
        (ODS, subject.ods.as_ref().map(ToString::to_string)),
        (
            INTERACTION,
            subject.interaction_id.as_ref().map(ToString::to_string),
        ),
    ];
    let mut headers = vec![
        (REQUEST_ID, origin.request_id.to_owned()),
        (FORWARDED_FOR, peer.to_string()),
        (header::FORWARDED, format!("for={node};proto=https")),
        (CLIENT_FQDN, origin.client.to_owned()),
    ];
    headers.extend(
        proven
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    headers
}

/// A body of known bytes.
pub(super) fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never: Infallible| match never {})
        .boxed_unsync()
}

#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
