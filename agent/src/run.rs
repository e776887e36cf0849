//! The agent from start to stop: each room is opened in the order in which nothing is ever served unguarded.

mod crls;
mod drops;
mod explain;
mod interfaces;
mod lockout;
mod operations;
mod packets;
mod parts;
mod reload;
mod tasks;

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use arc_swap::ArcSwap;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::{Semaphore, mpsc},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::parts::Parts;
use crate::{
    audit::{self, Decision, Event, Record},
    config::{self, Config, Diagnostic, Document, FilterMode, Loaded},
    control,
    fetch::{CrlFetcher, OcspClient},
    filter::{self, Filter, FilterError},
    gateway::{self, Gateway},
    metrics::{self, Counters, Exporter},
    sources::Sources,
    tls::{Acceptor, Wanted},
    verdict::{SharedFilter, Verdicts},
};

/// Why the agent does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Something that the configuration names is not sound.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Configuration(Vec<Diagnostic>),
    /// Something it needs refuses, or it ended in failure.
    #[error("{message}")]
    Refused {
        /// What, and the mend.
        message: String,
    },
    /// The kernel or a privilege is missing.
    #[error("{message}")]
    Privilege {
        /// What, and the mend.
        message: String,
    },
}

impl RunError {
    fn refused(error: impl std::fmt::Display) -> Self {
        Self::Refused {
            message: error.to_string(),
        }
    }
}

impl From<FilterError> for RunError {
    fn from(error: FilterError) -> Self {
        let message = error.to_string();
        match error {
            FilterError::NoInterface { .. }
            | FilterError::Occupied { .. }
            | FilterError::NewerLayout { .. }
            | FilterError::OldLayout { .. } => Self::Refused { message },
            _ => Self::Privilege { message },
        }
    }
}

/// Runs the agent until it is told to stop: by SIGTERM or SIGINT, when it finishes the requests under way.
///
/// # Errors
/// If something that it needs can't be had. The filter of an earlier agent then stays as it was.
pub fn run(loaded: Loaded) -> Result<(), RunError> {
    let runtime = tokio::runtime::Runtime::new().map_err(RunError::refused)?;
    runtime.block_on(async {
        let agent = Agent::start(loaded).await?;
        agent.serve().await
    })
}

/// Takes the filter off its interfaces and removes its pins. Returns the interfaces' names.
///
/// # Errors
/// If a pin can't be removed.
pub fn detach(filter: &config::Filter) -> Result<Vec<String>, RunError> {
    Ok(filter::detach(&filter.pin_dir)?)
}

/// A running agent, as the control socket sees it.
struct Agent {
    started: SystemTime,
    source: PathBuf,
    config: ArcSwap<Config>,
    warnings: ArcSwap<Vec<String>>,
    /// Held while the allowlist or the configuration changes: one change at a time.
    sources: tokio::sync::Mutex<Sources>,
    sources_listed: ArcSwap<Sources>,
    trial: Mutex<Option<reload::Trial>>,
    trial_began: tokio::sync::Notify,
    filter: SharedFilter,
    verdicts: Arc<Verdicts>,
    acceptor: Arc<Acceptor>,
    crl_fetcher: Arc<CrlFetcher>,
    ocsp: Arc<OcspClient>,
    gateway: Arc<Gateway>,
    audit: Arc<audit::Log>,
    counters: Arc<Counters>,
    journal: control::Journal,
}

/// A started agent: every socket is bound, the filter is in force, and nothing has been accepted yet.
struct Started {
    agent: Arc<Agent>,
    listeners: Vec<TcpListener>,
    control: control::Server,
    metrics: Option<metrics::Server>,
    wanted_crls: mpsc::Receiver<String>,
}

impl Agent {
    async fn start(loaded: Loaded) -> Result<Started, RunError> {
        let Loaded {
            config,
            source,
            warnings,
        } = loaded;
        let parts = Parts::load(&config).map_err(|problems| diagnose(&source, &problems))?;
        let audit = Arc::new(audit::Log::open(&config.audit.file).map_err(RunError::refused)?);
        // First of all the socket: it tells whether another agent is running, whose filter is then left alone.
        let control = control::Server::bind(&config.control.socket).map_err(RunError::refused)?;
        let filter = open_filter(&config, &parts.sources).await?;
        let listeners = bind(&config.listen.addresses)?;
        let metrics = match config.metrics.listen {
            Some(address) => Some(metrics::Server::bind(address).await.map_err(RunError::refused)?),
            None => None,
        };

        let Parts { tls, policy, sources } = parts;
        let mut said: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        said.extend(
            tls.warnings
                .iter()
                .map(|warning| source.diagnose(warning).to_string()),
        );
        let filter: SharedFilter = Arc::new(Mutex::new(filter));
        let verdicts = Arc::new(Verdicts::new(&config, &sources.all(), Arc::clone(&filter)));
        let (wanted, wanted_crls) = Wanted::new();
        let acceptor = Acceptor::new(&config.tls, tls, wanted).map_err(RunError::refused)?;
        let acceptor = Arc::new(acceptor);
        let fetch = &config.tls.client.fetch;
        let crl_fetcher = Arc::new(CrlFetcher::new(fetch, acceptor.trust().authorities()));
        let ocsp = Arc::new(OcspClient::new(Arc::clone(&acceptor), &config.tls.client.ocsp));
        let counters = Arc::new(Counters::new());
        let gateway = Arc::new(Gateway::new(
            Arc::clone(&acceptor),
            Arc::clone(&ocsp),
            policy,
            Arc::clone(&verdicts),
            Arc::clone(&audit),
            Arc::clone(&counters),
        ));
        let agent = Arc::new(Self {
            started: SystemTime::now(),
            source: source.file().to_owned(),
            config: ArcSwap::from_pointee(config),
            warnings: ArcSwap::from_pointee(said),
            sources_listed: ArcSwap::from_pointee(sources.clone()),
            sources: tokio::sync::Mutex::new(sources),
            trial: Mutex::new(None),
            trial_began: tokio::sync::Notify::new(),
            filter,
            verdicts,
            acceptor,
            crl_fetcher,
            ocsp,
            gateway,
            audit,
            counters,
            journal: control::Journal::default(),
        });
        Ok(Started {
            agent,
            listeners,
            control,
            metrics,
            wanted_crls,
        })
    }

    /// Records what the agent itself did.
    fn record(&self, decision: Decision, detail: String) {
        let mut record = Record::new(SystemTime::now(), Event::Agent, decision);
        record.detail = Some(detail);
        if let Err(error) = self.audit.write(&record) {
            tracing::error!(%error, "the agent's own doing could not be recorded");
        }
    }
}

impl Started {
    async fn serve(self) -> Result<(), RunError> {
        let Self {
            agent,
            listeners,
            control,
            metrics,
            wanted_crls,
        } = self;
        let config = agent.config.load_full();
        for warning in agent.warnings.load().iter() {
            tracing::warn!("{warning}");
        }
        // Two stops: the drain ends accepting and idle connections, the end stops what serves the operator.
        let (drain, end) = (CancellationToken::new(), CancellationToken::new());
        let (connections, services) = (TaskTracker::new(), TaskTracker::new());

        let mut terminate = signal(SignalKind::terminate()).map_err(RunError::refused)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::refused)?;
        let slots = Arc::new(Semaphore::new(config.gateway.max_connections));
        for listener in listeners {
            let gateway = Arc::clone(&agent.gateway);
            let accepting = gateway::accept(
                listener,
                gateway,
                Arc::clone(&slots),
                drain.clone(),
                connections.clone(),
            );
            connections.spawn(accepting);
        }
        services.spawn(control.serve(Arc::clone(&agent), end.clone()));
        services.spawn(tasks::sweep(Arc::clone(&agent), end.clone()));
        services.spawn(crls::follow(Arc::clone(&agent), end.clone()));
        services.spawn(drops::report(Arc::clone(&agent), end.clone()));
        services.spawn(interfaces::keep_attached(Arc::clone(&agent), end.clone()));
        services.spawn(tasks::end_trials(Arc::clone(&agent), end.clone()));
        services.spawn(tasks::reload_on_hangup(Arc::clone(&agent), end.clone()));
        services.spawn(Arc::clone(&agent.crl_fetcher).run(wanted_crls, end.clone()));
        services.spawn(Arc::clone(&agent.ocsp).refresh(end.clone()));
        if let Some(server) = metrics {
            let observed = Arc::clone(&agent);
            let exporter = Exporter::new(Arc::clone(&agent.counters), move || observed.observe());
            services.spawn(server.serve(Arc::new(exporter), end.clone()));
        }
        agent.record(Decision::Done, "started".to_owned());
        tracing::info!(openssl = openssl::version::version(), listen = ?config.listen.addresses, "serving");

        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping: requests under way are finished first; the filter stays in force");
        drain.cancel();
        connections.close();
        let drained = tokio::select! {
            drained = tokio::time::timeout(config.gateway.drain_timeout, connections.wait()) => drained.is_ok(),
            _ = terminate.recv() => false,
            _ = interrupt.recv() => false,
        };
        end.cancel();
        services.close();
        services.wait().await;
        agent.record(
            Decision::Done,
            if drained {
                "stopped"
            } else {
                "stopped with requests cut off"
            }
            .to_owned(),
        );
        Ok(())
    }
}

/// Loading the program takes a good part of a second, most of it the verifier's: not on a thread of the runtime.
async fn open_filter(config: &Config, sources: &Sources) -> Result<Option<Filter>, RunError> {
    if config.filter.mode == FilterMode::Off {
        return Ok(None);
    }
    let (settings, sources) = (config.filter.clone(), sources.all());
    let opened = tokio::task::spawn_blocking(move || Filter::open(&settings, &sources)).await;
    Ok(Some(opened.map_err(RunError::refused)??))
}

fn bind(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, RunError> {
    let bind = |address: &SocketAddr| -> Result<TcpListener, RunError> {
        let listener = gateway::bind(*address).map_err(RunError::refused)?;
        TcpListener::from_std(listener).map_err(|error: io::Error| RunError::refused(error))
    };
    addresses.iter().map(bind).collect()
}

fn diagnose(source: &Document, problems: &[config::Problem]) -> RunError {
    RunError::Configuration(problems.iter().map(|problem| source.diagnose(problem)).collect())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
