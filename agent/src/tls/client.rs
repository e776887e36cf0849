//! A client whose certificate kept every rule.

use std::{
    fmt::{self, Write as _},
    sync::Arc,
    time::{Duration, SystemTime},
};

use openssl::{
    asn1::{Asn1IntegerRef, Asn1Time, Asn1TimeRef},
    error::ErrorStack,
    hash::MessageDigest,
    nid::Nid,
    x509::{X509NameRef, X509Ref},
};

use crate::nrl::Fqdn;

/// A client that passed R8 to R12. Only this room can make one, and the request pipeline begins with one.
#[derive(Clone, Debug)]
pub struct VerifiedClient {
    facts: Arc<Facts>,
}

/// What the rules look at again on each request.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) fqdn: Fqdn,
    pub(super) leaf: Certificate,
    pub(super) issuer: Arc<Certificate>,
    pub(super) summary: CertificateSummary,
}

/// A certificate of a verified chain, as far as it can become invalid later.
#[derive(Debug)]
pub(super) struct Certificate {
    pub(super) serial: String,
    pub(super) not_before: Time,
    pub(super) not_after: Time,
    pub(super) fingerprint: [u8; 32],
}

/// A moment, in seconds since 1970 (a certificate may lie before).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Time(i64);

impl Time {
    pub(super) fn of(time: &Asn1TimeRef) -> Result<Self, ErrorStack> {
        let since = Asn1Time::from_unix(0)?.diff(time)?;
        Ok(Self(i64::from(since.days) * 86_400 + i64::from(since.secs)))
    }

    /// The time from `earlier` to this; none if it is over.
    pub(super) fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    pub(super) fn plus(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)),
        )
    }
}

impl From<SystemTime> for Time {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(0).plus(since)
    }
}

impl fmt::Display for Time {
    /// RFC 3339; what it can't write is given in seconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const YEAR_10000: u64 = 253_402_300_800;
        match u64::try_from(self.0) {
            Ok(seconds) if seconds < YEAR_10000 => {
                humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
                    .fmt(f)
            }
            _ => write!(f, "{} s since 1970", self.0),
        }
    }
}

/// A certificate as the audit log names it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct CertificateSummary {
    /// Its subject, as RFC 4514 writes names, but in the certificate's order.
    pub subject: String,
    /// Its issuer, in the same form.
    pub issuer: String,
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// The SHA-256 of its DER form, hexadecimal.
    pub sha256: String,
    /// When it ends (RFC 3339).
    pub not_after: String,
}

impl VerifiedClient {
    pub(super) fn new(facts: Facts) -> Self {
        Self {
            facts: Arc::new(facts),
        }
    }

    pub(super) fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The name in its certificate.
    #[must_use]
    pub fn fqdn(&self) -> &Fqdn {
        &self.facts.fqdn
    }

    /// Its certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateSummary {
        &self.facts.summary
    }
}

impl Certificate {
    pub(super) fn of(certificate: &X509Ref) -> Result<Self, ErrorStack> {
        Ok(Self {
            serial: serial(certificate.serial_number())?,
            not_before: Time::of(certificate.not_before())?,
            not_after: Time::of(certificate.not_after())?,
            fingerprint: fingerprint(certificate)?,
        })
    }
}

impl CertificateSummary {
    pub(super) fn of(certificate: &X509Ref) -> Result<Self, ErrorStack> {
        let serial = serial(certificate.serial_number())?;
        let (fingerprint, not_after) = (fingerprint(certificate)?, Time::of(certificate.not_after())?);
        Ok(Self::with(certificate, serial, &fingerprint, not_after))
    }

    /// The same, of a certificate that has been read already.
    pub(super) fn of_known(certificate: &X509Ref, known: &Certificate) -> Self {
        Self::with(
            certificate,
            known.serial.clone(),
            &known.fingerprint,
            known.not_after,
        )
    }

    fn with(certificate: &X509Ref, serial: String, fingerprint: &[u8; 32], not_after: Time) -> Self {
        let mut sha256 = String::with_capacity(2 * fingerprint.len());
        for byte in fingerprint {
            // Writing to a string can't fail.
            let _ = write!(sha256, "{byte:02x}");
        }
        Self {
            subject: name(certificate.subject_name()),
            issuer: name(certificate.issuer_name()),
            serial,
            sha256,
            not_after: not_after.to_string(),
        }
    }
}

/// A serial number in lower-case hexadecimal.
pub(super) fn serial(serial: &Asn1IntegerRef) -> Result<String, ErrorStack> {
    Ok(serial.to_bn()?.to_hex_str()?.to_ascii_lowercase())
}

/// The SHA-256 of a certificate's DER form.
pub(super) fn fingerprint(certificate: &X509Ref) -> Result<[u8; 32], ErrorStack> {
    let digest = certificate.digest(MessageDigest::sha256())?;
    let mut fingerprint = [0; 32];
    for (to, from) in fingerprint.iter_mut().zip(digest.iter()) {
        *to = *from;
    }
    Ok(fingerprint)
}

/// A name on one line.
pub(super) fn name(name: &X509NameRef) -> String {
    let entries = name.entries().map(|entry| {
        let object = entry.object();
        let kind = match object.nid() {
            Nid::UNDEF => object.to_string(),
            nid => nid.short_name().unwrap_or("?").to_owned(),
        };
        let value = match entry.data().to_string() {
            Ok(value) => value.to_string(),
            Err(_) => "(unreadable)".to_owned(),
        };
        format!("{kind}={}", value.replace('\\', "\\\\").replace(',', "\\,"))
    });
    entries.collect::<Vec<_>>().join(",")
}
