//! The acceptor: which TLS, which client certificates, and the handshake that ends in a verified client or a refusal.

mod acceptor;
mod candidate;
mod client;
mod connector;
mod context;
mod expiry;
mod hello;
mod inspect;
mod known;
mod load;
mod name;
mod ocsp;
mod pool;
mod progress;
mod refusal;
mod revocation;
mod sessions;
mod stream;
mod trust;
mod wanted;

pub use acceptor::{Acceptor, InForce, Reread, Session};
pub use candidate::{Candidate, CandidateError};
pub use client::{CertificateSummary, VerifiedClient};
pub(crate) use connector::is_truncation;
pub use connector::{ConnectError, Connector};
pub use expiry::{Expiry, ExpiryKind, certificates};
pub use inspect::{
    CertificateFacts, Inspection, Judged, Link, Outcome, Presented, PresentedError, Refused, Rule, inspect,
};
pub use load::{Loaded, LoadedTrust, load, load_connector, load_trust, slow_openssl};
pub use ocsp::{OcspError, Question, Questions, Standing};
pub use pool::HandshakeLoad;
pub use refusal::{CrlFacts, Refusal};
pub use revocation::Watch;
pub use stream::{Fault, TlsStream};
pub use trust::{Authorities, Trust};
pub use wanted::Wanted;

#[cfg(any(test, feature = "fuzzing"))]
#[cfg_attr(not(test), allow(dead_code, reason = "the tests of this room use more of it"))]
#[allow(clippy::unwrap_used, reason = "it is for tests alone")]
pub(crate) mod testing;
