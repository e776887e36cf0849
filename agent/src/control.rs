//! The operator's socket: how the commands talk to a running agent.

mod client;
mod protocol;
mod server;
mod socket;

pub use client::{ClientError, call};
pub use protocol::{
    Answer, Call, Check, CrlStatus, Decision, Explanation, Failure, FailureKind, FilterStats, Handshakes,
    InterfaceStatus, Origin, Outcome, Question, Request, Requests, Response, SourceEntry, Stats, Status,
    Tally, VERSION, VerdictEntry, VerdictKind,
};
pub use server::{Operations, Peer, Server};
pub use socket::{BindError, problems};
