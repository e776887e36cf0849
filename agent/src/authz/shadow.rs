//! Shadow: requests that a check of permission refuses go on all the same, and are recorded (docs/shadow.md).
//!
//! Whoever puts the gateway before a service that has run without one can try its registry so. What is never tried is
//! enforced: form, receiver, token, certificate, and what an operator has switched off.

use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Uri, uri::PathAndQuery};
use spinegate_common::{Layer, Reason};

use crate::{
    nrl::{Asid, Interaction, Refusal, body_format, check_status_update},
    registry::Registry,
};

use super::{Check, Denial, Head, Subject, checks, path_and_query, stages::if_match};

/// Which requests are in shadow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shadow {
    /// `authz.mode = "shadow"`: all of them.
    pub everything: bool,
    /// `[[authz.shadow]]`: these.
    pub cases: Vec<ShadowCase>,
}

/// Requests that perform an interaction, of one system or of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShadowCase {
    /// The interaction.
    pub interaction: Interaction,
    /// The requester's ASID; none: anybody's.
    pub asid: Option<Asid>,
}

impl ShadowCase {
    fn has(&self, subject: &Subject) -> bool {
        subject.interaction == Some(self.interaction) && (self.asid.is_none() || self.asid == subject.asid)
    }
}

impl Shadow {
    /// Whether a refused request goes on all the same.
    #[must_use]
    pub fn covers(&self, (registry, now): (&Registry, SystemTime), denial: &Denial) -> bool {
        let subject = denial.subject();
        is_tried(denial)
            && (self.everything
                || self.cases.iter().any(|case| case.has(subject))
                || subject
                    .asid
                    .and_then(|asid| registry.system(&asid, now))
                    .is_some_and(|system| system.is_in_shadow()))
    }
}

/// Whether the check that refused is one of permission, R1 to R5. All that come before it have passed.
fn is_tried(denial: &Denial) -> bool {
    match denial.check() {
        Some(check) => match check {
            Check::AsidKnown | Check::TokenAsid | Check::TokenOds | Check::Interaction | Check::Ownership => {
                true
            }
            // Who is asking, and that an operator has switched it off, is not tried; nor is what can't be classified.
            Check::MethodAndPath
            | Check::Headers
            | Check::Receiver
            | Check::TokenForm
            | Check::TokenClaims
            | Check::AsidActive
            | Check::CertificateName
            | Check::Body => false,
        },
        // Ownership could not be judged, since the locator did not say whose the pointer is.
        None => denial.reason().layer() == Layer::Upstream,
    }
}

/// A request that goes on though it was refused. It is no permit: that a check failed is inside.
#[derive(Debug)]
#[must_use = "leave is there to be used"]
pub struct Shadowed {
    denial: Denial,
    method: Method,
    target: PathAndQuery,
    if_match: Option<HeaderValue>,
    body: Bytes,
}

impl Shadowed {
    /// Takes a denial with the request that it is of, whose body was read. There is no other way to one.
    ///
    /// # Errors
    /// The denial itself, if the request is not in shadow; another, if its body is not what its interaction needs, which
    /// the gateway would not have got to.
    pub fn of(
        (shadow, registry, now): (&Shadow, &Registry, SystemTime),
        denial: Denial,
        (method, uri, headers): (&Method, &Uri, &HeaderMap),
        body: Bytes,
    ) -> Result<Self, Denial> {
        if !shadow.covers((registry, now), &denial) {
            return Err(denial);
        }
        let subject = denial.subject();
        if let Err(refusal) = check_form(subject, (method, uri, headers), &body) {
            return Err(Denial::by(Check::Body, refusal, subject.clone()));
        }
        Ok(Self {
            denial,
            method: method.clone(),
            target: path_and_query(uri),
            if_match: if_match(headers),
            body,
        })
    }

    /// The method to forward.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The path and query to forward, as they came.
    #[must_use]
    pub fn path_and_query(&self) -> &PathAndQuery {
        &self.target
    }

    /// The client's own If-Match.
    #[must_use]
    pub fn if_match(&self) -> Option<&HeaderValue> {
        self.if_match.as_ref()
    }

    /// The body to forward, as it came.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Why it would have been refused.
    #[must_use]
    pub fn denial(&self) -> &Denial {
        &self.denial
    }

    pub(super) fn into_denial(self) -> Denial {
        self.denial
    }
}

/// What is not tried and comes after the check that refused: the body's form.
fn check_form(subject: &Subject, (_, _, headers): Head<'_>, body: &[u8]) -> Result<(), Refusal> {
    if subject.passed.contains(Check::Body) {
        return Ok(());
    }
    match subject.interaction {
        Some(Interaction::Create) => {
            let format = body_format(headers)?;
            checks::new_pointer(format, body).map(drop)
        }
        Some(Interaction::Update) => {
            let format = body_format(headers)?;
            check_status_update(format, body)
        }
        Some(Interaction::Read | Interaction::Search | Interaction::Delete | Interaction::Retrieve) => Ok(()),
        None => Err(Refusal::new(Reason::PathUnknown, Reason::PathUnknown.meaning())),
    }
}
