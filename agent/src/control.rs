//! The operator's socket: how the commands talk to a running agent.

mod client;
mod journal;
mod protocol;
mod server;
mod socket;

pub use client::{Answers, ClientError, call, stream};
pub use journal::{Feed, Journal, RECENT, drop_codes};
pub use protocol::{
    Answer, Call, Check, CrlStatus, Decision, DropReport, EventsMissed, EventsWanted, Explanation, Failure,
    FailureKind, FilterStats, Guard, Handshakes, InterfaceStatus, Origin, Outcome, PacketExplanation,
    Question, Request, Requests, Response, ServiceStats, Session, SourceEntry, Stats, Status, Tally, Target,
    VERSION, VerdictEntry, VerdictKind,
};
pub use server::{MAX_LINE, Operations, Peer, Server};
pub use socket::{BindError, problems};
