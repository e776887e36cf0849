//! `spinegate explain`: what would become of a request, by what is in force.

use std::net::IpAddr;

use spinegate_common::{Reason, VerdictKind};

use super::Agent;
use crate::{
    control::{Check, Explanation, Failure, FailureKind, PastDecision, Question, Target},
    explain::{self, Found, Ground, SOURCE_DENIED},
};

impl Agent {
    /// Every check in its order.
    pub(super) async fn explain(&self, question: &Question) -> Result<Explanation, Failure> {
        let (policy, trust) = (self.gateway.policy(), self.acceptor.trust());
        let registry = self.registry.load();
        let sources = self.sources_listed.load().all();
        let ground = Ground {
            policy: &policy,
            registry: &registry,
            trust: &trust,
            sources: &sources,
        };
        explain::explain(ground, question, |source| self.denied(source)).await
    }

    /// What led to a decision that was made.
    pub(super) async fn explain_decision(&self, id: String) -> Result<PastDecision, Failure> {
        let path = self.config.load().audit.file.clone();
        let wanted = id.clone();
        let searched = tokio::task::spawn_blocking(move || explain::find(&path, &wanted)).await;
        let failed = |error: tokio::task::JoinError| {
            Failure::new(FailureKind::Internal, error.to_string(), "see the agent's log")
        };
        let found = match searched.map_err(failed)? {
            Ok(Some(found)) => Some(found),
            Ok(None) => self.remembered(&id),
            Err(failure) => match self.remembered(&id) {
                Some(found) => Some(found),
                None => return Err(failure),
            },
        };
        let (policy, trust) = (self.gateway.policy(), self.acceptor.trust());
        let registry = self.registry.load();
        let ground = Ground {
            policy: &policy,
            registry: &registry,
            trust: &trust,
            sources: &[],
        };
        explain::explain_past(ground, &id, found)
    }

    /// A refusal that the audit log no longer has, or could not take.
    fn remembered(&self, id: &str) -> Option<Found> {
        Found::remembered(&self.errors.find(id)?)
    }

    fn denied(&self, source: IpAddr) -> Result<Check, Failure> {
        let verdicts = self
            .filter
            .as_ref()
            .map_or(Ok(Vec::new()), |filter| filter.verdicts_over(source))
            .map_err(|error| Failure::new(FailureKind::Internal, error.to_string(), "see the agent's log"))?;
        let denial = verdicts.iter().find(|verdict| verdict.kind == VerdictKind::Deny);
        Ok(match denial {
            None => explain::passed(SOURCE_DENIED, format!("There is none on {source}")),
            Some(verdict) => {
                let remaining = humantime::format_duration(verdict.remaining);
                let (on, reason) = (Target::from(verdict.source), verdict.reason.as_str());
                explain::failed(
                    SOURCE_DENIED,
                    Reason::VerdictDeny,
                    format!("{on} is denied for {remaining} more: {reason}"),
                )
            }
        })
    }
}
