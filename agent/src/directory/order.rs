//! What a configuration says of the registry's sources, with everything that it names loaded.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    ldap::{self, Fetched, secret},
    sds,
    store::Stamp,
};
use crate::{
    config::{self, Problem},
    registry::{self, Life, Snapshot, Source},
    tls::{Connector, load_connector},
};

/// What is fetched from where, and what is listed.
#[derive(Debug)]
pub struct Order {
    settings: config::Registry,
    listed: Option<Arc<Snapshot>>,
    ldap: Option<Connector>,
    sds: Option<Connector>,
}

impl Order {
    /// Loads everything that `[registry]` names, with what should be seen to.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(settings: &config::Registry, now: SystemTime) -> Result<(Self, Vec<Problem>), Vec<Problem>> {
        let mut problems = Vec::new();
        let mut warnings = Vec::new();
        let mut listed = None;
        if let Some(file) = &settings.file {
            match registry::load(file) {
                Ok(systems) => listed = Some(Arc::new(Snapshot::lasting(Source::File, systems))),
                Err(found) => problems.extend(found),
            }
        }
        let mut connector = |section: &str, tls: &config::UpstreamTls| match load_connector(section, tls, now)
        {
            Ok((connector, found)) => {
                warnings.extend(found);
                connector
            }
            Err(found) => {
                problems.extend(found);
                None
            }
        };
        let ldap = settings.ldap.as_ref();
        let ldap = ldap.and_then(|ldap| connector("registry.ldap", &ldap.tls));
        let sds = settings.sds.as_ref();
        let sds = sds.and_then(|sds| connector("registry.sds", &sds.tls));
        let secrets = [
            (
                "registry.ldap.password_file",
                settings
                    .ldap
                    .as_ref()
                    .and_then(|ldap| ldap.password_file.as_ref()),
            ),
            (
                "registry.sds.apikey_file",
                settings.sds.as_ref().and_then(|sds| sds.apikey_file.as_ref()),
            ),
        ];
        for (key, file) in secrets {
            if let Some(Err(fault)) = file.map(|file| secret(file)) {
                problems.push(Problem::new(
                    key,
                    fault,
                    "name a file with the secret on its first line",
                ));
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        warnings.extend(listed.as_deref().and_then(in_shadow));
        let order = Self {
            settings: settings.clone(),
            listed,
            ldap,
            sds,
        };
        Ok((order, warnings))
    }

    pub(super) const fn settings(&self) -> &config::Registry {
        &self.settings
    }

    pub(super) const fn listed(&self) -> Option<&Arc<Snapshot>> {
        self.listed.as_ref()
    }

    /// The sources that are fetched.
    pub(super) fn fetched(&self) -> impl Iterator<Item = Source> {
        let ldap = self.settings.ldap.as_ref().map(|_| Source::Ldap);
        let sds = self.settings.sds.as_ref().map(|_| Source::Sds);
        ldap.into_iter().chain(sds)
    }

    /// What is asked: a snapshot of another server, or of another part of it, is none of this source.
    pub(super) fn origin(&self, source: Source) -> String {
        match source {
            Source::File => {
                let file = self.settings.file.as_ref();
                file.map(|file| file.display().to_string()).unwrap_or_default()
            }
            Source::Ldap => {
                let ldap = self.settings.ldap.as_ref();
                ldap.map(|ldap| format!("{} {}", ldap.url, ldap.base))
                    .unwrap_or_default()
            }
            Source::Sds => {
                let Some(sds) = &self.settings.sds else {
                    return String::new();
                };
                let url = sds.url.as_ref().map(ToString::to_string);
                let bundles = sds.bundles.iter().map(|path| path.display().to_string());
                url.into_iter().chain(bundles).collect::<Vec<_>>().join(" ")
            }
        }
    }

    pub(super) fn interval(&self, source: Source) -> Duration {
        match source {
            Source::Ldap => self.settings.ldap.as_ref().map(|ldap| ldap.interval),
            Source::Sds => self.settings.sds.as_ref().map(|sds| sds.interval),
            Source::File => None,
        }
        .unwrap_or(self.settings.max_age)
    }

    pub(super) fn timeout(&self, source: Source) -> Duration {
        match source {
            Source::Ldap => self.settings.ldap.as_ref().map(|ldap| ldap.timeout),
            Source::Sds => self.settings.sds.as_ref().map(|sds| sds.timeout),
            Source::File => None,
        }
        .unwrap_or_default()
    }

    /// How long a snapshot counts. What never came as a whole since long counts no longer than a whole one would.
    pub(super) fn life(&self, source: Source, stamp: &Stamp) -> Life {
        let max_age = self.settings.max_age;
        let whole = match (source, &self.settings.ldap) {
            (Source::Ldap, Some(ldap)) => stamp.full + ldap.full_interval + max_age,
            _ => stamp.full + max_age,
        };
        Life {
            fetched: stamp.fetched,
            ends: (stamp.fetched + max_age).min(whole),
        }
    }

    /// Whether changes alone no longer do, since what is deleted is none of them.
    pub(super) fn is_whole_due(&self, stamp: &Stamp, now: SystemTime) -> bool {
        let Some(ldap) = &self.settings.ldap else {
            return true;
        };
        now.duration_since(stamp.full)
            .map_or(true, |age| age >= ldap.full_interval)
    }

    pub(super) async fn fetch(&self, source: Source, since: Option<&str>) -> Result<Fetched, String> {
        let needs = (self.settings.fqdns, self.settings.max_systems);
        match (source, &self.settings.ldap, &self.ldap, &self.settings.sds) {
            (Source::Ldap, Some(settings), Some(connector), _) => {
                let fetched = ldap::fetch(settings, connector, needs, since).await;
                fetched.map_err(|error| error.to_string())
            }
            (Source::Sds, _, _, Some(settings)) => {
                let fetched = sds::fetch(settings, self.sds.as_ref(), needs).await;
                fetched
                    .map(|records| Fetched::All { records, mark: None })
                    .map_err(|error| error.to_string())
            }
            _ => Err(format!("{source} is not fetched")),
        }
    }
}

/// Systems whose permissions are only tried.
fn in_shadow(listed: &Snapshot) -> Option<Problem> {
    let count = listed.systems.in_shadow();
    (count > 0).then(|| {
        let message = format!(
            "SHADOW: {count} of its systems are never refused for want of permission (R2 to R5), it is only recorded"
        );
        let mend = "take their mode = \"shadow\" out when the records say what they should";
        Problem::new("registry.file", message, mend)
    })
}
