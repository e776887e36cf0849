//! A real LDAP server.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use spinegate_tests::{
    json::at,
    lab::{Interaction, Lab},
    netns::Host,
    pki::{Authority, SSP_FQDN},
    slapd::{ADMIN, Access, PASSWORD, Slapd, dn},
    wait::wait_until,
};

use super::{
    LDAP, NEWCOMER, PARTY, address, asids, authority, begin, fails, has_access, key, open, search,
    server_identity, source, text, with_ldap,
};

const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn systems_of_an_ldap_server_have_access_until_they_are_deleted(lab: &mut Lab) -> Result<()> {
    ensure!(!has_access(lab)?, "it has access before anybody knows it");
    // More than fit into two pages.
    let server = begin(lab, 12)?;
    let status = source(lab, "ldap")?;
    ensure!(
        *at(&status, "/systems") == 12 && *at(&status, "/state") == "fresh",
        "{status}"
    );
    // On the same connection.
    let (before, after) = lab.client(Host::Ssp).before_and_after(&search(), || {
        server.delete(&asids(1))?;
        lab.agent().order(&["registry", "sync", "ldap"]).map(drop)
    })?;
    ensure!((before, after) == (200, Some(400)), "{before} {after:?}");
    // A party with two FQDNs is nobody's, and neither are its systems.
    server.add_systems(&asids(1), NEWCOMER.ods, PARTY, &[Interaction::Search.urn()])?;
    lab.agent().order(&["registry", "sync"])?;
    ensure!(has_access(lab)?, "it is back, and has no access");
    server.change(&format!(
        "dn: {}\nchangetype: modify\nadd: nhsMhsFQDN\nnhsMhsFQDN: other.lab.nhs.uk\n",
        dn(&format!("mhs-{PARTY}"))
    ))?;
    ensure!(fails(lab, "ldap")?.contains("has several FQDNs"));
    server.stop()
}

pub(crate) fn changes_are_fetched_by_their_time_and_deletions_with_the_whole(lab: &mut Lab) -> Result<()> {
    let server = begin(lab, 12)?;
    let gone = asids(12).pop().context("no systems")?;
    // The server tells times to the second.
    std::thread::sleep(Duration::from_millis(1100));
    server.change(&format!(
        "dn: {}\nchangetype: modify\nreplace: nhsAsSvcIA\nnhsAsSvcIA: {}\n",
        dn(NEWCOMER.asid),
        Interaction::Read.urn()
    ))?;
    server.delete(std::slice::from_ref(&gone))?;
    // A start asks for what has changed since the last fetch.
    lab.stop_agent()?;
    lab.start_agent()?;
    let shown = |asid: &str| lab.agent().json(&["registry", "show", asid]);
    wait_until("the change to be in force", PATIENCE, || {
        let shown = shown(NEWCOMER.asid)?;
        Ok(*at(&shown, "/0/system/interactions/0") == Interaction::Read.urn())
    })?;
    let answer = lab.client(Host::Ssp).answer(&search())?;
    ensure!(answer.status != 200, "{answer}");
    shown(&gone)?;
    lab.agent().order(&["registry", "sync"])?;
    let shown = lab.agent().output(&["registry", "show", &gone])?;
    ensure!(
        shown.code == Some(1),
        "what is deleted is known after a whole fetch: {}",
        shown.said()
    );
    server.stop()
}

pub(crate) fn what_was_fetched_is_in_force_after_a_restart_without_the_server_until_it_is_too_old(
    lab: &mut Lab,
) -> Result<()> {
    begin(lab, 3)?.stop()?;
    lab.stop_agent()?;
    lab.start_agent()?;
    ensure!(has_access(lab)?, "what was kept does not count");
    let said = fails(lab, "ldap")?;
    ensure!(said.contains("Connection refused"), "{said}");
    ensure!(has_access(lab)?, "a failed fetch took the systems away");
    let status = source(lab, "ldap")?;
    ensure!(
        at(&status, "/last_error").is_string() && *at(&status, "/state") == "fresh",
        "{status}"
    );
    with_ldap(lab, |registry, _| {
        drop(registry.insert("max_age".into(), "1s".into()))
    })?;
    wait_until("the snapshot to be too old", PATIENCE, || Ok(!has_access(lab)?))?;
    let status = source(lab, "ldap")?;
    ensure!(*at(&status, "/state") == "overdue", "{status}");
    // What the file lists does not age.
    let listed = source(lab, "file")?;
    ensure!(*at(&listed, "/state") == "listed", "{listed}");
    Ok(())
}

pub(crate) fn a_server_that_wants_to_know_who_asks_is_told(lab: &mut Lab) -> Result<()> {
    begin(lab, 3)?.stop()?;
    let identity = server_identity(lab, &authority(lab)?)?;
    let roots = lab.pki().root.clone();
    let server = Slapd::start(lab, address(LDAP)?, &identity, Access::Closed(&roots))?;
    fails(lab, "ldap")?;
    let client = lab.pki().leaf("good")?.clone();
    let certified = |bound: bool| {
        let password = lab.files().folder().join("password");
        std::fs::write(&password, format!("{PASSWORD}\n"))?;
        with_ldap(lab, |_, ldap| {
            ldap.insert("certificate".into(), text(&client.cert).into());
            ldap.insert("private_key".into(), text(&client.key).into());
            if bound {
                ldap.insert("bind_dn".into(), ADMIN.into());
                ldap.insert("password_file".into(), text(&password).into());
            }
        })
    };
    certified(false)?;
    let said = fails(lab, "ldap")?;
    ensure!(said.contains("refuses the"), "{said}");
    certified(true)?;
    lab.agent().order(&["registry", "sync", "ldap"])?;
    ensure!(has_access(lab)?);
    server.stop()
}

pub(crate) fn a_renewed_certificate_is_accepted_and_that_of_another_ca_is_not(lab: &mut Lab) -> Result<()> {
    begin(lab, 3)?.stop()?;
    let renewed = server_identity(lab, &authority(lab)?)?;
    let server = Slapd::start(lab, address(LDAP)?, &renewed, Access::Open)?;
    lab.agent().order(&["registry", "sync", "ldap"])?;
    server.stop()?;
    let other = Authority::root("Lab Other Authority", key(lab, "other_directory_ca")?)?;
    let foreign = server_identity(lab, &other)?;
    let server = Slapd::start(lab, address(LDAP)?, &foreign, Access::Open)?;
    let said = fails(lab, "ldap")?;
    ensure!(
        said.contains("certificate of sds.lab.nhs.uk is refused"),
        "{said}"
    );
    ensure!(
        has_access(lab)?,
        "a source that can't be trusted took access away"
    );
    server.stop()?;
    // Another party's name is none that this system's client has.
    let server = open(lab)?;
    server.add_party(PARTY, "elsewhere.lab.nhs.uk")?;
    server.add_systems(&asids(1), NEWCOMER.ods, PARTY, &[Interaction::Search.urn()])?;
    with_ldap(lab, |_, _| {})?;
    lab.agent().order(&["registry", "sync", "ldap"])?;
    let answer = lab.client(Host::Ssp).answer(&search())?;
    ensure!(answer.status != 200, "{SSP_FQDN} passes for elsewhere: {answer}");
    with_ldap(lab, |registry, _| {
        drop(registry.insert("fqdn".into(), "ignore".into()))
    })?;
    lab.agent().order(&["registry", "sync", "ldap"])?;
    ensure!(has_access(lab)?, "FQDNs are ignored, and it has no access");
    server.stop()
}
