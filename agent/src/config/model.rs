//! The configuration as values. Paths are absolute or relative to the working directory: loading resolved them.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::uri::PathAndQuery;
use ipnet::IpNet;

use super::{HttpHost, HttpUrl, SecureUrl};
use crate::{
    nrl::{Fqdn, InteractionId, OdsCode},
    registry,
};

/// A whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[run]`
    pub run: Run,
    /// `[filter]`
    pub filter: Filter,
    /// `[listen]`
    pub listen: Listen,
    /// `[tls]`
    pub tls: Tls,
    /// `[gateway]`
    pub gateway: Gateway,
    /// `[authz]`
    pub authz: Authz,
    /// `[registry]`
    pub registry: Registry,
    /// `[verdict]`
    pub verdict: Verdicts,
    /// `[control]`
    pub control: Control,
    /// `[metrics]`
    pub metrics: Metrics,
    /// `[log]`
    pub log: Log,
    /// `[audit]`
    pub audit: Audit,
    /// The keys to which the file gives another value than their default, but for `filter.source`, each with its value as TOML.
    pub settings: Arc<BTreeMap<String, String>>,
}

impl Config {
    /// The files that it names, and folders of such, for the agent to read.
    #[must_use]
    pub fn files(&self) -> Vec<&Path> {
        let client = &self.tls.client;
        let registry = &self.registry;
        let mut files: Vec<&Path> = vec![
            &self.tls.certificate,
            &self.tls.private_key,
            &self.filter.sources_file,
        ];
        let mut lists = vec![
            &self.filter.source_lists,
            &client.roots,
            &client.issuers,
            &client.crls,
        ];
        let mut ends = vec![&self.gateway.upstream_tls];
        let mut single = vec![&registry.file];
        if let Some(ldap) = &registry.ldap {
            ends.push(&ldap.tls);
            single.push(&ldap.password_file);
        }
        if let Some(sds) = &registry.sds {
            ends.push(&sds.tls);
            single.push(&sds.apikey_file);
            lists.push(&sds.bundles);
        }
        for end in ends {
            lists.push(&end.ca);
            single.extend([&end.certificate, &end.private_key]);
        }
        files.extend(lists.into_iter().flatten().map(PathBuf::as_path));
        files.extend(single.into_iter().filter_map(|path| path.as_deref()));
        files
    }

    /// The folders that the part which serves the network writes to.
    #[must_use]
    pub fn folders(&self) -> Vec<&Path> {
        let mut folders = vec![folder_of(&self.audit.file), folder_of(&self.audit.key)];
        if self.registry.ldap.is_some() || self.registry.sds.is_some() {
            folders.push(&self.registry.state_dir);
        }
        if self.tls.client.fetch.is_on() {
            folders.push(&self.tls.client.fetch.folder);
        }
        folders
    }
}

/// The folder that a file is in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// `[run]`: as whom the agent serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// The user that the part which serves the network becomes.
    pub user: Option<u32>,
    /// Its group.
    pub group: Option<u32>,
}

/// `[filter]`: what the XDP program does.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Whether it drops, only counts, or is not attached.
    pub mode: FilterMode,
    /// The interfaces it is attached to.
    pub interfaces: Vec<String>,
    /// How it is attached.
    pub attach: XdpAttach,
    /// What it guards.
    pub scope: Scope,
    /// The folder on bpffs that holds the pinned maps and links.
    pub pin_dir: PathBuf,
    /// Where `spinegate sources add` keeps the sources that it added.
    pub sources_file: PathBuf,
    /// How many drop events a CPU may report per second; the rest are only counted.
    pub events_per_second: u32,
    /// How much control traffic a CPU lets through per second in scope `host`.
    pub control_per_second: u32,
    /// How many entries of the allowlist have counters of their own.
    pub max_sources: u32,
    /// Addresses from which operators come: no reload may cut them off.
    pub control_plane: Vec<IpAddr>,
    /// The ports that these must reach.
    pub control_plane_ports: Vec<u16>,
    /// `[filter.handshake]`
    pub handshake: HandshakeBudgets,
    /// `[[filter.service]]`
    pub services: Vec<GuardedService>,
    /// `[[filter.failsafe]]`
    pub failsafes: Vec<Failsafe>,
    /// `[[filter.source]]` and what `[[filter.source_list]]` names.
    pub sources: Vec<Source>,
    /// The files of `[[filter.source_list]]`.
    pub source_lists: Vec<PathBuf>,
}

impl Default for Filter {
    /// Nothing is guarded, and everything else is as it is where a configuration leaves it out.
    fn default() -> Self {
        Self {
            mode: FilterMode::Enforce,
            interfaces: Vec::new(),
            attach: XdpAttach::Auto,
            scope: Scope::Services,
            pin_dir: "/sys/fs/bpf/spinegate".into(),
            sources_file: "/var/lib/spinegate/sources.json".into(),
            events_per_second: 100,
            control_per_second: 10_000,
            max_sources: 1 << 16,
            control_plane: Vec::new(),
            control_plane_ports: vec![22],
            handshake: HandshakeBudgets::default(),
            services: Vec::new(),
            failsafes: Vec::new(),
            sources: Vec::new(),
            source_lists: Vec::new(),
        }
    }
}

impl Source {
    /// A system that reaches everything, for good.
    #[must_use]
    pub fn new(cidr: IpNet, name: impl Into<String>) -> Self {
        Self {
            cidr,
            name: name.into(),
            kind: SourceKind::default(),
            services: Vec::new(),
            reply_ports: Vec::new(),
            expires: None,
        }
    }
}

/// `[filter.handshake]`: how many TCP connections a source may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandshakeBudgets {
    /// Per second, from a source that has not authenticated yet.
    pub untrusted_per_second: u32,
    /// At once, from such a source.
    pub untrusted_burst: u32,
    /// Per second, from a trusted source.
    pub trusted_per_second: u32,
    /// At once, from a trusted source.
    pub trusted_burst: u32,
    /// How long a source is trusted after a verified handshake.
    pub trust_ttl: Duration,
}

impl Default for HandshakeBudgets {
    fn default() -> Self {
        Self {
            untrusted_per_second: 20,
            untrusted_burst: 50,
            trusted_per_second: 1000,
            trusted_burst: 2000,
            trust_ttl: Duration::from_secs(3600),
        }
    }
}

/// `[[filter.service]]`: a guarded service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuardedService {
    /// Its protocol and port.
    pub service: Service,
    /// The destination address; none: all of this host's.
    pub address: Option<IpAddr>,
    /// Its own mode; none: that of the filter.
    pub mode: Option<ServiceMode>,
}

impl GuardedService {
    /// A service at all addresses of this host, in the mode of the filter.
    #[must_use]
    pub const fn everywhere(service: Service) -> Self {
        Self {
            service,
            address: None,
            mode: None,
        }
    }
}

/// `filter.service.mode`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceMode {
    /// Drop.
    Enforce,
    /// Count what would be dropped, and pass it.
    Monitor,
}

/// `[[filter.failsafe]]`: what always passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failsafe {
    /// The sources.
    pub cidr: IpNet,
    /// The services; empty: everything.
    pub services: Vec<Service>,
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
    /// Whether many systems stand behind it.
    pub kind: SourceKind,
    /// The services that it may reach; empty: all, or none if it has `reply_ports`.
    pub services: Vec<Service>,
    /// In scope `host`: the source ports from which it may answer this host.
    pub reply_ports: Vec<u16>,
    /// When the entry ends.
    pub expires: Option<SystemTime>,
}

impl Source {
    /// Whether it may reach everything that is guarded.
    #[must_use]
    pub const fn reaches_all(&self) -> bool {
        self.services.is_empty() && self.reply_ports.is_empty()
    }

    /// Whether it counts at `now`.
    #[must_use]
    pub fn is_in_force(&self, now: SystemTime) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

/// `filter.source.kind`
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// Many systems behind one address, as the Spine Secure Proxy is.
    Proxy,
    /// One system.
    #[default]
    System,
}

/// `[listen]`
#[derive(Clone, Debug)]
pub struct Listen {
    /// Where the gateway accepts connections.
    pub addresses: Vec<SocketAddr>,
    /// Whether other processes of the same user may listen there too (`SO_REUSEPORT`).
    pub reuse_port: bool,
}

/// `[tls]`
#[derive(Clone, Debug)]
pub struct Tls {
    /// PEM file: the gateway's certificate, then its chain.
    pub certificate: PathBuf,
    /// PEM file: its key.
    pub private_key: PathBuf,
    /// The cipher suites.
    pub suites: Suites,
    /// The group of the key exchange.
    pub dh_group: DhGroup,
    /// A handshake that takes longer is broken off.
    pub handshake_timeout: Duration,
    /// How many threads do the arithmetic of handshakes; none: one less than there are cores, and at least one.
    pub handshake_threads: Option<usize>,
    /// How many handshakes may wait for a thread.
    pub handshake_queue: usize,
    /// Refuse clients without the extended master secret (RFC 7627).
    pub require_ems: bool,
    /// Refuse clients without encrypt-then-MAC (RFC 7366).
    pub require_etm: bool,
    /// Whether a client may take up an earlier session.
    pub resumption: bool,
    /// `[tls.unauthenticated]`
    pub unauthenticated: Unauthenticated,
    /// `[tls.client]`
    pub client: ClientTls,
}

/// `[tls.unauthenticated]`: how many connections may be in their handshake at once. From `begin` on, new ones are turned
/// away with a probability that grows from `rate` percent to certainty at `full`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unauthenticated {
    /// From so many on some are turned away.
    pub begin: usize,
    /// How many of them at first, in percent.
    pub rate: u8,
    /// From so many on all are.
    pub full: usize,
    /// Of one source.
    pub per_source: usize,
    /// Of one source of kind `proxy`.
    pub per_proxy: usize,
    /// Addresses that share so many bits are one source, in IPv4.
    pub ipv4_prefix: u8,
    /// The same in IPv6.
    pub ipv6_prefix: u8,
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
    /// Whether a fresh CRL is needed.
    pub revocation: Revocation,
    /// What becomes of clients whose CRL is stale.
    pub on_stale: OnStale,
    /// `[tls.client.fetch]`
    pub fetch: CrlFetch,
    /// `[tls.client.ocsp]`
    pub ocsp: Ocsp,
}

/// `[tls.client.fetch]`: which CRLs the agent fetches itself.
#[derive(Clone, Debug)]
pub struct CrlFetch {
    /// The only hosts that are asked; none: nothing is fetched.
    pub hosts: Vec<HttpHost>,
    /// What is fetched besides the distribution points of certificates.
    pub urls: Vec<HttpUrl>,
    /// Where fetched CRLs are kept.
    pub folder: PathBuf,
    /// A CRL that takes longer is given up.
    pub timeout: Duration,
    /// The largest CRL that is taken, in bytes.
    pub max_bytes: usize,
    /// A CRL is fetched again after this time, however long it is valid.
    pub interval: Duration,
}

impl CrlFetch {
    /// Nothing is fetched.
    #[must_use]
    pub fn off() -> Self {
        Self {
            hosts: Vec::new(),
            urls: Vec::new(),
            folder: PathBuf::new(),
            timeout: Duration::ZERO,
            max_bytes: 0,
            interval: Duration::ZERO,
        }
    }

    /// Whether anything may be fetched.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        !self.hosts.is_empty()
    }
}

/// `[tls.client.ocsp]`: what OCSP responders are asked. It never weakens the rules for CRLs.
#[derive(Clone, Debug)]
pub struct Ocsp {
    /// Whether responders are asked.
    pub mode: OcspMode,
    /// The only hosts of responders that are asked because a certificate names them.
    pub hosts: Vec<HttpHost>,
    /// The responder that is asked in any case, instead of those in certificates.
    pub responder: Option<HttpUrl>,
    /// No client waits longer.
    pub deadline: Duration,
}

impl Ocsp {
    /// Nobody is asked, as where the configuration says nothing.
    #[must_use]
    pub const fn off() -> Self {
        Self {
            mode: OcspMode::Off,
            hosts: Vec::new(),
            responder: None,
            deadline: Duration::from_secs(2),
        }
    }
}

/// `tls.client.ocsp.mode`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OcspMode {
    /// Nobody is asked.
    Off,
    /// Who is revoked by an answer is refused; without an answer the CRLs decide alone.
    Prefer,
    /// Without an answer that client and issuer are good the client is refused.
    Require,
}

/// `tls.client.on_stale`: what becomes of clients when a CRL was not replaced in time. A serial number on it stays revoked
/// in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStale {
    /// They are refused.
    Deny,
    /// They are accepted for so long after the CRL's end.
    Grace(Duration),
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
    /// What stands behind the gateway.
    pub profile: Profile,
    /// The ASID of the guarded service: what toASID must be.
    pub asid: crate::nrl::Asid,
    /// The guarded service: one or several, each `http://host:port` or `https://host:port`.
    pub upstreams: Vec<http::Uri>,
    /// What stands before `/DocumentReference` in the paths of both sides.
    pub base_path: String,
    /// Whose codes answer a refusal.
    pub errors: crate::nrl::ErrorTable,
    /// The gateway's own names: the hosts that requests may be for.
    pub hosts: Arc<[String]>,
    /// Connections open at once.
    pub max_connections: usize,
    /// Requests under way at once.
    pub max_requests: usize,
    /// The same for one ASID.
    pub max_requests_per_client: usize,
    /// Requests that a connection may bring.
    pub requests_per_connection: usize,
    /// How long a connection may be open.
    pub connection_age: Duration,
    /// A body of which nothing comes for longer is refused.
    pub body_idle_timeout: Duration,
    /// A client that takes nothing of its answer for longer is cut off.
    pub answer_timeout: Duration,
    /// The largest body that is read to be checked, in bytes.
    pub max_body: usize,
    /// The largest head of a request, in bytes.
    pub max_head: usize,
    /// The most header lines of a request.
    pub max_headers: usize,
    /// The longest request line, in bytes.
    pub max_request_line: usize,
    /// A request's head that takes longer, from its first byte, is refused.
    pub header_timeout: Duration,
    /// A connection without a request is closed after this time.
    pub idle_timeout: Duration,
    /// A request's body that takes longer is refused.
    pub body_timeout: Duration,
    /// A connection to an upstream must be there within this time, its TLS handshake included.
    pub connect_timeout: Duration,
    /// The head of an upstream's answer must be there within this time, all tries included.
    pub upstream_timeout: Duration,
    /// The longest pause within the body of an upstream's answer.
    pub upstream_idle_timeout: Duration,
    /// Requests under way at one upstream at once.
    pub upstream_max_requests: usize,
    /// Connections to one upstream that are kept for later requests.
    pub upstream_max_idle: usize,
    /// How long they are kept.
    pub upstream_keep_alive: Duration,
    /// `[gateway.jwt]`
    pub claims: crate::nrl::ClaimRules,
    /// `[gateway.provider]`
    pub provider: Provider,
    /// `[gateway.upstream_tls]`
    pub upstream_tls: UpstreamTls,
    /// `[gateway.health]`
    pub health: Health,
    /// How long SIGTERM waits for requests under way.
    pub drain_timeout: Duration,
    /// The gateway's organisation: with it, what the gateway itself asks of the guarded service has a JWT.
    pub ods: Option<crate::nrl::OdsCode>,
    /// Whether a stranger is told of another's pointer that it does not exist.
    pub hide_existence: bool,
    /// Pointers whose owner is remembered.
    pub owner_cache: usize,
    /// How long it is.
    pub owner_cache_age: Duration,
    /// `[gateway.compat]`
    pub compat: Compat,
}

/// `[gateway.compat]`: what clients do that is not right, and is taken all the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compat {
    /// Conditional updates and deletes may be encoded as in the examples on the NRL's pages.
    pub double_encoded: bool,
}

/// `[gateway.upstream_tls]`: TLS to upstreams of scheme `https`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamTls {
    /// PEM files: the only CAs under which an upstream's certificate may be. Needed where an upstream is `https`.
    pub ca: Vec<PathBuf>,
    /// PEM file: the gateway's certificate for upstreams, then its chain.
    pub certificate: Option<PathBuf>,
    /// PEM file: its key.
    pub private_key: Option<PathBuf>,
    /// The name that an upstream's certificate must have, and that is asked for.
    pub server_name: Option<Fqdn>,
}

/// `[gateway.health]`: when an upstream gets no requests for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Failures in a row that eject an upstream.
    pub eject_after: u32,
    /// How long it is ejected the first time; each further time is twice as long.
    pub eject_time: Duration,
    /// The longest that it is ejected.
    pub eject_time_max: Duration,
    /// What is asked of each upstream all the time; none: nothing.
    pub path: Option<PathAndQuery>,
    /// How often.
    pub interval: Duration,
    /// The whole answer's head must be there within this time.
    pub timeout: Duration,
    /// Good answers in a row after which an upstream is up again.
    pub healthy_after: u32,
    /// Bad ones in a row after which it is down.
    pub unhealthy_after: u32,
}

/// `[gateway.provider]`: what a provider's record endpoint serves, in profile `provider`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provider {
    /// Paths, queries and spellings of the interaction.
    pub endpoint: crate::nrl::Endpoint,
    /// Whom the Secure Proxy may pass on.
    pub requester: Requester,
}

/// `gateway.provider.requester`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Requester {
    /// Whom the Secure Proxy passes on.
    #[default]
    Any,
    /// Who is in the registry, with the interaction, and no other.
    Registered,
}

/// `gateway.profile`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// In front of a record locator.
    Locator,
    /// In front of a provider's record endpoint, behind the Spine Secure Proxy.
    Provider,
}

/// `[authz]`: what becomes of requests that a check of permission refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authz {
    /// Whether they are refused.
    pub mode: AuthzMode,
    /// `[[authz.shadow]]`: what is in shadow all the same.
    pub shadow: Vec<ShadowCase>,
}

/// `authz.mode`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthzMode {
    /// They are refused.
    Enforce,
    /// They go on, and are recorded.
    Shadow,
}

/// `[[authz.shadow]]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShadowCase {
    /// What they perform.
    pub interaction: crate::nrl::Interaction,
    /// The requester; none: anybody.
    pub asid: Option<crate::nrl::Asid>,
}

/// `[registry]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registry {
    /// The TOML file of systems; none only where there is another source.
    pub file: Option<PathBuf>,
    /// The sources that there are, the one first that decides of an ASID that several know.
    pub precedence: Vec<registry::Source>,
    /// Where snapshots of fetched sources are kept.
    pub state_dir: PathBuf,
    /// How long a snapshot counts after it was fetched.
    pub max_age: Duration,
    /// Of how many systems less a snapshot is held back.
    pub max_shrink: MaxShrink,
    /// No source may have more systems.
    pub max_systems: usize,
    /// Whether a system's certificate must have its FQDN.
    pub fqdns: Fqdns,
    /// `[registry.ldap]`
    pub ldap: Option<Ldap>,
    /// `[registry.sds]`
    pub sds: Option<Sds>,
}

/// `registry.max_shrink`: how many systems of a source may be gone from its next snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxShrink {
    /// Of a hundred.
    Percent(u8),
    /// At all.
    Systems(usize),
}

impl MaxShrink {
    /// Whether so many of so many systems may be gone.
    #[must_use]
    pub const fn allows(self, gone: usize, of: usize) -> bool {
        match self {
            Self::Percent(percent) => gone as u128 * 100 <= of as u128 * percent as u128,
            Self::Systems(systems) => gone <= systems,
        }
    }
}

/// `registry.fqdn`: what the FQDNs of fetched sources are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fqdns {
    /// A system's certificate must have its FQDN; a system that has none, or several, is left out.
    Require,
    /// For nothing: the systems come through a proxy.
    Ignore,
}

/// `[registry.ldap]`: the Spine Directory Service over LDAP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ldap {
    /// The server.
    pub url: SecureUrl,
    /// TLS to it.
    pub tls: UpstreamTls,
    /// Who binds; none: anonymously.
    pub bind_dn: Option<String>,
    /// The file of the password.
    pub password_file: Option<PathBuf>,
    /// Where the systems are.
    pub base: String,
    /// Entries of a page of the server's answers.
    pub page_size: u32,
    /// How often changes are asked for.
    pub interval: Duration,
    /// How often everything is asked for.
    pub full_interval: Duration,
    /// The longest that a fetch may take.
    pub timeout: Duration,
    /// The largest entry that is taken, in bytes.
    pub max_entry_bytes: usize,
    /// The most that a fetch may bring, in bytes.
    pub max_bytes: u64,
}

/// `[registry.sds]`: the Spine Directory Service over its FHIR API, or in bundles of that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sds {
    /// Files of bundles, or folders of such.
    pub bundles: Vec<PathBuf>,
    /// The API's base; none: it is not asked.
    pub url: Option<SecureUrl>,
    /// TLS to it.
    pub tls: UpstreamTls,
    /// The file of the API key.
    pub apikey_file: Option<PathBuf>,
    /// Whose systems are asked for.
    pub organizations: Vec<OdsCode>,
    /// By which of their interactions: the API has no other way.
    pub interactions: Vec<InteractionId>,
    /// How often.
    pub interval: Duration,
    /// The longest that all of it may take.
    pub timeout: Duration,
    /// The largest answer or file that is taken, in bytes.
    pub max_bytes: usize,
}

/// `[verdict]`: when failures become a deny verdict.
#[derive(Clone, Debug)]
pub struct Verdicts {
    /// Strikes at which a source of kind `system` is denied.
    pub system_threshold: u32,
    /// Strikes at which a source of kind `proxy` is denied.
    pub proxy_threshold: u32,
    /// The time in which half of a source's strikes are forgotten.
    pub half_life: Duration,
    /// How long a source's first deny verdict lasts; each further one lasts twice as long.
    pub ttl: Duration,
    /// The longest that a verdict lasts.
    pub ttl_max: Duration,
}

/// `[control]`
#[derive(Clone, Debug)]
pub struct Control {
    /// The operator's socket.
    pub socket: PathBuf,
    /// The group whose members may look.
    pub group: Option<u32>,
    /// Users who may give orders, besides root and the agent's own.
    pub writers: Vec<u32>,
}

/// `[log]`
#[derive(Clone, Debug)]
pub struct Log {
    /// How the agent writes what it does.
    pub format: LogFormat,
}

/// `log.format`
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people on a terminal; to journald if that is where standard error goes; as JSON otherwise.
    Auto,
    /// For people, on standard error.
    Human,
    /// A JSON object a line, on standard error.
    Json,
    /// To journald, each field as one of its own.
    Journald,
}

/// `[metrics]`
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Where Prometheus metrics are served; none: nowhere.
    pub listen: Option<SocketAddr>,
}

/// `[audit]`
#[derive(Clone, Debug)]
pub struct Audit {
    /// The file that every decision is appended to, a JSON object a line.
    pub file: PathBuf,
    /// Where decisions are recorded.
    pub output: AuditOutput,
    /// The key that signs its checkpoints.
    pub key: PathBuf,
    /// How often the chain is signed.
    pub checkpoint_interval: Duration,
    /// What must have happened to a line before the answer leaves.
    pub durability: Durability,
    /// How long an answer waits for that at most.
    pub timeout: Duration,
    /// What becomes of a request that can't be recorded.
    pub on_failure: OnFailure,
    /// Whether NHS numbers and tokens are masked where they may come to stand.
    pub mask: bool,
}

/// `audit.output`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditOutput {
    /// In the file.
    File,
    /// In systemd's journal alone: no chain, no signatures, and nothing waits for the disk.
    Journald,
    /// In the file, whose failures count as before, and a copy in the journal.
    Both,
}

/// `audit.durability`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The kernel has it: it outlives the agent.
    Buffered,
    /// The disk has it: it outlives the host.
    Fsync,
}

/// `audit.on_failure`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// Its answer is withheld.
    Refuse,
    /// It is served all the same.
    Serve,
}
