//! The acceptor: which TLS, which client certificates, and the handshake that ends in a verified client or a refusal.

mod acceptor;
mod client;
mod connector;
mod context;
mod hello;
mod load;
mod name;
mod pool;
mod progress;
mod refusal;
mod revocation;
mod sessions;
mod stream;
mod trust;

pub use acceptor::{Acceptor, InForce, Reread, Session};
pub use client::{CertificateSummary, VerifiedClient};
pub(crate) use connector::is_truncation;
pub use connector::{ConnectError, Connector};
pub use load::{Loaded, load, load_connector};
pub use refusal::{CrlFacts, Refusal};
pub use revocation::Watch;
pub use stream::TlsStream;
pub use trust::Trust;

#[cfg(test)]
pub(crate) mod testing;
