//! What a reload would change: what is in force against what would be.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    control::{CertificateStatus, CrlStatus, SourceEntry, SystemEntry},
    run::is_fixed,
};

/// What is in force, or would be.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The keys that are not at their defaults, but for the allowlist, each with its value as TOML.
    pub settings: BTreeMap<String, String>,
    /// The allowlist.
    pub sources: Vec<SourceEntry>,
    /// The registry.
    pub systems: Vec<SystemEntry>,
    /// The gateway's certificate and the CAs of clients.
    pub certificates: Vec<CertificateStatus>,
    /// The CRLs.
    pub crls: Vec<CrlStatus>,
}

/// What differs between two of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Difference {
    /// Keys of the configuration, in their order.
    pub settings: Vec<Setting>,
    /// Entries of the allowlist, told apart by their addresses.
    pub sources: Changes<SourceEntry>,
    /// Systems, told apart by their ASIDs.
    pub systems: Changes<SystemEntry>,
    /// Certificates: another one is another fingerprint.
    pub certificates: Changes<CertificateStatus>,
    /// CRLs, told apart by issuer and scope.
    pub crls: Changes<CrlStatus>,
}

/// A key of the configuration with another value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// The dotted key.
    pub key: String,
    /// Its value in force; none: its default.
    pub old: Option<String>,
    /// Its value in the file; none: its default.
    pub new: Option<String>,
    /// Whether a reload refuses the change.
    pub needs_restart: bool,
}

/// What comes, goes and changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Changes<T> {
    /// Only in what would be.
    pub added: Vec<T>,
    /// Only in what is.
    pub removed: Vec<T>,
    /// In both, but not the same.
    pub changed: Vec<Change<T>>,
}

/// One that changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change<T> {
    /// As it is.
    pub old: T,
    /// As it would be.
    pub new: T,
}

impl Difference {
    /// From what is in force to what would be.
    #[must_use]
    pub fn between(old: State, new: State) -> Self {
        let uncounted = |source: SourceEntry| SourceEntry {
            passed: None,
            ..source
        };
        Self {
            settings: settings(&old.settings, &new.settings),
            sources: Changes::between(
                old.sources.into_iter().map(uncounted),
                new.sources.into_iter().map(uncounted),
                |source| source.cidr.to_string(),
                |old, new| old == new,
            ),
            systems: Changes::between(
                old.systems,
                new.systems,
                |system| system.asid.clone(),
                |old, new| old == new,
            ),
            certificates: Changes::between(
                old.certificates,
                new.certificates,
                |certificate| (certificate.what.clone(), certificate.sha256.clone()),
                |_, _| true,
            ),
            crls: Changes::between(
                old.crls,
                new.crls,
                |crl| (crl.issuer.clone(), crl.scope.clone()),
                // Its age differs in any case, and the file may be named in another way.
                |old, new| {
                    let says = |crl: &CrlStatus| {
                        let (this, next) = (crl.this_update.clone(), crl.next_update.clone());
                        (crl.number.clone(), this, next, crl.entries)
                    };
                    says(old) == says(new)
                },
            ),
        }
    }

    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.settings.is_empty()
            && self.sources.is_empty()
            && self.systems.is_empty()
            && self.certificates.is_empty()
            && self.crls.is_empty()
    }
}

fn settings(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Vec<Setting> {
    let gone = old.keys().filter(|key| !new.contains_key(*key));
    let mut keys: Vec<&String> = gone.chain(new.keys()).collect();
    keys.sort_unstable();
    keys.into_iter()
        .filter(|key| old.get(*key) != new.get(*key))
        .map(|key| Setting {
            old: old.get(key).cloned(),
            new: new.get(key).cloned(),
            needs_restart: is_fixed(key) || turns_off(key, old.get(key), new.get(key)),
            key: key.clone(),
        })
        .collect()
}

/// The filter is put on and taken off by a start alone.
fn turns_off(key: &str, old: Option<&String>, new: Option<&String>) -> bool {
    let is_off = |value: Option<&String>| value.is_some_and(|value| value == "\"off\"");
    key == "filter.mode" && is_off(old) != is_off(new)
}

impl<T> Changes<T> {
    fn between<K: Ord>(
        old: impl IntoIterator<Item = T>,
        new: impl IntoIterator<Item = T>,
        key: impl Fn(&T) -> K,
        same: impl Fn(&T, &T) -> bool,
    ) -> Self {
        let mut old: BTreeMap<K, T> = old.into_iter().map(|one| (key(&one), one)).collect();
        let mut changes = Self::default();
        for new in new {
            match old.remove(&key(&new)) {
                None => changes.added.push(new),
                Some(old) if same(&old, &new) => {}
                Some(old) => changes.changed.push(Change { old, new }),
            }
        }
        changes.removed = old.into_values().collect();
        changes
    }

    /// Whether nothing differs.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

impl<T> Default for Changes<T> {
    fn default() -> Self {
        Self {
            added: Vec::new(),
            removed: Vec::new(),
            changed: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::SourceKind,
        control::{Origin, Tally},
        registry,
    };

    fn source(cidr: &str, name: &str, packets: Option<u64>) -> SourceEntry {
        SourceEntry {
            cidr: cidr.parse().unwrap(),
            name: name.to_owned(),
            kind: SourceKind::System,
            services: Vec::new(),
            reply_ports: Vec::new(),
            expires: None,
            passed: packets.map(|packets| Tally { packets, bytes: 0 }),
            origin: Origin::Configuration,
        }
    }

    fn system(asid: &str, ods: &str) -> SystemEntry {
        SystemEntry {
            asid: asid.to_owned(),
            ods: ods.to_owned(),
            interactions: Vec::new(),
            fqdn: None,
            name: None,
            active: true,
            shadow: false,
            source: registry::Source::File,
        }
    }

    fn certificate(sha256: &str) -> CertificateStatus {
        CertificateStatus {
            what: "root".to_owned(),
            subject: "CN=Root".to_owned(),
            ends: "2030-01-01T00:00:00Z".to_owned(),
            days_left: 9,
            sha256: sha256.to_owned(),
        }
    }

    fn crl(number: &str, age_seconds: u64) -> CrlStatus {
        CrlStatus {
            issuer: "CN=Sub".to_owned(),
            scope: "all".to_owned(),
            number: Some(number.to_owned()),
            this_update: String::new(),
            age_seconds,
            next_update: None,
            state: "fresh".to_owned(),
            entries: 0,
            source: age_seconds.to_string(),
            kept: None,
        }
    }

    fn given(settings: &[(&str, &str)]) -> BTreeMap<String, String> {
        let settings = settings.iter();
        settings
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn what_only_counts_or_ages_is_no_difference() {
        let state = |packets, age| State {
            settings: given(&[("filter.mode", "\"enforce\"")]),
            sources: vec![source("10.0.0.0/8", "a", packets)],
            systems: vec![system("1", "RR8")],
            certificates: vec![certificate("aa")],
            crls: vec![crl("1", age)],
        };
        let difference = Difference::between(state(Some(7), 1), state(None, 2));
        assert!(difference.is_empty(), "{difference:?}");
    }

    #[test]
    fn each_kind_of_change_is_told() {
        let old = State {
            settings: given(&[("a", "1"), ("b", "2"), ("listen.addresses", "[]")]),
            sources: vec![
                source("10.0.0.0/8", "a", Some(1)),
                source("192.0.2.0/24", "b", None),
            ],
            systems: vec![system("1", "RR8"), system("2", "RR8")],
            certificates: vec![certificate("aa")],
            crls: vec![crl("1", 0)],
        };
        let new = State {
            settings: given(&[("a", "1"), ("c", "3"), ("listen.addresses", "[1]")]),
            sources: vec![source("10.0.0.0/8", "renamed", None), source("::/0", "c", None)],
            systems: vec![system("2", "RGD"), system("3", "RR8")],
            certificates: vec![certificate("bb")],
            crls: vec![crl("2", 0)],
        };
        let found = Difference::between(old, new);
        assert!(is_fixed("run.user") && !is_fixed("running") && !is_fixed("verdict.ttl"));
        let settings: Vec<_> = found
            .settings
            .iter()
            .map(|setting| {
                (
                    setting.key.as_str(),
                    setting.old.as_deref(),
                    setting.new.as_deref(),
                    setting.needs_restart,
                )
            })
            .collect();
        assert_eq!(
            settings,
            [
                ("b", Some("2"), None, false),
                ("c", None, Some("3"), false),
                ("listen.addresses", Some("[]"), Some("[1]"), true),
            ]
        );
        assert_eq!(found.sources.added[0].name, "c");
        assert_eq!(found.sources.removed[0].name, "b");
        assert_eq!(
            (
                found.sources.changed[0].old.name.as_str(),
                found.sources.changed[0].new.name.as_str()
            ),
            ("a", "renamed")
        );
        assert_eq!(
            (
                found.systems.added.len(),
                found.systems.removed.len(),
                found.systems.changed.len()
            ),
            (1, 1, 1)
        );
        assert_eq!(
            (
                found.certificates.added[0].sha256.as_str(),
                found.certificates.removed[0].sha256.as_str()
            ),
            ("bb", "aa")
        );
        assert_eq!(found.crls.changed.len(), 1);
    }
}
