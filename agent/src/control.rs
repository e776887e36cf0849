//! The operator's socket: how the commands talk to a running agent.

mod answers;
mod client;
mod errors;
mod hand_over;
mod journal;
mod protocol;
mod ring;
mod server;
mod socket;

pub use answers::{
    CertificateStatus, Check, CrlReport, CrlStatus, Decision, DropReport, ErrorReport, EventsMissed,
    Explanation, FilterStats, Handshakes, InterfaceStatus, Origin, Outcome, PacketExplanation, PastDecision,
    Requests, ServiceStats, SourceEntry, Stats, Status, SystemEntry, SystemVersion, Tally, Told,
    UpstreamStatus, VerdictEntry, VerdictKind,
};
pub use client::{Answers, ClientError, call, stream};
pub use errors::{ErrorFeed, Errors};
pub use hand_over::{Estate, HandOverError, Inheritance, Predecessor};
pub use journal::{Feed, Journal, drop_codes};
pub use protocol::{
    Answer, Call, DescribedRequest, ErrorsWanted, EventsWanted, Failure, FailureKind, Guard, Question,
    Request, Response, Session, Target, VERSION,
};
pub use ring::RECENT;
pub use server::{MAX_LINE, Operations, Peer, Server};
pub use socket::{BindError, problems};
