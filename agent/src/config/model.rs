//! The configuration as values. Paths are absolute or relative to the working directory: loading resolved them.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use ipnet::IpNet;

use crate::nrl::Fqdn;

/// A whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[filter]`
    pub filter: Filter,
    /// `[listen]`
    pub listen: Listen,
    /// `[tls]`
    pub tls: Tls,
    /// `[gateway]`
    pub gateway: Gateway,
    /// `[registry]`
    pub registry: Registry,
    /// `[verdict]`
    pub verdict: Verdicts,
    /// `[control]`
    pub control: Control,
    /// `[metrics]`
    pub metrics: Metrics,
    /// `[audit]`
    pub audit: Audit,
}

/// `[filter]`: what the XDP program does.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Whether it drops, only counts, or is not attached. Default `enforce`.
    pub mode: FilterMode,
    /// The interfaces it is attached to.
    pub interfaces: Vec<String>,
    /// How it is attached. Default `auto`.
    pub attach: XdpAttach,
    /// What it guards. Default `services`.
    pub scope: Scope,
    /// The folder on bpffs that holds the pinned maps and links. Default `/sys/fs/bpf/spinegate`.
    pub pin_dir: PathBuf,
    /// Where `spinegate sources add` keeps the sources that it added. Default `/var/lib/spinegate/sources.json`.
    pub sources_file: PathBuf,
    /// How many drop events a CPU may report per second; the rest are only counted. Default 100.
    pub events_per_second: u32,
    /// `[[filter.service]]`
    pub services: Vec<Service>,
    /// `[[filter.source]]`
    pub sources: Vec<Source>,
}

/// `filter.mode`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterMode {
    /// Drop.
    Enforce,
    /// Count what would be dropped, and pass it.
    Monitor,
    /// Don't attach.
    Off,
}

impl FilterMode {
    /// The word of the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Monitor => "monitor",
            Self::Off => "off",
        }
    }
}

/// `filter.attach`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpAttach {
    /// In the driver, and in the generic hook where the driver can't.
    Auto,
    /// In the driver or not at all.
    Native,
    /// In the generic hook.
    Generic,
}

/// `filter.scope`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Only the listed services are guarded.
    Services,
    /// Every inbound packet is guarded.
    Host,
}

impl Scope {
    /// The word of the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::Host => "host",
        }
    }
}

/// `[[filter.service]]`, also written `tcp/443`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Service {
    /// `tcp` or `udp`.
    pub protocol: ServiceProtocol,
    /// The destination port, 1 to 65535.
    pub port: u16,
}

/// The protocol of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServiceProtocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
}

/// `[[filter.source]]`: an entry of the allowlist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its addresses; host bits are zero.
    pub cidr: IpNet,
    /// What the operator calls it.
    pub name: String,
    /// Whether many systems stand behind it. Default `system`.
    pub kind: SourceKind,
    /// The services that it may reach; empty: all. Default empty.
    pub services: Vec<Service>,
}

/// `filter.source.kind`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// Many systems behind one address, as the Spine Secure Proxy is.
    Proxy,
    /// One system.
    System,
}

/// `[listen]`
#[derive(Clone, Debug)]
pub struct Listen {
    /// Where the gateway accepts connections.
    pub addresses: Vec<SocketAddr>,
}

/// `[tls]`
#[derive(Clone, Debug)]
pub struct Tls {
    /// PEM file: the gateway's certificate, then its chain.
    pub certificate: PathBuf,
    /// PEM file: its key.
    pub private_key: PathBuf,
    /// Default `strict`.
    pub suites: Suites,
    /// Default `ffdhe2048`.
    pub dh_group: DhGroup,
    /// A handshake that takes longer is broken off. Default 5 s.
    pub handshake_timeout: Duration,
    /// `[tls.client]`
    pub client: ClientTls,
}

/// `tls.suites`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suites {
    /// DHE-RSA-AES256-SHA256 alone (R7).
    Strict,
    /// The eight suites of the NRL security guidance, in its order.
    Nrl,
}

/// `tls.dh_group`: a named group of RFC 7919.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DhGroup {
    /// 2048 bits
    Ffdhe2048,
    /// 3072 bits
    Ffdhe3072,
    /// 4096 bits
    Ffdhe4096,
}

/// `[tls.client]`: which client certificates are accepted.
#[derive(Clone, Debug)]
pub struct ClientTls {
    /// PEM files: the RootCA (R9).
    pub roots: Vec<PathBuf>,
    /// PEM files: the only CAs that may issue client certificates (R8).
    pub issuers: Vec<PathBuf>,
    /// The only names a client certificate may have (R12).
    pub fqdns: Vec<Fqdn>,
    /// CRLs, PEM or DER: files, or folders of them (R11).
    pub crls: Vec<PathBuf>,
    /// Default `require`.
    pub revocation: Revocation,
}

/// `tls.client.revocation`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// Without a fresh CRL of each issuer in the chain the client is refused.
    Require,
    /// Without a fresh CRL the client is accepted, unless the last known one lists it.
    Prefer,
}

/// `[gateway]`
#[derive(Clone, Debug)]
pub struct Gateway {
    /// Default `locator`.
    pub profile: Profile,
    /// The ASID of the guarded service: what toASID must be.
    pub asid: crate::nrl::Asid,
    /// The guarded service: `http://host:port`.
    pub upstream: http::Uri,
    /// What stands before `/DocumentReference` in the paths of both sides. Default `/STU3`.
    pub base_path: String,
    /// Connections open at once. Default 4096.
    pub max_connections: usize,
    /// The largest body that is read to be checked, in bytes. Default 1 MiB.
    pub max_body: usize,
    /// A request's head that takes longer is refused. Default 10 s.
    pub header_timeout: Duration,
    /// A request's body that takes longer is refused. Default 30 s.
    pub body_timeout: Duration,
    /// The upstream must answer within this time. Default 30 s.
    pub upstream_timeout: Duration,
    /// How long SIGTERM waits for requests under way. Default 10 s.
    pub drain_timeout: Duration,
}

/// `gateway.profile`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// In front of a record locator.
    Locator,
}

/// `[registry]`
#[derive(Clone, Debug)]
pub struct Registry {
    /// The TOML file of systems.
    pub file: PathBuf,
}

/// `[verdict]`: when failures become a deny verdict.
#[derive(Clone, Debug)]
pub struct Verdicts {
    /// Strikes at which a source of kind `system` is denied. Default 10.
    pub system_threshold: u32,
    /// Strikes at which a source of kind `proxy` is denied. Default 100.
    pub proxy_threshold: u32,
    /// The time in which half of a source's strikes are forgotten. Default 1 min.
    pub half_life: Duration,
    /// How long a source's first deny verdict lasts; each further one lasts twice as long. Default 1 min.
    pub ttl: Duration,
    /// The longest that a verdict lasts. Default 1 h.
    pub ttl_max: Duration,
}

/// `[control]`
#[derive(Clone, Debug)]
pub struct Control {
    /// The operator's socket. Default `/run/spinegate/control.sock`.
    pub socket: PathBuf,
}

/// `[metrics]`
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Where Prometheus metrics are served; none: nowhere. Default none.
    pub listen: Option<SocketAddr>,
}

/// `[audit]`
#[derive(Clone, Debug)]
pub struct Audit {
    /// The file that every decision is appended to, a JSON object a line.
    pub file: PathBuf,
}

impl Filter {
    /// The entry of the allowlist that covers an address with the longest prefix.
    #[must_use]
    pub fn source_of(&self, address: IpAddr) -> Option<&Source> {
        self.sources
            .iter()
            .filter(|source| source.cidr.contains(&address))
            .max_by_key(|source| source.cidr.prefix_len())
    }
}
