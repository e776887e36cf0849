//! What the operator sees and says.

use std::fs;

use anyhow::{Result, ensure};
use spinegate_tests::{
    json::at,
    lab::{CONSUMER, Interaction, Lab},
    netns::Host,
    pki::SSP_FQDN,
};

use super::{PARTY, begin, text, with_ldap};

pub(crate) fn precedence_decides_and_is_shown(lab: &mut Lab) -> Result<()> {
    let server = begin(lab, 3)?;
    // The file knows this ASID as another organisation's.
    server.add_systems(
        &[CONSUMER.asid.to_owned()],
        "ZZZ99",
        PARTY,
        &[Interaction::Search.urn()],
    )?;
    lab.agent().order(&["registry", "sync"])?;
    let deciding = || -> Result<(String, String)> {
        let shown = lab.agent().json(&["registry", "show", CONSUMER.asid])?;
        ensure!(
            at(&shown, "/1/decides") == false && at(&shown, "/1/counts") == true,
            "{shown}"
        );
        ensure!(at(&shown, "/0/decides") == true, "{shown}");
        let listed = lab.agent().json(&["registry", "list"])?;
        let entries = listed.as_array().cloned().unwrap_or_default();
        let of: Vec<_> = entries
            .iter()
            .filter(|entry| *at(entry, "/asid") == CONSUMER.asid)
            .collect();
        ensure!(of == [at(&shown, "/0/system")], "{listed}");
        let word = |path: &str| at(&shown, path).as_str().unwrap_or_default().to_owned();
        Ok((word("/0/system/source"), word("/0/system/ods")))
    };
    ensure!(deciding()? == ("file".to_owned(), CONSUMER.ods.to_owned()));
    with_ldap(lab, |registry, _| {
        registry.insert(
            "precedence".into(),
            vec!["ldap".to_owned(), "file".to_owned()].into(),
        );
    })?;
    ensure!(deciding()? == ("ldap".to_owned(), "ZZZ99".to_owned()));
    let metrics = lab.metrics()?;
    for line in [
        "spinegate_registry_systems{source=\"ldap\"} 4",
        "spinegate_registry_held{source=\"ldap\"} 0",
        "spinegate_registry_fetched_timestamp_seconds{source=\"ldap\"} ",
    ] {
        ensure!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    let status = lab.agent().order(&["status"])?;
    ensure!(
        status.contains("REGISTRY") && status.contains("ldaps://"),
        "{status}"
    );
    server.stop()
}

pub(crate) fn files_are_compared_checked_and_imported(lab: &mut Lab) -> Result<()> {
    super::forget(lab)?;
    let folder = lab.files().folder();
    let listed = fs::read_to_string(lab.files().registry())?;
    let changed = folder.join("changed.toml");
    fs::write(
        &changed,
        format!("{listed}\n[[system]]\nasid = \"200000000301\"\nods = \"RR8\"\ninteractions = []\n"),
    )?;
    let difference = lab.agent().json(&["registry", "diff", &text(&changed)])?;
    ensure!(
        *at(&difference, "/added/0/asid") == "200000000301" && at(&difference, "/removed/0").is_null(),
        "{difference}"
    );
    let same = lab
        .agent()
        .order(&["registry", "diff", &text(&lab.files().registry())])?;
    ensure!(same == "0 added, 0 removed, 0 changed\n", "{same}");

    let ldif = folder.join("sds.ldif");
    fs::write(
        &ldif,
        format!(
            "dn: uniqueIdentifier=200000000301,ou=Services,o=nhs\nuniqueIdentifier: 200000000301\nnhsIDCode: RR8\n\
             nhsMHSPartyKey: {PARTY}\nnhsAsSvcIA: {}\n\ndn: uniqueIdentifier=x,ou=Services,o=nhs\n\
             nhsMHSPartyKey: {PARTY}\nnhsMhsFQDN: {SSP_FQDN}\n",
            Interaction::Search.urn()
        ),
    )?;
    let imported = lab.agent().order(&["registry", "import", &text(&ldif)])?;
    ensure!(
        imported.contains("asid = \"200000000301\"") && imported.contains(SSP_FQDN),
        "{imported}"
    );
    let checked = lab.agent().output(&["registry", "check", &text(&ldif)])?;
    ensure!(checked.code == Some(0), "{}", checked.said());
    // What was imported is a registry.
    fs::write(&changed, imported)?;
    let config = lab.files().config();
    let checked = lab.at_edge(&config, &["registry", "check", &text(&changed)])?;
    ensure!(
        checked.code == Some(0) && checked.said().contains("1 systems"),
        "{}",
        checked.said()
    );
    fs::write(&changed, "[[system]]\nasid = 1\n")?;
    let checked = lab.at_edge(&config, &["registry", "check", &text(&changed), "--json"])?;
    ensure!(
        checked.code == Some(2) && checked.said().contains("changed.toml:2: "),
        "{}",
        checked.said()
    );
    let shown = lab.agent().output(&["registry", "show", "12"])?;
    ensure!(
        shown.code == Some(2) && shown.said().contains("twelve digits"),
        "{}",
        shown.said()
    );
    let synced = lab.agent().output(&["registry", "sync"])?;
    ensure!(
        synced.code == Some(1) && synced.said().contains("no source"),
        "{}",
        synced.said()
    );
    ensure!(lab.client(Host::Ssp).answer(&super::search())?.status == 400);
    Ok(())
}
