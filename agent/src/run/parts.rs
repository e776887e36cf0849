//! What a configuration names, loaded: certificates, systems, sources.

use std::{sync::Arc, time::SystemTime};

use crate::{
    config::{Config, Problem, Source},
    control::{SourceEntry, SystemEntry},
    diff::State,
    directory::{Directory, Order},
    gateway::Policy,
    registry::Registry,
    sources::Sources,
    tls,
};

/// Everything that a start or a reload puts in force. All of it is sound before any of it is used.
pub struct Parts {
    pub(crate) tls: tls::Loaded,
    pub(super) policy: Policy,
    pub(super) registry: Order,
    pub(super) sources: Sources,
}

impl Parts {
    /// Loads all parts.
    ///
    /// # Errors
    /// Everything that is wrong with any of them.
    pub fn load(config: &Config) -> Result<Self, Vec<Problem>> {
        let tls = tls::load(&config.tls, SystemTime::now());
        let registry = Order::load(&config.registry, SystemTime::now());
        let sources = Sources::load(config.filter.sources.clone(), &config.filter.sources_file);
        let sources = sources.map_err(|error| {
            let mend = "mend the file, or move it away to begin with no added sources";
            vec![Problem::new("filter.sources_file", error.to_string(), mend)]
        });
        let connector = tls::load_connector(
            "gateway.upstream_tls",
            &config.gateway.upstream_tls,
            SystemTime::now(),
        );
        match (tls, registry, connector, sources) {
            (Ok(mut tls), Ok((registry, of_registry)), Ok((connector, warnings)), Ok(sources)) => {
                tls.warnings.extend(warnings);
                tls.warnings.extend(of_registry);
                let policy = Policy::new(config, connector).map_err(|problem| vec![problem])?;
                Ok(Self {
                    tls,
                    policy,
                    registry,
                    sources,
                })
            }
            (tls, registry, connector, sources) => {
                Err([tls.err(), registry.err(), connector.err(), sources.err()]
                    .into_iter()
                    .flatten()
                    .flatten()
                    .collect())
            }
        }
    }

    /// What requests would be judged by, with what is kept of the registry's sources, and the allowlist's entries.
    #[must_use]
    pub fn into_ground(self) -> (Policy, Arc<Registry>, Vec<Source>) {
        (self.policy, Directory::kept(self.registry), self.sources.all())
    }

    /// What an agent with this configuration would say is in force.
    #[must_use]
    pub fn into_state(self, config: &Config, now: SystemTime) -> State {
        let sources = self.sources.with_origin();
        let sources = sources
            .map(|(source, added)| SourceEntry::new(source, added))
            .collect();
        let registry = Directory::kept(self.registry);
        let systems = registry.page(None, usize::MAX, now);
        State {
            settings: (*config.settings).clone(),
            sources,
            systems: systems
                .iter()
                .map(|(source, system)| SystemEntry::new(*source, system))
                .collect(),
            certificates: self.tls.certificates(now),
            crls: self.tls.crls(now),
        }
    }

    /// What is allowed, but should be seen to.
    #[must_use]
    pub fn warnings(&self) -> &[Problem] {
        &self.tls.warnings
    }
}
