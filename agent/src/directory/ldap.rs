//! The Spine Directory Service over LDAP: `nhsAs` entries have systems, `nhsMhs` entries have the FQDNs of their parties.

mod ldif;
mod wire;

use std::{fs, path::Path, time::Duration};

use tokio::net::TcpStream;

use super::records::{Records, SystemRecord};
use crate::{
    config::{Fqdns, Ldap, SecureUrl},
    tls::{ConnectError, Connector, TlsStream},
};

pub(super) use ldif::read as read_ldif;
pub(super) use wire::Entry;
use wire::{Bounds, Connection, Search, WireError};

/// Attributes by their names in lower case, as [`Entry::values`] wants them.
const SYSTEM: &[&str] = &[
    "uniqueidentifier",
    "nhsidcode",
    "nhsasclient",
    "nhsassvcia",
    "nhsmhspartykey",
    "modifytimestamp",
];
const PARTY: &[&str] = &["nhsmhspartykey", "nhsmhsfqdn", "modifytimestamp"];
/// A password is a line.
const LONGEST_PASSWORD: u64 = 4096;

/// Why nothing was fetched.
#[derive(Debug, thiserror::Error)]
pub(super) enum LdapError {
    #[error("{url}: {fault}")]
    Connection { url: SecureUrl, fault: String },
    #[error("{url}: {error}")]
    Wire { url: SecureUrl, error: WireError },
    #[error("{0}")]
    Password(String),
}

/// What a fetch brought.
pub(super) enum Fetched {
    /// Everything there is.
    All { records: Records, mark: Option<String> },
    /// The systems that changed; what they were before holds no more.
    Changes {
        systems: Vec<Entry>,
        mark: Option<String>,
    },
}

/// Fetches everything, or what changed since a mark. Changed FQDNs touch systems that have not changed themselves, so
/// everything is fetched then too.
pub(super) async fn fetch(
    settings: &Ldap,
    connector: &Connector,
    (fqdns, max_systems): (Fqdns, usize),
    since: Option<&str>,
) -> Result<Fetched, LdapError> {
    let url = &settings.url;
    let wire = |error| LdapError::Wire {
        url: url.clone(),
        error,
    };
    let password = match &settings.password_file {
        Some(file) => secret(file).map_err(LdapError::Password)?,
        None => String::new(),
    };
    let stream = connect(url, connector, settings.timeout)
        .await
        .map_err(|fault| LdapError::Connection {
            url: url.clone(),
            fault,
        })?;
    let bounds = Bounds {
        message_bytes: settings.max_entry_bytes,
        all_bytes: settings.max_bytes,
        entries: max_systems,
        page: settings.page_size,
    };
    let mut connection = Connection::new(stream, bounds);
    let dn = settings.bind_dn.as_deref().unwrap_or_default();
    connection.bind(dn, password.as_bytes()).await.map_err(wire)?;
    let search = |class, attributes, since| Search {
        base: &settings.base,
        class,
        since,
        attributes,
    };
    if let Some(since) = since {
        let mut mark = Mark::since(since);
        let mut parties = 0;
        if fqdns == Fqdns::Require {
            let changed = |entry: Entry| {
                // The search finds what the mark itself stands for, too.
                if mark.is_news(&entry) {
                    parties += 1;
                }
            };
            let searching = connection.search(search("nhsMhs", PARTY, Some(since)), changed);
            searching.await.map_err(wire)?;
        }
        if parties == 0 {
            let mut systems = Vec::new();
            let changed = |entry: Entry| {
                mark.note(&entry);
                systems.push(entry);
            };
            let searching = connection.search(search("nhsAs", SYSTEM, Some(since)), changed);
            searching.await.map_err(wire)?;
            connection.unbind().await;
            return Ok(Fetched::Changes {
                systems,
                mark: mark.0,
            });
        }
    }
    let mut records = Records::default();
    let mut mark = Mark::default();
    let mut take = |entry: Entry| {
        mark.note(&entry);
        take(&mut records, &entry);
    };
    let searching = connection.search(search("nhsAs", SYSTEM, None), &mut take);
    searching.await.map_err(wire)?;
    if fqdns == Fqdns::Require {
        let searching = connection.search(search("nhsMhs", PARTY, None), &mut take);
        searching.await.map_err(wire)?;
    }
    connection.unbind().await;
    Ok(Fetched::All {
        records,
        mark: mark.0,
    })
}

/// Takes an entry of either kind.
pub(super) fn take(records: &mut Records, entry: &Entry) {
    if !entry.values("uniqueidentifier").is_empty() && !entry.values("nhsassvcia").is_empty() {
        with_record(entry, |record| match record {
            Ok(record) => records.take_system(&record),
            Err(fault) => records.set_aside(fault),
        });
        return;
    }
    match (entry.values("nhsmhspartykey"), entry.values("nhsmhsfqdn")) {
        ([party], fqdns @ [_, ..]) => {
            for fqdn in fqdns {
                records.take_fqdn(party, fqdn);
            }
        }
        _ => records.set_aside(format!(
            "{}: it is neither a system nor a party with an FQDN",
            entry.dn
        )),
    }
}

/// Takes a system that changed in place of what was known of it.
pub(super) fn take_changed(records: &mut Records, entry: &Entry) {
    with_record(entry, |record| match record {
        Ok(record) => records.replace_system(&record),
        Err(fault) => {
            for asid in entry.values("uniqueidentifier") {
                records.remove_system(asid);
            }
            records.set_aside(fault);
        }
    });
}

fn with_record(entry: &Entry, then: impl FnOnce(Result<SystemRecord<'_>, String>)) {
    let of = |fault: &str| Err(format!("{}: {fault}", entry.dn));
    let ([asid], [ods]) = (entry.values("uniqueidentifier"), entry.values("nhsidcode")) else {
        return then(of("it has not one uniqueIdentifier and one nhsIDCode"));
    };
    let clients = entry.values("nhsasclient");
    if !clients.is_empty() && !clients.iter().any(|client| client.eq_ignore_ascii_case(ods)) {
        return then(of("its nhsAsClient does not name its nhsIDCode"));
    }
    let party = match entry.values("nhsmhspartykey") {
        [] => None,
        [party] => Some(party.as_str()),
        _ => return then(of("it has several party keys")),
    };
    then(Ok(SystemRecord {
        asid,
        ods,
        party,
        interactions: entry.values("nhsassvcia"),
    }));
}

/// The latest change that was seen: generalized times of one form compare as texts.
#[derive(Default)]
struct Mark(Option<String>);

impl Mark {
    fn since(mark: &str) -> Self {
        Self(Some(mark.to_owned()))
    }

    fn is_news(&self, entry: &Entry) -> bool {
        let times = entry.values("modifytimestamp");
        times.is_empty() || times.iter().any(|time| Some(time) > self.0.as_ref())
    }

    fn note(&mut self, entry: &Entry) {
        for time in entry.values("modifytimestamp") {
            // Of another form it could be later than all that come.
            let sound =
                time.len() == 15 && time.ends_with('Z') && time.bytes().take(14).all(|b| b.is_ascii_digit());
            if sound && Some(time) > self.0.as_ref() {
                self.0 = Some(time.clone());
            }
        }
    }
}

/// Connects to a server, TLS included.
pub(super) async fn connect(
    url: &SecureUrl,
    connector: &Connector,
    limit: Duration,
) -> Result<TlsStream, String> {
    let connecting = async {
        let stream = TcpStream::connect((url.host(), url.port()))
            .await
            .map_err(|error| format!("no connection: {error}"))?;
        connector
            .connect(url.host(), stream)
            .await
            .map_err(|error: ConnectError| error.to_string())
    };
    let in_time = tokio::time::timeout(limit, connecting).await;
    in_time.unwrap_or_else(|_| Err("no connection in time".to_owned()))
}

/// The first line of a file that holds nothing but a secret.
pub(super) fn secret(file: &Path) -> Result<String, String> {
    let shown = file.display();
    let length = fs::metadata(file)
        .map_err(|error| format!("{shown}: {error}"))?
        .len();
    if length > LONGEST_PASSWORD {
        return Err(format!("{shown} is no secret: it has {length} bytes"));
    }
    let text = fs::read_to_string(file).map_err(|error| format!("{shown}: {error}"))?;
    let secret = text.lines().next().unwrap_or_default();
    if secret.is_empty() {
        return Err(format!("{shown} is empty"));
    }
    Ok(secret.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(attributes: &[(&str, &[&str])]) -> Entry {
        let owned = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
        Entry {
            dn: "cn=x".to_owned(),
            attributes: attributes
                .iter()
                .map(|(name, values)| ((*name).to_owned(), owned(values)))
                .collect(),
        }
    }

    #[test]
    fn a_system_of_another_organisation_than_its_clients_is_set_aside() {
        let of = |client: &str| {
            let mut records = Records::default();
            let entry = entry(&[
                ("uniqueidentifier", &["200000000001"]),
                ("nhsidcode", &["RR8"]),
                ("nhsasclient", &[client]),
                ("nhsassvcia", &["urn:a"]),
            ]);
            take(&mut records, &entry);
            records.pack(Fqdns::Ignore).0.len()
        };
        assert_eq!((of("rr8"), of("RGD")), (1, 0));
    }

    #[test]
    fn a_changed_system_that_is_no_longer_sound_is_gone() {
        let mut records = Records::default();
        let sound = entry(&[
            ("uniqueidentifier", &["200000000001"]),
            ("nhsidcode", &["RR8"]),
            ("nhsassvcia", &["urn:a"]),
        ]);
        take_changed(&mut records, &sound);
        assert_eq!(records.pack(Fqdns::Ignore).0.len(), 1);
        let unsound = entry(&[
            ("uniqueidentifier", &["200000000001"]),
            ("nhsassvcia", &["urn:a"]),
        ]);
        take_changed(&mut records, &unsound);
        let (systems, aside) = records.pack(Fqdns::Ignore);
        assert_eq!((systems.len(), aside.count), (0, 1));
    }

    #[test]
    fn the_mark_is_the_latest_time_of_the_usual_form() {
        let mut mark = Mark::default();
        for time in [
            "20260101000000Z",
            "20260301000000Z",
            "99999999999999+0100",
            "20260201000000Z",
            "zzz",
        ] {
            mark.note(&entry(&[("modifytimestamp", &[time])]));
        }
        assert_eq!(mark.0.as_deref(), Some("20260301000000Z"));
        assert!(!mark.is_news(&entry(&[("modifytimestamp", &["20260301000000Z"])])));
        assert!(mark.is_news(&entry(&[("modifytimestamp", &["20260301000001Z"])])));
    }
}
