//! Why the guarded service gave no usable answer, and what that says about trying again.

use std::{error::Error, fmt, io};

use spinegate_common::Reason;

use super::wire::TooMuch;
use crate::tls::is_truncation;

/// Why the guarded service gave no usable answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::gateway) struct UpstreamError {
    pub(in crate::gateway) reason: Reason,
    pub(in crate::gateway) detail: String,
}

impl UpstreamError {
    pub(in crate::gateway) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
        }
    }

    /// What hyper says of an answer, or of a request that got none.
    pub(super) fn of(error: &hyper::Error) -> Self {
        let causes = || std::iter::successors(error.source(), |cause| (*cause).source());
        let io = causes().find_map(|cause| cause.downcast_ref::<io::Error>());
        let reason = if error.is_parse() {
            Reason::UpstreamFraming
        } else if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
            Reason::UpstreamReset
        } else {
            io.map_or(Reason::UpstreamFraming, of_io)
        };
        let mut detail = error.to_string();
        for cause in causes() {
            let cause = cause.to_string();
            // hyper repeats some causes in its own words.
            if !detail.ends_with(&cause) {
                detail = format!("{detail}: {cause}");
            }
        }
        Self { reason, detail }
    }
}

fn of_io(error: &io::Error) -> Reason {
    let Some(inner) = error.get_ref() else {
        return match error.kind() {
            // hyper's decoders say so of what they read.
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => Reason::UpstreamFraming,
            _ => Reason::UpstreamReset,
        };
    };
    if inner.is::<TooMuch>() {
        return Reason::UpstreamFraming;
    }
    match inner.downcast_ref::<openssl::ssl::Error>() {
        Some(error) if is_truncation(error) => Reason::UpstreamReset,
        Some(_) => Reason::UpstreamTls,
        None => match error.kind() {
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => Reason::UpstreamFraming,
            _ => Reason::UpstreamReset,
        },
    }
}

impl fmt::Display for UpstreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.as_str(), self.detail)
    }
}

impl Error for UpstreamError {}
