//! What an operator can ask of a running agent, and what is answered. How that looks in HTTP is in `routes.rs` and `wire.rs`.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    time::{Duration, SystemTime},
};

use http::StatusCode;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use spinegate_common::Reason;

use super::{
    CrlReport, DropReport, ErrorReport, EventsMissed, Explanation, PacketExplanation, PastDecision,
    SourceEntry, Stats, Status, SystemEntry, SystemVersion, VerdictEntry, VerdictKind,
};
use crate::{
    config::{self, Cidr, CidrError, Service, SourceKind, SourceName},
    registry::Source,
};

/// An entry that an operator puts on the allowlist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Addition {
    /// Its addresses.
    pub cidr: Cidr,
    /// What the operator calls it.
    pub name: SourceName,
    /// Whether many systems stand behind it.
    pub kind: SourceKind,
    /// The services that it may reach; empty: all.
    #[serde(default)]
    pub services: Vec<Service>,
    /// In scope `host`: the source ports from which it may answer.
    #[serde(default)]
    pub reply_ports: Vec<u16>,
    /// After how many seconds the entry ends; none: never.
    #[serde(default)]
    pub ends_in: Option<u64>,
}

impl Addition {
    /// The entry, if it is added at that time.
    #[must_use]
    pub fn source(self, now: SystemTime) -> config::Source {
        config::Source {
            cidr: self.cidr.network(),
            name: self.name.as_str().to_owned(),
            kind: self.kind,
            services: self.services,
            reply_ports: self.reply_ports,
            expires: self
                .ends_in
                .and_then(|ends_in| now.checked_add(Duration::from_secs(ends_in))),
        }
    }
}

/// What an operator can ask of a running agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// How the agent is.
    Status,
    /// What it has counted.
    Stats,
    /// The keys to which the configuration in force gives another value than their default.
    Settings,
    /// The CRLs in force.
    CrlStatus,
    /// The allowlist.
    SourcesList,
    /// One more entry on the allowlist.
    SourcesAdd(Addition),
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
    #[serde(rename = "reload_confirm")]
    Confirm,
    /// What the log has in it.
    LogLevel,
    /// Has the log have something else in it, until the agent starts again.
    #[serde(rename = "log_level_set")]
    SetLogLevel {
        /// What; none: what it began with.
        #[serde(default)]
        filter: Option<String>,
    },
    /// Attaches the filter to its interfaces again.
    Attach,
    /// Takes the filter off its interfaces until [`Request::Attach`].
    Detach,
    /// Fetches all CRLs that are fetched at all, and asks OCSP responders again.
    CrlFetch,
    /// Systems of the registry, in the order of their ASIDs.
    RegistryList {
        /// Only those after this ASID.
        #[serde(default)]
        after: Option<String>,
        /// At most so many; the agent may give fewer, but none only where there is none.
        #[serde(default = "page")]
        limit: usize,
    },
    /// What each source of the registry says of an ASID.
    RegistryShow {
        /// The ASID.
        asid: String,
    },
    /// Fetches sources of the registry.
    RegistrySync {
        /// The only one; none: all that are fetched.
        #[serde(default)]
        source: Option<Source>,
        /// Takes over what is held back otherwise, because so many systems are gone.
        #[serde(default)]
        accept_shrink: bool,
    },
    /// What would become of a request.
    Explain(Box<Question>),
    /// Why a connection or a request was decided as it was.
    ExplainDecision {
        /// The decision's id.
        id: String,
    },
    /// What the loaded program would do with packets.
    ExplainPackets {
        /// The frames, each in base64.
        frames: Vec<String>,
    },
    /// The sampled drops, each in an answer of its own, from [`Response::EventsBegin`] to [`Response::EventsEnd`].
    Events(EventsWanted),
    /// The refused connections and requests, in the same way.
    Errors(ErrorsWanted),
}

/// Which of the refusals a caller wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorsWanted {
    /// How many of the latest come first.
    #[serde(default = "latest")]
    pub last: usize,
    /// Whether those that are still to happen come after them.
    #[serde(default)]
    pub follow: bool,
}

/// Which of the sampled drops a caller wants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventsWanted {
    /// How many of the latest come first.
    #[serde(default = "latest")]
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
/// [`FailureKind::Usage`]. Contents of files are in base64.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Question {
    /// The request as it is described.
    pub described: Option<DescribedRequest>,
    /// Or its bytes as they are sent.
    pub raw: Option<String>,
    /// The client's certificate, and what was sent with it.
    pub certificate: Option<String>,
    /// The name in the client's certificate.
    pub fqdn: Option<String>,
    /// The client's address.
    pub source: Option<IpAddr>,
    /// The ODS code of the custodian of the pointer concerned.
    pub custodian: Option<String>,
    /// What the locator has of the pointer concerned.
    pub stored: Option<String>,
    /// The time at which it is judged: RFC 3339; none: now.
    pub at: Option<String>,
}

/// A request in an operator's words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DescribedRequest {
    /// fromASID
    pub asid: Option<String>,
    /// InteractionID; without a method and a path also what they are.
    pub interaction: Option<String>,
    /// The method.
    pub method: Option<String>,
    /// The path, and the query if there is one.
    pub path: Option<String>,
    /// Headers.
    pub headers: Vec<(String, String)>,
    /// The JWT in compact form.
    pub token: Option<String>,
    /// The body.
    pub body: Option<String>,
}

/// Systems on a page, where nothing is said.
const fn page() -> usize {
    1000
}

/// How many of the latest come first, where nothing is said.
const fn latest() -> usize {
    100
}

/// What comes of a request: in JSON an object with one key, which says what it holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::LogLevel`].
    LogLevel(String),
    /// To [`Request::Stats`].
    Stats(Box<Stats>),
    /// To [`Request::Settings`]: each with its value as TOML.
    Settings(BTreeMap<String, String>),
    /// To [`Request::CrlStatus`].
    Crls(CrlReport),
    /// To [`Request::SourcesList`].
    Sources(Vec<SourceEntry>),
    /// To [`Request::VerdictsList`].
    Verdicts(Vec<VerdictEntry>),
    /// To [`Request::RegistryList`].
    Systems(Vec<SystemEntry>),
    /// To [`Request::RegistryShow`]: what each source says, in the order of precedence.
    Versions(Vec<SystemVersion>),
    /// To [`Request::Explain`].
    Explanation(Explanation),
    /// To [`Request::ExplainDecision`].
    PastDecision(Box<PastDecision>),
    /// To [`Request::ExplainPackets`].
    Packets(Vec<PacketExplanation>),
    /// One of those to [`Request::Errors`].
    Refusal(ErrorReport),
    /// The first of those to [`Request::Events`]: from now on nothing escapes the caller untold. In HTTP it is the head.
    #[serde(skip)]
    EventsBegin,
    /// One of those to [`Request::Events`].
    Event(DropReport),
    /// Another of those: what the caller does not get.
    #[serde(rename = "missed")]
    EventsMissed(EventsMissed),
    /// The last of those.
    #[serde(rename = "end")]
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
    #[serde(rename = "code")]
    pub kind: FailureKind,
    /// What is wrong; may have several lines, as the diagnostics of a reload do.
    pub message: String,
    /// What to do about it.
    pub mend: String,
    /// The code of the reason, where the socket itself refuses a caller, or what a caller sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
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
    /// The caller may not.
    Forbidden,
    /// Too many call at once.
    Busy,
    /// The agent or the kernel failed.
    Internal,
}

impl FailureKind {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::Usage,
        Self::Forbidden,
        Self::NotFound,
        Self::Refused,
        Self::Internal,
        Self::Busy,
    ];

    /// The status of an answer with it.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Usage => StatusCode::BAD_REQUEST,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Refused => StatusCode::CONFLICT,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The exit code of a command that gets it.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::Forbidden => 4,
            Self::NotFound | Self::Refused | Self::Internal | Self::Busy => 1,
        }
    }
}

impl Failure {
    /// A failure of a kind.
    pub fn new(kind: FailureKind, message: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            mend: mend.into(),
            reason: None,
        }
    }

    /// The same, with a reason.
    #[must_use]
    pub fn because(self, reason: Reason) -> Self {
        Self {
            reason: Some(reason.as_str().to_owned()),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Decision, Origin, Outcome};

    #[test]
    fn what_is_not_as_documented_is_no_request() {
        for bad in [
            r#"{"verb":"sources_add","cidr":"10.0.0.1/8","name":"n","kind":"proxy"}"#,
            r#"{"verb":"sources_add","cidr":"10.0.0.0/8","name":"a\nb","kind":"proxy"}"#,
            r#"{"verb":"verdicts_remove","source":"10.0.0.1","force":true}"#,
            r#"{"verb":"shutdown"}"#,
        ] {
            assert!(serde_json::from_str::<Request>(bad).is_err(), "{bad}");
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
            Outcome::NotReached,
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
        let response = Response::Verdicts(vec![entry]);
        let text = serde_json::to_string(&response).unwrap();
        assert_eq!(
            text,
            r#"{"verdicts":[{"source":"10.0.0.1","kind":"deny","reason":"certificate_missing","remaining_seconds":59,"origin":"agent","hits":7}]}"#
        );
        assert_eq!(serde_json::from_str::<Response>(&text).unwrap(), response);
        let failure = Response::Error(Failure::new(FailureKind::NotFound, "no verdict", "list them"));
        assert_eq!(
            serde_json::to_string(&failure).unwrap(),
            r#"{"error":{"code":"not_found","message":"no verdict","mend":"list them"}}"#
        );
    }
}
