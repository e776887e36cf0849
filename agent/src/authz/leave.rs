//! Leave to forward a request. The forwarder takes nothing else.

use bytes::Bytes;
use http::{HeaderValue, Method, uri::PathAndQuery};

use super::{Permit, Retrieval, Subject};

/// Leave to forward one request, exactly as it was judged.
#[derive(Debug)]
#[must_use = "leave is there to be used"]
pub enum Leave {
    /// It passed every check of a record locator's.
    Permit(Permit),
    /// It passed every check of a provider's.
    Retrieval(Retrieval),
}

impl Leave {
    /// The method to forward.
    #[must_use]
    pub fn method(&self) -> &Method {
        match self {
            Self::Permit(permit) => permit.method(),
            Self::Retrieval(_) => &Method::GET,
        }
    }

    /// The path and query to forward, as they were judged.
    #[must_use]
    pub fn path_and_query(&self) -> &PathAndQuery {
        match self {
            Self::Permit(permit) => permit.path_and_query(),
            Self::Retrieval(retrieval) => retrieval.path_and_query(),
        }
    }

    /// The body to forward, as it was judged.
    #[must_use]
    pub fn body(&self) -> Bytes {
        match self {
            Self::Permit(permit) => permit.body().clone(),
            Self::Retrieval(_) => Bytes::new(),
        }
    }

    /// The If-Match to forward.
    #[must_use]
    pub fn if_match(&self) -> Option<HeaderValue> {
        match self {
            Self::Permit(permit) => permit.if_match(),
            Self::Retrieval(_) => None,
        }
    }

    /// Whether that is none that the client asked for.
    #[must_use]
    pub const fn adds_if_match(&self) -> bool {
        match self {
            Self::Permit(permit) => permit.adds_if_match(),
            Self::Retrieval(_) => false,
        }
    }

    /// What the audit records.
    #[must_use]
    pub fn subject(&self) -> &Subject {
        match self {
            Self::Permit(permit) => permit.subject(),
            Self::Retrieval(retrieval) => retrieval.subject(),
        }
    }
}
