//! A decision that was made: its line in the audit log, read again in the light of what is in force now.

use std::{
    fs::File,
    io::{self, BufReader},
    ops::ControlFlow,
    path::Path,
    time::SystemTime,
};

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value, json};
use spinegate_common::{Layer, Reason};

use super::{Ground, failed, not_reached, passed, told};
use crate::{
    audit::{self, Query},
    authz::{self, Check, Described, Verdict},
    control::{self, Decision, ErrorReport, Explanation, Failure, FailureKind, PastDecision, Told},
    nrl::{Asid, ErrorTable, Fqdn, Interaction, InteractionId, OdsCode},
    tls::Rule,
};

/// What stands before authorisation's checks, in the order in which it is judged.
const BEFORE: [&str; 4] = [
    "tls_version",
    "tls_suite",
    "tls_extensions",
    "certificate_present",
];
/// The checks on which the registry and nothing else decides.
const OF_REGISTRY: [Check; 4] = [
    Check::AsidKnown,
    Check::AsidActive,
    Check::CertificateName,
    Check::Interaction,
];

/// A decision's record, and where it was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// `audit log` or `memory`.
    pub place: &'static str,
    /// The record.
    pub record: Map<String, Value>,
}

impl Found {
    /// A refusal that the agent remembers, in the audit log's form.
    #[must_use]
    pub fn remembered(report: &ErrorReport) -> Option<Self> {
        let (method, path) = report
            .request
            .as_deref()
            .unwrap_or_default()
            .split_once(' ')
            .unzip();
        let source = report.source;
        let record = json!({
            "ts": report.time,
            "event": report.event,
            "decision": "refuse",
            "reason": report.reason,
            "side": report.side,
            "check": report.check,
            "decision_id": report.decision_id,
            "peer": source.map(|peer| json!({"ip": peer.ip(), "port": peer.port()})),
            "certificate": {"fqdn": report.fqdn},
            "request": {
                "method": method,
                "path": path,
                "interaction": report.interaction,
                "asid": report.asid,
                "ods": report.ods,
                "custodian": report.custodian,
                "status": report.status,
            },
            "detail": report.detail,
            "position": report.position,
        });
        match record {
            Value::Object(record) => Some(Self {
                place: "memory",
                record,
            }),
            _ => None,
        }
    }
}

/// Looks a decision up in an audit log, by its id or else by that of the request.
///
/// # Errors
/// If the log can't be read.
pub fn find(path: &Path, id: &str) -> Result<Option<Found>, Failure> {
    let by_decision = Query {
        decision: Some(id.to_owned()),
        ..Query::default()
    };
    let by_request = Query {
        trace: Some(id.to_owned()),
        ..Query::default()
    };
    let mut found = None;
    let searched = File::open(path).and_then(|file| {
        audit::search(BufReader::new(file), &Query::default(), |line| {
            let is_decision = by_decision.wants(line);
            let is_wanted = is_decision || (found.is_none() && by_request.wants(line));
            if is_wanted && let Value::Object(record) = line.clone() {
                let place = "audit log";
                found = Some(Found { place, record });
                if is_decision {
                    return Ok::<_, io::Error>(ControlFlow::Break(()));
                }
            }
            Ok(ControlFlow::Continue(()))
        })
    });
    match searched {
        Ok(_) => Ok(found),
        Err(error) => Err(Failure::new(
            FailureKind::Refused,
            format!("the audit log {}: {error}", path.display()),
            "run the command as one who may read it, or name it in `audit.file`",
        )),
    }
}

/// Explains a record.
pub(super) fn explain(ground: Ground<'_>, found: Found) -> PastDecision {
    let facts = Facts::of(&found.record);
    let explanation = explanation(ground.policy.settings().errors, &facts);
    let (now, now_because) = now(ground, &facts);
    PastDecision {
        found_in: found.place.to_owned(),
        record: found.record,
        explanation,
        now: now.to_owned(),
        now_because,
    }
}

/// What a record says.
struct Facts {
    refused: bool,
    in_shadow: bool,
    of_request: bool,
    reason: Option<Reason>,
    check: Option<String>,
    detail: String,
    status: Option<u16>,
    fqdn: Option<Fqdn>,
    asid: Option<Asid>,
    ods: Option<OdsCode>,
    custodian: Option<OdsCode>,
    interaction: Option<Interaction>,
}

impl Facts {
    fn of(record: &Map<String, Value>) -> Self {
        let text = |name: &str| record.get(name).and_then(Value::as_str);
        let of_request = |name: &str| record.get("request")?.get(name)?.as_str();
        let fqdn = record
            .get("certificate")
            .and_then(|certificate| certificate.get("fqdn"))
            .and_then(Value::as_str);
        let status = record
            .get("request")
            .and_then(|request| request.get("status"))
            .and_then(Value::as_u64);
        Self {
            refused: matches!(text("decision"), Some("refuse" | "shadow")),
            in_shadow: text("decision") == Some("shadow"),
            of_request: text("event") == Some("request"),
            reason: text("reason").and_then(Reason::from_code),
            check: text("check").map(str::to_owned),
            detail: text("detail").unwrap_or_default().to_owned(),
            status: status.and_then(|status| status.try_into().ok()),
            fqdn: fqdn.and_then(|fqdn| Fqdn::parse(fqdn).ok()),
            asid: of_request("asid").and_then(|asid| Asid::parse(asid).ok()),
            ods: of_request("ods").and_then(|ods| OdsCode::parse(ods).ok()),
            custodian: of_request("custodian").and_then(|ods| OdsCode::parse(ods).ok()),
            interaction: of_request("interaction").and_then(interaction),
        }
    }
}

/// An interaction by its name or its ID.
fn interaction(text: &str) -> Option<Interaction> {
    let named = Interaction::ALL
        .into_iter()
        .find(|interaction| interaction.as_str() == text);
    named.or_else(|| InteractionId::parse(text).ok()?.interaction())
}

fn explanation(table: ErrorTable, facts: &Facts) -> Explanation {
    let mut explanation = Explanation::default();
    let Some(reason) = facts.reason.filter(|_| facts.refused) else {
        return explanation;
    };
    let deciding = facts.check.clone().unwrap_or_default();
    explanation.decision = Decision::Refuse;
    explanation.decided_by = facts.check.clone();
    explanation.reason = Some(reason.as_str().to_owned());
    explanation.meaning = Some(reason.meaning().to_owned());
    explanation.mend = Some(reason.mend().to_owned());
    explanation.told = match (reason.layer(), facts.status) {
        (Layer::Filter, _) => None,
        (_, None) => Some(Told::default()),
        // What failed behind the gateway is not told.
        (Layer::Upstream | Layer::Agent, Some(status)) => Some(Told {
            status: Some(status),
            ..told(table, reason, reason.meaning())
        }),
        (_, Some(status)) => {
            let told = told(table, reason, &facts.detail);
            let told = match told.status == Some(status) {
                true => told,
                // The truth was not for the client to know.
                false => Told::default(),
            };
            Some(Told {
                status: Some(status),
                ..told
            })
        }
    };
    if facts.in_shadow {
        explanation.decision = Decision::Allow;
        explanation.told = None;
        explanation.notes.push(super::SHADOW.to_owned());
    }
    explanation.checks = checks(facts, &deciding, reason);
    explanation
}

/// Every check up to the one that decided, and those behind it.
fn checks(facts: &Facts, deciding: &str, reason: Reason) -> Vec<control::Check> {
    let names: Vec<&str> = order().filter(|name| needed(facts.interaction, name)).collect();
    let fails = failed(deciding, reason, facts.detail.clone());
    let Some(place) = names.iter().position(|name| *name == deciding) else {
        // A limit or the upstream stands beside the order.
        return vec![fails];
    };
    let found = |name: &str| passed(name, found(facts, name));
    let before = names.iter().take(place).map(|name| found(name));
    let behind = names.iter().skip(place + 1).map(|name| not_reached(name));
    before.chain([fails]).chain(behind).collect()
}

/// Every check that decides about a connection and its requests, in the published order.
fn order() -> impl Iterator<Item = &'static str> {
    let of_request = Check::ALL.into_iter().flat_map(|check| {
        let arrival = (check == Check::Body).then_some("body_arrival");
        arrival.into_iter().chain([check.as_str()])
    });
    let of_certificate = Rule::ALL.into_iter().map(Rule::check);
    BEFORE
        .into_iter()
        .chain(of_certificate)
        .chain(["framing"])
        .chain(of_request)
}

fn needed(interaction: Option<Interaction>, name: &str) -> bool {
    let Some(interaction) = interaction else {
        return true;
    };
    match name {
        "body_arrival" | "body" => matches!(interaction, Interaction::Create | Interaction::Update),
        "ownership" => interaction.writes(),
        _ => true,
    }
}

/// What the record has of a check that was passed.
fn found(facts: &Facts, name: &str) -> String {
    let shown = |fact: Option<String>| fact.unwrap_or_default();
    match name {
        "certificate_fqdn" => shown(facts.fqdn.as_ref().map(ToString::to_string)),
        "method_and_path" => shown(
            facts
                .interaction
                .map(|it| format!("a request that performs {it}")),
        ),
        "headers" => shown(facts.asid.map(|asid| format!("fromASID is {asid}"))),
        "asid_known" => shown(
            facts
                .ods
                .as_ref()
                .map(|ods| format!("the ASID was registered for {ods}")),
        ),
        "ownership" => shown(
            facts
                .custodian
                .as_ref()
                .map(|it| format!("the custodian is {it}")),
        ),
        _ => String::new(),
    }
}

/// Whether the same would be refused now.
fn now(ground: Ground<'_>, facts: &Facts) -> (&'static str, String) {
    let unknown = |why: &str| ("unknown", why.to_owned());
    let Some(reason) = facts.reason.filter(|_| facts.refused) else {
        return unknown("it was not refused");
    };
    if reason == Reason::FqdnMismatch {
        return unknown("`spinegate explain --cert FILE` judges the certificate by what is in force now");
    }
    match (reason.layer(), facts.of_request) {
        (Layer::Certificate, _) => {
            return unknown("`spinegate cert inspect FILE` judges the certificate by what is in force now");
        }
        (Layer::Handshake, _) => return ("refused", "as long as the client does the same".to_owned()),
        (Layer::Upstream | Layer::Agent | Layer::Operator | Layer::Filter, _) => {
            return unknown("it was not the request's doing: `spinegate status` shows how the gateway is");
        }
        (Layer::Request | Layer::Authorisation, _) => {}
    }
    let checked = Check::ALL
        .into_iter()
        .find(|check| Some(check.as_str()) == facts.check.as_deref());
    let decides = |check: &Check| OF_REGISTRY.contains(check) || *check == Check::Ownership;
    match (checked.filter(decides), facts.asid, facts.interaction) {
        (Some(check), Some(asid), Some(interaction)) => {
            by_registry(ground, facts, (check, asid, interaction))
        }
        (Some(_), _, _) => unknown("the record does not say who asked for what"),
        (None, _, _) if matches!(checked, Some(Check::TokenAsid | Check::TokenOds)) => {
            by_token(ground, facts)
        }
        (None, _, _) => (
            "refused",
            "as long as the client sends the same: nothing that is registered decides it".to_owned(),
        ),
    }
}

/// Has the present registry judge what is known of the request.
fn by_registry(
    ground: Ground<'_>,
    facts: &Facts,
    (check, asid, interaction): (Check, Asid, Interaction),
) -> (&'static str, String) {
    let policy = ground.policy;
    let [from, ..] = policy.rules().header_names();
    let Some((method, uri)) = policy.rules().line_of(interaction) else {
        return ("unknown", "the interaction is none of this service".to_owned());
    };
    let mut headers = HeaderMap::new();
    let name = HeaderName::from_bytes(from.as_bytes());
    if let (Ok(name), Ok(asid)) = (name, HeaderValue::from_str(asid.as_str())) {
        headers.insert(name, asid);
    }
    let described = Described {
        method,
        uri,
        headers,
        whole: false,
        body: None,
        fqdn: facts.fqdn.clone(),
        custodian: facts.custodian.clone(),
        stored: None,
    };
    let explained = authz::explain(policy.rules(), ground.registry, &described, SystemTime::now());
    let failing = explained.checks.iter().find_map(|(made, verdict)| match verdict {
        Verdict::Failed { denial, .. } => Some((made, denial)),
        _ => None,
    });
    match failing {
        Some((made, denial)) if *made == check => {
            ("refused", format!("by the same check: {}", denial.diagnostics()))
        }
        Some((made, denial)) => (
            "refused",
            format!("but by {} now: {}", made.as_str(), denial.diagnostics()),
        ),
        None if check == Check::Ownership && facts.custodian.is_none() => (
            "unknown",
            "the record does not say whose the pointer is; what the registry decides passes".to_owned(),
        ),
        // Another fault of a pointer than its owner.
        None if check == Check::Ownership && facts.reason != Some(Reason::NotOwner) => (
            "unknown",
            "the record locator decides it; what the registry decides passes".to_owned(),
        ),
        None => (
            "allowed",
            "the registry has changed since, and passes it now; what the record does not have is taken to be in order"
                .to_owned(),
        ),
    }
}

/// The token is not kept, but whether the registry has another organisation for the ASID now can be said.
fn by_token(ground: Ground<'_>, facts: &Facts) -> (&'static str, String) {
    let registered = facts.asid.and_then(|asid| {
        let system = ground.registry.system(&asid, SystemTime::now())?;
        Some(system.ods().clone())
    });
    match (registered, &facts.ods) {
        (None, _) => ("refused", "the ASID is no longer registered".to_owned()),
        (Some(now), Some(then)) if now != *then => (
            "unknown",
            format!("the ASID was registered for {then} then, and is for {now} now; the token is not kept"),
        ),
        (Some(now), _) => (
            "refused",
            format!("as long as the client sends the same token: the ASID is still registered for {now}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Outcome;

    /// What the README has for each check.
    const PUBLISHED: &[(&str, &str)] = &[
        ("tls_version", "TLS version"),
        ("tls_suite", "cipher suite"),
        ("tls_extensions", "ALPN"),
        ("certificate_present", "certificate present"),
        ("certificate_chain", "| chain"),
        ("certificate_issuer", "issuer"),
        ("certificate_validity", "validity"),
        ("certificate_revocation", "revocation"),
        ("certificate_usage", "key usage"),
        ("certificate_key", "key ·"),
        ("certificate_fqdn", "FQDN"),
        ("framing", "one reading as HTTP/1.1"),
        ("method_and_path", "method and path known"),
        ("headers", "headers present"),
        ("receiver", "receiver's ASID"),
        ("token_form", "JWT well formed"),
        ("token_claims", "claims consistent"),
        ("asid_known", "ASID known"),
        ("asid_active", "active"),
        ("certificate_name", "FQDN is the ASID's"),
        ("token_asid", "JWT's ASID"),
        ("token_ods", "ODS code"),
        ("interaction", "interaction associated"),
        ("body_arrival", "body whole"),
        ("body", "body well formed"),
        ("ownership", "pointer owned"),
    ];

    #[test]
    fn the_readme_publishes_the_order_in_which_is_judged() {
        let named: Vec<&str> = PUBLISHED.iter().map(|(name, _)| *name).collect();
        assert_eq!(order().collect::<Vec<_>>(), named);
        let readme = include_str!("../../../README.md");
        let (_, rest) = readme.split_once("## The order of decisions").unwrap();
        let (mut rest, _) = rest.split_once("\n## ").unwrap();
        for (name, words) in PUBLISHED {
            let found = rest.find(words);
            let place = found.unwrap_or_else(|| panic!("{name} ({words}) is not where it belongs: {rest}"));
            rest = &rest[place + words.len()..];
        }
    }

    #[test]
    fn a_line_of_the_log_tells_what_was_passed_what_failed_and_what_was_not_reached() {
        let line = json!({
            "event": "request", "decision": "refuse", "reason": "interaction_not_allowed", "check": "interaction",
            "certificate": {"fqdn": "ssp.example.nhs.uk"},
            "request": {"interaction": "delete", "asid": "200000000205", "ods": "RR8", "status": 403},
            "detail": "why",
        });
        let facts = Facts::of(line.as_object().unwrap());
        let explained = explanation(ErrorTable::Nrl, &facts);
        let outcomes: Vec<_> = explained
            .checks
            .iter()
            .map(|check| (check.check.as_str(), check.outcome))
            .collect();
        let (at, _) = outcomes
            .iter()
            .enumerate()
            .find(|(_, (name, _))| *name == "interaction")
            .unwrap();
        assert!(
            outcomes[..at]
                .iter()
                .all(|(_, outcome)| *outcome == Outcome::Pass)
        );
        assert_eq!(outcomes[at].1, Outcome::Fail);
        // A delete has no body.
        assert_eq!(outcomes[at + 1..], [("ownership", Outcome::NotReached)]);
        let told = explained.told.unwrap();
        assert_eq!(
            (told.status, told.diagnostics.as_deref()),
            (Some(403), Some("why"))
        );
    }

    #[test]
    fn what_stands_beside_the_order_is_told_alone() {
        let line = json!({"event": "request", "decision": "refuse", "reason": "upstream_timeout", "check": "upstream",
            "request": {"status": 504}, "detail": "10.0.0.1 did not answer"});
        let explained = explanation(ErrorTable::Nrl, &Facts::of(line.as_object().unwrap()));
        assert_eq!(explained.checks.len(), 1);
        assert!(!explained.told.unwrap().diagnostics.unwrap().contains("10.0.0.1"));
    }

    #[test]
    fn a_decision_is_found_in_the_log_and_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let lines = "{\"decision_id\":\"a\",\"request\":{\"id\":\"t\"}}\n{\"decision_id\":\"b\"}\n";
        std::fs::write(&path, lines).unwrap();
        let found = |id: &str| {
            find(&path, id)
                .unwrap()
                .map(|found| found.record["decision_id"].clone())
        };
        assert_eq!(found("a"), Some(json!("a")));
        assert_eq!(found("t"), Some(json!("a")));
        assert_eq!(found("u"), None);
        assert!(find(&path.join("not"), "a").is_err());
        let report = ErrorReport {
            request: Some("GET /a".to_owned()),
            decision_id: "m".to_owned(),
            ..ErrorReport::default()
        };
        let remembered = Found::remembered(&report).unwrap();
        assert_eq!(remembered.record["request"]["path"], "/a");
    }
}
