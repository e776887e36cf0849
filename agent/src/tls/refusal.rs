//! Why a handshake ended without a verified client.

use std::time::Duration;

use openssl::{error::ErrorStack, ssl::ErrorCode, x509::X509VerifyResult};
use spinegate_common::Reason;

use super::CertificateSummary;

/// A refused handshake. The peer learns the TLS alert and no more; this is for the audit log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", reason.as_str())]
pub struct Refusal {
    /// The one reason.
    pub reason: Reason,
    /// What was found, for the operator.
    pub detail: String,
    /// The client's certificate, if it came so far.
    pub certificate: Option<Box<CertificateSummary>>,
    /// Where in the chain the refused certificate stands; the client's own at 0.
    pub depth: Option<usize>,
    /// The CRL that decided.
    pub crl: Option<Box<CrlFacts>>,
}

/// A CRL, as far as a refusal rests on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrlFacts {
    /// Its issuer's name.
    pub issuer: String,
    /// Its number (RFC 5280 section 5.2.3), hexadecimal.
    pub number: Option<String>,
    /// Since it was issued.
    pub age: Duration,
    /// When the next one was due (RFC 3339).
    pub next_update: Option<String>,
}

/// A broken rule.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) reason: Reason,
    pub(super) detail: String,
    pub(super) depth: usize,
    pub(super) crl: Option<Box<CrlFacts>>,
}

impl Fault {
    /// One of the client's own certificate.
    pub(super) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
            depth: 0,
            crl: None,
        }
    }

    /// The same of another certificate of the chain.
    pub(super) fn at(mut self, depth: usize) -> Self {
        self.depth = depth;
        self
    }

    /// With what is known of the client's certificate.
    pub(super) fn into_refusal(self, certificate: Option<CertificateSummary>) -> Refusal {
        Refusal {
            reason: self.reason,
            detail: self.detail,
            certificate: certificate.map(Box::new),
            depth: Some(self.depth),
            crl: self.crl,
        }
    }
}

impl Refusal {
    pub(super) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
            certificate: None,
            depth: None,
            crl: None,
        }
    }

    /// Whether another CRL could let the client pass.
    pub(super) const fn is_for_want_of_a_crl(&self) -> bool {
        matches!(self.reason, Reason::CrlMissing | Reason::CrlStale)
    }

    /// The code by which OpenSSL chooses the alert (RFC 5246 section 7.2.2) for a refused certificate.
    pub(super) fn verify_error(&self) -> X509VerifyResult {
        // The codes of OpenSSL's public header `x509_vfy.h`, each with the alert that it makes.
        let code = match self.reason {
            // unknown_ca
            Reason::ChainUnknownCa | Reason::IssuerNotPinned => 20,
            // bad_certificate
            Reason::ChainInvalid | Reason::WeakKeyOrDigest => 28,
            // certificate_expired: has expired or is not currently valid
            Reason::CertificateNotYetValid | Reason::CertificateExpired => 10,
            // certificate_revoked
            Reason::CertificateRevoked => 23,
            // unsupported_certificate
            Reason::WrongUsage => 26,
            // certificate_unknown: some other issue, as for every code that OpenSSL has no alert for
            _ => 47,
        };
        // SAFETY: every number is a code to OpenSSL; one that it does not know means certificate_unknown.
        unsafe { X509VerifyResult::from_raw(code) }
    }

    /// What OpenSSL's error says about the peer, where the certificate rules had nothing to say.
    pub(super) fn of_error(error: &openssl::ssl::Error) -> Self {
        if let Some(stack) = error.ssl_error() {
            return Self::of_stack(stack);
        }
        match error.io_error() {
            Some(error) => Self::new(Reason::PeerClosed, error.to_string()),
            None if error.code() == ErrorCode::ZERO_RETURN => Self::new(Reason::PeerClosed, "close_notify"),
            None => Self::new(Reason::PeerClosed, "the connection ended within the handshake"),
        }
    }

    /// What a record broke after the handshake; nothing where the peer only ended the connection.
    pub(super) fn of_record(error: &openssl::ssl::Error) -> Option<Self> {
        let refusal = Self::of_stack(error.ssl_error()?);
        let ended = matches!(refusal.reason, Reason::PeerClosed | Reason::PeerAlert);
        (!ended).then(|| Self::new(Reason::RecordInvalid, refusal.detail))
    }

    fn of_stack(stack: &ErrorStack) -> Self {
        let detail = stack.to_string();
        let first = stack
            .errors()
            .iter()
            .find(|error| error.library_code() == LIBRARY_SSL);
        let code = first.map_or(0, openssl::error::Error::reason_code);
        Self::new(reason_of_code(code), detail)
    }
}

/// ERR_LIB_SSL and the reason codes of OpenSSL's public header `sslerr.h` that tell the kinds of peers apart.
const LIBRARY_SSL: i32 = 20;

fn reason_of_code(code: i32) -> Reason {
    const NO_SHARED_CIPHER: i32 = 193;
    const PEER_DID_NOT_RETURN_A_CERTIFICATE: i32 = 199;
    const UNSUPPORTED_PROTOCOL: i32 = 258;
    const UNKNOWN_PROTOCOL: i32 = 252;
    const VERSION_TOO_LOW: i32 = 396;
    /// Only a CertificateVerify has a signature that a server checks.
    const BAD_SIGNATURE: i32 = 123;
    const UNEXPECTED_EOF: i32 = 294;
    const CERTIFICATE_VERIFY_FAILED: i32 = 134;
    const CA_KEY_TOO_SMALL: i32 = 397;
    const EE_KEY_TOO_SMALL: i32 = 399;
    const CA_MD_TOO_WEAK: i32 = 398;
    /// Alerts received from the peer are numbered from here.
    const ALERTS: std::ops::Range<i32> = 1000..1256;
    match code {
        NO_SHARED_CIPHER => Reason::NoCommonCipher,
        PEER_DID_NOT_RETURN_A_CERTIFICATE => Reason::CertificateMissing,
        UNSUPPORTED_PROTOCOL | UNKNOWN_PROTOCOL | VERSION_TOO_LOW => Reason::TlsVersion,
        BAD_SIGNATURE => Reason::KeyUnproven,
        UNEXPECTED_EOF => Reason::PeerClosed,
        CERTIFICATE_VERIFY_FAILED => Reason::ChainInvalid,
        CA_KEY_TOO_SMALL | EE_KEY_TOO_SMALL | CA_MD_TOO_WEAK => Reason::WeakKeyOrDigest,
        code if ALERTS.contains(&code) => Reason::PeerAlert,
        _ => Reason::HandshakeMalformed,
    }
}
