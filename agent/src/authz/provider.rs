//! The provider profile: the Spine Secure Proxy asks for a record (docs/provider.md).
//!
//! Its checks are the locator's, in the same order, without what a retrieval has not: a body and an owner. Where the
//! registry is not asked, the checks that need it are left out.

use std::time::SystemTime;

use http::{HeaderMap, Method, Uri, uri::PathAndQuery};

use crate::{
    nrl::{Endpoint, Interaction, Refusal, TraceId, bearer},
    registry::Registry,
};

use super::{
    Action, Check, Denial, Head, Requester, Rules, Subject, checks, judge_system, judge_token, path_and_query,
};

/// `[gateway.provider]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provider {
    /// What is served.
    pub endpoint: Endpoint,
    /// Whether a requester must be registered, with the interaction. By default the registry is not asked: the SSP has
    /// looked the requester up, and Spine Core has providers use ASID headers for audit alone.
    pub registered: bool,
}

/// Leave to forward a retrieval that passed every check: its line is inside.
#[derive(Debug)]
#[must_use = "leave is there to be used"]
pub struct Retrieval {
    subject: Subject,
    target: PathAndQuery,
}

impl Retrieval {
    /// Judges a request, which has no body, by one snapshot of the registry.
    ///
    /// # Errors
    /// The first check that fails, in the order of [`Check::ALL`].
    pub fn admit(
        (rules, provider): (&Rules, &Provider),
        registry: &Registry,
        requester: &Requester,
        (method, uri, headers): (&Method, &Uri, &HeaderMap),
        now: SystemTime,
    ) -> Result<Self, Denial> {
        let mut subject = Subject::default();
        let head = (method, uri, headers);
        let judged = judge_head((rules, provider), registry, requester, head, now, &mut subject);
        match judged {
            Ok(()) => Ok(Self {
                subject,
                target: path_and_query(uri),
            }),
            Err((check, refusal)) => {
                Err(Denial::by(check, refusal, subject).allowing(Some(Endpoint::METHODS)))
            }
        }
    }

    /// The path and query to forward, as they were judged.
    #[must_use]
    pub fn path_and_query(&self) -> &PathAndQuery {
        &self.target
    }

    /// What the audit records.
    #[must_use]
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    pub(super) fn into_subject(self) -> Subject {
        self.subject
    }
}

/// The checks in their order. The subject is filled as far as they got.
fn judge_head(
    (rules, provider): (&Rules, &Provider),
    registry: &Registry,
    requester: &Requester,
    (method, uri, headers): Head<'_>,
    now: SystemTime,
    subject: &mut Subject,
) -> Result<(), (Check, Refusal)> {
    let at = |check: Check| move |refusal: Refusal| (check, refusal);
    let names = &checks::Names::SSP;
    let endpoint = &provider.endpoint;

    let line = endpoint.classify(method, uri.path(), uri.query());
    subject.made(Check::MethodAndPath, line)?;
    let interaction = Interaction::Retrieve;
    subject.interaction = Some(interaction);
    subject.action = Some(Action::of(interaction));

    let from = checks::from_asid(names, headers).map_err(at(Check::Headers))?;
    subject.asid = Some(from);
    let to = checks::to_asid(names, headers).map_err(at(Check::Headers))?;
    let declared = endpoint.interaction(headers).map_err(at(Check::Headers))?;
    let trace = TraceId::of(headers).map_err(at(Check::Headers))?;
    subject.trace = Some(trace);
    let bearer = subject.made(Check::Headers, bearer(headers))?;

    let receiver = checks::receiver(names, &to, &rules.gateway_asid);
    subject.made(Check::Receiver, receiver)?;

    let claims = judge_token(bearer, interaction, &rules.claims, now, subject)?;
    if !provider.registered {
        let asid = checks::token_asid(names, None, &claims, &from);
        subject.made(Check::TokenAsid, asid)?;
        subject.interaction_id = Some(declared);
        return Ok(());
    }
    let by = (registry, now);
    let asked = (interaction, Some(&declared));
    judge_system(names, by, requester, (&from, &claims), asked, subject).map(drop)
}
