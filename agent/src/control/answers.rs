//! What the answers hold.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::Target;
use crate::{
    config::{Cidr, Service, Source, SourceKind},
    directory::DirectoryStatus,
    fetch::FetchStatus,
    nrl::InteractionId,
    program::ProgramFile,
    registry::{self, System},
};

/// How the agent is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The agent's version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// The file that it runs, where the system tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<ProgramFile>,
    /// Since when it runs: RFC 3339, UTC.
    pub started: String,
    /// Its configuration file.
    pub config: PathBuf,
    /// `filter.mode`
    pub mode: String,
    /// `filter.scope`
    pub scope: String,
    /// What is in shadow; empty where every check is enforced.
    #[serde(default)]
    pub shadow: Vec<String>,
    /// Where the filter is attached.
    pub interfaces: Vec<InterfaceStatus>,
    /// Where the gateway accepts connections.
    pub listen: Vec<SocketAddr>,
    /// What it guards.
    pub upstreams: Vec<UpstreamStatus>,
    /// What the agent has refused or could not answer since its start, by whose doing that was: `client`, `upstream`,
    /// `gateway`.
    pub refusals_by_side: BTreeMap<String, u64>,
    /// The guarded services.
    pub services: Vec<Service>,
    /// Entries of the allowlist.
    pub sources: usize,
    /// Verdicts in force.
    pub verdicts: usize,
    /// Systems in the registry.
    pub systems: usize,
    /// The registry's sources, in the order of precedence.
    #[serde(default)]
    pub registry: Vec<DirectoryStatus>,
    /// Connections open now.
    pub connections: usize,
    /// The OpenSSL that it runs on.
    pub openssl: String,
    /// What the log has in it.
    #[serde(default)]
    pub log_filter: String,
    /// Counts the policies that were put in force.
    pub policy_generation: u64,
    /// Memory that the policy takes in the kernel, in bytes.
    pub policy_bytes: usize,
    /// Until when the configuration is on trial: RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_until: Option<String>,
    /// The gateway's own certificate and the CAs of clients.
    #[serde(default)]
    pub certificates: Vec<CertificateStatus>,
    /// The loaded CRLs.
    pub crls: Vec<CrlStatus>,
    /// What an operator should look at.
    pub warnings: Vec<String>,
}

/// An upstream. What is counted begins anew with each reload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamStatus {
    /// Its address, as in the configuration.
    pub address: String,
    /// `up`, `ejected` (gets no requests for a while, as others are there), `trial` (gets one) or `down` (does not answer
    /// what it is asked for in between).
    pub state: String,
    /// For how long it is ejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ejected_seconds: Option<u64>,
    /// Requests under way there.
    pub outstanding: usize,
    /// Connections kept for later requests.
    pub idle: usize,
    /// Whole answers.
    pub answered: u64,
    /// Failures of all kinds.
    pub failures: u64,
    /// How often it was ejected.
    #[serde(default)]
    pub ejections: u64,
    /// The latest failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// An interface that the filter is attached to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// `native` or `generic`.
    pub attach: String,
    /// The kernel's id of the program.
    pub program_id: u32,
    /// What holds the interface's XDP slot now: `spinegate`, another program's name and id, `nothing`, or `gone` where
    /// there is no such interface for now.
    pub owner: String,
}

/// A certificate in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateStatus {
    /// `own_certificate`, `issuer` or `root`.
    pub what: String,
    /// Its subject.
    pub subject: String,
    /// When it ends: RFC 3339, UTC.
    pub ends: String,
    /// Whole days until then; negative if it is over.
    pub days_left: i64,
    /// The SHA-256 of its DER form, hexadecimal.
    #[serde(default)]
    pub sha256: String,
}

/// The CRLs in force, and what is wrong with their files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrlReport {
    /// In the order of their issuers.
    pub crls: Vec<CrlStatus>,
    /// What was wrong when the files were last read.
    pub faults: Vec<String>,
    /// Those that the agent fetches.
    #[serde(default)]
    pub fetches: Vec<FetchStatus>,
}

/// A loaded CRL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrlStatus {
    /// The issuer's distinguished name.
    pub issuer: String,
    /// For which of the issuer's certificates it speaks: `all`, `users` or `authorities`, and of which distribution point.
    pub scope: String,
    /// The CRL number (RFC 5280 section 5.2.3), hexadecimal, where there is one: up to 20 octets.
    pub number: Option<String>,
    /// RFC 3339, UTC.
    pub this_update: String,
    /// Since then, in seconds.
    pub age_seconds: u64,
    /// RFC 3339, UTC; none where the CRL does not say.
    pub next_update: Option<String>,
    /// `fresh`, `grace` (past its end, and accepted) or `stale`.
    pub state: String,
    /// How many certificates it revokes.
    pub entries: usize,
    /// The file that it was read from.
    pub source: String,
    /// Why it is in force although that file is gone or holds an older one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
}

/// What the agent has counted: the filter since its maps were made, the rest since the agent's start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// The kernel's counters.
    pub filter: FilterStats,
    /// TLS.
    pub handshakes: Handshakes,
    /// Decided requests.
    pub requests: Requests,
    /// The same by what they were to do, as far as that was known.
    #[serde(default)]
    pub actions: BTreeMap<String, Decided>,
    /// Refused handshakes and requests by reason code.
    pub refusals: BTreeMap<String, u64>,
    /// Deny verdicts that failures led to.
    pub verdicts_issued: u64,
}

/// The kernel's counters, by reason code and, for what passed, by outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterStats {
    /// Dropped.
    pub drops: BTreeMap<String, Tally>,
    /// What monitor mode would have dropped.
    pub would_drops: BTreeMap<String, Tally>,
    /// Passed.
    pub passes: BTreeMap<String, Tally>,
    /// The same of each service, as far as anything was counted there.
    #[serde(default)]
    pub services: BTreeMap<String, ServiceStats>,
    /// Drop events that were only counted.
    pub lost_events: u64,
}

/// The kernel's counters of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStats {
    /// Dropped.
    pub drops: BTreeMap<String, Tally>,
    /// What monitor mode would have dropped.
    pub would_drops: BTreeMap<String, Tally>,
    /// Passed.
    pub passes: BTreeMap<String, Tally>,
}

/// Packets and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Packets.
    pub packets: u64,
    /// Bytes, from the Ethernet header on.
    pub bytes: u64,
}

/// TLS handshakes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handshakes {
    /// Ended with a verified client.
    pub accepted: u64,
    /// Connections refused before their first request.
    #[serde(default)]
    pub refused: u64,
}

/// Requests of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// Passed on.
    pub allowed: u64,
    /// Refused.
    pub refused: u64,
}

/// Decided requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    /// Passed on.
    pub allowed: u64,
    /// Refused.
    pub refused: u64,
    /// Passed on, though they would have been refused: they are in shadow.
    #[serde(default)]
    pub shadowed: u64,
}

/// An entry of the allowlist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceEntry {
    /// Its addresses.
    pub cidr: Cidr,
    /// What the operator calls it.
    pub name: String,
    /// Whether many systems stand behind it.
    pub kind: SourceKind,
    /// The services that it may reach; empty: all, or none if it has `reply_ports`.
    pub services: Vec<Service>,
    /// In scope `host`: the source ports from which it may answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reply_ports: Vec<u16>,
    /// When the entry ends: RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// What it let pass; none if it has no counters of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed: Option<Tally>,
    /// Who put it there: `configuration` or `operator`.
    pub origin: Origin,
}

/// A system of the registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemEntry {
    /// Its ASID.
    pub asid: String,
    /// The ODS code of its organisation.
    pub ods: String,
    /// What it may do.
    pub interactions: Vec<String>,
    /// The name that its certificate must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fqdn: Option<String>,
    /// What the operator calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether it has access.
    pub active: bool,
    /// Whether its permissions are only tried.
    #[serde(default)]
    pub shadow: bool,
    /// The source that says so.
    pub source: registry::Source,
}

impl SourceEntry {
    /// An entry that nothing was counted for.
    #[must_use]
    pub fn new(source: &Source, added: bool) -> Self {
        Self {
            cidr: Cidr::from(source.cidr),
            name: source.name.clone(),
            kind: source.kind,
            services: source.services.clone(),
            reply_ports: source.reply_ports.clone(),
            expires: source
                .expires
                .map(|expires| humantime::format_rfc3339_seconds(expires).to_string()),
            passed: None,
            origin: if added {
                Origin::Operator
            } else {
                Origin::Configuration
            },
        }
    }
}

impl SystemEntry {
    /// A system as a source has it.
    #[must_use]
    pub fn new(source: registry::Source, system: &System) -> Self {
        Self {
            asid: system.asid.to_string(),
            ods: system.ods.to_string(),
            interactions: system.interactions.iter().map(InteractionId::to_string).collect(),
            fqdn: system.fqdn.as_ref().map(ToString::to_string),
            name: system.name.as_deref().map(str::to_owned),
            active: system.active,
            shadow: system.shadow,
            source,
        }
    }
}

/// What a source says of an ASID.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemVersion {
    /// Whether this is what decides.
    pub decides: bool,
    /// Whether the source's snapshot counts: one that is too old does not.
    pub counts: bool,
    /// What it says.
    pub system: SystemEntry,
}

/// A verdict in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictEntry {
    /// The address or the network.
    pub source: Target,
    /// What is done with its packets.
    pub kind: VerdictKind,
    /// The reason's code.
    pub reason: String,
    /// How long it still lasts.
    pub remaining_seconds: u64,
    /// Who reached it: `agent` or `operator`.
    pub origin: Origin,
    /// Dropped packets of a denied source, handshakes of a trusted one.
    pub hits: u64,
}

impl VerdictEntry {
    /// How long it still lasts.
    #[must_use]
    pub const fn remaining(&self) -> Duration {
        Duration::from_secs(self.remaining_seconds)
    }
}

/// The kinds of verdicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerdictKind {
    /// Its packets are dropped.
    Deny,
    /// Its handshakes have a generous budget.
    Trust,
}

/// Where an entry comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The configuration file.
    Configuration,
    /// An operator's command.
    Operator,
    /// The agent's own judgement.
    Agent,
}

/// Every check of a request in their order, and what follows from them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The checks.
    pub checks: Vec<Check>,
    /// What the gateway would do, as far as the question describes the request.
    pub decision: Decision,
    /// The first check that fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<String>,
    /// The code of its reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What that means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meaning: Option<String>,
    /// What can be done about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
    /// What the client would be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<Told>,
    /// What the reader has to know about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What a refused client is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The status of an HTTP answer; none where a handshake is refused, with an alert.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The code in its OperationOutcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The diagnostics in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnostics: Option<String>,
}

/// A decision that was made, and what led to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastDecision {
    /// Where it was found: `audit log`, or `memory`, which has the latest refusals.
    pub found_in: String,
    /// What was recorded.
    pub record: serde_json::Map<String, serde_json::Value>,
    /// What each check said, what it means, and what the client was told.
    pub explanation: Explanation,
    /// Whether the same would be refused by what is in force now: `refused`, `allowed`, or `unknown` where the record does
    /// not have what decides.
    pub now: String,
    /// Why.
    pub now_because: String,
}

/// What the loaded program would do with a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PacketExplanation {
    /// Its headers in a line.
    pub packet: String,
    /// `drop`, `would_drop` or `pass`; `not_judged` where the kernel does not take the frame for a trial.
    pub outcome: String,
    /// The step of the filter that decides.
    pub step: String,
    /// Why: the reason's code, or the way in which it passes.
    pub reason: String,
    /// What that means.
    pub meaning: String,
    /// What can be done about it; none for what passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
    /// What guards its destination.
    pub service: String,
    /// The allowlist's entry that lets it pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
}

/// A sampled drop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropReport {
    /// When: RFC 3339 with nanoseconds, UTC.
    pub time: String,
    /// The reason's code.
    pub reason: String,
    /// Whether monitor mode let it pass.
    pub monitored: bool,
    /// What guards its destination.
    pub service: String,
    /// The index of the interface.
    pub interface: u32,
    /// Its name, as long as the filter is attached to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface_name: Option<String>,
    /// The frame's length in bytes.
    pub length: u32,
    /// The source's address, where the headers could be read so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// Its headers in a line.
    pub packet: String,
    /// The frame's beginning, in base64.
    pub frame: String,
}

/// A refused connection or request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorReport {
    /// When: RFC 3339 with milliseconds, UTC.
    pub time: String,
    /// `connection` or `request`.
    pub event: String,
    /// The reason's code.
    pub reason: String,
    /// Whose doing it is: `client`, `upstream` or `gateway`.
    pub side: String,
    /// The check that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<String>,
    /// The other end of the connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SocketAddr>,
    /// The name in its certificate, where that was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fqdn: Option<String>,
    /// The requester's ASID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asid: Option<String>,
    /// The ODS code registered for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ods: Option<String>,
    /// The interaction, or its ID where the registry associates one with the ASID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interaction: Option<String>,
    /// The owner of the pointer concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custodian: Option<String>,
    /// Method and path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The status of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The values that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Where the offending byte stands in the head or in the line of a chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// Names the decision in the audit log and in the answer.
    pub decision_id: String,
}

/// Sampled drops that a caller does not get, since it was last told of some.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsMissed {
    /// That the kernel only counted: over `filter.events_per_second`, or nobody read them in time.
    pub unsampled: u64,
    /// That the caller was too slow for, of whatever reason.
    pub behind: u64,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What is checked.
    pub check: String,
    /// What came of it.
    pub outcome: Outcome,
    /// The reason's code, where it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The values that were compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What comes of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It holds.
    Pass,
    /// It does not.
    Fail,
    /// The question does not say what it looks at.
    NotGiven,
    /// The interaction does not need it.
    NotNeeded,
    /// Another check fails before it.
    NotReached,
}

/// What the gateway would do with a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Pass it on.
    #[default]
    Allow,
    /// Refuse it.
    Refuse,
}

macro_rules! words {
    ($($kind:ty { $($variant:ident = $word:literal),+ })+) => {
        $(impl $kind {
            /// The word that stands for it in JSON and in tables.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        })+
    };
}

words! {
    VerdictKind { Deny = "deny", Trust = "trust" }
    Origin { Configuration = "configuration", Operator = "operator", Agent = "agent" }
    Outcome { Pass = "pass", Fail = "fail", NotGiven = "not_given", NotNeeded = "not_needed", NotReached = "not_reached" }
    Decision { Allow = "allow", Refuse = "refuse" }
}
