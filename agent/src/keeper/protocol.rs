//! What worker and keeper say to each other.

use std::net::IpAddr;
use std::time::SystemTime;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{
    filter::{Attachment, Drop, FilterError, NewVerdict, Owner},
    sources::Entry,
};

/// Both are of one binary, unless that was replaced between the start of the one and of the other.
pub(super) const VERSION: u32 = 1;
/// The longest call, in bytes: a frame to be explained, or addresses of the allowlist, in JSON.
pub(super) const MAX_CALL: u32 = 4 << 20;
/// The longest answer: all verdicts that the map holds.
pub(super) const MAX_ANSWER: u32 = 512 << 20;
/// Addresses in one question about counters.
pub(super) const ADDRESSES: usize = 4096;
/// Drops in one answer.
pub(super) const DROPS: usize = 256;

/// What the worker asks for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "call", content = "of", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Call {
    /// Before everything else.
    Hello { version: u32 },
    /// Load the filter, put in force what the files say, attach. The files must say what the worker has read in them.
    Open { expected: u64 },
    /// Put in force what the files say now.
    Apply {
        expected: u64,
        trial_until: Option<SystemTime>,
    },
    /// The configuration on trial stays.
    KeepTrial,
    /// The trial is over: what was in force before it is again.
    GoBack,
    /// An operator adds a source.
    AddSource(Entry),
    /// An operator removes a source that was added.
    RemoveSource { cidr: IpNet },
    /// Take out the sources whose time is over.
    DropEndedSources,
    /// Attach to the interfaces that the filter is not attached to.
    Attach,
    /// The same, unless an operator has taken the filter off.
    Reattach,
    /// Take the filter off its interfaces.
    Detach,
    /// How the filter is attached.
    Interfaces,
    /// What it has counted.
    Counters,
    /// Drop events that were only counted.
    LostEvents,
    /// What entries of the allowlist let pass.
    Passed { entries: Vec<IpNet> },
    /// Reach a verdict.
    Judge { source: IpNet, verdict: NewVerdict },
    /// Lift a verdict.
    Lift { source: IpNet },
    /// The verdicts in force.
    Verdicts,
    /// The verdict on the very same address or prefix.
    VerdictOn { source: IpNet },
    /// The verdicts that an address is judged by.
    VerdictsOver { address: IpAddr },
    /// Delete verdicts that have expired.
    ForgetExpired,
    /// Sampled drops that have not been asked for yet.
    Drops,
    /// What would become of a frame.
    Explain { frame: Vec<u8> },
    /// Figures for the status.
    Figures,
}

/// A sampled drop, with names for its numbers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Dropped {
    /// What the kernel says.
    pub event: Drop,
    /// The service's name.
    pub service: String,
    /// The interface's name, if the filter is attached to it.
    pub interface: Option<String>,
}

/// How the filter is attached.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Interfaces {
    /// An operator has taken it off.
    pub detached: bool,
    /// Where it is attached.
    pub attachments: Vec<Attachment>,
    /// What holds each interface of the configuration, in its order.
    pub owners: Vec<(String, Owner)>,
}

/// Figures for the status.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Figures {
    /// Counts the policies since the maps were made.
    pub generation: u64,
    /// Memory that the policy takes in the kernel, in bytes.
    pub policy_bytes: usize,
    /// How many verdicts there are.
    pub verdicts: usize,
}

/// Why the keeper did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeeperError {
    /// It refuses, and says why and the mend.
    #[error("{0}")]
    Refused(String),
    /// The kernel or a privilege is missing.
    #[error("{0}")]
    Privilege(String),
    /// There is no filter: `filter.mode` is off.
    #[error("the filter is off")]
    Off,
    /// It has ended, or is not understood.
    #[error("the filter's keeper has gone ({0}): the filter stays in force as it is; start the agent again")]
    Gone(String),
}

impl KeeperError {
    pub(super) fn refused(error: impl std::fmt::Display) -> Self {
        Self::Refused(error.to_string())
    }

    pub(super) fn gone(error: impl std::fmt::Display) -> Self {
        Self::Gone(error.to_string())
    }
}

impl From<FilterError> for KeeperError {
    fn from(error: FilterError) -> Self {
        let message = error.to_string();
        match error {
            FilterError::NoInterface { .. }
            | FilterError::Occupied { .. }
            | FilterError::NewerLayout { .. }
            | FilterError::OldLayout { .. } => Self::Refused(message),
            _ => Self::Privilege(message),
        }
    }
}
