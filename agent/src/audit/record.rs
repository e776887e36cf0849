//! One line of the audit log.
//!
//! What may never stand in it has no field: tokens, query values, bodies.

use std::{
    borrow::Cow,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};
use spinegate_common::Reason;
use uuid::Uuid;

use super::{Checkpoint, check};
use crate::mask::{masked, masked_path};

/// The longest path that is kept, in bytes.
const MAX_PATH: usize = 1024;

/// What was decided about a connection, a request, a source or an order.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// When: RFC 3339 with milliseconds, UTC.
    #[serde(rename = "ts", serialize_with = "timestamp")]
    pub time: SystemTime,
    /// What it was about.
    pub event: Event,
    /// What was decided.
    pub decision: Decision,
    /// Why, where it was not simply allowed.
    /// With it goes whose doing that is: `client`, `upstream` or `gateway`.
    #[serde(flatten, serialize_with = "why")]
    pub reason: Option<Reason>,
    /// The check that decided a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<&'static str>,
    /// Names this decision, also in the answer to the client.
    #[serde(serialize_with = "text")]
    pub decision_id: Uuid,
    /// The other end of the connection.
    #[serde(serialize_with = "address", skip_serializing_if = "Option::is_none")]
    pub peer: Option<SocketAddr>,
    /// The operator who gave an order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<Operator>,
    /// What the operator ordered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// The client's certificate, also where it was refused.
    #[serde(serialize_with = "shared", skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Arc<Certificate>>,
    /// Where in its chain the refused certificate stands; the client's own at 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<usize>,
    /// The CRL on which a refusal rests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crl: Option<Crl>,
    /// What the handshake agreed on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// The request, as far as it was understood.
    #[serde(serialize_with = "shared", skip_serializing_if = "Option::is_none")]
    pub request: Option<Arc<Request>>,
    /// The address that a verdict or a drop is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// The values that decided, or the order's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Where the offending byte stands in the head or in the line of a chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// From the first byte to the decision, in milliseconds.
    #[serde(
        rename = "duration_ms",
        serialize_with = "milliseconds",
        skip_serializing_if = "Option::is_none"
    )]
    pub duration: Option<Duration>,
    /// The line before the first of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<Previous>,
    /// The signature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Checkpoint>,
}

/// The line that a file's first one follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previous {
    /// Its number; 0 where there was none.
    pub seq: u64,
    /// The hash over it and all lines before it, in hexadecimal.
    pub chain: String,
}

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A TLS connection.
    Connection,
    /// An HTTP request.
    Request,
    /// A verdict on a source.
    Verdict,
    /// A packet that the filter dropped (a sample).
    Drop,
    /// An operator's order.
    Operator,
    /// The agent's own start, stop or reload.
    Agent,
    /// The beginning of a file: which line the chain goes on from.
    Chain,
    /// A signature over the chain up to the line before.
    Checkpoint,
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// The connection or request goes on; the order is taken up, and what comes of it has a line of its own.
    Allow,
    /// The request goes on, though a check of permission refused it for the reason given: it is in shadow.
    Shadow,
    /// It does not, or the order is not carried out.
    Refuse,
    /// The source's packets are dropped from now on.
    Deny,
    /// They no longer are.
    Lift,
    /// The packet was dropped.
    Drop,
    /// Monitor mode would have dropped the packet.
    WouldDrop,
    /// The order was carried out; the agent did what `detail` says.
    Done,
}

/// A client's certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Certificate {
    /// The name that was matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fqdn: Option<String>,
    /// Distinguished name.
    pub subject: String,
    /// Distinguished name.
    pub issuer: String,
    /// Hexadecimal.
    pub serial: String,
    /// Of its DER form, hexadecimal.
    pub sha256: String,
    /// The names in its SAN, in a refusal.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub san: Vec<String>,
    /// RFC 3339, UTC; in a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<String>,
    /// RFC 3339, UTC.
    pub not_after: String,
}

/// A CRL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Crl {
    /// Distinguished name.
    pub issuer: String,
    /// Hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<String>,
    /// Since it was issued, in seconds.
    pub age_seconds: u64,
    /// When the next one was due: RFC 3339, UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_update: Option<String>,
}

/// What a handshake agreed on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tls {
    /// As OpenSSL prints it: `TLSv1.2`.
    pub version: String,
    /// As OpenSSL prints it: `DHE-RSA-AES256-SHA256`.
    pub cipher: String,
    /// Whether the extended master secret (RFC 7627) is in use.
    #[serde(rename = "ems")]
    pub extended_master_secret: bool,
    /// Whether encrypt-then-MAC (RFC 7366) is in use.
    #[serde(rename = "etm")]
    pub encrypt_then_mac: bool,
    /// Whether an earlier session was taken up.
    pub resumed: bool,
}

/// An operator, as the kernel knows the other end of the control socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Operator {
    /// The effective user.
    pub uid: u32,
    /// The effective group.
    pub gid: u32,
    /// The process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
}

/// An operator's order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Order {
    /// What is to be done, as on the command line: `sources add`.
    pub verb: &'static str,
    /// With what, as in the API.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub arguments: Map<String, Value>,
}

/// A request. Its path is kept without the query, which holds NHS numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Request {
    /// The trace id: made by the gateway, or the client's own where it is a UUID.
    pub id: String,
    method: String,
    path: String,
    /// The interaction that method and path stand for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interaction: Option<String>,
    /// What the request does: the interaction, or `supersede` for a create in place of another pointer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<&'static str>,
    /// The id of the pointer that is read, changed or replaced, as far as it is found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// The ODS code of the pointer's owner, or of the new pointer's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custodian: Option<String>,
    /// The requester's ASID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asid: Option<String>,
    /// The ODS code registered for it; to a provider that asks no registry, the one in the JWT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ods: Option<String>,
    /// On whose behalf, as the JWT says: the id of a professional's role profile, `citizen` or `unattended`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The version of what was answered, as its ETag says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The status of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

impl Record {
    /// A record with a new decision id and nothing else than it must have.
    #[must_use]
    pub fn new(time: SystemTime, event: Event, decision: Decision) -> Self {
        Self {
            time,
            event,
            decision,
            reason: None,
            check: None,
            decision_id: Uuid::new_v4(),
            peer: None,
            operator: None,
            order: None,
            certificate: None,
            depth: None,
            crl: None,
            tls: None,
            request: None,
            source: None,
            detail: None,
            position: None,
            duration: None,
            previous: None,
            checkpoint: None,
        }
    }

    /// Makes it a refusal, by the check that refuses for this reason.
    pub fn refuse(&mut self, reason: Reason) {
        self.decision = Decision::Refuse;
        self.reason = Some(reason);
        self.check = Some(check::of(reason));
    }

    /// The record without NHS numbers and tokens.
    pub(super) fn masked(&self) -> Cow<'_, Self> {
        let detail = self.detail.as_deref().map(masked);
        let path = self
            .request
            .as_ref()
            .and_then(|request| masked_path(&request.path));
        if detail == self.detail && path.is_none() {
            return Cow::Borrowed(self);
        }
        let mut record = self.clone();
        record.detail = detail;
        if let (Some(request), Some(path)) = (&mut record.request, path) {
            Arc::make_mut(request).path = path;
        }
        Cow::Owned(record)
    }
}

impl Request {
    /// A request as it arrived; whatever follows a `?` in the target is dropped.
    pub fn new(id: impl Into<String>, method: impl Into<String>, target: &str) -> Self {
        let path = target.split(['?', '#']).next().unwrap_or_default();
        let path = path.get(..path.floor_char_boundary(MAX_PATH)).unwrap_or_default();
        Self {
            id: id.into(),
            method: method.into(),
            path: path.to_owned(),
            interaction: None,
            action: None,
            pointer: None,
            asid: None,
            ods: None,
            custodian: None,
            user: None,
            version: None,
            status: None,
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

fn timestamp<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    // The formatter knows no year before 1970 and panics there; a clock that is off by that much must not stop the log.
    let time = (*time).max(SystemTime::UNIX_EPOCH);
    serializer.collect_str(&humantime::format_rfc3339_millis(time))
}

fn text<S: Serializer>(id: &Uuid, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

fn why<S: Serializer>(reason: &Option<Reason>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Why {
        reason: &'static str,
        side: &'static str,
    }
    reason
        .map(|reason| Why {
            reason: reason.as_str(),
            side: reason.side().as_str(),
        })
        .serialize(serializer)
}

fn address<S: Serializer>(peer: &Option<SocketAddr>, serializer: S) -> Result<S::Ok, S::Error> {
    /// The two ends of a log query: by address, and down to the connection.
    #[derive(Serialize)]
    struct Peer {
        ip: IpAddr,
        port: u16,
    }
    // A dual-stack listener sees IPv4 clients in the clothes of IPv6; every other record names them as IPv4.
    peer.map(|peer| Peer {
        ip: peer.ip().to_canonical(),
        port: peer.port(),
    })
    .serialize(serializer)
}

fn shared<T: Serialize, S: Serializer>(part: &Option<Arc<T>>, serializer: S) -> Result<S::Ok, S::Error> {
    part.as_deref().serialize(serializer)
}

fn milliseconds<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    duration
        .map(|duration| duration.as_millis() as u64)
        .serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_as_documented() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        let mut record = Record::new(time, Event::Request, Decision::Refuse);
        record.decision_id = Uuid::nil();
        record.refuse(Reason::InteractionNotAllowed);
        record.check = Some("interaction");
        record.peer = Some("[::ffff:10.0.0.1]:4000".parse().unwrap());
        record.certificate = Some(Arc::new(Certificate {
            fqdn: Some("ssp.nhs.uk".to_owned()),
            ..Certificate::default()
        }));
        record.tls = Some(Tls {
            version: "TLSv1.2".to_owned(),
            cipher: "DHE-RSA-AES256-SHA256".to_owned(),
            extended_master_secret: true,
            encrypt_then_mac: false,
            resumed: false,
        });
        let mut request = Request::new("r-1", "GET", "/STU3/DocumentReference?subject=9876543210");
        request.status = Some(403);
        record.request = Some(Arc::new(request));
        record.duration = Some(Duration::from_micros(12_900));
        assert_eq!(
            serde_json::to_string(&record).unwrap(),
            concat!(
                r#"{"ts":"2023-11-14T22:13:20.123Z","event":"request","decision":"refuse","#,
                r#""reason":"interaction_not_allowed","side":"client","check":"interaction","decision_id":"00000000-0000-0000-0000-000000000000","#,
                r#""peer":{"ip":"10.0.0.1","port":4000},"#,
                r#""certificate":{"fqdn":"ssp.nhs.uk","subject":"","issuer":"","serial":"","sha256":"","not_after":""},"#,
                r#""tls":{"version":"TLSv1.2","cipher":"DHE-RSA-AES256-SHA256","ems":true,"etm":false,"resumed":false},"#,
                r#""request":{"id":"r-1","method":"GET","path":"/STU3/DocumentReference","status":403},"duration_ms":12}"#
            )
        );
    }

    #[test]
    fn a_path_is_kept_without_query_and_within_its_limit() {
        let path = |target: &str| Request::new("", "GET", target).path;
        assert_eq!(path("/a?subject=9876543210#x"), "/a");
        assert_eq!(path("/a#?b"), "/a");
        assert_eq!(path("?"), "");
        let long = format!("/{}", "é".repeat(2000));
        assert!(path(&long).len() <= MAX_PATH && long.starts_with(&path(&long)));
    }

    #[test]
    fn a_clock_before_1970_does_not_stop_the_log() {
        let time = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        let record = Record::new(time, Event::Agent, Decision::Done);
        assert!(
            serde_json::to_string(&record)
                .unwrap()
                .contains("1970-01-01T00:00:00.000Z")
        );
    }
}
