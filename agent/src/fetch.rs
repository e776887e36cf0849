//! What the agent fetches about revocation, beside the way of clients and requests, and from hosts that the operator lists.

mod crls;
mod download;
mod folder;
mod ocsp;
pub(crate) mod schedule;

pub use crls::{CrlFetcher, FetchOrigin, FetchStatus};
pub use folder::Folder;
pub use ocsp::OcspClient;
