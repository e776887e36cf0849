//! Changes of what is in force: all of a change or nothing, never one that cuts off its own author, and on trial if the
//! operator wants that.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use ipnet::IpNet;

use super::{Agent, Parts, lock, lockout};
use crate::{
    audit::Decision,
    config::{self, Config, FilterMode, Problem, Source},
    control::{Failure, FailureKind, Guard},
    directory::Order,
    gateway::Policy,
    keeper::{Keeper, KeeperError},
    sandbox::Reach,
    service::Reloading,
    sources::{Sources, SourcesError},
    tls,
};

/// A change of the allowlist that operators make.
pub(super) enum Change {
    Add(Source),
    Remove(IpNet),
    DropEnded,
}

impl Change {
    fn of(&self, sources: &Sources) -> Result<Sources, SourcesError> {
        match self {
            Self::Add(source) => sources.with(source.clone()),
            Self::Remove(cidr) => sources.without(*cidr),
            Self::DropEnded => Ok(sources
                .without_ended(SystemTime::now())
                .unwrap_or_else(|| sources.clone())),
        }
    }
}

/// A configuration on trial: what was in force before, and until when it waits for a confirmation.
pub(super) struct Trial {
    /// None while it is being gone back to: it is over when that is done.
    before: Option<Before>,
    pub(super) until: SystemTime,
}

struct Before {
    config: Arc<Config>,
    tls: tls::InForce,
    policy: Arc<Policy>,
    registry: Arc<Order>,
    sources: Sources,
    warnings: Arc<Vec<String>>,
}

impl Agent {
    /// Changes the allowlist: the keeper does so in the file and in the filter, or in neither.
    pub(super) async fn change_sources(&self, guard: Guard, change: Change) -> Result<(), Failure> {
        let mut sources = self.sources.lock().await;
        self.must_be_in_office()?;
        let changed = change.of(&sources).map_err(|error| refused_change(&error))?;
        let config = self.config.load_full();
        check_lockout(guard, (&config, &sources), (&config, &changed)).await?;
        self.with_keeper(move |keeper| match change {
            Change::Add(source) => keeper.add_source(&source),
            Change::Remove(cidr) => keeper.remove_source(cidr),
            Change::DropEnded => keeper.drop_ended_sources(),
        })
        .await?;
        self.verdicts.replace(&config, &changed.all());
        self.sources_listed.store(Arc::new(changed.clone()));
        *sources = changed;
        Ok(())
    }

    /// Reads the configuration again, and takes it over if it is sound, can be changed while running and cuts nobody off
    /// who must not be.
    pub(super) async fn reload(
        &self,
        guard: Guard,
        confirm_within: Option<Duration>,
    ) -> Result<String, Failure> {
        let reloaded = self.take_over_configuration(guard, confirm_within).await;
        self.counters.reloaded(reloaded.is_ok());
        reloaded
    }

    async fn take_over_configuration(
        &self,
        guard: Guard,
        confirm_within: Option<Duration>,
    ) -> Result<String, Failure> {
        let mut sources = self.sources.lock().await;
        self.must_be_in_office()?;
        let _reloading = Reloading::begin();
        let (file, reach) = (self.source.clone(), self.reach.clone());
        let loading = tokio::task::spawn_blocking(move || {
            let loaded = config::load(&file)?;
            if let Some(place) = reach.lacks(&Reach::of(&loaded.config, &file)) {
                return Err(vec![loaded.source.diagnose(&beyond(&place))]);
            }
            let parts =
                Parts::load(&loaded.config).map_err(|problems| loaded.source.diagnose_all(&problems))?;
            Ok((loaded, parts))
        });
        let (loaded, parts) = loading.await.map_err(|error| internal(&error))?.map_err(
            |problems: Vec<config::Diagnostic>| {
                let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
                Failure::new(
                    FailureKind::Usage,
                    lines.join("\n"),
                    "nothing was changed: the old configuration holds",
                )
            },
        )?;
        let config = loaded.config;
        let old = self.config.load_full();
        check_changeable(&old, &config)?;
        check_lockout(guard, (&old, &sources), (&config, &parts.sources)).await?;

        self.audit.reopen().map_err(|error| internal(&error))?;
        // The filter first: if the kernel refuses it, nothing else has changed.
        let until = confirm_within.map(|within| SystemTime::now() + within);
        let (settings, allowed) = (config.filter.clone(), parts.sources.clone());
        self.with_keeper(move |keeper| keeper.apply(&settings, &allowed, until))
            .await?;
        let Parts {
            tls,
            policy,
            registry,
            sources: changed,
        } = parts;
        let mut warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
        warnings.extend(
            tls.warnings
                .iter()
                .map(|warning| loaded.source.diagnose(warning).to_string()),
        );
        let before = Before {
            config: old,
            tls: self.acceptor.swap(tls),
            policy: self.gateway.replace(Arc::new(policy)),
            registry: self.configure_registry(Arc::new(registry)).await?,
            sources: sources.clone(),
            warnings: self.warnings.swap(Arc::new(warnings)),
        };
        self.verdicts.replace(&config, &changed.all());
        self.sources_listed.store(Arc::new(changed.clone()));
        *sources = changed;
        self.config.store(Arc::new(config));
        self.configure_fetching().await;
        Ok(self.begin_trial(before, until))
    }

    /// Puts the configuration on trial if the operator wants that. In a trial it is on trial in any case: what reloads by
    /// itself, as for a renewed CRL, must not keep a configuration that its author may not be able to take back.
    fn begin_trial(&self, before: Before, until: Option<SystemTime>) -> String {
        let mut trial = lock(&self.trial);
        // A second trial still goes back to what was in force before the first.
        let (before, until) = match (trial.take(), until) {
            (None, None) => return "the configuration is in force".to_owned(),
            (Some(earlier), None) => (earlier.before.unwrap_or(before), earlier.until),
            (earlier, Some(until)) => (
                earlier.and_then(|earlier| earlier.before).unwrap_or(before),
                until,
            ),
        };
        *trial = Some(Trial {
            before: Some(before),
            until,
        });
        self.trial_began.notify_one();
        format!(
            "the configuration is in force until {}: keep it with `spinegate reload --confirm`",
            humantime::format_rfc3339_seconds(until)
        )
    }

    /// Keeps the configuration that is on trial.
    pub(super) async fn confirm(&self) -> Result<String, Failure> {
        // Not while it is being taken back: what is confirmed stays.
        let _sources = self.sources.lock().await;
        let trial = lock(&self.trial).take();
        match trial {
            Some(_) => {
                self.with_keeper(Keeper::keep_trial).await?;
                Ok("the configuration stays in force".to_owned())
            }
            None => Err(Failure::new(
                FailureKind::NotFound,
                "no configuration is on trial",
                "if one was, its time was over and the old one is in force again: `spinegate status` shows it",
            )),
        }
    }

    /// Goes back to what was in force before the trial, if its time is over.
    pub(super) async fn end_trial(&self) {
        let mut sources = self.sources.lock().await;
        let before = match lock(&self.trial).as_mut() {
            Some(over) if over.until <= SystemTime::now() => over.before.take(),
            _ => None,
        };
        let Some(before) = before else { return };
        // What operators have added or removed meanwhile is an order of its own, and stays.
        let old_sources = before.sources.with_added_of(&sources);
        let in_force = self.with_keeper(Keeper::go_back).await;
        self.acceptor.restore(before.tls);
        self.gateway.replace(before.policy);
        if let Err(failure) = self.configure_registry(before.registry).await {
            tracing::error!(%failure, "the registry stays that of the new configuration");
        }
        self.verdicts.replace(&before.config, &old_sources.all());
        self.warnings.store(before.warnings);
        self.sources_listed.store(Arc::new(old_sources.clone()));
        *sources = old_sources;
        self.config.store(before.config);
        self.configure_fetching().await;
        *lock(&self.trial) = None;
        let said = "nobody confirmed the configuration: the old one is in force again";
        match in_force {
            Ok(()) => {
                tracing::warn!("{said}");
                self.record(Decision::Done, said.to_owned());
            }
            Err(failure) => {
                tracing::error!(%failure, "{said}, but not all of the filter");
                let said = format!("{said}, but not all of the filter: {}", failure.message);
                self.record(Decision::Refuse, said);
            }
        }
    }

    /// Takes sources off the allowlist whose time is over. The filter has not let them pass since then.
    pub(super) async fn drop_ended_sources(&self) {
        let now = SystemTime::now();
        if self.sources_listed.load().without_ended(now).is_none() {
            return;
        }
        let force = Guard {
            force: true,
            session: None,
        };
        match self.change_sources(force, Change::DropEnded).await {
            Ok(()) => self.record(
                Decision::Done,
                "sources whose time is over are off the allowlist".to_owned(),
            ),
            Err(failure) => tracing::warn!(%failure, "sources whose time is over stay listed"),
        }
    }

    /// Has those CRLs fetched that belong to what is in force.
    async fn configure_fetching(&self) {
        let (fetcher, config) = (Arc::clone(&self.crl_fetcher), self.config.load_full());
        self.ocsp.configure(&config.tls.client.ocsp);
        let authorities = self.acceptor.trust().authorities();
        let configuring =
            tokio::task::spawn_blocking(move || fetcher.configure(&config.tls.client.fetch, authorities));
        if let Err(error) = configuring.await {
            tracing::error!(%error, "CRLs are still fetched by the old configuration");
        }
    }

    /// Puts the registry of a configuration in force. Gives what was before.
    async fn configure_registry(&self, order: Arc<Order>) -> Result<Arc<Order>, Failure> {
        let directory = Arc::clone(&self.directory);
        let configuring = tokio::task::spawn_blocking(move || directory.configure(order));
        configuring.await.map_err(|error| internal(&error))
    }

    /// Has the keeper do something, on a thread that may wait for it.
    async fn with_keeper(
        &self,
        act: impl FnOnce(&Keeper) -> Result<(), KeeperError> + Send + 'static,
    ) -> Result<(), Failure> {
        let keeper = Arc::clone(&self.keeper);
        let acting = tokio::task::spawn_blocking(move || act(&keeper));
        acting
            .await
            .map_err(|error| internal(&error))?
            .map_err(|error| refused(&error))
    }
}

/// The sandbox was made at the start, and can only become narrower.
fn beyond(place: &Path) -> Problem {
    let message = format!(
        "{} is none of the places that the agent reaches since its start",
        place.display()
    );
    let mend = "restart the agent, the filter stays in force meanwhile; or keep to the folders that the configuration named then";
    Problem::new("run", message, mend)
}

async fn check_lockout(
    guard: Guard,
    old: (&Config, &Sources),
    new: (&Config, &Sources),
) -> Result<(), Failure> {
    if guard.force {
        return Ok(());
    }
    let owned = |(config, sources): (&Config, &Sources)| (config.filter.clone(), sources.all());
    let (old, new) = (owned(old), owned(new));
    let checking = tokio::task::spawn_blocking(move || {
        lockout::check_policy((&old.0, &old.1), (&new.0, &new.1), guard.session)
    });
    checking.await.map_err(|error| internal(&error))?
}

/// What a process can't change about itself while it serves: each key with whether a reload would.
type Fixed = (&'static str, fn(&Config, &Config) -> bool);

const FIXED: [Fixed; 19] = [
    ("run", |old, new| old.run != new.run),
    ("filter.pin_dir", |old, new| {
        old.filter.pin_dir != new.filter.pin_dir
    }),
    ("filter.mode", |old, new| {
        (old.filter.mode == FilterMode::Off) != (new.filter.mode == FilterMode::Off)
    }),
    ("tls.handshake_threads", |old, new| {
        old.tls.handshake_threads != new.tls.handshake_threads
    }),
    ("tls.handshake_queue", |old, new| {
        old.tls.handshake_queue != new.tls.handshake_queue
    }),
    ("listen.addresses", |old, new| {
        old.listen.addresses != new.listen.addresses
    }),
    ("listen.reuse_port", |old, new| {
        old.listen.reuse_port != new.listen.reuse_port
    }),
    ("gateway.max_connections", |old, new| {
        old.gateway.max_connections != new.gateway.max_connections
    }),
    ("control.socket", |old, new| {
        old.control.socket != new.control.socket
    }),
    ("control.group", |old, new| old.control.group != new.control.group),
    ("metrics.listen", |old, new| {
        old.metrics.listen != new.metrics.listen
    }),
    ("audit.file", |old, new| old.audit.file != new.audit.file),
    ("audit.output", |old, new| old.audit.output != new.audit.output),
    ("audit.key", |old, new| old.audit.key != new.audit.key),
    ("audit.checkpoint_interval", |old, new| {
        old.audit.checkpoint_interval != new.audit.checkpoint_interval
    }),
    ("audit.durability", |old, new| {
        old.audit.durability != new.audit.durability
    }),
    ("audit.timeout", |old, new| old.audit.timeout != new.audit.timeout),
    ("audit.on_failure", |old, new| {
        old.audit.on_failure != new.audit.on_failure
    }),
    ("audit.mask", |old, new| old.audit.mask != new.audit.mask),
];

/// Whether a key can't be changed by a reload: `filter.mode` only to and from `off`.
#[must_use]
pub fn is_fixed(key: &str) -> bool {
    let covers = |fixed: &str| {
        let rest = key.strip_prefix(fixed);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    key != "filter.mode" && FIXED.iter().any(|(fixed, _)| covers(fixed))
}

fn check_changeable(old: &Config, new: &Config) -> Result<(), Failure> {
    let changed = FIXED.iter().filter(|(_, differs)| differs(old, new));
    let keys: Vec<_> = changed.map(|(key, _)| *key).collect();
    if keys.is_empty() {
        return Ok(());
    }
    let message = format!("{} can't be changed while the agent runs", keys.join(", "));
    let mend = "nothing was changed: restart the agent, the filter stays in force meanwhile";
    Err(Failure::new(FailureKind::Refused, message, mend))
}

/// What the keeper says no to.
pub(super) fn refused(error: &KeeperError) -> Failure {
    match error {
        KeeperError::Refused(message) => {
            Failure::new(FailureKind::Refused, message.clone(), "nothing was changed")
        }
        _ => internal(error),
    }
}

pub(super) fn internal(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        FailureKind::Internal,
        error.to_string(),
        "nothing was changed; the agent's log may say more",
    )
}

fn refused_change(error: &SourcesError) -> Failure {
    let kind = match error {
        SourcesError::Absent { .. } => FailureKind::NotFound,
        SourcesError::Present { .. } | SourcesError::Configured { .. } => FailureKind::Refused,
        SourcesError::File { .. } | SourcesError::Content { .. } => FailureKind::Internal,
    };
    Failure::new(kind, error.to_string(), "nothing was changed")
}
