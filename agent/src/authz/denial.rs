//! A denial: what is answered, and what the audit records of it.

use http::{HeaderName, HeaderValue, header};
use spinegate_common::Reason;

use crate::nrl::{
    Asid, Claims, Interaction, InteractionId, OdsCode, Outcome, PointerId, Refusal, TraceId, allowed_methods,
};

use super::{Check, Checks};

/// What is known of a request, as far as the checks got.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// The ASID that the request claims; its owner is proven only once [`Check::CertificateName`] has passed.
    pub asid: Option<Asid>,
    /// The ODS code registered for it.
    pub ods: Option<OdsCode>,
    /// What the request does.
    pub interaction: Option<Interaction>,
    /// The ID under which the registry associates the interaction with the ASID.
    pub interaction_id: Option<InteractionId>,
    /// The pointer that the path or `_id` names.
    pub pointer: Option<PointerId>,
    /// The owner of the pointer concerned.
    pub custodian: Option<OdsCode>,
    /// What the JWT says: the client's word.
    pub claims: Option<Claims>,
    /// The checks that it has passed.
    pub passed: Checks,
    /// The consumer's id of the request, where the Secure Proxy passes one on.
    pub trace: Option<TraceId>,
}

impl Subject {
    /// Notes what a check that is made to its end came to.
    pub(super) fn made<T>(
        &mut self,
        check: Check,
        result: Result<T, Refusal>,
    ) -> Result<T, (Check, Refusal)> {
        match result {
            Ok(found) => {
                self.passed.insert(check);
                Ok(found)
            }
            Err(refusal) => Err((check, refusal)),
        }
    }
}

/// A request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {refusal}", refusal.reason().as_str())]
pub struct Denial {
    refusal: Refusal,
    check: Option<Check>,
    subject: Box<Subject>,
    allow: Option<&'static str>,
}

impl Denial {
    /// A denial that is not a check's: a body that did not arrive, a locator that did not answer, a
    /// certificate that expired.
    #[must_use]
    pub fn new(refusal: Refusal, subject: Subject) -> Self {
        Self {
            refusal,
            check: None,
            subject: Box::new(subject),
            allow: None,
        }
    }

    pub(super) fn by(check: Check, refusal: Refusal, subject: Subject) -> Self {
        Self {
            check: Some(check),
            ..Self::new(refusal, subject)
        }
    }

    pub(super) fn allowing(self, methods: &'static str) -> Self {
        Self {
            allow: Some(methods),
            ..self
        }
    }

    pub(super) fn for_path(self, base_path: &str, path: &str) -> Self {
        Self {
            allow: allowed_methods(base_path, path),
            ..self
        }
    }

    /// The reason.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.refusal.reason()
    }

    /// What the client is told; of values, only those that it sent itself.
    #[must_use]
    pub fn diagnostics(&self) -> &str {
        self.refusal.diagnostics()
    }

    /// The check that failed.
    #[must_use]
    pub fn check(&self) -> Option<Check> {
        self.check
    }

    /// What is known of the request.
    #[must_use]
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Status and codes of the answer.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        Outcome::of(self.reason())
    }

    /// The header that the answer's status asks for: `Allow` with 405, `WWW-Authenticate` with 401 (RFC 9110
    /// sections 15.5.6 and 15.5.2), `Retry-After` with 503 and 429.
    #[must_use]
    pub fn header(&self) -> Option<(HeaderName, HeaderValue)> {
        match (self.reason(), self.allow) {
            (Reason::MethodUnknown, Some(methods)) => {
                Some((header::ALLOW, HeaderValue::from_static(methods)))
            }
            (Reason::AsidFqdnMismatch, _) => {
                Some((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")))
            }
            // RFC 9110 section 10.2.3, in seconds.
            (Reason::UpstreamOverloaded | Reason::Overloaded | Reason::ClientOverloaded, _) => {
                Some((header::RETRY_AFTER, HeaderValue::from_static("1")))
            }
            _ => None,
        }
    }
}
