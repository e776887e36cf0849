//! A client whose certificate kept every rule.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use openssl::{
    asn1::{Asn1IntegerRef, Asn1Time, Asn1TimeRef},
    error::ErrorStack,
    hash::MessageDigest,
    nid::Nid,
    x509::{GeneralNameRef, X509NameRef, X509Ref},
};
use x509_parser::{certificate::X509Certificate, oid_registry, prelude::FromDer as _};

use super::Question;
use super::revocation::Point;
use crate::nrl::Fqdn;

/// Stands for what is no text.
pub(super) const UNREADABLE: &str = "(unreadable)";

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
    /// About leaf and issuer; none while nobody asks.
    pub(super) questions: Vec<Arc<Question>>,
}

/// A certificate of a verified chain, as far as it can become invalid later.
#[derive(Debug)]
pub(super) struct Certificate {
    pub(super) serial: String,
    pub(super) not_before: Time,
    pub(super) not_after: Time,
    pub(super) fingerprint: [u8; 32],
    /// Where its issuer says which CRL speaks for it.
    pub(super) points: Vec<Point>,
    /// Whether it may sign others.
    pub(super) is_ca: bool,
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

    pub(super) const fn unix(self) -> i64 {
        self.0
    }

    /// Whole days from `earlier` to this; negative, and at least one, if it is over.
    pub(super) const fn days_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0).div_euclid(86_400)
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
    /// The names in its SAN, each with its kind.
    pub san: Vec<String>,
    /// When it begins (RFC 3339).
    pub not_before: String,
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

    /// What OCSP responders are asked about its certificate and its issuer's.
    #[must_use]
    pub fn questions(&self) -> &[Arc<Question>] {
        &self.facts.questions
    }

    /// Its certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateSummary {
        &self.facts.summary
    }
}

impl Certificate {
    /// # Errors
    /// What can't be read in it.
    pub(super) fn of(certificate: &X509Ref) -> Result<Self, String> {
        let unreadable = |error: ErrorStack| error.to_string();
        let der = certificate.to_der().map_err(unreadable)?;
        let (_, parsed) = X509Certificate::from_der(&der).map_err(|error| error.to_string())?;
        let mut points = Vec::new();
        for extension in parsed.extensions() {
            if extension.oid == oid_registry::OID_X509_EXT_CRL_DISTRIBUTION_POINTS {
                points = Point::of_certificate(extension.value).map_err(|error| error.to_string())?;
            }
        }
        Ok(Self {
            serial: serial(certificate.serial_number()).map_err(unreadable)?,
            not_before: Time::of(certificate.not_before()).map_err(unreadable)?,
            not_after: Time::of(certificate.not_after()).map_err(unreadable)?,
            fingerprint: fingerprint(certificate).map_err(unreadable)?,
            points,
            is_ca: parsed.is_ca(),
        })
    }
}

impl CertificateSummary {
    pub(super) fn of(certificate: &X509Ref) -> Result<Self, ErrorStack> {
        Ok(Self {
            subject: name(certificate.subject_name()),
            issuer: name(certificate.issuer_name()),
            serial: serial(certificate.serial_number())?,
            sha256: fingerprint(certificate)?
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
            san: san(certificate),
            not_before: Time::of(certificate.not_before())?.to_string(),
            not_after: Time::of(certificate.not_after())?.to_string(),
        })
    }
}

/// The names in a certificate's SAN; of a flood of them only the first.
fn san(certificate: &X509Ref) -> Vec<String> {
    const MOST: usize = 16;
    let names = certificate.subject_alt_names();
    names.iter().flatten().take(MOST).map(general_name).collect()
}

/// A name with its kind, as in `DNS:ssp.example.nhs.uk`.
pub(super) fn general_name(general: &GeneralNameRef) -> String {
    let address = |bytes: &[u8]| {
        if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
            return Ipv4Addr::from(octets).to_string();
        }
        <[u8; 16]>::try_from(bytes).map_or_else(
            |_| UNREADABLE.to_owned(),
            |octets| Ipv6Addr::from(octets).to_string(),
        )
    };
    if let Some(dns) = general.dnsname() {
        format!("DNS:{dns}")
    } else if let Some(bytes) = general.ipaddress() {
        format!("IP:{}", address(bytes))
    } else if let Some(uri) = general.uri() {
        format!("URI:{uri}")
    } else if let Some(email) = general.email() {
        format!("email:{email}")
    } else if let Some(directory) = general.directory_name() {
        format!("DN:{}", name(directory))
    } else {
        UNREADABLE.to_owned()
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
            Err(_) => UNREADABLE.to_owned(),
        };
        format!("{kind}={}", value.replace('\\', "\\\\").replace(',', "\\,"))
    });
    entries.collect::<Vec<_>>().join(",")
}
