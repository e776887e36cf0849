//! What goes over the socket: a JSON object a line, first a [`Call`], then its [`Answer`]; any number of pairs.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::config::{Cidr, CidrError, Service, SourceKind, SourceName};

/// The protocol's version: agent and command must be of the same.
pub const VERSION: u32 = 2;

/// What a client sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// [`VERSION`]
    pub version: u32,
    /// What it asks for.
    pub request: Request,
}

/// What the agent sends back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// [`VERSION`]
    pub version: u32,
    /// What came of it.
    pub response: Response,
}

/// What an operator can ask of a running agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// How the agent is.
    Status,
    /// What it has counted.
    Stats,
    /// The allowlist.
    SourcesList,
    /// One more entry on the allowlist.
    SourcesAdd {
        /// Its addresses.
        cidr: Cidr,
        /// What the operator calls it.
        name: SourceName,
        /// Whether many systems stand behind it.
        kind: SourceKind,
        /// The services that it may reach; empty: all.
        services: Vec<Service>,
        /// In scope `host`: the source ports from which it may answer.
        #[serde(default)]
        reply_ports: Vec<u16>,
        /// After how many seconds the entry ends; none: never.
        #[serde(default)]
        ends_in: Option<u64>,
    },
    /// One entry less, of those that operators added.
    SourcesRemove {
        /// Its addresses.
        cidr: Cidr,
        /// What must not be cut off by it.
        #[serde(default)]
        guard: Guard,
    },
    /// The verdicts in force.
    VerdictsList,
    /// A verdict.
    VerdictsAdd {
        /// On whom.
        source: Target,
        /// What it says.
        kind: VerdictKind,
        /// For how many seconds; none: as long as the configuration lets a verdict last.
        ttl: Option<u64>,
        /// What must not be cut off by it.
        #[serde(default)]
        guard: Guard,
    },
    /// Lifts a verdict.
    VerdictsRemove {
        /// On whom.
        source: Target,
    },
    /// Lifts all verdicts.
    VerdictsClear {
        /// Only those on addresses and prefixes within this one.
        source: Option<Target>,
    },
    /// Reads the configuration again; takes it over if it is sound.
    Reload {
        /// What must not be cut off by it.
        #[serde(default)]
        guard: Guard,
        /// Goes back to the old configuration after this many seconds unless [`Request::Confirm`] comes.
        #[serde(default)]
        confirm_within: Option<u64>,
    },
    /// Keeps a configuration that was taken over on trial.
    Confirm,
    /// Attaches the filter to its interfaces again.
    Attach,
    /// Takes the filter off its interfaces until [`Request::Attach`].
    Detach,
    /// What would become of a request.
    Explain(Question),
    /// What the loaded program would do with packets.
    ExplainPackets {
        /// The frames, each in base64.
        frames: Vec<String>,
    },
    /// The sampled drops, each in an answer of its own, from [`Response::EventsBegin`] to [`Response::EventsEnd`].
    /// Another call on the same connection, or its end, ends them too.
    Events(EventsWanted),
}

/// Which of the sampled drops a caller wants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventsWanted {
    /// How many of the latest come first.
    #[serde(default)]
    pub last: usize,
    /// Whether those that are still to happen come after them.
    #[serde(default)]
    pub follow: bool,
    /// The code of the only reason that is wanted; none: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What a change must not cut off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guard {
    /// Nothing: the operator knows.
    #[serde(default)]
    pub force: bool,
    /// The operator's own session.
    #[serde(default)]
    pub session: Option<Session>,
}

/// A TCP connection to this host that an operator works over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// Where it comes from.
    pub source: SocketAddr,
    /// Where it goes to.
    pub destination: SocketAddr,
}

/// Whom a verdict is on: an address or a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target(IpNet);

impl Target {
    /// As a network; an address has a prefix of full length.
    #[must_use]
    pub const fn network(self) -> IpNet {
        self.0
    }
}

impl From<IpNet> for Target {
    fn from(network: IpNet) -> Self {
        Self(network)
    }
}

impl FromStr for Target {
    type Err = CidrError;

    /// The filter sees an IPv4-mapped source (RFC 4291 section 2.5.5.2) as IPv4, so that is what an order is about.
    fn from_str(text: &str) -> Result<Self, CidrError> {
        match text.parse::<IpAddr>() {
            Ok(address) => Ok(Self(IpNet::from(address.to_canonical()))),
            Err(_) => text.parse::<Cidr>().map(|cidr| Self(cidr.network())),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() {
            self.0.addr().fmt(f)
        } else {
            self.0.fmt(f)
        }
    }
}

impl Serialize for Target {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// A request that is explained and not made. The agent parses the texts, and answers a malformed one with
/// [`FailureKind::Usage`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// The requester's ASID.
    pub asid: String,
    /// The interaction's ID.
    pub interaction: String,
    /// The ODS code of the pointer's custodian, for an interaction that changes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custodian: Option<String>,
    /// The name in the client's certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fqdn: Option<String>,
    /// The client's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
}

impl Request {
    /// The request as a command line has it, for logs.
    #[must_use]
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Stats => "stats",
            Self::SourcesList => "sources list",
            Self::SourcesAdd { .. } => "sources add",
            Self::SourcesRemove { .. } => "sources remove",
            Self::VerdictsList => "verdicts list",
            Self::VerdictsAdd { .. } => "verdicts add",
            Self::VerdictsRemove { .. } => "verdicts remove",
            Self::VerdictsClear { .. } => "verdicts clear",
            Self::Reload { .. } => "reload",
            Self::Confirm => "reload confirm",
            Self::Attach => "attach",
            Self::Detach => "detach",
            Self::Explain(_) => "explain",
            Self::ExplainPackets { .. } => "explain packets",
            Self::Events(_) => "events",
        }
    }

    /// Whether it changes what the agent does, so that it belongs in the audit log.
    #[must_use]
    pub const fn changes(&self) -> bool {
        matches!(
            self,
            Self::SourcesAdd { .. }
                | Self::SourcesRemove { .. }
                | Self::VerdictsAdd { .. }
                | Self::VerdictsRemove { .. }
                | Self::VerdictsClear { .. }
                | Self::Reload { .. }
                | Self::Confirm
                | Self::Attach
                | Self::Detach
        )
    }
}

/// What comes of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", content = "body", rename_all = "snake_case")]
pub enum Response {
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::Stats`].
    Stats(Box<Stats>),
    /// To [`Request::SourcesList`].
    Sources(Vec<SourceEntry>),
    /// To [`Request::VerdictsList`].
    Verdicts(Vec<VerdictEntry>),
    /// To [`Request::Explain`].
    Explanation(Explanation),
    /// To [`Request::ExplainPackets`].
    Packets(Vec<PacketExplanation>),
    /// The first of those to [`Request::Events`]: from now on nothing escapes the caller untold.
    EventsBegin,
    /// One of those to [`Request::Events`].
    Event(DropReport),
    /// Another of those: what the caller does not get.
    EventsMissed(EventsMissed),
    /// The last of those.
    EventsEnd {
        /// Drop events that the kernel only counted, since its maps were made.
        lost_events: u64,
    },
    /// To what changes something: what was done, as a sentence.
    Done(String),
    /// It was not done.
    Error(Failure),
}

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}; {mend}")]
pub struct Failure {
    /// Whose fault it is.
    pub kind: FailureKind,
    /// What is wrong; may have several lines, as the diagnostics of a reload do.
    pub message: String,
    /// What to do about it.
    pub mend: String,
}

/// The kinds of [`Failure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The agent understood, and will not.
    Refused,
    /// What the request names is not there.
    NotFound,
    /// The request, or the configuration to be loaded, is wrong.
    Usage,
    /// The agent or the kernel failed.
    Internal,
}

impl Failure {
    /// A failure of a kind.
    pub fn new(kind: FailureKind, message: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            mend: mend.into(),
        }
    }
}

/// How the agent is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The agent's version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Since when it runs: RFC 3339, UTC.
    pub started: String,
    /// Its configuration file.
    pub config: PathBuf,
    /// `filter.mode`
    pub mode: String,
    /// `filter.scope`
    pub scope: String,
    /// Where the filter is attached.
    pub interfaces: Vec<InterfaceStatus>,
    /// Where the gateway accepts connections.
    pub listen: Vec<SocketAddr>,
    /// What it guards.
    pub upstream: String,
    /// The guarded services.
    pub services: Vec<Service>,
    /// Entries of the allowlist.
    pub sources: usize,
    /// Verdicts in force.
    pub verdicts: usize,
    /// Systems in the registry.
    pub systems: usize,
    /// Connections open now.
    pub connections: usize,
    /// The OpenSSL that it runs on.
    pub openssl: String,
    /// Counts the policies that were put in force.
    pub policy_generation: u64,
    /// Memory that the policy takes in the kernel, in bytes.
    pub policy_bytes: usize,
    /// Until when the configuration is on trial: RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_until: Option<String>,
    /// The loaded CRLs.
    pub crls: Vec<CrlStatus>,
    /// What an operator should look at.
    pub warnings: Vec<String>,
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

/// A loaded CRL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrlStatus {
    /// The issuer's distinguished name.
    pub issuer: String,
    /// The CRL number (RFC 5280 section 5.2.3) in decimal or hexadecimal, where there is one: up to 20 octets.
    pub number: Option<String>,
    /// RFC 3339, UTC.
    pub this_update: String,
    /// RFC 3339, UTC; none where the CRL does not say.
    pub next_update: Option<String>,
    /// How many certificates it revokes.
    pub entries: usize,
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
}

/// Decided requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    /// Passed on.
    pub allowed: u64,
    /// Refused.
    pub refused: u64,
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The checks.
    pub checks: Vec<Check>,
    /// What the gateway would do, as far as the question describes the request.
    pub decision: Decision,
    /// The code of the first failed check's reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
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
}

/// What the gateway would do with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Pass it on.
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
    Outcome { Pass = "pass", Fail = "fail", NotGiven = "not_given", NotNeeded = "not_needed" }
    Decision { Allow = "allow", Refuse = "refuse" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_read_as_documented_and_unknown_ones_are_refused() {
        let call: Call = serde_json::from_str(
            r#"{"version":2,"request":{"verb":"sources_add","cidr":"10.0.0.0/8","name":"n","kind":"proxy","services":["tcp/443"]}}"#,
        )
        .unwrap();
        assert_eq!(call.request.verb(), "sources add");
        assert!(call.request.changes());
        for bad in [
            r#"{"version":2,"request":{"verb":"sources_add","cidr":"10.0.0.1/8","name":"n","kind":"proxy","services":[]}}"#,
            r#"{"version":2,"request":{"verb":"sources_add","cidr":"10.0.0.0/8","name":"a\nb","kind":"proxy","services":[]}}"#,
            r#"{"version":2,"request":{"verb":"verdicts_remove","source":"10.0.0.1","force":true}}"#,
            r#"{"version":2,"request":{"verb":"shutdown"}}"#,
        ] {
            assert!(serde_json::from_str::<Call>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_order_about_an_ipv4_mapped_address_is_about_the_ipv4_one() {
        let text = r#"{"verb":"verdicts_remove","source":"::ffff:10.0.0.1"}"#;
        let source = "10.0.0.1".parse().unwrap();
        assert_eq!(
            serde_json::from_str::<Request>(text).unwrap(),
            Request::VerdictsRemove { source }
        );
    }

    #[test]
    fn the_words_in_tables_are_the_words_in_json() {
        for origin in [Origin::Configuration, Origin::Operator, Origin::Agent] {
            assert_eq!(serde_json::to_value(origin).unwrap(), origin.as_str());
        }
        for outcome in [
            Outcome::Pass,
            Outcome::Fail,
            Outcome::NotGiven,
            Outcome::NotNeeded,
        ] {
            assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.as_str());
        }
        for decision in [Decision::Allow, Decision::Refuse] {
            assert_eq!(serde_json::to_value(decision).unwrap(), decision.as_str());
        }
        for kind in [VerdictKind::Deny, VerdictKind::Trust] {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }

    #[test]
    fn answers_come_back_as_they_were_sent() {
        let entry = VerdictEntry {
            source: "10.0.0.1".parse().unwrap(),
            kind: VerdictKind::Deny,
            reason: "certificate_missing".to_owned(),
            remaining_seconds: 59,
            origin: Origin::Agent,
            hits: 7,
        };
        let answer = Answer {
            version: VERSION,
            response: Response::Verdicts(vec![entry]),
        };
        let text = serde_json::to_string(&answer).unwrap();
        assert_eq!(
            text,
            r#"{"version":2,"response":{"answer":"verdicts","body":[{"source":"10.0.0.1","kind":"deny","reason":"certificate_missing","remaining_seconds":59,"origin":"agent","hits":7}]}}"#
        );
        assert_eq!(serde_json::from_str::<Answer>(&text).unwrap(), answer);
    }
}
