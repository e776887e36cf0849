//! What operators can have the agent do, and its record of what they had it do.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, SystemTime},
};

use super::{
    Agent, interfaces, lock, lockout,
    reload::{Change, internal},
};
use crate::{
    audit::Order,
    config::{FilterMode, OcspMode},
    control::{
        self, Access, CrlReport, Errors, Estate, Failure, FailureKind, FilterStats, Guard, Journal,
        Operations, Origin, Peer, Rebuff, Request, Response, ServiceStats, SourceEntry, Status, Tally,
        Target, VerdictEntry, VerdictKind,
    },
    filter::{self, Counters, Outcomes},
    keeper::{Keeper, KeeperError},
    log,
    metrics::Observed,
    program::ProgramFile,
    tls,
    verdict::OrderError,
};

impl Operations for Agent {
    fn access(&self) -> Access {
        let control = &self.config.load().control;
        Access {
            own: nix::unistd::geteuid().as_raw(),
            writers: control.writers.clone(),
            readers: control.group,
        }
    }

    async fn perform(&self, peer: Peer, request: Request) -> Result<Response, Failure> {
        if !request.changes() {
            return self.carry_out(request).await;
        }
        let order = Order {
            verb: request.verb(),
            arguments: control::arguments(&request).map_err(|error| internal(&error))?,
        };
        let id = self.take_up(peer, &order).await?;
        let answer = self.carry_out(request).await;
        let outcome = match &answer {
            Ok(Response::Done(done)) => Ok(done.as_str()),
            Ok(_) => Ok("done"),
            Err(failure) => Err(failure),
        };
        self.record_outcome(peer, (id, &order), outcome);
        answer
    }

    fn rebuffed(&self, peer: Peer, rebuff: &Rebuff) {
        self.record_rebuff(peer, rebuff);
    }

    async fn hand_over(&self, peer: Peer) -> Result<Estate<'_>, Failure> {
        self.bequeath(peer).await
    }

    async fn stand_down(&self, peer: Peer, estate: Estate<'_>) -> Result<String, Failure> {
        Ok(self.leave_office(peer, estate).await)
    }

    fn errors(&self) -> &Errors {
        &self.errors
    }

    fn journal(&self) -> &Journal {
        &self.journal
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
            Request::Settings => Ok(Response::Settings((*self.config.load().settings).clone())),
            Request::CrlStatus => {
                let trust = self.acceptor.trust();
                Ok(Response::Crls(CrlReport {
                    crls: trust.crls(SystemTime::now()),
                    faults: trust.crl_faults().to_vec(),
                    fetches: self.crl_fetcher.status(),
                }))
            }
            Request::SourcesList => self
                .list_sources()
                .map(Response::Sources)
                .map_err(|error| internal(&error)),
            Request::SourcesAdd(addition) => {
                let cidr = addition.cidr;
                let source = addition.source(SystemTime::now());
                self.change_sources(Guard::default(), Change::Add(source)).await?;
                Ok(Response::Done(format!("{cidr} is on the allowlist")))
            }
            Request::SourcesRemove { cidr, guard } => {
                self.change_sources(guard, Change::Remove(cidr.network())).await?;
                Ok(Response::Done(format!("{cidr} is off the allowlist")))
            }
            Request::VerdictsList => {
                let verdicts = self.verdicts.list().map_err(|error| internal(&error))?;
                Ok(Response::Verdicts(verdicts.iter().map(verdict_entry).collect()))
            }
            Request::VerdictsAdd {
                source,
                kind,
                ttl,
                guard,
            } => self.order(source, kind, ttl.map(Duration::from_secs), guard),
            Request::VerdictsClear { source } => {
                let lifted = self
                    .verdicts
                    .clear(source.map(Target::network))
                    .map_err(|error| refused_order(&error))?;
                Ok(Response::Done(format!("{lifted} verdicts are lifted")))
            }
            Request::VerdictsRemove { source } => match self.verdicts.lift(source.network()) {
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
            Request::Reload {
                guard,
                confirm_within,
            } => self
                .reload(guard, confirm_within.map(Duration::from_secs))
                .await
                .map(Response::Done),
            Request::Confirm => self.confirm().await.map(Response::Done),
            Request::LogLevel => log::filter()
                .map(Response::LogLevel)
                .ok_or_else(|| internal(&log::LogError::Closed)),
            Request::SetLogLevel { filter } => set_log_level(filter.as_deref()),
            Request::Attach => self.attach().map(Response::Done),
            Request::Detach => self.detach().map(Response::Done),
            Request::CrlFetch => self.fetch_crls().await.map(Response::Done),
            Request::RegistryList { after, limit } => self.list_systems(after.as_deref(), limit),
            Request::RegistryShow { asid } => self.show_system(&asid),
            Request::RegistrySync {
                source,
                accept_shrink,
            } => self
                .sync_registry(source, accept_shrink)
                .await
                .map(Response::Done),
            Request::Explain(question) => self.explain(&question).await.map(Response::Explanation),
            Request::ExplainDecision { id } => self
                .explain_decision(id)
                .await
                .map(|past| Response::PastDecision(Box::new(past))),
            Request::ExplainPackets { frames } => self.explain_packets(&frames).map(Response::Packets),
            Request::Events(_) | Request::Errors(_) => Err(Failure::new(
                FailureKind::Internal,
                "this request is not answered at once",
                "use the `spinegate` command of the running agent",
            )),
        }
    }

    async fn fetch_crls(&self) -> Result<String, Failure> {
        let client = &self.config.load_full().tls.client;
        let asks = client.ocsp.mode != OcspMode::Off;
        if !client.fetch.is_on() && !asks {
            let mend = "name the hosts of the CRLs in `tls.client.fetch.hosts`, and reload";
            return Err(Failure::new(FailureKind::Refused, "no CRL is fetched", mend));
        }
        let (fetched, (questions, answered)) =
            tokio::join!(self.crl_fetcher.fetch_all(), self.ocsp.ask_again());
        let mut lines: Vec<_> = fetched
            .iter()
            .map(|(url, result)| match result {
                Ok(said) => format!("{url}: {said}"),
                Err(fault) => format!("{url}: not fetched: {fault}"),
            })
            .collect();
        if asks {
            lines.push(format!("OCSP: {answered} of {questions} questions are answered"));
        }
        if lines.is_empty() {
            return Ok("no certificate and no configuration names a CRL of the listed hosts yet".to_owned());
        }
        if fetched.values().all(Result::is_ok) && answered == questions {
            return Ok(lines.join("\n"));
        }
        let mend = "those that are kept stay in force, and the agent tries again by itself";
        Err(Failure::new(FailureKind::Internal, lines.join("\n"), mend))
    }

    fn order(
        &self,
        source: Target,
        kind: VerdictKind,
        ttl: Option<Duration>,
        guard: Guard,
    ) -> Result<Response, Failure> {
        let config = self.config.load();
        if kind == VerdictKind::Deny && !guard.force {
            let cut = |address: IpAddr| source.network().contains(&address.to_canonical());
            lockout::check_verdict(&config.filter, guard.session, cut)?;
        }
        let ttl = ttl.unwrap_or(config.verdict.ttl_max);
        let (kind, done) = match kind {
            VerdictKind::Deny => (spinegate_common::VerdictKind::Deny, "denied"),
            VerdictKind::Trust => (spinegate_common::VerdictKind::Trust, "trusted"),
        };
        self.verdicts
            .order(source.network(), kind, ttl)
            .map_err(|error| refused_order(&error))?;
        Ok(Response::Done(format!(
            "{source} is {done} for {}",
            humantime::format_duration(ttl)
        )))
    }

    fn list_sources(&self) -> Result<Vec<SourceEntry>, KeeperError> {
        let listed = self.sources_listed.load();
        let cidrs: Vec<_> = listed.with_origin().map(|(source, _)| source.cidr).collect();
        let passed = self
            .filter
            .as_ref()
            .map(|filter| filter.passed(&cidrs))
            .transpose()?;
        let passed = passed
            .unwrap_or_default()
            .into_iter()
            .chain(std::iter::repeat(None));
        let entries = listed
            .with_origin()
            .zip(passed)
            .map(|((source, added), passed)| SourceEntry {
                passed: passed.map(tally),
                ..SourceEntry::new(source, added)
            });
        Ok(entries.collect())
    }

    pub(super) fn status(&self) -> Result<Status, KeeperError> {
        let config = self.config.load();
        let trust = self.acceptor.trust();
        let filter = self.filter.as_deref();
        let interfaces = filter.map(Keeper::interfaces).transpose()?;
        let interfaces = interfaces
            .map(|found| interfaces::status(&found))
            .unwrap_or_default();
        let figures = filter.map(Keeper::figures).transpose()?.unwrap_or_default();
        let now = SystemTime::now();
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            program: ProgramFile::of_this_process().ok(),
            started: humantime::format_rfc3339_seconds(self.started).to_string(),
            config: self.source.clone(),
            mode: config.filter.mode.as_str().to_owned(),
            scope: config.filter.scope.as_str().to_owned(),
            shadow: self.gateway.policy().in_shadow(&self.registry.load()),
            interfaces,
            listen: config.listen.addresses.clone(),
            upstreams: self.gateway.upstreams(),
            refusals_by_side: self.counters.refusals_by_side(),
            services: config
                .filter
                .services
                .iter()
                .map(|guarded| guarded.service)
                .collect(),
            sources: self.sources_listed.load().with_origin().count(),
            verdicts: figures.verdicts,
            systems: self.registry.load().len(),
            registry: self.directory.status(),
            connections: self.gateway.connections(),
            openssl: openssl::version::version().to_owned(),
            log_filter: log::filter().unwrap_or_default(),
            policy_generation: figures.generation,
            policy_bytes: figures.policy_bytes,
            confirm_until: lock(&self.trial)
                .as_ref()
                .map(|trial| humantime::format_rfc3339_seconds(trial.until).to_string()),
            certificates: tls::certificates(&self.acceptor.expiries(), now),
            crls: trust.crls(now),
            warnings: [self.warnings.load().as_slice(), trust.crl_faults()].concat(),
        })
    }

    fn filter_stats(&self) -> Result<Option<FilterStats>, KeeperError> {
        let counters = self.filter.as_deref().map(Keeper::counters).transpose()?;
        Ok(counters.map(filter_stats))
    }

    /// What a scrape sees besides the agent's own counters.
    pub(super) fn observe(&self) -> Observed {
        let filter = self.filter_stats().unwrap_or_else(|error| {
            tracing::warn!(%error, "the kernel's counters can't be read");
            None
        });
        let mut expiries = BTreeMap::new();
        for expiry in self.acceptor.expiries() {
            expiries.entry(expiry.kind).or_insert(expiry.timestamp());
        }
        let config = self.config.load();
        let (interfaces, verdicts) = self.look_at_filter().unwrap_or_else(|error| {
            tracing::warn!(%error, "the filter can't be looked at");
            let bare = |name: &String| (name.clone(), false);
            (config.filter.interfaces.iter().map(bare).collect(), 0)
        });
        Observed {
            started: Some(self.started),
            readiness: self.readiness(),
            log_suppressed: log::left_out(),
            interfaces,
            enforcing: config.filter.mode == FilterMode::Enforce,
            filter,
            connections: self.gateway.connections(),
            connections_limit: config.gateway.max_connections,
            handshakes: self.acceptor.handshakes(),
            requests_under_way: self.gateway.requests_under_way(),
            in_shadow: !self.gateway.policy().in_shadow(&self.registry.load()).is_empty(),
            upstreams: self.gateway.observed_upstreams(),
            verdicts,
            registry: self.directory.status(),
            expiries,
            crls: self.acceptor.trust().crls(SystemTime::now()),
            audit: self.audit.observe(),
        }
    }

    /// Each interface, and whether the filter is attached to it; and the verdicts in force.
    fn look_at_filter(&self) -> Result<(Vec<(String, bool)>, u64), KeeperError> {
        let Some(filter) = self.filter.as_deref() else {
            return Ok((Vec::new(), 0));
        };
        let interfaces = interfaces::status(&filter.interfaces()?)
            .into_iter()
            .map(|interface| (interface.name, interface.owner == "spinegate"))
            .collect();
        Ok((interfaces, filter.figures()?.verdicts as u64))
    }
}

fn set_log_level(filter: Option<&str>) -> Result<Response, Failure> {
    match log::set_filter(filter) {
        Ok(filter) => Ok(Response::Done(format!(
            "the log has {filter} in it until the agent starts again"
        ))),
        Err(error @ log::LogError::Filter { .. }) => {
            let mend = "nothing was changed";
            Err(Failure::new(FailureKind::Usage, error.to_string(), mend))
        }
        Err(error) => Err(internal(&error)),
    }
}

fn filter_stats(counters: Counters) -> FilterStats {
    let ServiceStats {
        drops,
        would_drops,
        passes,
    } = service_stats(counters.all);
    FilterStats {
        drops,
        would_drops,
        passes,
        services: counters
            .services
            .into_iter()
            .map(|(name, outcomes)| (name, service_stats(outcomes)))
            .collect(),
        lost_events: counters.lost_events,
    }
}

fn service_stats(outcomes: Outcomes) -> ServiceStats {
    let named = |tallies: BTreeMap<Cow<'static, str>, filter::Tally>| {
        tallies
            .into_iter()
            .map(|(name, found)| (name.into_owned(), tally(found)))
            .collect()
    };
    ServiceStats {
        drops: named(outcomes.drops),
        would_drops: named(outcomes.would_drops),
        passes: named(outcomes.passes),
    }
}

const fn tally(tally: filter::Tally) -> Tally {
    Tally {
        packets: tally.packets,
        bytes: tally.bytes,
    }
}

fn verdict_entry(verdict: &crate::filter::Verdict) -> VerdictEntry {
    VerdictEntry {
        source: Target::from(verdict.source),
        kind: match verdict.kind {
            spinegate_common::VerdictKind::Deny => VerdictKind::Deny,
            spinegate_common::VerdictKind::Trust => VerdictKind::Trust,
        },
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
        hits: verdict.hits,
    }
}

fn refused_order(error: &OrderError) -> Failure {
    let kind = match error {
        OrderError::FilterOff => FailureKind::Refused,
        OrderError::Filter(_) => FailureKind::Internal,
    };
    Failure::new(kind, error.to_string(), "nothing was changed")
}
