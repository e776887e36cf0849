//! The agent from start to stop: each room is opened in the order in which nothing is ever served unguarded.

mod crls;
mod drops;
mod explain;
mod health;
mod interfaces;
mod lockout;
mod operations;
mod orders;
mod packets;
mod parts;
mod registry;
mod reload;
mod sockets;
mod succession;
mod tasks;
mod watchdog;

use std::{
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Instant, SystemTime},
};

use arc_swap::ArcSwap;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Semaphore, mpsc},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::{parts::Parts, reload::is_fixed};
use self::{
    sockets::{Bound, Sockets},
    watchdog::Vital,
};
use crate::{
    audit::{self, Decision, Event, Record},
    config::{self, Config, Diagnostic, Document, Loaded},
    control::{self, HandOverError, Predecessor},
    directory::{Directory, Order},
    fetch::{CrlFetcher, OcspClient},
    filter::{self, FilterError},
    gateway::{self, Gateway},
    keeper::{Keeper, KeeperError},
    metrics::{self, Counters, Exporter, Pages},
    registry::InForce,
    sandbox::{self, Reach, SandboxError},
    service,
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
        KeeperError::from(error).into()
    }
}

impl From<SandboxError> for RunError {
    fn from(error: SandboxError) -> Self {
        let message = error.to_string();
        match error {
            SandboxError::Step { .. } | SandboxError::NotRoot { .. } => Self::Privilege { message },
            _ => Self::Refused { message },
        }
    }
}

impl From<KeeperError> for RunError {
    fn from(error: KeeperError) -> Self {
        let message = error.to_string();
        match error {
            KeeperError::Privilege(_) => Self::Privilege { message },
            KeeperError::Refused(_) | KeeperError::Off | KeeperError::Gone(_) => Self::Refused { message },
        }
    }
}

/// Runs the agent until it is told to stop: by SIGTERM or SIGINT, or by a successor, when it finishes the requests under
/// way. With `take_over` it is the successor of the running agent, if there is one.
///
/// # Errors
/// If something that it needs can't be had. The filter of an earlier agent then stays as it was, and a running agent goes on.
pub fn run(loaded: Loaded, take_over: bool) -> Result<(), RunError> {
    let bound = Bound::from_systemd(&loaded.config)?;
    // Before any thread, and before anything has come from the network.
    let keeper = Arc::new(Keeper::start(loaded.source.file())?);
    let predecessor = if take_over {
        Predecessor::ask(&loaded.config.control.socket).map_err(RunError::refused)?
    } else {
        None
    };
    let (loaded, control, bound, predecessor) = match predecessor {
        // From here on nobody changes anything until this agent serves: what was read before may be old.
        Some((predecessor, inheritance)) => {
            let loaded = config::load(loaded.source.file()).map_err(RunError::Configuration)?;
            let settings = &loaded.config.control;
            let inherited = control::Server::inherit(&settings.socket, settings.group, inheritance);
            let (control, sockets) = inherited.map_err(RunError::refused)?;
            (
                loaded,
                control,
                Bound::from_predecessor(sockets),
                Some(predecessor),
            )
        }
        None => {
            // First of all the socket: it tells whether another agent is running, whose filter is then left alone.
            let settings = &loaded.config.control;
            let control =
                control::Server::bind(&settings.socket, settings.group).map_err(RunError::refused)?;
            (loaded, control, bound, None)
        }
    };
    let sockets = bound.complete(&loaded.config)?;
    // With the sockets bound, nothing needs a privilege any more. What comes from here on comes from this side of it, the
    // runtime's threads first of all.
    let reach = Reach::of(&loaded.config, loaded.source.file());
    let unenforced = sandbox::enter_worker(&loaded.config, &reach)?;
    keeper.watch().map_err(RunError::refused)?;
    let runtime = tokio::runtime::Runtime::new().map_err(RunError::refused)?;
    runtime.block_on(async {
        let started = Agent::start(loaded, keeper, (reach, unenforced), control, sockets).await?;
        let started = Started {
            predecessor,
            ..started
        };
        started.serve().await
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
    /// What a reload can't reach beyond.
    reach: Reach,
    keeper: Arc<Keeper>,
    /// The same, where there is a filter.
    filter: SharedFilter,
    verdicts: Arc<Verdicts>,
    acceptor: Arc<Acceptor>,
    crl_fetcher: Arc<CrlFetcher>,
    ocsp: Arc<OcspClient>,
    gateway: Arc<Gateway>,
    registry: Arc<InForce>,
    directory: Arc<Directory>,
    audit: Arc<audit::Log>,
    counters: Arc<Counters>,
    journal: control::Journal,
    errors: Arc<control::Errors>,
    rebuffs: orders::Rebuffs,
    /// What a successor goes on with.
    spare_sockets: Mutex<Vec<OwnedFd>>,
    /// Cancelled when nothing more is to be accepted, and idle connections are to end.
    drain: CancellationToken,
    /// Cancelled when a successor has taken over.
    successor: CancellationToken,
    /// What must have ended before a successor goes on with it.
    duties: TaskTracker,
}

/// A started agent: every socket is bound, the filter is in force, and nothing has been accepted yet.
struct Started {
    agent: Arc<Agent>,
    sockets: Sockets,
    control: control::Server,
    predecessor: Option<Predecessor>,
    wanted_crls: mpsc::Receiver<String>,
    registry_news: mpsc::Receiver<String>,
}

impl Agent {
    async fn start(
        loaded: Loaded,
        keeper: Arc<Keeper>,
        (reach, unenforced): (Reach, Vec<String>),
        control: control::Server,
        mut sockets: Sockets,
    ) -> Result<Started, RunError> {
        let Loaded {
            config,
            source,
            warnings,
        } = loaded;
        let parts = Parts::load(&config).map_err(|problems| diagnose(&source, &problems))?;
        let audit = Arc::new(audit::Log::open(&config.audit).map_err(RunError::refused)?);
        let Parts {
            tls,
            policy,
            registry: order,
            sources: allowlist,
        } = parts;
        let mut said: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        said.extend(unenforced);
        said.extend(
            tls.warnings
                .iter()
                .map(|warning| source.diagnose(warning).to_string()),
        );
        let (wanted, wanted_crls) = Wanted::new();
        let acceptor = Acceptor::new(&config.tls, tls, wanted).map_err(RunError::refused)?;
        let acceptor = Arc::new(acceptor);
        // Last of what can fail: once the filter runs this agent's program, this agent guards. Connections that arrive
        // before wait in the sockets' queues.
        let filter = open_filter(&keeper, &config, &allowlist).await?;
        let verdicts = Arc::new(Verdicts::new(&config, &allowlist.all(), filter.clone()));
        let fetch = &config.tls.client.fetch;
        let crl_fetcher = Arc::new(CrlFetcher::new(fetch, acceptor.trust().authorities()));
        let ocsp = Arc::new(OcspClient::new(Arc::clone(&acceptor), &config.tls.client.ocsp));
        let counters = Arc::new(Counters::new());
        let errors = Arc::new(control::Errors::default());
        let registry = Arc::new(InForce::default());
        let (directory, registry_news) = open_directory(&registry, order).await?;
        let gateway = Arc::new(Gateway::new(
            Arc::clone(&acceptor),
            Arc::clone(&ocsp),
            (policy, Arc::clone(&registry)),
            Arc::clone(&verdicts),
            Arc::clone(&audit),
            (Arc::clone(&counters), Arc::clone(&errors)),
        ));
        let agent = Arc::new(Self {
            started: SystemTime::now(),
            source: source.file().to_owned(),
            config: ArcSwap::from_pointee(config),
            warnings: ArcSwap::from_pointee(said),
            sources_listed: ArcSwap::from_pointee(allowlist.clone()),
            sources: tokio::sync::Mutex::new(allowlist),
            trial: Mutex::new(None),
            trial_began: tokio::sync::Notify::new(),
            keeper,
            reach,
            filter,
            verdicts,
            acceptor,
            crl_fetcher,
            ocsp,
            gateway,
            registry,
            directory,
            audit,
            counters,
            journal: control::Journal::default(),
            errors,
            rebuffs: orders::Rebuffs::new(Instant::now()),
            spare_sockets: Mutex::new(std::mem::take(&mut sockets.spare)),
            drain: CancellationToken::new(),
            successor: CancellationToken::new(),
            duties: TaskTracker::new(),
        });
        Ok(Started {
            agent,
            sockets,
            control,
            predecessor: None,
            wanted_crls,
            registry_news,
        })
    }

    /// Signs the audit log as far as it has got.
    fn sign_audit_log(&self) {
        if let Err(error) = self.audit.checkpoint() {
            tracing::error!(%error, "the audit log could not be signed");
        }
    }

    /// The filter guards as before, but nobody could be denied or added any more: this agent ends, and whoever has started it
    /// starts both anew. It could start no keeper itself, having no privileges.
    fn lose_keeper(&self) -> RunError {
        let message = format!(
            "the filter's keeper (process {}) has ended; the filter stays in force: start the agent again",
            self.keeper.pid()
        );
        tracing::error!("{message}");
        self.record(Decision::Refuse, message.clone());
        RunError::Refused { message }
    }

    /// Records what the agent itself did.
    fn record(&self, decision: Decision, detail: String) {
        if let Err(error) = self.audit.write(&Self::own_record(decision, detail)) {
            tracing::error!(%error, "the agent's own doing could not be recorded");
        }
    }

    fn own_record(decision: Decision, detail: String) -> Record {
        let mut record = Record::new(SystemTime::now(), Event::Agent, decision);
        record.detail = Some(detail);
        record
    }
}

impl Started {
    async fn serve(self) -> Result<(), RunError> {
        let Self {
            agent,
            sockets,
            control,
            predecessor,
            wanted_crls,
            registry_news,
        } = self;
        let config = agent.config.load_full();
        for warning in agent.warnings.load().iter() {
            tracing::warn!("{warning}");
        }
        // Two stops: the drain ends accepting and idle connections, the end stops what serves the operator.
        let (drain, end) = (agent.drain.clone(), CancellationToken::new());
        let (connections, services) = (TaskTracker::new(), TaskTracker::new());

        let mut terminate = signal(SignalKind::terminate()).map_err(RunError::refused)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::refused)?;
        let slots = Arc::new(Semaphore::new(config.gateway.max_connections));
        let (listeners, metrics) = sockets.open().map_err(RunError::refused)?;
        let mut vital = Vec::new();
        for listener in listeners {
            let gateway = Arc::clone(&agent.gateway);
            let accepting = gateway::accept(
                listener,
                gateway,
                Arc::clone(&slots),
                drain.clone(),
                connections.clone(),
            );
            vital.push(Vital::new("accepts connections", &connections.spawn(accepting)));
        }
        let serving = format!("serving at {}", sockets::shown(&config.listen.addresses));
        // Both agents accept for a moment. Filter and operator are served by one alone.
        if let Some(predecessor) = predecessor {
            succeed(&agent, &control, predecessor, serving.clone()).await;
        }
        services.spawn(crls::follow(Arc::clone(&agent), end.clone()));
        services.spawn(Arc::clone(&agent.gateway).tend_upstreams(end.clone()));
        services.spawn(Arc::clone(&agent.ocsp).refresh(end.clone()));
        // Ended early where a successor goes on with them.
        let (duty, duties) = (end.child_token(), &agent.duties);
        let pages = Arc::new(pages(&agent));
        let controlling = services.spawn(control.serve(Arc::clone(&agent), Arc::clone(&pages), duty.clone()));
        vital.push(Vital::new("serves operators", &controlling));
        let sweeping = duties.spawn(tasks::sweep(Arc::clone(&agent), duty.clone()));
        vital.push(Vital::new("lets verdicts and sources end", &sweeping));
        duties.spawn(drops::report(Arc::clone(&agent), duty.clone()));
        let attaching = duties.spawn(interfaces::keep_attached(Arc::clone(&agent), duty.clone()));
        vital.push(Vital::new("keeps the filter attached", &attaching));
        duties.spawn(tasks::end_trials(Arc::clone(&agent), duty.clone()));
        duties.spawn(tasks::reload_on_hangup(Arc::clone(&agent), duty.clone()));
        duties.spawn(Arc::clone(&agent.crl_fetcher).run(wanted_crls, duty.clone()));
        duties.spawn(Arc::clone(&agent.directory).run(duty.clone()));
        duties.spawn(registry::record(Arc::clone(&agent), registry_news, duty.clone()));
        if let Some(listener) = metrics {
            services.spawn(metrics::Server::on(listener).serve(pages, duty.clone()));
        }
        services.spawn(watchdog::watch(Arc::clone(&agent), vital, drain.clone()));
        service::ready(&serving);
        agent.record(Decision::Done, "started".to_owned());
        // At once, and then again and again: a log that is a moment old has something to be verified by.
        services.spawn(tasks::sign_audit_log(Arc::clone(&agent), end.clone()));
        tracing::info!(openssl = openssl::version::version(), listen = ?config.listen.addresses, "serving");

        let mut failure = None;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = agent.successor.cancelled() => duty.cancel(),
            () = agent.keeper.gone() => failure = Some(agent.lose_keeper()),
        }
        if !agent.successor.is_cancelled() {
            service::stopping(config.gateway.drain_timeout);
        }
        lock(&agent.spare_sockets).clear();
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
        agent.duties.close();
        agent.duties.wait().await;
        agent.record(
            Decision::Done,
            if drained {
                "stopped"
            } else {
                "stopped with requests cut off"
            }
            .to_owned(),
        );
        agent.sign_audit_log();
        failure.map_or(Ok(()), Err)
    }
}

/// Loading the program takes a good part of a second, most of it the verifier's: not on a thread of the runtime.
async fn open_filter(
    keeper: &Arc<Keeper>,
    config: &Config,
    sources: &Sources,
) -> Result<SharedFilter, RunError> {
    let (opener, settings, sources) = (Arc::clone(keeper), config.filter.clone(), sources.clone());
    let opened = tokio::task::spawn_blocking(move || opener.open(&settings, &sources)).await;
    let is_on = opened.map_err(RunError::refused)??;
    Ok(is_on.then(|| Arc::clone(keeper)))
}

/// What the agent tells of itself over HTTP.
fn pages(agent: &Arc<Agent>) -> Pages {
    let (observed, looked_at) = (Arc::clone(agent), Arc::clone(agent));
    let exporter = Exporter::new(Arc::clone(&agent.counters), move || observed.observe());
    Pages::new(exporter, move || looked_at.readiness())
}

/// Has the agent before this one stand down. Whatever comes of that, this one serves.
async fn succeed(agent: &Agent, control: &control::Server, predecessor: Predecessor, serving: String) {
    let standing_down = tokio::task::spawn_blocking(move || {
        service::ready_as_successor(&serving);
        predecessor.stand_down()
    });
    let standing_down = standing_down.await;
    let said = match standing_down.map_err(|error| HandOverError::Refused(error.to_string())) {
        Ok(Ok(Some(said))) => format!("took over: {said}"),
        Ok(Ok(None)) => "took over from an agent that has ended".to_owned(),
        Ok(Err(error)) | Err(error) => {
            tracing::error!(%error, "took over, but the agent before this one may go on: end it");
            agent.record(Decision::Refuse, format!("took over, but {error}"));
            return;
        }
    };
    control.own();
    tracing::info!("{said}");
    agent.record(Decision::Done, said);
}

/// Reading what is kept of a large source takes a good part of a second.
async fn open_directory(
    registry: &Arc<InForce>,
    order: Order,
) -> Result<(Arc<Directory>, mpsc::Receiver<String>), RunError> {
    let registry = Arc::clone(registry);
    let opening = tokio::task::spawn_blocking(move || Directory::new(registry, order));
    let (directory, news) = opening.await.map_err(RunError::refused)?;
    Ok((Arc::new(directory), news))
}

fn diagnose(source: &Document, problems: &[config::Problem]) -> RunError {
    RunError::Configuration(source.diagnose_all(problems))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
