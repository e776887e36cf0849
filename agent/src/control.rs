//! The operator's socket: HTTP with JSON, for the commands and for whoever else has a role there.

mod access;
mod answers;
mod client;
mod errors;
mod hand_over;
mod journal;
#[cfg(test)]
mod page;
mod protocol;
mod redact;
mod ring;
mod routes;
mod server;
mod socket;
mod wire;

pub use access::{Access, Peer, Role};
pub use answers::{
    CertificateStatus, Check, CrlReport, CrlStatus, Decided, Decision, DropReport, ErrorReport, EventsMissed,
    Explanation, FilterStats, Handshakes, InterfaceStatus, Origin, Outcome, PacketExplanation, PastDecision,
    Requests, ServiceStats, SourceEntry, Stats, Status, SystemEntry, SystemVersion, Tally, Told,
    UpstreamStatus, VerdictEntry, VerdictKind,
};
pub use client::{Answers, ClientError, call, stream};
pub use errors::{ErrorFeed, Errors};
pub use hand_over::{Estate, HandOverError, Inheritance, Predecessor};
pub use journal::{Feed, Journal, drop_codes};
pub use protocol::{
    Addition, DescribedRequest, ErrorsWanted, EventsWanted, Failure, FailureKind, Guard, Question, Request,
    Response, Session, Target,
};
pub use ring::RECENT;
pub use routes::{Kind, Method, Parameter, ROUTES, Route, VERSION};
pub use server::{LIMITS, Limit, MAX_BODY, Operations, Rebuff, Server};
pub use socket::{BindError, problems};
pub(crate) use wire::arguments;
