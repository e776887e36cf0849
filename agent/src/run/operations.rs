//! What operators can have the agent do, and its record of what they had it do.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{Agent, Parts, lock};
use crate::{
    audit::{Decision, Event, Operator, Record},
    config::{self, Cidr, Config, FilterMode, Source},
    control::{
        self, CrlStatus, Failure, FailureKind, FilterStats, InterfaceStatus, Operations, Origin, Peer,
        Request, Response, SourceEntry, Status, Tally, VerdictEntry, VerdictKind,
    },
    filter::{Counters, Filter, FilterError},
    metrics::Observed,
    sources::{Sources, SourcesError},
    verdict::OrderError,
};

impl Operations for Agent {
    async fn perform(&self, peer: Peer, request: Request) -> Result<Response, Failure> {
        let order = request.changes().then(|| format!("{request:?}"));
        let verb = request.verb();
        let answer = self.carry_out(request).await;
        if let Some(order) = order {
            self.record_order(peer, verb, &order, answer.as_ref().err());
        }
        answer
    }
}

impl Agent {
    async fn carry_out(&self, request: Request) -> Result<Response, Failure> {
        match request {
            Request::Status => Ok(Response::Status(Box::new(
                self.status().map_err(|error| internal(&error))?,
            ))),
            Request::Stats => {
                let filter = self
                    .filter_stats()
                    .map_err(|error| internal(&error))?
                    .unwrap_or_default();
                Ok(Response::Stats(Box::new(self.counters.stats(filter))))
            }
            Request::SourcesList => Ok(Response::Sources(
                self.sources_listed
                    .load()
                    .with_origin()
                    .map(source_entry)
                    .collect(),
            )),
            Request::SourcesAdd {
                cidr,
                name,
                kind,
                services,
            } => {
                let source = Source {
                    cidr: cidr.network(),
                    name: name.as_str().to_owned(),
                    kind,
                    services,
                };
                self.change_sources(|sources| sources.with(source)).await?;
                Ok(Response::Done(format!("{cidr} is on the allowlist")))
            }
            Request::SourcesRemove { cidr } => {
                self.change_sources(|sources| sources.without(cidr.network()))
                    .await?;
                Ok(Response::Done(format!("{cidr} is off the allowlist")))
            }
            Request::VerdictsList => {
                let verdicts = self.verdicts.list().map_err(|error| internal(&error))?;
                Ok(Response::Verdicts(verdicts.iter().map(verdict_entry).collect()))
            }
            Request::VerdictsAdd { source, ttl } => self.deny(source, ttl.map(Duration::from_secs)),
            Request::VerdictsRemove { source } => match self.verdicts.lift(source) {
                Ok(true) => Ok(Response::Done(format!("the verdict on {source} is lifted"))),
                Ok(false) => {
                    let mend = "`spinegate verdicts list` shows those in force";
                    Err(Failure::new(
                        FailureKind::NotFound,
                        format!("there is no verdict on {source}"),
                        mend,
                    ))
                }
                Err(error) => Err(refused_order(&error)),
            },
            Request::Reload => self.reload().await.map(Response::Done),
            Request::Explain(question) => self.explain(&question).map(Response::Explanation),
        }
    }

    fn deny(&self, source: IpAddr, ttl: Option<Duration>) -> Result<Response, Failure> {
        let ttl = ttl.unwrap_or_else(|| self.config.load().verdict.ttl_max);
        self.verdicts
            .order(source, ttl)
            .map_err(|error| refused_order(&error))?;
        Ok(Response::Done(format!(
            "{source} is denied for {}",
            humantime::format_duration(ttl)
        )))
    }

    /// Changes the allowlist: in the file, then in the filter. If the filter refuses, the file is as before.
    async fn change_sources(
        &self,
        change: impl FnOnce(&Sources) -> Result<Sources, SourcesError>,
    ) -> Result<(), Failure> {
        let mut sources = self.sources.lock().await;
        let changed = change(&sources).map_err(|error| refused_change(&error))?;
        changed.save().map_err(|error| refused_change(&error))?;
        let config = self.config.load_full();
        if let Err(failure) = self.apply_filter(&config, &changed).await {
            sources.save().map_err(|error| refused_change(&error))?;
            return Err(failure);
        }
        self.verdicts.replace(config.verdict.clone(), changed.all());
        self.sources_listed.store(Arc::new(changed.clone()));
        *sources = changed;
        Ok(())
    }

    /// Reads the configuration again, and takes it over if it is sound and can be changed while running.
    pub(super) async fn reload(&self) -> Result<String, Failure> {
        let mut sources = self.sources.lock().await;
        let file = self.source.clone();
        let loading = tokio::task::spawn_blocking(move || {
            let loaded = config::load(&file)?;
            let parts = Parts::load(&loaded.config).map_err(|problems| {
                problems
                    .iter()
                    .map(|problem| loaded.source.diagnose(problem))
                    .collect::<Vec<_>>()
            })?;
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
        check_changeable(&self.config.load(), &config)?;

        // The filter first: if the kernel refuses it, nothing else has changed.
        self.apply_filter(&config, &parts.sources).await?;
        let Parts {
            tls,
            policy,
            sources: changed,
        } = parts;
        let mut warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
        warnings.extend(tls.warnings.iter().cloned());
        self.acceptor.swap(tls);
        self.gateway.replace(policy);
        self.verdicts.replace(config.verdict.clone(), changed.all());
        self.audit.reopen().map_err(|error| internal(&error))?;
        self.warnings.store(Arc::new(warnings));
        self.sources_listed.store(Arc::new(changed.clone()));
        *sources = changed;
        self.config.store(Arc::new(config));
        Ok("the configuration is in force".to_owned())
    }

    async fn apply_filter(&self, config: &Config, sources: &Sources) -> Result<(), Failure> {
        let (filter, settings, sources) = (Arc::clone(&self.filter), config.filter.clone(), sources.all());
        let applied = tokio::task::spawn_blocking(move || {
            lock(&filter)
                .as_mut()
                .map_or(Ok(()), |filter| filter.apply(&settings, &sources))
        });
        applied
            .await
            .map_err(|error| internal(&error))?
            .map_err(|error| internal(&error))
    }

    fn status(&self) -> Result<Status, FilterError> {
        let config = self.config.load();
        let filter = lock(&self.filter);
        let attachments = filter.as_ref().map(Filter::attachments).unwrap_or_default();
        let interfaces = attachments.iter().map(|attachment| InterfaceStatus {
            name: attachment.name.clone(),
            index: attachment.index,
            attach: if attachment.native { "native" } else { "generic" }.to_owned(),
            program_id: attachment.program,
        });
        let verdicts = filter.as_ref().map_or(Ok(Vec::new()), Filter::verdicts)?;
        let crls = self.acceptor.trust().crls().into_iter().map(|crl| CrlStatus {
            issuer: crl.issuer,
            number: crl.number,
            this_update: crl.this_update,
            next_update: crl.next_update,
            entries: crl.entries,
        });
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: humantime::format_rfc3339_seconds(self.started).to_string(),
            config: self.source.clone(),
            mode: config.filter.mode.as_str().to_owned(),
            scope: config.filter.scope.as_str().to_owned(),
            interfaces: interfaces.collect(),
            listen: config.listen.addresses.clone(),
            upstream: config.gateway.upstream.to_string(),
            services: config.filter.services.clone(),
            sources: self.sources_listed.load().with_origin().count(),
            verdicts: verdicts.len(),
            systems: self.gateway.policy().registry().len(),
            connections: self.gateway.connections(),
            openssl: openssl::version::version().to_owned(),
            policy_generation: filter.as_ref().map_or(0, Filter::generation),
            crls: crls.collect(),
            warnings: self.warnings.load().to_vec(),
        })
    }

    fn filter_stats(&self) -> Result<Option<FilterStats>, FilterError> {
        Ok(lock(&self.filter)
            .as_ref()
            .map(Filter::counters)
            .transpose()?
            .map(filter_stats))
    }

    /// What a scrape sees besides the agent's own counters.
    pub(super) fn observe(&self) -> Observed {
        let filter = self.filter_stats().unwrap_or_else(|error| {
            tracing::warn!(%error, "the kernel's counters can't be read");
            None
        });
        Observed {
            filter,
            audit_write_failures: self.audit.failures(),
        }
    }

    fn record_order(&self, peer: Peer, verb: &str, order: &str, failure: Option<&Failure>) {
        let decision = if failure.is_some() {
            Decision::Refuse
        } else {
            Decision::Done
        };
        let mut record = Record::new(SystemTime::now(), Event::Operator, decision);
        record.operator = Some(Operator {
            uid: peer.uid,
            pid: peer.pid,
        });
        record.detail = Some(match failure {
            None => format!("{verb}: {order}"),
            Some(failure) => format!("{verb}: {order}: {}", failure.message),
        });
        if let Err(error) = self.audit.write(&record) {
            tracing::error!(%error, "an operator's order could not be recorded");
        }
    }
}

/// What a process can't change about itself while it serves.
fn check_changeable(old: &Config, new: &Config) -> Result<(), Failure> {
    let changed = [
        ("filter.pin_dir", old.filter.pin_dir != new.filter.pin_dir),
        (
            "filter.mode",
            (old.filter.mode == FilterMode::Off) != (new.filter.mode == FilterMode::Off),
        ),
        ("listen.addresses", old.listen.addresses != new.listen.addresses),
        (
            "gateway.max_connections",
            old.gateway.max_connections != new.gateway.max_connections,
        ),
        ("control.socket", old.control.socket != new.control.socket),
        ("metrics.listen", old.metrics.listen != new.metrics.listen),
        ("audit.file", old.audit.file != new.audit.file),
    ];
    let keys: Vec<_> = changed
        .iter()
        .filter(|(_, changed)| *changed)
        .map(|(key, _)| *key)
        .collect();
    if keys.is_empty() {
        return Ok(());
    }
    let message = format!("{} can't be changed while the agent runs", keys.join(", "));
    let mend = "nothing was changed: restart the agent, the filter stays in force meanwhile";
    Err(Failure::new(FailureKind::Refused, message, mend))
}

fn filter_stats(counters: Counters) -> FilterStats {
    let named = |tallies: std::collections::BTreeMap<&'static str, crate::filter::Tally>| {
        let tally = |tally: crate::filter::Tally| Tally {
            packets: tally.packets,
            bytes: tally.bytes,
        };
        tallies
            .into_iter()
            .map(|(name, found)| (name.to_owned(), tally(found)))
            .collect()
    };
    FilterStats {
        drops: named(counters.drops),
        would_drops: named(counters.would_drops),
        passes: named(counters.passes),
        lost_events: counters.lost_events,
    }
}

fn source_entry((source, added): (&Source, bool)) -> SourceEntry {
    SourceEntry {
        cidr: Cidr::from(source.cidr),
        name: source.name.clone(),
        kind: source.kind,
        services: source.services.clone(),
        origin: if added {
            Origin::Operator
        } else {
            Origin::Configuration
        },
    }
}

fn verdict_entry(verdict: &crate::filter::Verdict) -> VerdictEntry {
    VerdictEntry {
        source: verdict.source,
        kind: VerdictKind::Deny,
        reason: verdict.reason.as_str().to_owned(),
        // A verdict in force never shows as nothing left.
        remaining_seconds: verdict
            .remaining
            .as_millis()
            .div_ceil(1000)
            .try_into()
            .unwrap_or(u64::MAX),
        origin: if verdict.ordered {
            Origin::Operator
        } else {
            Origin::Agent
        },
    }
}

fn internal(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        FailureKind::Internal,
        error.to_string(),
        "nothing was changed; the agent's log may say more",
    )
}

fn refused_order(error: &OrderError) -> Failure {
    let kind = match error {
        OrderError::FilterOff => FailureKind::Refused,
        OrderError::Filter(_) => FailureKind::Internal,
    };
    Failure::new(kind, error.to_string(), "nothing was changed")
}

fn refused_change(error: &SourcesError) -> control::Failure {
    let kind = match error {
        SourcesError::Absent { .. } => FailureKind::NotFound,
        SourcesError::Present { .. } | SourcesError::Configured { .. } => FailureKind::Refused,
        SourcesError::File { .. } | SourcesError::Content { .. } => FailureKind::Internal,
    };
    Failure::new(kind, error.to_string(), "nothing was changed")
}
