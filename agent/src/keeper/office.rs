//! What the keeper does for the worker, and what it does not, whoever asks through it.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use ipnet::IpNet;
use nix::unistd::geteuid;
use spinegate_common::{VerdictKind, VerdictOrigin};

use super::{
    fingerprint::fingerprint,
    orders::{Operators, Orders},
    protocol::{DROPS, Dropped, Figures, Interfaces, KeeperError},
};
use crate::{
    config::{self, Config, FilterMode, Source, folder_of},
    filter::{Attachment, Events, Filter, NewVerdict, Owner, Verdict},
    sources::{Sources, SourcesError},
};

/// How long after its end a trial may still be ended: the worker's timer and its queue.
const SLACK: Duration = Duration::from_secs(60);

/// The keeper's hold on the filter.
pub(super) struct Office {
    file: PathBuf,
    policy: Option<Policy>,
    filter: Option<Filter>,
    events: Option<Events>,
    trial: Option<Trial>,
    orders: Option<Orders>,
}

/// A policy that the keeper has read in the files itself.
#[derive(Clone)]
struct Policy {
    config: Config,
    sources: Sources,
}

/// What was in force before a configuration that is on trial.
struct Trial {
    before: Policy,
    until: SystemTime,
}

impl Office {
    pub(super) const fn new(file: PathBuf) -> Self {
        Self {
            file,
            policy: None,
            filter: None,
            events: None,
            trial: None,
            orders: None,
        }
    }

    /// Where operators announce orders.
    pub(super) const fn orders(&mut self) -> Option<&mut Orders> {
        self.orders.as_mut()
    }

    /// Whether there is a filter now.
    pub(super) fn open(&mut self, expected: u64) -> Result<bool, KeeperError> {
        if self.policy.is_some() {
            return Err(KeeperError::refused("the filter is open already"));
        }
        let policy = self.read(expected)?;
        let settings = &policy.config.filter;
        if settings.mode != FilterMode::Off {
            let mut filter = Filter::open(settings, &policy.sources.all())?;
            match filter.events() {
                Ok(events) => self.events = events,
                Err(error) => tracing::error!(%error, "drops are counted, but not reported one by one"),
            }
            self.filter = Some(filter);
        }
        let control = &policy.config.control.socket;
        let orders = Orders::bind(control, Operators::of(&policy.config)).map_err(|error| {
            KeeperError::Refused(format!(
                "the keeper's socket beside {} can't be made: {error}; its folder must be of the user that starts the agent",
                control.display()
            ))
        })?;
        self.orders = Some(orders);
        self.policy = Some(policy);
        Ok(self.filter.is_some())
    }

    /// What the files say now, if it is what the worker has read in them.
    fn read(&self, expected: u64) -> Result<Policy, KeeperError> {
        let loaded = config::load(&self.file).map_err(|problems| {
            let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
            KeeperError::Refused(lines.join("\n"))
        })?;
        let config = loaded.config;
        out_of_reach(&self.file, &config)?;
        let sources = Sources::load(config.filter.sources.clone(), &config.filter.sources_file)
            .map_err(KeeperError::refused)?;
        if fingerprint(&config.filter, &sources.all()) != expected {
            return Err(KeeperError::Refused(format!(
                "{} or a file that it names was changed while it was read: try again",
                self.file.display()
            )));
        }
        Ok(Policy { config, sources })
    }

    pub(super) fn apply(
        &mut self,
        expected: u64,
        trial_until: Option<SystemTime>,
    ) -> Result<(), KeeperError> {
        let policy = self.read(expected)?;
        let old = self.policy.as_ref().ok_or(KeeperError::Off)?;
        let (was, is) = (&old.config.filter, &policy.config.filter);
        if was.pin_dir != is.pin_dir || (was.mode == FilterMode::Off) != (is.mode == FilterMode::Off) {
            let message =
                "filter.pin_dir, and whether filter.mode is off, can't be changed while the agent runs";
            return Err(KeeperError::refused(message));
        }
        if let Some(filter) = &mut self.filter {
            filter.apply(is, &policy.sources.all())?;
        }
        if let Some(orders) = &mut self.orders {
            orders.heed(Operators::of(&policy.config));
        }
        let before = self.policy.replace(policy);
        // A second trial still goes back to what was in force before the first.
        self.trial = match (self.trial.take(), trial_until, before) {
            (Some(earlier), until, _) => Some(Trial {
                until: until.unwrap_or(earlier.until),
                ..earlier
            }),
            (None, Some(until), Some(before)) => Some(Trial { before, until }),
            (None, _, _) => None,
        };
        Ok(())
    }

    pub(super) fn keep_trial(&mut self) {
        self.trial = None;
    }

    /// Goes back to what was in force before the trial: while it lasts, and no later. Otherwise a worker in wrong hands
    /// could bring back at any time what an operator has taken away.
    pub(super) fn go_back(&mut self) -> Result<(), KeeperError> {
        let trial = self
            .trial
            .take_if(|trial| SystemTime::now() < trial.until + SLACK);
        let (Some(trial), Some(policy)) = (trial, &self.policy) else {
            return Err(KeeperError::refused("no configuration is on trial"));
        };
        let before = Policy {
            // What operators have added or removed meanwhile is an order of its own, and stays.
            sources: trial.before.sources.with_added_of(&policy.sources),
            config: trial.before.config,
        };
        let settings = before.config.filter.clone();
        let sources = before.sources.all();
        if let Some(orders) = &mut self.orders {
            orders.heed(Operators::of(&before.config));
        }
        self.policy = Some(before);
        let Some(filter) = &mut self.filter else {
            return Ok(());
        };
        // The policy first: whatever has become of an interface, the way back must be open.
        filter.put_in_force(&settings, &sources)?;
        if !filter.is_detached() {
            filter.attach(&settings)?;
        }
        Ok(())
    }

    /// Adds a source that an operator has announced.
    pub(super) fn add_source(&mut self, source: Source) -> Result<(), KeeperError> {
        if !self
            .orders
            .as_mut()
            .is_some_and(|orders| orders.take_addition(&source))
        {
            return Err(unannounced(
                &format!("that {} comes to the allowlist", source.cidr),
                "sources add",
            ));
        }
        self.change_sources(|sources| sources.with(source))
    }

    /// Changes the operators' entries of the allowlist: in the file, then in the filter. If the filter refuses, the file
    /// is as before.
    pub(super) fn change_sources(
        &mut self,
        change: impl FnOnce(&Sources) -> Result<Sources, SourcesError>,
    ) -> Result<(), KeeperError> {
        let policy = self.policy.as_mut().ok_or(KeeperError::Off)?;
        let changed = change(&policy.sources).map_err(KeeperError::refused)?;
        changed.save().map_err(KeeperError::refused)?;
        if let Some(filter) = &mut self.filter
            && let Err(error) = filter.put_in_force(&policy.config.filter, &changed.all())
        {
            policy.sources.save().map_err(KeeperError::refused)?;
            return Err(error.into());
        }
        policy.sources = changed;
        Ok(())
    }

    pub(super) fn attach(&mut self) -> Result<Vec<Attachment>, KeeperError> {
        let (filter, config) = self.filter_with_config()?;
        filter.attach(&config.filter)?;
        Ok(filter.attachments().to_vec())
    }

    pub(super) fn reattach(&mut self) -> Result<(), KeeperError> {
        if !self.filter()?.is_detached() {
            self.attach()?;
        }
        Ok(())
    }

    /// Takes the filter off if an operator has announced it.
    pub(super) fn detach(&mut self) -> Result<Vec<String>, KeeperError> {
        if !self.orders.as_mut().is_some_and(Orders::take_detach) {
            return Err(unannounced("that the filter is taken off", "detach"));
        }
        let (filter, config) = self.filter_with_config()?;
        Ok(filter.detach(&config.filter)?)
    }

    pub(super) fn interfaces(&mut self) -> Result<Interfaces, KeeperError> {
        let (filter, config) = self.filter_with_config()?;
        let config = &config.filter;
        let names = config.interfaces.iter();
        let owners: Vec<(String, Owner)> = names
            .map(|name| (name.clone(), filter.owner(config, name)))
            .collect();
        Ok(Interfaces {
            detached: filter.is_detached(),
            attachments: filter.attachments().to_vec(),
            owners,
        })
    }

    /// Reaches a verdict if nothing stands against it; false if something does: what an operator said always wins, a denial
    /// in force ends when it was said to end, and a trust that is new enough is left alone.
    pub(super) fn judge(&mut self, source: IpNet, verdict: NewVerdict) -> Result<bool, KeeperError> {
        let (filter, config) = self.filter_with_config()?;
        if verdict.origin == VerdictOrigin::Agent {
            if source.prefix_len() != source.max_prefix_len() {
                return Err(KeeperError::refused(
                    "the agent by itself judges addresses, not networks",
                ));
            }
            let longest = match verdict.kind {
                VerdictKind::Deny => config.verdict.ttl_max,
                VerdictKind::Trust => config.filter.handshake.trust_ttl,
            };
            if verdict.ttl > longest {
                return Err(KeeperError::refused(format!(
                    "a verdict of {} is longer than the configuration has it",
                    humantime::format_duration(verdict.ttl)
                )));
            }
            let settled = filter.verdict_on(source)?.is_some_and(|stands| {
                stands.ordered
                    || stands.kind == VerdictKind::Deny
                    || verdict.kind == VerdictKind::Trust && stands.remaining > verdict.ttl / 2
            });
            if settled {
                return Ok(false);
            }
        }
        filter.judge(source, verdict)?;
        Ok(true)
    }

    pub(super) fn passed(&self, entries: &[IpNet]) -> Result<Vec<Option<crate::filter::Tally>>, KeeperError> {
        let filter = self.filter()?;
        let passed = entries
            .iter()
            .map(|entry| filter.passed(&Source::new(*entry, "")));
        Ok(passed.collect::<Result<_, _>>()?)
    }

    pub(super) fn drops(&mut self) -> Result<Vec<Dropped>, KeeperError> {
        #[cfg(feature = "kernel-log")]
        if let Some(filter) = &mut self.filter {
            filter.relay_log();
        }
        let Some(filter) = &self.filter else {
            return Err(KeeperError::Off);
        };
        let events = self.events.iter_mut().flatten().take(DROPS);
        let named = events.map(|event| Dropped {
            service: filter.service_name(event.service),
            interface: filter
                .attachments()
                .iter()
                .find(|attachment| attachment.index == event.interface)
                .map(|attachment| attachment.name.clone()),
            event,
        });
        Ok(named.collect())
    }

    pub(super) fn figures(&self) -> Result<Figures, KeeperError> {
        let filter = self.filter()?;
        Ok(Figures {
            generation: filter.generation(),
            policy_bytes: filter.policy_bytes(),
            verdicts: filter.count_verdicts()?,
        })
    }

    pub(super) fn verdicts(&self) -> Result<Vec<Verdict>, KeeperError> {
        Ok(self.filter()?.verdicts()?)
    }

    pub(super) fn filter(&self) -> Result<&Filter, KeeperError> {
        self.filter.as_ref().ok_or(KeeperError::Off)
    }

    pub(super) fn filter_mut(&mut self) -> Result<&mut Filter, KeeperError> {
        self.filter.as_mut().ok_or(KeeperError::Off)
    }

    fn filter_with_config(&mut self) -> Result<(&mut Filter, &Config), KeeperError> {
        match (&mut self.filter, &self.policy) {
            (Some(filter), Some(policy)) => Ok((filter, &policy.config)),
            _ => Err(KeeperError::Off),
        }
    }
}

/// Fails if the worker's user could write what the keeper reads: then it would not be the operator who says what is in force.
fn out_of_reach(file: &Path, config: &Config) -> Result<(), KeeperError> {
    let Some(worker) = config.run.user.filter(|worker| *worker != geteuid().as_raw()) else {
        return Ok(());
    };
    let settings = &config.filter;
    let files = [file, &settings.sources_file].into_iter();
    for path in files.chain(settings.source_lists.iter().map(PathBuf::as_path)) {
        for path in [path, folder_of(path)] {
            let Ok(found) = fs::metadata(path) else { continue };
            let by_group = found.mode() & 0o020 != 0 && found.gid() != 0;
            // Where all may write, as in /tmp, nobody replaces what is another's.
            let by_all = found.mode() & 0o002 != 0 && found.mode() & 0o1000 == 0;
            if found.uid() == worker || by_group || by_all {
                return Err(KeeperError::Refused(format!(
                    "{}: the user {worker} of `run.user` could write it, and with it what the filter lets through: `chown root` and \
                     `chmod go-w` it",
                    path.display()
                )));
            }
        }
    }
    Ok(())
}

fn unannounced(what: &str, command: &str) -> KeeperError {
    tracing::error!("the worker asks {what}, and no operator has announced it");
    KeeperError::Refused(format!(
        "no operator has announced to the filter's keeper {what}: give the order with `spinegate {command}`, which does"
    ))
}
