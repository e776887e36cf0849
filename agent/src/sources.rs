//! The allowlist: the configuration's sources and those that operators added, which are kept in a file of their own.

use std::{
    collections::HashSet,
    fs, io,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{
    config::{Service, ServiceProtocol, Source, SourceKind},
    replace::replace,
};

/// The allowlist with the origin of its entries.
#[derive(Clone, Debug)]
pub struct Sources {
    configured: Vec<Source>,
    added: Vec<Source>,
    file: PathBuf,
}

/// Why the allowlist can't be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum SourcesError {
    /// The file can't be read or written.
    #[error("{file}: {error}; `filter.sources_file` names the place")]
    File {
        /// The file.
        file: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The file holds something else.
    #[error("{file} is not a list of sources ({error}): mend it, or remove it to begin with none")]
    Content {
        /// The file.
        file: PathBuf,
        /// What serde said.
        error: serde_json::Error,
    },
    /// It is there already.
    #[error("{cidr} is on the allowlist already, as {name:?}; remove it first")]
    Present {
        /// The prefix.
        cidr: IpNet,
        /// Its name.
        name: String,
    },
    /// It is the configuration's.
    #[error("{cidr} ({name:?}) is in the configuration file: remove it there, then run `spinegate reload`")]
    Configured {
        /// The prefix.
        cidr: IpNet,
        /// Its name.
        name: String,
    },
    /// It is not there.
    #[error("{cidr} is not on the allowlist; `spinegate sources list` shows what is")]
    Absent {
        /// The prefix.
        cidr: IpNet,
    },
}

impl Sources {
    /// Joins the configuration's sources with those of the file; a file that does not exist holds none.
    ///
    /// # Errors
    /// If the file can't be read or is not a list of sources: nothing is guessed.
    pub fn load(configured: Vec<Source>, file: &Path) -> Result<Self, SourcesError> {
        let added = match fs::read(file) {
            Ok(content) => {
                let entries: Vec<Entry> =
                    serde_json::from_slice(&content).map_err(|error| SourcesError::Content {
                        file: file.to_owned(),
                        error,
                    })?;
                entries.into_iter().map(Source::from).collect()
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                return Err(SourcesError::File {
                    file: file.to_owned(),
                    error,
                });
            }
        };
        Ok(Self {
            configured,
            added,
            file: file.to_owned(),
        })
    }

    /// All entries, the configuration's first.
    #[must_use]
    pub fn all(&self) -> Vec<Source> {
        self.configured.iter().chain(&self.added).cloned().collect()
    }

    /// All entries, each with whether an operator added it.
    pub fn with_origin(&self) -> impl Iterator<Item = (&Source, bool)> {
        self.configured
            .iter()
            .map(|source| (source, false))
            .chain(self.added.iter().map(|source| (source, true)))
    }

    /// The allowlist with one more entry.
    ///
    /// # Errors
    /// If the prefix is listed already.
    pub fn with(&self, source: Source) -> Result<Self, SourcesError> {
        if let Some((present, _)) = self
            .with_origin()
            .find(|(present, _)| present.cidr == source.cidr)
        {
            return Err(SourcesError::Present {
                cidr: present.cidr,
                name: present.name.clone(),
            });
        }
        let mut changed = self.clone();
        changed.added.push(source);
        Ok(changed)
    }

    /// The allowlist without an entry that an operator added.
    ///
    /// # Errors
    /// If it is not listed, or is the configuration's.
    pub fn without(&self, cidr: IpNet) -> Result<Self, SourcesError> {
        if let Some(source) = self.configured.iter().find(|source| source.cidr == cidr) {
            return Err(SourcesError::Configured {
                cidr,
                name: source.name.clone(),
            });
        }
        let mut changed = self.clone();
        changed.added.retain(|source| source.cidr != cidr);
        if changed.added.len() == self.added.len() {
            return Err(SourcesError::Absent { cidr });
        }
        Ok(changed)
    }

    /// The allowlist without the added entries whose time is over; none if there is nothing to take out.
    #[must_use]
    pub fn without_ended(&self, now: SystemTime) -> Option<Self> {
        let ended = |source: &Source| !source.is_in_force(now);
        if !self.added.iter().any(ended) {
            return None;
        }
        let mut changed = self.clone();
        changed.added.retain(|source| !ended(source));
        Some(changed)
    }

    /// The configuration's entries of this allowlist with the operators' entries of another one of the same file.
    #[must_use]
    pub fn with_added_of(&self, other: &Self) -> Self {
        if self.file != other.file {
            return self.clone();
        }
        let configured: HashSet<IpNet> = self.configured.iter().map(|source| source.cidr).collect();
        Self {
            added: other
                .added
                .iter()
                .filter(|source| !configured.contains(&source.cidr))
                .cloned()
                .collect(),
            ..self.clone()
        }
    }

    /// Writes the operators' entries to the file, whole or not at all.
    ///
    /// # Errors
    /// If the system refuses; the old file is then still there.
    pub fn save(&self) -> Result<(), SourcesError> {
        let file_error = |error| SourcesError::File {
            file: self.file.clone(),
            error,
        };
        let folder = self.file.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(file_error)?;
        let entries: Vec<Entry> = self.added.iter().map(Entry::from).collect();
        let content = serde_json::to_vec_pretty(&entries).map_err(|error| SourcesError::Content {
            file: self.file.clone(),
            error,
        })?;
        let draft = self.file.with_extension("new");
        let write = |file: &mut fs::File| {
            // Who writes it and who serves the network may be two users. Whom else it concerns its folder's mode says.
            file.set_permissions(fs::Permissions::from_mode(0o644))?;
            file.write_all(&content)
        };
        replace(&self.file, &draft, write).map_err(file_error)
    }
}

/// A source as the file holds it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    cidr: IpNet,
    name: String,
    proxy: bool,
    services: Vec<EntryService>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    reply_ports: Vec<u16>,
    /// RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "moment")]
    expires: Option<SystemTime>,
}

/// A moment as a text, to the nanosecond, so that it comes back as it was.
mod moment {
    use std::time::SystemTime;

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        moment: &Option<SystemTime>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match moment {
            Some(moment) => serializer.collect_str(&humantime::format_rfc3339_nanos(*moment)),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<SystemTime>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| humantime::parse_rfc3339(&text).map_err(serde::de::Error::custom))
            .transpose()
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryService {
    udp: bool,
    port: u16,
}

impl From<&Source> for Entry {
    fn from(source: &Source) -> Self {
        let services = source.services.iter().map(|service| EntryService {
            udp: service.protocol == ServiceProtocol::Udp,
            port: service.port,
        });
        Self {
            cidr: source.cidr,
            name: source.name.clone(),
            proxy: source.kind == SourceKind::Proxy,
            services: services.collect(),
            reply_ports: source.reply_ports.clone(),
            expires: source.expires,
        }
    }
}

impl From<Entry> for Source {
    fn from(entry: Entry) -> Self {
        let services = entry.services.into_iter().map(|service| Service {
            protocol: if service.udp {
                ServiceProtocol::Udp
            } else {
                ServiceProtocol::Tcp
            },
            port: service.port,
        });
        Self {
            cidr: entry.cidr,
            name: entry.name,
            kind: if entry.proxy {
                SourceKind::Proxy
            } else {
                SourceKind::System
            },
            services: services.collect(),
            reply_ports: entry.reply_ports,
            expires: entry.expires,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(cidr: &str) -> Source {
        let services = vec![Service {
            protocol: ServiceProtocol::Tcp,
            port: 443,
        }];
        Source {
            cidr: cidr.parse().expect("a CIDR"),
            name: cidr.to_owned(),
            kind: SourceKind::Proxy,
            services,
            reply_ports: vec![53],
            expires: Some(
                SystemTime::UNIX_EPOCH + std::time::Duration::from_nanos(1_900_000_000_123_456_789),
            ),
        }
    }

    #[test]
    fn added_sources_outlive_the_agent_and_configured_ones_are_the_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("state/sources.json");
        let empty = Sources::load(vec![source("192.0.2.0/24")], &file).expect("no file is no entry");
        let added = empty.with(source("2001:db8::/64")).expect("added");
        added.save().expect("saved");
        let mode = fs::metadata(&file).expect("saved").permissions().mode();
        assert_eq!(mode & 0o777, 0o644, "another user serves the network");
        let again = Sources::load(vec![source("192.0.2.0/24")], &file).expect("read again");
        assert_eq!(again.all(), [source("192.0.2.0/24"), source("2001:db8::/64")]);
        let cidr = |text: &str| text.parse().expect("a CIDR");
        assert!(matches!(
            again.with(source("192.0.2.0/24")),
            Err(SourcesError::Present { .. })
        ));
        assert!(matches!(
            again.without(cidr("192.0.2.0/24")),
            Err(SourcesError::Configured { .. })
        ));
        assert!(matches!(
            again.without(cidr("192.0.3.0/24")),
            Err(SourcesError::Absent { .. })
        ));
        assert_eq!(
            again.without(cidr("2001:db8::/64")).expect("removed").all(),
            [source("192.0.2.0/24")]
        );
    }

    #[test]
    fn what_operators_added_is_kept_when_the_configuration_goes_back() {
        let file = Path::new("sources.json");
        let list = |configured: &[&str], added: &[&str]| Sources {
            configured: configured.iter().map(|cidr| source(cidr)).collect(),
            added: added.iter().map(|cidr| source(cidr)).collect(),
            file: file.to_owned(),
        };
        let (before, now) = (
            list(&["192.0.2.0/24"], &["198.51.100.0/24"]),
            list(&["203.0.113.0/24"], &["192.0.2.0/24", "2001:db8::/64"]),
        );
        let back = before.with_added_of(&now);
        assert_eq!(
            back.all(),
            [source("192.0.2.0/24"), source("2001:db8::/64")],
            "no prefix stands twice"
        );
        let elsewhere = Sources {
            file: "other.json".into(),
            ..now
        };
        assert_eq!(before.with_added_of(&elsewhere).all(), before.all());
    }

    #[test]
    fn a_file_that_is_no_list_is_an_error_and_not_an_empty_allowlist() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("sources.json");
        for content in [
            "",
            "{}",
            "[{\"cidr\":\"192.0.2.0/24\"}]",
            "[{\"cidr\":\"x\",\"name\":\"\",\"proxy\":true,\"services\":[]}]",
        ] {
            fs::write(&file, content).expect("written");
            assert!(
                matches!(
                    Sources::load(Vec::new(), &file),
                    Err(SourcesError::Content { .. })
                ),
                "{content}"
            );
        }
    }
}
