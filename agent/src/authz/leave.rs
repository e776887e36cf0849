//! Leave to forward a request. The forwarder takes nothing else.

use bytes::Bytes;
use http::{HeaderValue, Method, uri::PathAndQuery};

use super::{Denial, Permit, Retrieval, Shadowed, Subject};

/// Leave to forward one request, exactly as it was judged.
#[derive(Debug)]
#[must_use = "leave is there to be used"]
pub enum Leave {
    /// It passed every check of a record locator's.
    Permit(Permit),
    /// It passed every check of a provider's.
    Retrieval(Retrieval),
    /// It failed one, and goes on as it would have gone without the gateway.
    Shadowed(Shadowed),
}

impl Leave {
    /// The method to forward.
    #[must_use]
    pub fn method(&self) -> &Method {
        match self {
            Self::Permit(permit) => permit.method(),
            Self::Retrieval(_) => &Method::GET,
            Self::Shadowed(shadowed) => shadowed.method(),
        }
    }

    /// The path and query to forward, as they were judged.
    #[must_use]
    pub fn path_and_query(&self) -> &PathAndQuery {
        match self {
            Self::Permit(permit) => permit.path_and_query(),
            Self::Retrieval(retrieval) => retrieval.path_and_query(),
            Self::Shadowed(shadowed) => shadowed.path_and_query(),
        }
    }

    /// The body to forward, as it was judged.
    #[must_use]
    pub fn body(&self) -> Bytes {
        match self {
            Self::Permit(permit) => permit.body().clone(),
            Self::Retrieval(_) => Bytes::new(),
            Self::Shadowed(shadowed) => shadowed.body().clone(),
        }
    }

    /// The If-Match to forward.
    #[must_use]
    pub fn if_match(&self) -> Option<HeaderValue> {
        match self {
            Self::Permit(permit) => permit.if_match(),
            Self::Retrieval(_) => None,
            Self::Shadowed(shadowed) => shadowed.if_match().cloned(),
        }
    }

    /// Whether that is none that the client asked for.
    #[must_use]
    pub const fn adds_if_match(&self) -> bool {
        match self {
            Self::Permit(permit) => permit.adds_if_match(),
            Self::Retrieval(_) | Self::Shadowed(_) => false,
        }
    }

    /// What the audit records.
    #[must_use]
    pub fn subject(&self) -> &Subject {
        match self {
            Self::Permit(permit) => permit.subject(),
            Self::Retrieval(retrieval) => retrieval.subject(),
            Self::Shadowed(shadowed) => shadowed.denial().subject(),
        }
    }

    /// The same, when nothing else of it is needed any more.
    #[must_use]
    pub fn into_subject(self) -> Subject {
        match self {
            Self::Permit(permit) => permit.into_subject(),
            Self::Retrieval(retrieval) => retrieval.into_subject(),
            Self::Shadowed(shadowed) => shadowed.into_denial().into_subject(),
        }
    }

    /// Why it would have been refused; none where it passed every check.
    #[must_use]
    pub fn denial(&self) -> Option<&Denial> {
        match self {
            Self::Permit(_) | Self::Retrieval(_) => None,
            Self::Shadowed(shadowed) => Some(shadowed.denial()),
        }
    }
}
