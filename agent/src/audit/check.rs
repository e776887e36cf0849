//! The check that decides a refusal, where the checks of a request's permission don't say.

use spinegate_common::{Layer, Reason};

/// The check that refuses for a reason.
pub(super) const fn of(reason: Reason) -> &'static str {
    match reason {
        Reason::ConnectionLimit
        | Reason::UnauthenticatedLimit
        | Reason::SourceUnauthenticatedLimit
        | Reason::HandshakeQueueFull => "connection_limits",
        Reason::TlsVersion => "tls_version",
        Reason::NoCommonCipher => "tls_suite",
        Reason::ExtendedMasterSecretMissing | Reason::EncryptThenMacMissing | Reason::NoCommonProtocol => {
            "tls_extensions"
        }
        Reason::CertificateMissing => "certificate_present",
        Reason::KeyUnproven => "certificate_key_proof",

        Reason::IssuerNotPinned => "certificate_issuer",
        Reason::CertificateNotYetValid | Reason::CertificateExpired => "certificate_validity",
        Reason::CertificateRevoked | Reason::CrlMissing | Reason::CrlStale | Reason::OcspUnavailable => {
            "certificate_revocation"
        }
        Reason::WrongUsage => "certificate_usage",
        Reason::WeakKeyOrDigest => "certificate_key",
        Reason::FqdnMismatch => "certificate_fqdn",

        Reason::BodyTooLarge | Reason::BodyTimeout | Reason::BodyIdle => "body_arrival",
        Reason::AnswerStalled => "answer_taken",
        Reason::AuditFailed => "audit",
        Reason::PointerChanged => "ownership",

        _ => match reason.layer() {
            Layer::Filter => "filter",
            Layer::Handshake => "handshake",
            Layer::Certificate => "certificate_chain",
            Layer::Request => "framing",
            Layer::Authorisation => "permission",
            Layer::Upstream => "upstream",
            Layer::Agent => "load",
            Layer::Operator => "operator",
        },
    }
}
