//! The configuration file: its schema with defaults, loading, and diagnostics that name file, line and key.

mod cidr;
mod diagnostic;
mod document;
mod kind;
mod load;
mod model;
mod problem;
mod reader;
mod secure_url;
mod service;
mod url;
mod values;

pub use cidr::{Cidr, CidrError};
pub use diagnostic::Diagnostic;
pub use document::Document;
pub(crate) use load::beside;
pub use load::{DEFAULT_SOCKET, Loaded, control_socket, load};
pub(crate) use model::folder_of;
pub use model::{
    Audit, AuditOutput, Authz, AuthzMode, ClientTls, Compat, Config, Control, CrlFetch, DhGroup, Durability,
    Failsafe, Filter, FilterMode, Fqdns, Gateway, GuardedService, HandshakeBudgets, Health, Ldap, Listen,
    Log, LogFormat, MaxShrink, Metrics, Ocsp, OcspMode, OnFailure, OnStale, Profile, Provider, Registry,
    Requester, Revocation, Run, Scope, Sds, Service, ServiceMode, ServiceProtocol, ShadowCase, Source,
    SourceKind, Suites, Tls, Unauthenticated, UpstreamTls, Verdicts, XdpAttach,
};
pub use problem::Problem;
pub use secure_url::SecureUrl;
pub use service::{ServiceError, SourceName, SourceNameError};
pub use url::{HttpHost, HttpUrl, UrlError};
