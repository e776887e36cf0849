//! A request in the operator's words, or as bytes: made into what the gateway judges.

use std::time::SystemTime;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use spinegate_common::Reason;

use super::{Ground, certificate, check, failed, not_given, not_reached, passed, told, usage};
use crate::{
    authz::{self, Described, Verdict},
    control::{Check, DescribedRequest, Explanation, Failure, Outcome, Question},
    gateway::{Breach, Dissected, dissect},
    nrl::{Asid, ErrorTable, Format, Fqdn, InteractionId, OdsCode, Pointer},
};

const FRAMING: &str = "framing";
const BODY_ARRIVAL: &str = "body_arrival";

/// Adds the checks from the certificate on.
pub(super) async fn explain(
    ground: Ground<'_>,
    question: &Question,
    now: SystemTime,
    explanation: &mut Explanation,
) -> Result<(), Failure> {
    let table = ground.policy.settings().errors;
    let parsed = question.fqdn.as_deref().map(Fqdn::parse).transpose();
    let mut fqdn = parsed.map_err(|error| usage(error, "give the name in the client's certificate"))?;
    let of_certificate = match &question.certificate {
        None => certificate::of_name(ground.trust, fqdn.as_ref()),
        Some(given) => {
            let (checks, name) = certificate::judged(ground.trust, &content(given, "certificate")?, now)?;
            fqdn = name.or(fqdn);
            checks
        }
    };
    explanation.checks.extend(of_certificate);

    let (described, arrival) = match (&question.raw, &question.described) {
        (Some(raw), _) => match taken_in(ground, &content(raw, "request")?, explanation).await {
            Ok(taken) => taken,
            Err(breach) => {
                explanation
                    .checks
                    .push(failed(FRAMING, breach.reason, breach.detail.clone()));
                let rest = authz::Check::ALL.map(|check| not_reached(check.as_str()));
                explanation.checks.extend(rest);
                explanation.told = Some(told(table, breach.reason, &breach.told));
                return Ok(());
            }
        },
        (None, Some(request)) => {
            let framing = not_given(FRAMING, "Give the bytes with --request");
            explanation.checks.push(framing);
            match described(ground, request) {
                Ok(described) => {
                    let length = described.body.as_ref().map(Bytes::len);
                    (described, arrived(ground, length))
                }
                Err(Unheard::NoInteraction(id)) => {
                    unknown_interaction(table, &id, explanation);
                    return Ok(());
                }
                Err(Unheard::Malformed(failure)) => return Err(failure),
            }
        }
        (None, None) => {
            return Err(usage(
                "no request is described",
                "give --asid and --interaction, or --request",
            ));
        }
    };
    let custodian = question.custodian.as_deref().map(OdsCode::parse).transpose();
    let described = Described {
        fqdn,
        custodian: custodian.map_err(|error| usage(error, "give the pointer's custodian"))?,
        stored: question.stored.as_deref().map(stored).transpose()?,
        ..described
    };
    let policy = ground.policy;
    add(
        table,
        authz::explain(policy.rules(), ground.registry, &described, now),
        arrival,
        explanation,
    );
    Ok(())
}

/// Adds what authorisation says, and before the body's check whether a body arrives.
fn add(
    table: ErrorTable,
    explained: authz::Explanation,
    arrival: Result<Check, Breach>,
    explanation: &mut Explanation,
) {
    let denial = explained.denial.as_ref();
    explanation.told = denial.map(|denial| told(table, denial.told_reason(), denial.diagnostics()));
    if explained.in_shadow {
        explanation.notes.push(super::SHADOW.to_owned());
    }
    let breached = arrival.is_err();
    let mut arrival = Some(arrival);
    for (made, verdict) in explained.checks {
        let name = made.as_str();
        let unneeded = matches!(verdict, Verdict::NotNeeded { .. });
        if made == authz::Check::Body
            && !unneeded
            && let Some(arrival) = arrival.take()
        {
            let reached = denial
                .and_then(authz::Denial::check)
                .is_none_or(|check| check >= made);
            explanation.checks.push(match arrival {
                Ok(check) => check,
                Err(breach) => {
                    if reached {
                        explanation.told = Some(told(table, breach.reason, &breach.told));
                    }
                    failed(BODY_ARRIVAL, breach.reason, breach.detail)
                }
            });
        }
        let bodiless = breached && !unneeded && made >= authz::Check::Body;
        explanation.checks.push(match verdict {
            _ if bodiless => not_reached(name),
            Verdict::Passed { found } => passed(name, found),
            Verdict::NotReached => not_reached(name),
            Verdict::NotGiven { missing } => not_given(name, missing),
            Verdict::NotNeeded { why } => check(name, Outcome::NotNeeded, None, why),
            Verdict::Failed { denial, hint } => {
                let hint = hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
                let detail = format!("{}{hint}", denial.detail());
                failed(name, denial.reason(), detail)
            }
        });
    }
}

fn unknown_interaction(table: ErrorTable, id: &str, explanation: &mut Explanation) {
    let why = format!("No request to this service performs {id}");
    let mut rest = authz::Check::ALL.into_iter();
    if let Some(first) = rest.next() {
        let checks = &mut explanation.checks;
        checks.push(failed(first.as_str(), Reason::PathUnknown, why.clone()));
        checks.extend(rest.map(|check| not_reached(check.as_str())));
    }
    explanation.told = Some(told(table, Reason::PathUnknown, &why));
}

/// Whether a body of this length is taken.
fn arrived(ground: Ground<'_>, length: Option<usize>) -> Result<Check, Breach> {
    let settings = ground.policy.settings();
    let Some(length) = length else {
        return Ok(not_given(BODY_ARRIVAL, "no body is given"));
    };
    match Breach::too_large(length, settings) {
        Some(breach) => Err(breach),
        None => {
            let found = format!("it has {length} bytes, of at most {}", settings.max_body);
            Ok(passed(BODY_ARRIVAL, found))
        }
    }
}

/// Has the gateway's own reading take a request in.
async fn taken_in(
    ground: Ground<'_>,
    bytes: &[u8],
    explanation: &mut Explanation,
) -> Result<(Described, Result<Check, Breach>), Breach> {
    let Dissected { head, body, further } = dissect(bytes, ground.policy.settings()).await?;
    if further > 0 {
        explanation.notes.push(format!(
            "{further} bytes stand behind the request: on a connection they are the next one, which is not explained here"
        ));
    }
    explanation
        .checks
        .push(passed(FRAMING, "its head keeps every rule"));
    let (body, arrival) = match body {
        Ok(body) => {
            let arrived = arrived(ground, Some(body.len()));
            (body, arrived)
        }
        Err(breach) => (Bytes::new(), Err(breach)),
    };
    let described = Described {
        method: head.method,
        uri: head.uri,
        headers: head.headers,
        whole: true,
        body: Some(body),
        fqdn: None,
        custodian: None,
        stored: None,
    };
    Ok((described, arrival))
}

/// Why a description is none.
enum Unheard {
    /// Its interaction is none of this service.
    NoInteraction(String),
    Malformed(Failure),
}

impl From<Failure> for Unheard {
    fn from(failure: Failure) -> Self {
        Self::Malformed(failure)
    }
}

fn described(ground: Ground<'_>, request: &DescribedRequest) -> Result<Described, Unheard> {
    const MEND: &str = "describe the request as the client would send it";
    let rules = ground.policy.rules();
    let [from, _, declared] = rules.header_names();
    let asid = request.asid.as_deref().map(Asid::parse).transpose();
    let asid = asid.map_err(|error| usage(error, MEND))?;
    let interaction = request
        .interaction
        .as_deref()
        .map(InteractionId::parse)
        .transpose();
    let interaction = interaction.map_err(|error| usage(error, MEND))?;
    let (method, uri) = match (&request.method, &request.path, &interaction) {
        (None, None, None) => {
            return Err(usage(
                "the request has neither an interaction nor a method and a path",
                "give --interaction, or --method and --path",
            )
            .into());
        }
        (None, None, Some(id)) => {
            let performed = id.interaction();
            let line = performed.and_then(|interaction| rules.line_of(interaction));
            line.ok_or_else(|| Unheard::NoInteraction(id.to_string()))?
        }
        (method, path, _) => {
            let method = method.as_deref().unwrap_or("GET");
            let path = path.as_deref().unwrap_or("/");
            let method = Method::from_bytes(method.as_bytes())
                .map_err(|_| usage(format!("{method:?} is no method"), MEND))?;
            let uri = path
                .parse::<Uri>()
                .ok()
                .filter(|uri| uri.path().starts_with('/'))
                .ok_or_else(|| usage(format!("{path:?} is no path"), MEND))?;
            (method, uri)
        }
    };
    let mut headers = HeaderMap::new();
    for (name, value) in &request.headers {
        let parsed = HeaderName::from_bytes(name.as_bytes()).ok();
        let header = parsed.zip(HeaderValue::from_str(value).ok());
        let (name, value) = header
            .ok_or_else(|| usage(format!("{name:?}: {value:?} is no header"), "write it NAME:VALUE"))?;
        headers.append(name, value);
    }
    if let Some(asid) = &asid {
        set(&mut headers, from, asid.as_str());
    }
    if let Some(id) = &interaction {
        set(&mut headers, declared, id.as_str());
    }
    if let Some(token) = &request.token {
        set(&mut headers, "Authorization", &format!("Bearer {}", token.trim()));
    }
    let body = request.body.as_deref().map(|body| content(body, "body"));
    Ok(Described {
        method,
        uri,
        headers,
        whole: false,
        body: body.transpose()?.map(Bytes::from),
        fqdn: None,
        custodian: None,
        stored: None,
    })
}

/// Sets a header. A value that none can have is the client's fault to be told.
fn set(headers: &mut HeaderMap, name: &'static str, value: &str) {
    let value = HeaderValue::from_str(value)
        .unwrap_or_else(|_| HeaderValue::from_static("not a value that a header can have"));
    if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
        headers.insert(name, value);
    }
}

/// The pointers in a file: one, or a search's answer.
fn stored(given: &str) -> Result<Vec<Pointer>, Failure> {
    let text = content(given, "stored pointer")?;
    let format = match text.trim_ascii_start().first() {
        Some(b'<') => Format::Xml,
        _ => Format::Json,
    };
    match Pointer::read(format, &text) {
        Ok(pointer) => Ok(vec![pointer]),
        Err(fault) => Pointer::read_searchset(format, &text)
            .map_err(|_| usage(fault, "give the pointer as the record locator answers it")),
    }
}

fn content(base64: &str, what: &str) -> Result<Vec<u8>, Failure> {
    STANDARD.decode(base64).map_err(|error| {
        usage(
            format!("the {what} is not in base64: {error}"),
            "use the `spinegate` command",
        )
    })
}
