//! The gateway: listeners, connections, and each request's way through the rooms that decide about it.

mod connection;
mod dissect;
mod errors;
mod farewell;
mod listener;
mod load;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
#[allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "it says by panicking what does not hold, as tests do"
)]
pub mod oracle;
mod owners;
mod record;
mod request;
mod screen;
mod unauthenticated;
mod upstream;

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use spinegate_common::Reason;
use tokio_util::sync::CancellationToken;

use self::{
    owners::Owners,
    screen::{Hosts, Limits, Screen, Times},
    unauthenticated::{Place, Unauthenticated},
    upstream::Upstream,
};
use crate::{
    audit,
    authz::{Provider, Rules, Shadow, ShadowCase},
    burst::Burst,
    config::{self, AuthzMode, Config, Problem, Profile, Requester},
    control::{Errors, UpstreamStatus},
    fetch::OcspClient,
    metrics::{Counters, UpstreamObserved},
    registry::{self, Registry},
    tls::{Acceptor, Connector},
    verdict::Verdicts,
};

pub use self::dissect::{Breach, Dissected, dissect};
pub use self::listener::{ListenError, accept, bind};

/// What all connections share. Policy and settings are swapped whole; a request keeps what it began with.
pub struct Gateway {
    acceptor: Arc<Acceptor>,
    ocsp: Arc<OcspClient>,
    policy: ArcSwap<Policy>,
    registry: Arc<registry::InForce>,
    verdicts: Arc<Verdicts>,
    audit: Arc<audit::Log>,
    counters: Arc<Counters>,
    errors: Arc<Errors>,
    connections: AtomicUsize,
    unauthenticated: Arc<Unauthenticated>,
    burst: Burst<Reason>,
    load: Arc<load::Load>,
}

/// What a request is judged by, beside the registry, and where it goes: a snapshot.
pub struct Policy {
    rules: Rules,
    upstream: Upstream,
    owners: Owners,
    settings: config::Gateway,
    limits: config::Unauthenticated,
}

impl Policy {
    /// A snapshot of the settings, with what makes TLS connections to upstreams.
    ///
    /// # Errors
    /// If an upstream's address has no host.
    pub fn new(config: &Config, connector: Option<Connector>) -> Result<Self, Problem> {
        let settings = config.gateway.clone();
        let upstream = Upstream::new(&settings, connector).ok_or_else(|| {
            let mend = "write it like http://127.0.0.1:8080";
            Problem::new("gateway.upstream", "an upstream has no host", mend)
        })?;
        let rules = Rules {
            gateway_asid: settings.asid,
            base_path: settings.base_path.clone(),
            claims: settings.claims,
            provider: match settings.profile {
                Profile::Locator => None,
                Profile::Provider => Some(Provider {
                    endpoint: settings.provider.endpoint.clone(),
                    registered: settings.provider.requester == Requester::Registered,
                }),
            },
            double_encoded: settings.compat.double_encoded,
            hide_existence: settings.hide_existence,
            shadow: Shadow {
                everything: config.authz.mode == AuthzMode::Shadow,
                cases: config
                    .authz
                    .shadow
                    .iter()
                    .map(|case| ShadowCase {
                        interaction: case.interaction,
                        asid: case.asid,
                    })
                    .collect(),
            },
        };
        Ok(Self {
            rules,
            upstream,
            owners: Owners::new(settings.owner_cache, settings.owner_cache_age),
            settings,
            limits: config.tls.unauthenticated,
        })
    }

    /// What requests are judged by.
    #[must_use]
    pub const fn rules(&self) -> &Rules {
        &self.rules
    }

    /// What is in shadow, in words; empty where everything is enforced.
    #[must_use]
    pub fn in_shadow(&self, registry: &Registry) -> Vec<String> {
        let shadow = &self.rules.shadow;
        let everything = shadow.everything.then(|| "all requests".to_owned());
        let cases = shadow.cases.iter().map(|case| match case.asid {
            None => format!("every {}", case.interaction),
            Some(asid) => format!("every {} of {asid}", case.interaction),
        });
        let systems = match registry.in_shadow() {
            0 => None,
            1 => Some("1 system of the registry".to_owned()),
            many => Some(format!("{many} systems of the registry")),
        };
        everything.into_iter().chain(cases).chain(systems).collect()
    }

    /// `[gateway]`
    #[must_use]
    pub const fn settings(&self) -> &config::Gateway {
        &self.settings
    }
}

impl Gateway {
    /// Joins what connections need.
    #[must_use]
    pub fn new(
        acceptor: Arc<Acceptor>,
        ocsp: Arc<OcspClient>,
        (policy, registry): (Policy, Arc<registry::InForce>),
        verdicts: Arc<Verdicts>,
        audit: Arc<audit::Log>,
        (counters, errors): (Arc<Counters>, Arc<Errors>),
    ) -> Self {
        Self {
            acceptor,
            ocsp,
            policy: ArcSwap::from_pointee(policy),
            registry,
            verdicts,
            audit,
            counters,
            errors,
            connections: AtomicUsize::new(0),
            unauthenticated: Arc::default(),
            burst: Burst::new(Instant::now()),
            load: Arc::default(),
        }
    }

    /// Judges every further request by another policy, on open connections too. Gives the one that was in force.
    pub fn replace(&self, policy: Arc<Policy>) -> Arc<Policy> {
        self.policy.swap(policy)
    }

    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> Arc<Policy> {
        self.policy.load_full()
    }

    /// How each upstream is.
    #[must_use]
    pub fn upstreams(&self) -> Vec<UpstreamStatus> {
        self.policy.load().upstream.status()
    }

    /// The same, with how long each took to answer.
    #[must_use]
    pub fn observed_upstreams(&self) -> Vec<UpstreamObserved> {
        self.policy.load().upstream.observe()
    }

    /// Asks the upstreams how they are, and closes connections to them that were kept long enough, until `end`.
    pub async fn tend_upstreams(self: Arc<Self>, end: CancellationToken) {
        loop {
            let policy = self.policy();
            let pause = tokio::select! {
                () = end.cancelled() => return,
                pause = policy.upstream.tend() => pause,
            };
            tokio::select! {
                () = end.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Connections open now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Requests whose answer is not handed over yet.
    #[must_use]
    pub fn requests_under_way(&self) -> usize {
        self.load.under_way()
    }

    /// Gives a place for a handshake to a source, or says why there is none.
    fn admit(&self, address: IpAddr) -> Result<Place, Reason> {
        let limits = self.policy.load().limits;
        let kind = self.verdicts.kind_of(address);
        let source = unauthenticated::source(&limits, address);
        self.unauthenticated
            .admit(&limits, (source, kind), fastrand::f64())
    }

    /// Counts a connection as open until the guard is dropped.
    fn open(&self) -> Open<'_> {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Open(&self.connections)
    }

    /// How long a connection that begins now may be open. Each a little else, so that those that began together do not all
    /// begin anew together.
    fn connection_age(&self) -> Duration {
        self.policy
            .load()
            .settings
            .connection_age
            .mul_f64(0.9 + fastrand::f64() / 5.0)
    }

    fn answer_timeout(&self) -> Duration {
        self.policy.load().settings.answer_timeout
    }

    fn drain_timeout(&self) -> Duration {
        self.policy.load().settings.drain_timeout
    }

    /// What a connection that begins now is screened by.
    fn screening(&self) -> (Limits, Screen, Times) {
        let settings = &self.policy.load().settings;
        let times = Times {
            head: settings.header_timeout,
            idle: settings.idle_timeout,
        };
        (limits(settings), new_screen(settings), times)
    }
}

/// How large a head may be.
const fn limits(settings: &config::Gateway) -> Limits {
    Limits {
        head: settings.max_head,
        headers: settings.max_headers,
        request_line: settings.max_request_line,
    }
}

fn new_screen(settings: &config::Gateway) -> Screen {
    Screen::new(limits(settings)).for_hosts(Hosts::new(Arc::clone(&settings.hosts)))
}

struct Open<'c>(&'c AtomicUsize);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
