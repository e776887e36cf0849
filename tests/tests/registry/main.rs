//! The registry's fetched sources, on a real LDAP server and a stand-in for the SDS FHIR API: who is known has access, who is
//! deleted has none from the next request on, and no source that fails, lies or stalls changes that.

mod faults;
mod ldap;
mod operator;
mod sds;

use std::{fs, net::SocketAddr, path::Path, process::ExitCode};

use anyhow::{Context, Result, ensure};
use openssl::ssl::{SslAcceptor, SslFiletype, SslMethod};
use serde_json::Value;
use spinegate_tests::{
    client::{Message, NHS_NUMBER},
    json::at,
    lab::{CONSUMER, Interaction, Lab, System, open_metrics, open_verdicts, section},
    netns::Host,
    pki::{Authority, Identity, KeyCache, Leaf, SSP_FQDN},
    slapd::{Access, Slapd},
    suite::Suite,
};
use toml::Table;

use faults::{
    a_changed_schema_takes_nobodys_access, a_server_that_lies_stalls_or_floods_changes_nothing,
    losses_wait_for_the_operators_word,
};
use ldap::{
    a_renewed_certificate_is_accepted_and_that_of_another_ca_is_not,
    a_server_that_wants_to_know_who_asks_is_told,
    changes_are_fetched_by_their_time_and_deletions_with_the_whole,
    systems_of_an_ldap_server_have_access_until_they_are_deleted,
    what_was_fetched_is_in_force_after_a_restart_without_the_server_until_it_is_too_old,
};
use operator::{files_are_compared_checked_and_imported, precedence_decides_and_is_shown};
use sds::{
    bundles_in_a_folder_are_a_source_of_their_own, devices_of_the_api_have_access_and_pages_lead_nowhere_else,
};

/// Where the sources are, in the edge's namespace.
const LDAP: &str = "127.0.0.1:636";
const API: &str = "127.0.0.1:8443";
/// The name in their certificates.
const NAME: &str = "sds.lab.nhs.uk";
const PARTY: &str = "RR8-1";

/// A system that the registry's file does not list.
const NEWCOMER: System = System {
    asid: "200000000301",
    ods: "RR8",
    fqdn: None,
    ..CONSUMER
};

fn main() -> ExitCode {
    Suite {
        name: "registry",
        edit,
        tests: spinegate_tests::tests![
            systems_of_an_ldap_server_have_access_until_they_are_deleted,
            changes_are_fetched_by_their_time_and_deletions_with_the_whole,
            what_was_fetched_is_in_force_after_a_restart_without_the_server_until_it_is_too_old,
            a_server_that_wants_to_know_who_asks_is_told,
            a_renewed_certificate_is_accepted_and_that_of_another_ca_is_not,
            losses_wait_for_the_operators_word,
            a_changed_schema_takes_nobodys_access,
            a_server_that_lies_stalls_or_floods_changes_nothing,
            devices_of_the_api_have_access_and_pages_lead_nowhere_else,
            bundles_in_a_folder_are_a_source_of_their_own,
            precedence_decides_and_is_shown,
            files_are_compared_checked_and_imported,
        ],
    }
    .run()
}

fn edit(table: &mut Table) {
    open_metrics(table);
    open_verdicts(table);
}

/// So many ASIDs, the newcomer's first.
fn asids(count: u64) -> Vec<String> {
    (0..count)
        .map(|index| (200_000_000_301 + index).to_string())
        .collect()
}

/// A server with systems of which the newcomer is one, and an agent that has fetched them.
fn begin(lab: &Lab, count: u64) -> Result<Slapd> {
    let server = open(lab)?;
    server.add_party(PARTY, SSP_FQDN)?;
    server.add_systems(&asids(count), NEWCOMER.ods, PARTY, &[Interaction::Search.urn()])?;
    with_ldap(lab, |_, _| {})?;
    lab.agent().order(&["registry", "sync", "ldap"])?;
    Ok(server)
}

/// A server without systems, and an agent that knows nothing of one before.
fn open(lab: &Lab) -> Result<Slapd> {
    forget(lab)?;
    let _ = fs::remove_dir_all(lab.files().folder().join("slapd"));
    Slapd::start(
        lab,
        address(LDAP)?,
        &server_identity(lab, &authority(lab)?)?,
        Access::Open,
    )
}

/// Takes the registry back to its file, and what is kept of other sources away.
fn forget(lab: &Lab) -> Result<()> {
    configure(lab, |registry| {
        registry.retain(|key, _| key == "file");
    })?;
    let _ = fs::remove_dir_all(state(lab));
    Ok(())
}

fn state(lab: &Lab) -> std::path::PathBuf {
    lab.files().folder().join("registry")
}

/// Has the agent fetch from the LDAP server, with changes to `[registry]` and `[registry.ldap]`.
fn with_ldap(lab: &Lab, edit: impl FnOnce(&mut Table, &mut Table)) -> Result<()> {
    let ca = authority_file(lab)?;
    let state = text(&state(lab));
    configure(lab, |registry| {
        registry.retain(|key, _| key == "file");
        let mut ldap = Table::new();
        ldap.insert("url".into(), format!("ldaps://{LDAP}").into());
        ldap.insert("ca".into(), ca.into());
        ldap.insert("server_name".into(), NAME.into());
        ldap.insert("page_size".into(), 5.into());
        ldap.insert("timeout".into(), "5s".into());
        registry.insert("state_dir".into(), state.into());
        edit(registry, &mut ldap);
        registry.insert("ldap".into(), ldap.into());
    })
}

/// Changes `[registry]`, and puts that in force.
fn configure(lab: &Lab, edit: impl FnOnce(&mut Table)) -> Result<()> {
    lab.reconfigure(|table| edit(section(table, "registry")))
}

/// The CA of the sources' certificates.
fn authority(lab: &Lab) -> Result<Authority> {
    let authority = Authority::root("Lab Directory Authority", key(lab, "directory_ca")?)?;
    fs::write(authority_file(lab)?, authority.pem()?)?;
    Ok(authority)
}

fn authority_file(lab: &Lab) -> Result<String> {
    Ok(text(&lab.files().pki().join("directory_ca.pem")))
}

fn server_identity(lab: &Lab, authority: &Authority) -> Result<Identity> {
    let folder = lab.files().pki();
    let key = key(lab, "directory")?;
    let identity = Identity {
        cert: folder.join("directory.pem"),
        key: folder.join("directory.key"),
    };
    fs::write(&identity.cert, authority.issue(&Leaf::server(NAME), &key)?)?;
    Ok(identity)
}

fn acceptor(lab: &Lab) -> Result<SslAcceptor> {
    let identity = server_identity(lab, &authority(lab)?)?;
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    acceptor.set_certificate_chain_file(&identity.cert)?;
    acceptor.set_private_key_file(&identity.key, SslFiletype::PEM)?;
    Ok(acceptor.build())
}

fn key(lab: &Lab, name: &str) -> Result<openssl::pkey::PKey<openssl::pkey::Private>> {
    KeyCache::in_folder(lab.files().pki()).get(name)
}

fn search() -> Message {
    Message::search(NHS_NUMBER).from(&NEWCOMER)
}

/// Whether the newcomer has access.
fn has_access(lab: &Lab) -> Result<bool> {
    let answer = lab.client(Host::Ssp).answer(&search())?;
    match answer.status {
        200 => Ok(true),
        400 => {
            ensure!(answer.diagnostics().contains("is unknown"), "{answer}");
            Ok(false)
        }
        _ => anyhow::bail!("{answer}"),
    }
}

/// What `status` says of a source.
fn source(lab: &Lab, name: &str) -> Result<Value> {
    let status = lab.agent().json(&["status"])?;
    let sources = at(&status, "/registry").as_array().context("no sources")?;
    let found = sources.iter().find(|source| *at(source, "/source") == name);
    found.cloned().with_context(|| format!("no {name} in {status}"))
}

/// Has a source fetched, which must fail, and says why.
fn fails(lab: &Lab, source: &str) -> Result<String> {
    let fetched = lab.agent().output(&["registry", "sync", source])?;
    ensure!(fetched.code == Some(1), "{}", fetched.said());
    Ok(fetched.said())
}

fn address(text: &str) -> Result<SocketAddr> {
    Ok(text.parse()?)
}

fn edge(lab: &Lab) -> String {
    lab.network().namespace(Host::Edge)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
