//! What would become of a request, and what became of one: every check with its outcome, by the code that decides. The agent
//! answers from what it has in force; without one the same is asked of a configuration.

mod certificate;
mod past;
mod request;

use std::{net::IpAddr, path::Path, sync::Arc, time::SystemTime};

use spinegate_common::{Layer, Reason};

use crate::{
    config::{self, Source},
    control::{Check, Decision, Explanation, Failure, FailureKind, Outcome, PastDecision, Question, Told},
    gateway::Policy,
    nrl::{ErrorTable, Outcome as Answer},
    registry::Registry,
    run::Parts,
    tls::Trust,
};

pub use past::{Found, find};

/// What requests are judged by.
#[derive(Clone, Copy)]
pub struct Ground<'g> {
    /// Rules and limits.
    pub policy: &'g Policy,
    /// Who is registered.
    pub registry: &'g Registry,
    /// Whose certificates are accepted.
    pub trust: &'g Trust,
    /// The allowlist.
    pub sources: &'g [Source],
}

/// Explains a request. What the filter knows of its source comes first.
///
/// # Errors
/// If the question can't be understood.
pub async fn explain(
    ground: Ground<'_>,
    question: &Question,
    denied: impl FnOnce(IpAddr) -> Result<Check, Failure>,
) -> Result<Explanation, Failure> {
    let mut explanation = Explanation::default();
    let now = time_of(question)?;
    match question.source.map(|source| source.to_canonical()) {
        None => explanation.checks.extend([
            not_given(SOURCE_DENIED, "Give --source"),
            not_given(SOURCE_LISTED, "Give --source"),
        ]),
        Some(source) => {
            let listed = listed(ground.sources, source, now);
            explanation.checks.extend([denied(source)?, listed]);
        }
    }
    request::explain(ground, question, now, &mut explanation).await?;
    explanation.decide();
    // Shadow is for what is permission's to refuse, and only if nothing before it does.
    let of_permission = explanation.reason.as_deref().and_then(Reason::from_code);
    let of_permission = of_permission.is_some_and(|reason| reason.layer() == Layer::Authorisation);
    if !of_permission {
        explanation.notes.retain(|note| note != SHADOW);
    } else if explanation.notes.iter().any(|note| note == SHADOW) {
        explanation.decision = Decision::Allow;
    }
    Ok(explanation)
}

/// Explains a past decision.
///
/// # Errors
/// If it is not to be found.
pub fn explain_past(ground: Ground<'_>, id: &str, found: Option<Found>) -> Result<PastDecision, Failure> {
    match found {
        Some(found) => Ok(past::explain(ground, found)),
        None => Err(Failure::new(
            FailureKind::NotFound,
            format!("no decision {id} is in the audit log"),
            "give the whole id, as in the X-Request-Id of the answer; an older one may be in a rotated audit log",
        )),
    }
}

/// What a configuration would put in force.
pub struct Offline {
    config: config::Config,
    policy: Policy,
    registry: Arc<Registry>,
    sources: Vec<Source>,
    trust: Arc<Trust>,
}

impl Offline {
    /// Loads a configuration.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(path: &Path) -> Result<Self, Vec<config::Diagnostic>> {
        let loaded = config::load(path)?;
        let diagnose = |problems: Vec<config::Problem>| loaded.source.diagnose_all(&problems);
        let parts = Parts::load(&loaded.config).map_err(diagnose)?;
        let trust = parts.tls.trust();
        let (policy, registry, sources) = parts.into_ground();
        Ok(Self {
            config: loaded.config,
            policy,
            registry,
            sources,
            trust,
        })
    }

    /// Explains a request by it. What the kernel knows is not asked.
    ///
    /// # Errors
    /// If the question can't be understood.
    pub fn explain(&self, question: &Question) -> Result<Explanation, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|error| {
                let mend = "see what limits this user's processes";
                Failure::new(FailureKind::Internal, error.to_string(), mend)
            })?;
        let denied = |_| Ok(not_given(SOURCE_DENIED, "Only a running agent knows"));
        runtime.block_on(explain(self.ground(), question, denied))
    }

    /// Explains a past decision by its audit log.
    ///
    /// # Errors
    /// If it is not to be found, or the log can't be read.
    pub fn explain_past(&self, id: &str) -> Result<PastDecision, Failure> {
        let found = find(&self.config.audit.file, id)?;
        explain_past(self.ground(), id, found)
    }

    fn ground(&self) -> Ground<'_> {
        Ground {
            policy: &self.policy,
            registry: &self.registry,
            trust: &self.trust,
            sources: &self.sources,
        }
    }
}

/// What is said of a request that permission refuses and that goes on.
const SHADOW: &str = "the request is in shadow: it goes on all the same, and the refusal is recorded";
/// The check of the verdicts on a source.
pub const SOURCE_DENIED: &str = "source_not_denied";
const SOURCE_LISTED: &str = "source_allowlisted";

/// The time at which it is judged.
fn time_of(question: &Question) -> Result<SystemTime, Failure> {
    let Some(at) = &question.at else {
        return Ok(SystemTime::now());
    };
    humantime::parse_rfc3339_weak(at)
        .map_err(|error| usage(format!("{at:?}: {error}"), "write it like 2026-01-31T12:00:00Z"))
}

/// An entry that has ended covers nobody.
fn listed(sources: &[Source], source: IpAddr, now: SystemTime) -> Check {
    let covering = sources
        .iter()
        .filter(|entry| entry.cidr.contains(&source) && entry.is_in_force(now));
    match covering.max_by_key(|entry| entry.cidr.prefix_len()) {
        Some(entry) => passed(
            SOURCE_LISTED,
            format!("{} ({}) covers {source}", entry.cidr, entry.name),
        ),
        None => failed(
            SOURCE_LISTED,
            Reason::SourceNotAllowlisted,
            format!("No entry covers {source}"),
        ),
    }
}

impl Explanation {
    /// The first check that fails decides.
    fn decide(&mut self) {
        let failed = self.checks.iter().find(|check| check.outcome == Outcome::Fail);
        let Some(failed) = failed else {
            self.told = None;
            return;
        };
        self.decision = Decision::Refuse;
        self.decided_by = Some(failed.check.clone());
        self.reason.clone_from(&failed.reason);
        let reason = failed.reason.as_deref().and_then(Reason::from_code);
        self.meaning = reason.map(|reason| reason.meaning().to_owned());
        self.mend = reason.map(|reason| reason.mend().to_owned());
        self.told = match reason.map(Reason::layer) {
            Some(Layer::Filter) | None => None,
            Some(Layer::Handshake | Layer::Certificate) => Some(Told::default()),
            Some(_) => self.told.take(),
        };
    }
}

/// What a client is told by a refusal's answer.
fn told(table: ErrorTable, reason: Reason, diagnostics: &str) -> Told {
    let outcome = Answer::by(table, reason);
    Told {
        status: Some(outcome.status.as_u16()),
        code: Some(outcome.code.to_owned()),
        diagnostics: Some(diagnostics.to_owned()),
    }
}

fn check(name: &str, outcome: Outcome, reason: Option<Reason>, detail: impl Into<String>) -> Check {
    Check {
        check: name.to_owned(),
        outcome,
        reason: reason.map(|reason| reason.as_str().to_owned()),
        detail: Some(detail.into()),
    }
}

/// A check that holds.
pub fn passed(name: &str, detail: impl Into<String>) -> Check {
    check(name, Outcome::Pass, None, detail)
}

/// A check that does not hold.
pub fn failed(name: &str, reason: Reason, detail: impl Into<String>) -> Check {
    check(name, Outcome::Fail, Some(reason), detail)
}

/// A check of what the question does not say.
pub fn not_given(name: &str, detail: &str) -> Check {
    check(name, Outcome::NotGiven, None, detail)
}

fn not_reached(name: &str) -> Check {
    Check {
        detail: None,
        ..check(name, Outcome::NotReached, None, "")
    }
}

fn usage(error: impl std::fmt::Display, mend: &str) -> Failure {
    Failure::new(FailureKind::Usage, error.to_string(), mend)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_source_is_listed_by_the_longest_entry_that_has_not_ended() {
        let now = SystemTime::now();
        let entry = |cidr: &str, expires: Option<SystemTime>| Source {
            expires,
            ..Source::new(cidr.parse().unwrap(), cidr)
        };
        let hour = Duration::from_secs(3600);
        let sources = [
            entry("10.0.0.0/8", Some(now + hour)),
            entry("10.0.0.1/32", Some(now - hour)),
        ];
        let detail = |at| listed(&sources, "10.0.0.1".parse().unwrap(), at);
        assert!(detail(now).detail.unwrap().starts_with("10.0.0.0/8"));
        assert!(detail(now - 2 * hour).detail.unwrap().starts_with("10.0.0.1/32"));
        assert_eq!(detail(now + hour).outcome, Outcome::Fail);
    }
}
