//! The agent's configuration and registry in the lab.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::Result;
use toml::{Table, Value, toml};

use super::{Files, GATEWAY_ASID, PORT, System, UPSTREAM};
use crate::{
    netns::{Family, Host},
    pki::{Pki, SSP_FQDN, SYSTEM_FQDN},
};

/// The folder on bpffs with the pins of the lab of a name.
pub(super) fn pins(name: &str) -> PathBuf {
    PathBuf::from(format!("/sys/fs/bpf/spinegate-{name}"))
}

/// The agent's configuration: everything guarded as it would be in service, with verdicts short enough to watch them end.
#[must_use]
pub fn base_configuration(pki: &Pki, files: &Files, interface: &str, name: &str) -> Table {
    let mut table = toml! {
        [filter]
        mode = "enforce"
        scope = "services"
        [[filter.service]]
        protocol = "tcp"
        port = 443

        [tls.client]
        revocation = "require"

        [gateway]
        profile = "locator"

        [registry]

        [verdict]
        system_threshold = 5
        proxy_threshold = 50
        half_life = "1m"
        ttl = "4s"
        ttl_max = "1h"

        [control]
        [audit]
    };
    set(&mut table, "filter", "interfaces", vec![interface.to_owned()]);
    set(&mut table, "filter", "pin_dir", text(&pins(name)));
    set(&mut table, "filter", "sources_file", text(&files.sources()));
    let sources = [(Host::Ssp, "proxy"), (Host::System, "system")];
    let sources: Vec<Table> = sources
        .into_iter()
        .flat_map(|(host, kind)| allowed(host, kind))
        .collect();
    set(&mut table, "filter", "source", sources);

    let addresses = [Family::V4, Family::V6].map(|family| SocketAddr::new(Host::Edge.address(family), PORT));
    set(
        &mut table,
        "listen",
        "addresses",
        addresses.map(|address| address.to_string()).to_vec(),
    );

    set(&mut table, "tls", "certificate", text(&pki.server.cert));
    set(&mut table, "tls", "private_key", text(&pki.server.key));
    if let Some(Value::Table(tls)) = table.get_mut("tls") {
        set(tls, "client", "roots", vec![text(&pki.root)]);
        set(tls, "client", "issuers", vec![text(&pki.sub)]);
        set(
            tls,
            "client",
            "fqdns",
            vec![SSP_FQDN.to_owned(), SYSTEM_FQDN.to_owned()],
        );
        set(tls, "client", "crls", vec![text(&pki.crls)]);
    }

    set(&mut table, "gateway", "asid", GATEWAY_ASID.to_owned());
    set(&mut table, "gateway", "upstream", format!("http://{UPSTREAM}"));
    set(&mut table, "registry", "file", text(&files.registry()));
    set(&mut table, "control", "socket", text(&files.socket()));
    set(&mut table, "audit", "file", text(&files.audit()));
    table
}

/// A table within a table, which is made where it is missing.
///
/// # Panics
/// If something else is there under that name.
pub fn section<'t>(table: &'t mut Table, name: &str) -> &'t mut Table {
    match table.entry(name).or_insert_with(|| Table::new().into()) {
        Value::Table(section) => section,
        other => unreachable!("`{name}` is {other}"),
    }
}

/// A folder of the lab for what the agent keeps under that name: beside its audit log.
#[must_use]
pub fn folder_for(table: &Table, name: &str) -> String {
    let file = table.get("audit").and_then(|audit| audit.get("file"));
    let lab = file
        .and_then(Value::as_str)
        .and_then(|file| Path::new(file).parent());
    lab.map(|lab| lab.join(name).display().to_string())
        .unwrap_or_default()
}

/// The `[filter]` of a configuration.
///
/// # Panics
/// If the file holds something else under that name.
pub fn filter(table: &mut Table) -> &mut Table {
    section(table, "filter")
}

/// Where the agent of a suite that has opened them serves its metrics.
pub(super) const METRICS: &str = "127.0.0.1:9464";

/// Has the agent serve its metrics.
pub fn open_metrics(table: &mut Table) {
    set(table, "metrics", "listen", METRICS);
}

/// Guards one more service.
pub fn guard(filter: &mut Table, protocol: &str, port: u16) {
    let service = [
        ("protocol", Value::from(protocol)),
        ("port", i64::from(port).into()),
    ];
    append(filter, "service", service);
}

/// Puts one more proxy on the allowlist.
pub fn allow(filter: &mut Table, cidr: impl Into<String>, name: &str) {
    let source = [
        ("cidr", Value::from(cidr.into())),
        ("name", name.into()),
        ("kind", "proxy".into()),
    ];
    append(filter, "source", source);
}

/// Beyond the reach of any suite.
const OPEN: i64 = 1_000_000;

/// Takes away every limit that would end a long series of bad handshakes before its time: the filter's handshake budget, the
/// gate before TLS, and verdicts against the source.
pub fn open_limits(table: &mut Table) {
    let open = |keys: &[&str]| Table::from_iter(keys.iter().map(|key| ((*key).to_owned(), OPEN.into())));
    let budget = [
        "untrusted_per_second",
        "untrusted_burst",
        "trusted_per_second",
        "trusted_burst",
    ];
    set(table, "filter", "handshake", open(&budget));
    let gate = ["begin", "full", "per_source", "per_proxy"];
    set(table, "tls", "unauthenticated", open(&gate));
    open_verdicts(table);
}

/// No series of refusals, however long, ends in a verdict against its source.
pub fn open_verdicts(table: &mut Table) {
    for threshold in ["system_threshold", "proxy_threshold"] {
        set(table, "verdict", threshold, OPEN);
    }
}

fn append<const KEYS: usize>(filter: &mut Table, list: &str, keys: [(&str, Value); KEYS]) {
    let list = filter.entry(list).or_insert_with(|| Vec::<Table>::new().into());
    if let Value::Array(list) = list {
        let entry = keys.into_iter().map(|(key, value)| (key.to_owned(), value));
        list.push(Table::from_iter(entry).into());
    }
}

/// The registry file.
///
/// # Errors
/// The systems can't be written as TOML.
pub fn registry() -> Result<String> {
    let systems = System::ALL.map(|system| {
        let mut table = Table::new();
        let interactions: Vec<String> = system
            .interactions
            .iter()
            .map(|one| one.urn().to_owned())
            .collect();
        table.insert("asid".into(), system.asid.into());
        table.insert("ods".into(), system.ods.into());
        table.insert("name".into(), system.name.into());
        table.insert("interactions".into(), interactions.into());
        table.insert("active".into(), system.active.into());
        if let Some(fqdn) = system.fqdn {
            table.insert("fqdn".into(), fqdn.into());
        }
        table
    });
    let mut table = Table::new();
    table.insert("system".into(), systems.to_vec().into());
    Ok(toml::to_string(&table)?)
}

fn allowed(host: Host, kind: &str) -> [Table; 2] {
    [format!("{}/32", host.v4()), format!("{}/128", host.v6())].map(|cidr| {
        let mut table = Table::new();
        table.insert("cidr".into(), cidr.into());
        table.insert("name".into(), host.as_str().into());
        table.insert("kind".into(), kind.into());
        table
    })
}

fn set(table: &mut Table, name: &str, key: &str, value: impl Into<Value>) {
    section(table, name).insert(key.to_owned(), value.into());
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
