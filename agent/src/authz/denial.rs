//! A denial: what is answered, and what the audit records of it.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, StatusCode, header};
use spinegate_common::Reason;

use crate::nrl::{
    Asid, Claims, ErrorTable, Interaction, InteractionId, OdsCode, Outcome, PointerId, Refusal, TraceId,
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
    /// The same, where a supersede has a name of its own.
    pub action: Option<Action>,
    /// The ID under which the registry associates the interaction with the ASID.
    pub interaction_id: Option<InteractionId>,
    /// The pointer that is read, changed or replaced, as far as it is found.
    pub pointer: Option<PointerId>,
    /// The owner of the pointer concerned.
    pub custodian: Option<OdsCode>,
    /// What the JWT says: the client's word.
    pub claims: Option<Arc<Claims>>,
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

/// What a request does to pointers, as the audit has it. Supersede is an action without an interaction of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// What its interaction says.
    Plain(Interaction),
    /// Create a pointer in place of another.
    Supersede,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 7] = [
        Self::Plain(Interaction::Read),
        Self::Plain(Interaction::Search),
        Self::Plain(Interaction::Create),
        Self::Supersede,
        Self::Plain(Interaction::Update),
        Self::Plain(Interaction::Delete),
        Self::Plain(Interaction::Retrieve),
    ];

    pub(super) const fn of(interaction: Interaction) -> Self {
        Self::Plain(interaction)
    }

    /// Its name in the audit log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plain(interaction) => interaction.as_str(),
            Self::Supersede => "supersede",
        }
    }
}

/// A request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {refusal}", refusal.reason().as_str())]
pub struct Denial {
    refusal: Refusal,
    /// What the client is told instead.
    shown: Option<Refusal>,
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
            shown: None,
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

    pub(super) fn allowing(self, methods: Option<&'static str>) -> Self {
        Self {
            allow: methods,
            ..self
        }
    }

    /// The client is told this, and the truth is the audit's alone.
    pub(super) fn shown_as(self, refusal: Refusal) -> Self {
        Self {
            shown: Some(refusal),
            ..self
        }
    }

    /// The reason: the true one.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.refusal.reason()
    }

    /// What the client is told; of values, only those that it sent itself.
    #[must_use]
    pub fn diagnostics(&self) -> &str {
        self.told().diagnostics()
    }

    /// The reason that the answer seems to have.
    #[must_use]
    pub fn told_reason(&self) -> Reason {
        self.told().reason()
    }

    /// What the audit records of it: the truth, whatever the client is told. A patient's number that is malformed may
    /// still be a patient's: it goes back to its sender alone.
    #[must_use]
    pub fn detail(&self) -> &str {
        match self.reason() {
            Reason::NhsNumberInvalid => self.reason().meaning(),
            _ => self.refusal.diagnostics(),
        }
    }

    fn told(&self) -> &Refusal {
        self.shown.as_ref().unwrap_or(&self.refusal)
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

    /// The same, when nothing else of it is needed any more.
    #[must_use]
    pub fn into_subject(self) -> Subject {
        *self.subject
    }

    /// Status and codes of the answer.
    #[must_use]
    pub fn outcome(&self, table: ErrorTable) -> Outcome {
        Outcome::by(table, self.told_reason())
    }

    /// The header that the answer's status asks for: `Allow` with 405, `WWW-Authenticate` with 401 (RFC 9110
    /// sections 15.5.6 and 15.5.2), `Retry-After` with 503 and 429.
    #[must_use]
    pub fn header(&self, status: StatusCode) -> Option<(HeaderName, HeaderValue)> {
        match (self.reason(), self.allow) {
            (Reason::MethodUnknown, Some(methods)) => {
                Some((header::ALLOW, HeaderValue::from_static(methods)))
            }
            _ if status == StatusCode::UNAUTHORIZED => {
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
