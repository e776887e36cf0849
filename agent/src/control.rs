//! The operator's socket: how the commands talk to a running agent.

mod client;
mod protocol;
mod server;
mod socket;

pub use client::{ClientError, call};
pub use protocol::{
    Answer, Call, Check, CrlStatus, Decision, DropReport, Explanation, Failure, FailureKind, FilterStats,
    Guard, Handshakes, InterfaceStatus, Origin, Outcome, PacketExplanation, Question, Request, Requests,
    Response, ServiceStats, Session, SourceEntry, Stats, Status, Tally, Target, VERSION, VerdictEntry,
    VerdictKind,
};
pub use server::{Operations, Peer, Server};
pub use socket::{BindError, problems};
