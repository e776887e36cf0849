//! The acceptor: which TLS, which client certificates, and the handshake that ends in a verified client or a refusal.

mod acceptor;
mod client;
mod context;
mod load;
mod name;
mod refusal;
mod revocation;
mod trust;

pub use acceptor::{Acceptor, InForce, Session};
pub use client::{CertificateSummary, VerifiedClient};
pub use load::{Loaded, load};
pub use refusal::Refusal;
pub use revocation::CrlStatus;
pub use trust::Trust;

#[cfg(test)]
pub(crate) mod testing;
