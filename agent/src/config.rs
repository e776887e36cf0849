//! The configuration file: its schema with defaults, loading, and diagnostics that name file, line and key.

mod model;
mod problem;

pub use model::{
    Audit, ClientTls, Config, Control, DhGroup, Filter, FilterMode, Gateway, Listen, Metrics, Profile,
    Registry, Revocation, Scope, Service, ServiceProtocol, Source, SourceKind, Suites, Tls, Verdicts,
    XdpAttach,
};
pub use problem::Problem;
