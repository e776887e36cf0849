//! When what is in force ends: an outage that is known of long before.

use std::time::SystemTime;

use openssl::x509::X509Ref;
use serde::Serialize;

use super::{
    Trust,
    client::{Time, fingerprint, name},
};
use crate::control::CertificateStatus;

/// What ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpiryKind {
    /// The gateway's own certificate.
    OwnCertificate,
    /// An accepted issuer of clients' certificates.
    Issuer,
    /// A root.
    Root,
    /// A CRL: its next update is due.
    Crl,
}

/// The end of something that is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// What it is.
    pub kind: ExpiryKind,
    /// Its subject; a CRL's issuer.
    pub subject: String,
    ends: Time,
    /// The SHA-256 of a certificate.
    fingerprint: Option<[u8; 32]>,
}

impl ExpiryKind {
    /// The word that stands for it in metrics, tables and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OwnCertificate => "own_certificate",
            Self::Issuer => "issuer",
            Self::Root => "root",
            Self::Crl => "crl",
        }
    }
}

impl Expiry {
    /// When it ends (RFC 3339).
    #[must_use]
    pub fn ends(&self) -> String {
        self.ends.to_string()
    }

    /// When it ends, in seconds since 1970.
    #[must_use]
    pub const fn timestamp(&self) -> i64 {
        self.ends.unix()
    }

    /// Whole days until it ends; negative if it is over.
    #[must_use]
    pub fn days_left(&self, now: SystemTime) -> i64 {
        self.ends.days_since(now.into())
    }
}

/// The certificates among them.
#[must_use]
pub fn certificates(expiries: &[Expiry], now: SystemTime) -> Vec<CertificateStatus> {
    let certificates = expiries.iter().filter_map(|expiry| {
        let sha256 = expiry.fingerprint?.into_iter().map(|byte| format!("{byte:02x}"));
        Some(CertificateStatus {
            what: expiry.kind.as_str().to_owned(),
            subject: expiry.subject.clone(),
            ends: expiry.ends(),
            days_left: expiry.days_left(now),
            sha256: sha256.collect(),
        })
    });
    certificates.collect()
}

/// All ends, by kind, the earliest of each first.
pub(super) fn of(own: Option<&X509Ref>, trust: &Trust) -> Vec<Expiry> {
    let anchors = trust.anchors();
    let certificates = own
        .map(|own| (ExpiryKind::OwnCertificate, own))
        .into_iter()
        .chain(
            anchors
                .issuers()
                .map(|issuer| (ExpiryKind::Issuer, issuer.as_ref())),
        )
        .chain(
            anchors
                .roots()
                .iter()
                .map(|root| (ExpiryKind::Root, root.as_ref())),
        )
        .filter_map(|(kind, certificate)| {
            // A certificate without a readable end was refused when it was loaded, or as the issuer of each client.
            let ends = Time::of(certificate.not_after()).ok()?;
            let fingerprint = fingerprint(certificate).ok()?;
            Some((kind, name(certificate.subject_name()), ends, Some(fingerprint)))
        });
    let crls = trust
        .revocations()
        .next_updates()
        .map(|(issuer, due)| (ExpiryKind::Crl, issuer.to_owned(), due, None));
    let mut expiries: Vec<_> = certificates
        .chain(crls)
        .map(|(kind, subject, ends, fingerprint)| Expiry {
            kind,
            subject,
            ends,
            fingerprint,
        })
        .collect();
    expiries.sort_by(|a, b| (a.kind, a.ends, &a.subject).cmp(&(b.kind, b.ends, &b.subject)));
    expiries
}
