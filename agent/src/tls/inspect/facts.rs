//! What stands in a certificate, as an operator or a supplier reads it.

use openssl::{error::ErrorStack, nid::Nid, pkey::Id, x509::X509Ref};
use serde::Serialize;
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

use crate::tls::{
    CertificateSummary,
    client::{Time, UNREADABLE, general_name},
};

/// A certificate's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CertificateFacts {
    /// Its subject.
    pub subject: String,
    /// Its issuer.
    pub issuer: String,
    /// The subject's common names.
    pub common_names: Vec<String>,
    /// Its SAN, each name with its kind, as in `DNS:ssp.example.nhs.uk`.
    pub alternative_names: Vec<String>,
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// The SHA-256 of its DER form, hexadecimal.
    pub sha256: String,
    /// When it begins (RFC 3339).
    pub not_before: String,
    /// When it ends.
    pub not_after: String,
    /// Whole days until it ends; negative if it is over.
    pub days_left: i64,
    /// Kind and size of its key.
    pub key: String,
    /// The algorithm of its issuer's signature.
    pub signature: String,
    /// Whether it is a CA's.
    pub ca: bool,
    /// Its key usage, in RFC 5280's words; empty if it has none.
    pub key_usage: Vec<&'static str>,
    /// Its extended key usage, in RFC 5280's words or as object identifiers; empty if it has none.
    pub extended_key_usage: Vec<String>,
    /// Where its issuer publishes CRLs.
    pub crl_distribution_points: Vec<String>,
}

impl CertificateFacts {
    pub(super) fn of(certificate: &X509Ref, now: Time) -> Result<Self, ErrorStack> {
        let CertificateSummary {
            subject,
            issuer,
            serial,
            sha256,
            not_before,
            not_after,
            ..
        } = CertificateSummary::of(certificate)?;
        let common_names = certificate.subject_name().entries_by_nid(Nid::COMMONNAME);
        let alternative_names = certificate.subject_alt_names();
        let usage = Usage::of(&certificate.to_der()?);
        Ok(Self {
            subject,
            issuer,
            common_names: common_names
                .map(|entry| match entry.data().to_string() {
                    Ok(name) => name.to_string(),
                    Err(_) => UNREADABLE.to_owned(),
                })
                .collect(),
            alternative_names: alternative_names.iter().flatten().map(general_name).collect(),
            serial,
            sha256,
            not_before,
            not_after,
            days_left: Time::of(certificate.not_after())?.days_since(now),
            key: key(certificate),
            signature: signature(certificate),
            ca: usage.ca,
            key_usage: usage.key,
            extended_key_usage: usage.extended,
            crl_distribution_points: distribution_points(certificate),
        })
    }
}

fn key(certificate: &X509Ref) -> String {
    let Ok(key) = certificate.public_key() else {
        return UNREADABLE.to_owned();
    };
    let kind = match key.id() {
        Id::RSA => "RSA",
        Id::RSA_PSS => "RSA-PSS",
        Id::EC => "EC",
        Id::DSA => "DSA",
        Id::ED25519 => "Ed25519",
        Id::ED448 => "Ed448",
        _ => "of another kind",
    };
    format!("{kind}, {} bits", key.bits())
}

fn signature(certificate: &X509Ref) -> String {
    let algorithm = certificate.signature_algorithm().object();
    match algorithm.nid().long_name() {
        Ok(name) if algorithm.nid() != Nid::UNDEF => name.to_owned(),
        _ => algorithm.to_string(),
    }
}

fn distribution_points(certificate: &X509Ref) -> Vec<String> {
    let points = certificate.crl_distribution_points();
    let mut names = Vec::new();
    for point in points.iter().flatten() {
        let full = point.distpoint().and_then(|point| point.fullname());
        match full {
            Some(full) => names.extend(full.iter().map(|general| match general.uri() {
                Some(uri) => uri.to_owned(),
                None => general_name(general),
            })),
            None => names.push(UNREADABLE.to_owned()),
        }
    }
    names
}

/// What a certificate may be used for.
#[derive(Default)]
struct Usage {
    ca: bool,
    key: Vec<&'static str>,
    extended: Vec<String>,
}

impl Usage {
    /// What can't be read is left out: the rules refuse such a certificate.
    fn of(der: &[u8]) -> Self {
        let Ok((_, certificate)) = X509Certificate::from_der(der) else {
            return Self::default();
        };
        let mut usage = Self {
            ca: certificate.is_ca(),
            ..Self::default()
        };
        if let Ok(Some(extension)) = certificate.key_usage() {
            let flags = extension.value;
            usage.key = set([
                (flags.digital_signature(), "digitalSignature"),
                (flags.non_repudiation(), "nonRepudiation"),
                (flags.key_encipherment(), "keyEncipherment"),
                (flags.data_encipherment(), "dataEncipherment"),
                (flags.key_agreement(), "keyAgreement"),
                (flags.key_cert_sign(), "keyCertSign"),
                (flags.crl_sign(), "cRLSign"),
                (flags.encipher_only(), "encipherOnly"),
                (flags.decipher_only(), "decipherOnly"),
            ]);
        }
        if let Ok(Some(extension)) = certificate.extended_key_usage() {
            let purposes = extension.value;
            let known = set([
                (purposes.any, "anyExtendedKeyUsage"),
                (purposes.server_auth, "serverAuth"),
                (purposes.client_auth, "clientAuth"),
                (purposes.code_signing, "codeSigning"),
                (purposes.email_protection, "emailProtection"),
                (purposes.time_stamping, "timeStamping"),
                (purposes.ocsp_signing, "OCSPSigning"),
            ]);
            usage.extended = known.into_iter().map(str::to_owned).collect();
            usage
                .extended
                .extend(purposes.other.iter().map(|other| other.to_id_string()));
        }
        usage
    }
}

fn set<const N: usize>(flags: [(bool, &'static str); N]) -> Vec<&'static str> {
    flags
        .into_iter()
        .filter(|(set, _)| *set)
        .map(|(_, word)| word)
        .collect()
}
