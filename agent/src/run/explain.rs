//! `spinegate explain`: what would become of a request, from the filter's checks to the last of authorisation's.

use std::time::SystemTime;

use spinegate_common::{Reason, VerdictKind};

use super::{Agent, lock};
use crate::{
    authz::{self, Described, Verdict},
    control::{Check, Decision, Explanation, Failure, FailureKind, Outcome, Question, Target},
    nrl::{Asid, Fqdn, InteractionId, OdsCode},
};

impl Agent {
    /// Every check in its order.
    pub(super) fn explain(&self, question: &Question) -> Result<Explanation, Failure> {
        let described = describe(question)?;
        let mut checks = self.filter_checks(question)?;
        checks.push(self.name_check(described.fqdn.as_ref()));
        let policy = self.gateway.policy();
        let explained = authz::explain(
            policy.rules(),
            &self.registry.load(),
            &described,
            SystemTime::now(),
        );
        checks.extend(
            explained
                .checks
                .into_iter()
                .map(|checked| check(checked.check, checked.verdict)),
        );
        let failed = checks.iter().find(|check| check.outcome == Outcome::Fail);
        let decision = if failed.is_some() {
            Decision::Refuse
        } else {
            Decision::Allow
        };
        let reason = failed.and_then(|check| check.reason.clone());
        Ok(Explanation {
            checks,
            decision,
            reason,
        })
    }

    fn filter_checks(&self, question: &Question) -> Result<Vec<Check>, Failure> {
        const VERDICT: &str = "no deny verdict on the source";
        const ALLOWLIST: &str = "source on the allowlist";
        let Some(source) = question.source else {
            return Ok([VERDICT, ALLOWLIST]
                .map(|name| not_given(name, "Give --source"))
                .to_vec());
        };
        let source = source.to_canonical();
        let verdicts = lock(&self.filter)
            .as_ref()
            .map_or(Ok(Vec::new()), |filter| filter.verdicts_over(source))
            .map_err(|error| Failure::new(FailureKind::Internal, error.to_string(), "see the agent's log"))?;
        let denial = verdicts.iter().find(|verdict| verdict.kind == VerdictKind::Deny);
        let verdict = match denial {
            None => passed(VERDICT, format!("There is none on {source}")),
            Some(verdict) => {
                let remaining = humantime::format_duration(verdict.remaining);
                let (on, reason) = (Target::from(verdict.source), verdict.reason.as_str());
                failed(
                    VERDICT,
                    Reason::VerdictDeny,
                    format!("{on} is denied for {remaining} more: {reason}"),
                )
            }
        };
        let sources = self.sources_listed.load().all();
        let covering = sources.iter().filter(|entry| entry.cidr.contains(&source));
        let listed = match covering.max_by_key(|entry| entry.cidr.prefix_len()) {
            Some(entry) => passed(
                ALLOWLIST,
                format!("{} ({}) covers {source}", entry.cidr, entry.name),
            ),
            None => failed(
                ALLOWLIST,
                Reason::SourceNotAllowlisted,
                format!("No entry covers {source}"),
            ),
        };
        Ok(vec![verdict, listed])
    }

    /// R12, of which the authorisation room knows nothing.
    fn name_check(&self, fqdn: Option<&Fqdn>) -> Check {
        const NAME: &str = "certificate's FQDN accepted";
        match fqdn {
            None => not_given(NAME, "Give --fqdn"),
            Some(fqdn) if self.config.load().tls.client.fqdns.contains(fqdn) => {
                passed(NAME, format!("{fqdn} is one of `tls.client.fqdns`"))
            }
            Some(fqdn) => failed(
                NAME,
                Reason::FqdnMismatch,
                format!("{fqdn} is none of `tls.client.fqdns`"),
            ),
        }
    }
}

fn describe(question: &Question) -> Result<Described, Failure> {
    let usage = |error: &dyn std::fmt::Display| {
        Failure::new(
            FailureKind::Usage,
            error.to_string(),
            "describe the request as the client would send it",
        )
    };
    let custodian = question.custodian.as_deref().map(OdsCode::parse).transpose();
    let fqdn = question.fqdn.as_deref().map(Fqdn::parse).transpose();
    Ok(Described {
        asid: Asid::parse(&question.asid).map_err(|error| usage(&error))?,
        interaction: InteractionId::parse(&question.interaction).map_err(|error| usage(&error))?,
        to_asid: None,
        custodian: custodian.map_err(|error| usage(&error))?,
        fqdn: fqdn.map_err(|error| usage(&error))?,
        token: None,
    })
}

fn check(name: &str, verdict: Verdict) -> Check {
    let made = |outcome, reason: Option<&str>, detail| Check {
        check: name.to_owned(),
        outcome,
        reason: reason.map(str::to_owned),
        detail: Some(detail),
    };
    match verdict {
        Verdict::Passed { detail } => made(Outcome::Pass, None, detail),
        Verdict::Failed { reason, detail, .. } => made(Outcome::Fail, Some(reason), detail),
        Verdict::NotGiven { detail } => made(Outcome::NotGiven, None, detail),
        Verdict::NotNeeded { detail } => made(Outcome::NotNeeded, None, detail),
    }
}

fn passed(name: &str, detail: String) -> Check {
    check(name, Verdict::Passed { detail })
}

fn failed(name: &str, reason: Reason, detail: String) -> Check {
    check(
        name,
        Verdict::Failed {
            reason: reason.as_str(),
            detail,
            mend: reason.mend(),
        },
    )
}

fn not_given(name: &str, detail: &str) -> Check {
    check(
        name,
        Verdict::NotGiven {
            detail: detail.to_owned(),
        },
    )
}
