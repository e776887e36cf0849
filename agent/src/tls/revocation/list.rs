//! One CRL: what it lists, for whom it speaks, and how fresh it is.

use std::{collections::HashSet, fmt, time::Duration};

use openssl::{
    error::ErrorStack,
    x509::{CrlNumber, X509CrlRef},
};
use x509_parser::{oid_registry, prelude::FromDer as _, revocation_list::CertificateRevocationList};

use super::scope::Scope;
use crate::{
    config::OnStale,
    tls::{
        client::{Time, name, serial},
        refusal::CrlFacts,
    },
};

/// How far a CRL's issuer's clock may run ahead of ours.
pub(in crate::tls) const SKEW: Duration = Duration::from_secs(300);

#[derive(Clone)]
pub(super) struct List {
    pub(super) issuer: String,
    pub(super) scope: Scope,
    pub(super) number: Option<Number>,
    pub(super) this_update: Time,
    pub(super) next_update: Option<Time>,
    pub(super) serials: HashSet<String>,
    /// Where it was read.
    pub(super) source: String,
}

/// A CRL number (RFC 5280 section 5.2.3): up to 20 octets, hexadecimal without leading zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Number(String);

/// How fresh a list is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freshness {
    Fresh,
    /// Past its end, but within the time that `tls.client.on_stale` gives it.
    Grace,
    Stale,
}

/// Why a CRL can't be used.
#[derive(Debug, thiserror::Error)]
pub(in crate::tls) enum CrlError {
    #[error("no trusted root and no accepted issuer has signed it (its issuer is {0})")]
    NotOurs(String),
    #[error("it is a delta CRL, which says nothing without its base")]
    Delta,
    #[error("{0}")]
    Scope(&'static str),
    #[error("it has a critical extension that is not understood ({0})")]
    Critical(String),
    #[error("it can't be read: {0}")]
    Unreadable(String),
}

impl From<ErrorStack> for CrlError {
    fn from(error: ErrorStack) -> Self {
        Self::Unreadable(error.to_string())
    }
}

impl List {
    /// Reads a CRL whose signature is somebody else's care.
    pub(super) fn of(crl: &X509CrlRef, source: &str) -> Result<Self, CrlError> {
        let scope = scope(crl)?;
        let serials = crl
            .get_revoked()
            .into_iter()
            .flatten()
            .map(|revoked| serial(revoked.serial_number()))
            .collect::<Result<HashSet<_>, _>>()?;
        let number = match crl.extension::<CrlNumber>()? {
            Some((_, number)) => Some(Number::new(&serial(&number)?)),
            None => None,
        };
        Ok(Self {
            issuer: name(crl.issuer_name()),
            scope,
            number,
            this_update: Time::of(crl.last_update())?,
            next_update: crl.next_update().map(Time::of).transpose()?,
            serials,
            source: source.to_owned(),
        })
    }

    /// By the CRL numbers where both have one, else by the time of issue.
    pub(super) fn is_newer_than(&self, other: &Self) -> bool {
        match (&self.number, &other.number) {
            (Some(own), Some(others)) if own != others => own > others,
            _ => self.this_update > other.this_update,
        }
    }

    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        self.scope == other.scope
            && self.number == other.number
            && self.this_update == other.this_update
            && self.serials.len() == other.serials.len()
    }

    /// In a line of a log.
    pub(super) fn describe(&self) -> String {
        let number = self
            .number
            .as_ref()
            .map_or_else(|| "none".to_owned(), ToString::to_string);
        let (issuer, scope, entries) = (&self.issuer, &self.scope, self.serials.len());
        format!(
            "{issuer} ({scope}): number {number}, of {}, {entries} revoked",
            self.this_update
        )
    }

    /// Another list of the same scope, read together with this one. The newest says how fresh both are, and what either
    /// lists is revoked.
    pub(super) fn join(&self, other: &Self) -> Self {
        let (newer, older) = if other.is_newer_than(self) {
            (other, self)
        } else {
            (self, other)
        };
        let mut joined = newer.clone();
        joined.serials.extend(older.serials.iter().cloned());
        joined
    }

    pub(super) fn freshness(&self, on_stale: OnStale, now: Time) -> Freshness {
        let Some(next) = self.next_update else {
            return Freshness::Stale;
        };
        if self.this_update > now.plus(SKEW) {
            Freshness::Stale
        } else if next >= now {
            Freshness::Fresh
        } else if matches!(on_stale, OnStale::Grace(grace) if next.plus(grace) >= now) {
            Freshness::Grace
        } else {
            Freshness::Stale
        }
    }

    /// What a refusal says of it.
    pub(super) fn facts(&self, now: Time) -> CrlFacts {
        CrlFacts {
            issuer: self.issuer.clone(),
            number: self.number.as_ref().map(ToString::to_string),
            age: now.since(self.this_update),
            next_update: self.next_update.map(|next| next.to_string()),
        }
    }

    /// What is wrong with its age, if anything is.
    pub(super) fn fault(&self, now: Time) -> Option<String> {
        let issuer = &self.issuer;
        match self.next_update {
            None => Some(format!(
                "the CRL of {issuer} does not say when the next one is due"
            )),
            Some(next) if next < now => Some(format!("the CRL of {issuer} was to be replaced by {next}")),
            Some(_) if self.this_update > now.plus(SKEW) => Some(format!(
                "the CRL of {issuer} is of the future ({})",
                self.this_update
            )),
            Some(_) => None,
        }
    }
}

impl Number {
    fn new(hexadecimal: &str) -> Self {
        Self(hexadecimal.trim_start_matches('0').to_owned())
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0
            .len()
            .cmp(&other.0.len())
            .then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "0" } else { &self.0 })
    }
}

impl Freshness {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Grace => "grace",
            Self::Stale => "stale",
        }
    }
}

/// RFC 5280 section 5.2: what a CRL's extensions make of it.
fn scope(crl: &X509CrlRef) -> Result<Scope, CrlError> {
    let der = crl.to_der()?;
    let (_, parsed) =
        CertificateRevocationList::from_der(&der).map_err(|error| CrlError::Unreadable(error.to_string()))?;
    let mut scope = Scope::default();
    for extension in parsed.extensions() {
        if extension.oid == oid_registry::OID_X509_EXT_DELTA_CRL_INDICATOR {
            return Err(CrlError::Delta);
        }
        if extension.oid == oid_registry::OID_X509_EXT_ISSUER_DISTRIBUTION_POINT {
            scope = Scope::of(extension.value).map_err(CrlError::Scope)?;
        } else if extension.critical && extension.oid != oid_registry::OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER {
            return Err(CrlError::Critical(extension.oid.to_id_string()));
        }
    }
    // An entry can be bound to another certificate issuer, or to conditions, by a critical extension of its own.
    for entry in parsed.iter_revoked_certificates() {
        if let Some(extension) = entry.extensions().iter().find(|extension| extension.critical) {
            return Err(CrlError::Critical(extension.oid.to_id_string()));
        }
    }
    Ok(scope)
}
