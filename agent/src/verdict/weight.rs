//! How much a failure counts against its source.

use spinegate_common::{Layer, Reason};

use crate::config::SourceKind;

/// Strikes for a failure. None for what is not the source's doing, and none against a proxy for what a system behind it did:
/// everything after the handshake is.
pub(super) fn weight(reason: Reason, kind: SourceKind) -> u32 {
    match (reason.layer(), kind) {
        (Layer::Handshake, _) => handshake(reason),
        (Layer::Certificate, _) => certificate(reason),
        (Layer::Request, SourceKind::System) => 1,
        (Layer::Authorisation, SourceKind::System) => authorisation(reason),
        (Layer::Request | Layer::Authorisation, SourceKind::Proxy) => 0,
        // A packet's source can be forged (it never earns a verdict); the upstream, the agent and the operator are ours.
        (Layer::Filter | Layer::Upstream | Layer::Agent | Layer::Operator, _) => 0,
    }
}

fn handshake(reason: Reason) -> u32 {
    match reason {
        // Our own limits, the client's refusal of us, a client that went away before it cost us anything.
        Reason::ConnectionLimit
        | Reason::UnauthenticatedLimit
        | Reason::SourceUnauthenticatedLimit
        | Reason::HandshakeQueueFull
        | Reason::PeerAlert
        | Reason::PeerClosed => 0,
        Reason::HandshakeMalformed | Reason::CertificateMissing | Reason::KeyUnproven => 2,
        _ => 1,
    }
}

fn certificate(reason: Reason) -> u32 {
    match reason {
        // Our own CRLs are missing or old, or a responder is silent.
        Reason::CrlMissing | Reason::CrlStale | Reason::OcspUnavailable => 0,
        Reason::CertificateNotYetValid | Reason::CertificateExpired => 1,
        Reason::CertificateRevoked => 3,
        _ => 2,
    }
}

fn authorisation(reason: Reason) -> u32 {
    match reason {
        // Another request came first.
        Reason::PointerChanged | Reason::VersionMismatch => 0,
        Reason::NotOwner | Reason::TargetNotOwner | Reason::AsidFqdnMismatch => 2,
        _ => 1,
    }
}
