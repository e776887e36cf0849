//! CRLs that the agent fetches itself (R11): from the distribution points of certificates, in the background, never back.

use std::{fs, net::SocketAddr, process::ExitCode, time::Duration};

use anyhow::{Context, Result, ensure};
use openssl::x509::X509;
use serde_json::Value;
use spinegate_tests::{
    client::{Client, Message, NHS_NUMBER, Offer},
    expect::{cut_off, handshake_refused},
    json::at,
    lab::{CONSUMER, Lab, folder_for, open_verdicts},
    netns::Host,
    pki::{Identity, Leaf, ROOT_CRL, SSP_FQDN, Validity},
    suite::Suite,
    wait::{wait_for, wait_until},
    web::Web,
};
use toml::{Table, Value as Setting};

const PATIENCE: Duration = Duration::from_secs(10);
/// Where the lab's CA publishes, in the edge's namespace.
const SERVER: &str = "127.0.0.1:8088";
const SUB_CRL: &str = "http://127.0.0.1:8088/sub.crl";

fn main() -> ExitCode {
    Suite {
        name: "fetch",
        edit,
        tests: spinegate_tests::tests![
            an_agent_without_crls_refuses_all_until_it_has_fetched_them,
            a_fetched_revocation_is_in_force_and_an_old_crl_does_not_take_it_back,
            what_was_fetched_is_in_force_after_a_restart_without_the_server,
            nothing_is_fetched_from_a_host_that_is_not_listed,
        ],
    }
    .run()
}

/// No CRL is given; all are fetched into a folder of the lab.
fn edit(table: &mut Table) {
    let folder = folder_for(table, "fetched");
    let mut fetch = Table::new();
    fetch.insert("hosts".into(), vec![SERVER.to_owned()].into());
    fetch.insert("folder".into(), folder.into());
    fetch.insert("timeout".into(), "2s".into());
    if let Some(client) = table
        .get_mut("tls")
        .and_then(|tls| tls.get_mut("client"))
        .and_then(Setting::as_table_mut)
    {
        client.remove("crls");
        client.insert("fetch".into(), fetch.into());
    }
    open_verdicts(table);
}

fn an_agent_without_crls_refuses_all_until_it_has_fetched_them(lab: &mut Lab) -> Result<()> {
    let client = lab.client(Host::Ssp).with_identity(identity(lab)?);
    handshake_refused(lab, &client, Offer::RIGHT, "crl_missing")?;
    let warned = lab.agent().order(&["status"])?;
    ensure!(warned.contains("until it is fetched"), "{warned}");
    // The refused client's certificate says where its CRL is.
    let named = wait_for("the client's CRL to be wanted", PATIENCE, || {
        Ok(fetch_of(lab, SUB_CRL)?.filter(|fetch| *at(fetch, "/failures") != 0))
    })?;
    ensure!(*at(&named, "/origin") == "client", "{named}");

    let web = serve(lab)?;
    publish(lab, &web, &[])?;
    let said = lab.agent().order(&["crl", "fetch"])?;
    ensure!(said.contains(SUB_CRL) && said.contains(ROOT_CRL), "{said}");
    wait_until("the client to be accepted", PATIENCE, || is_accepted(&client))?;
    ensure!(
        web.asked().iter().all(|line| line.starts_with("GET /")),
        "{:?}",
        web.asked()
    );
    let root = fetch_of(lab, ROOT_CRL)?.context("the issuer's distribution point")?;
    ensure!(
        *at(&root, "/origin") == "issuer" && at(&root, "/last_success").is_string(),
        "{root}"
    );
    Ok(())
}

fn a_fetched_revocation_is_in_force_and_an_old_crl_does_not_take_it_back(lab: &mut Lab) -> Result<()> {
    let identity = identity(lab)?;
    let certificate = X509::from_pem(&fs::read(&identity.cert)?)?;
    let client = lab.client(Host::Ssp).with_identity(identity);
    let web = begin(lab, &client)?;
    let old = lab.pki().sub_authority.crl(&[], Validity::days(-1, 30))?;

    cut_off(lab, &client, "certificate_revoked", || {
        publish(lab, &web, &[&certificate])?;
        lab.agent().order(&["crl", "fetch"]).map(drop)
    })?;

    web.publish("/sub.crl", old);
    let fetched = lab.agent().output(&["crl", "fetch"])?;
    ensure!(
        fetched.code != Some(0) && fetched.said().contains("older than the one that is kept"),
        "{}",
        fetched.said()
    );
    handshake_refused(lab, &client, Offer::RIGHT, "certificate_revoked")?;
    publish(lab, &web, &[])?;
    lab.agent().order(&["crl", "fetch"])?;
    wait_until("the newer CRL", PATIENCE, || is_accepted(&client))
}

fn what_was_fetched_is_in_force_after_a_restart_without_the_server(lab: &mut Lab) -> Result<()> {
    let identity = identity(lab)?;
    let web = begin(lab, &lab.client(Host::Ssp).with_identity(identity.clone()))?;
    drop(web);
    lab.stop_agent()?;
    lab.start_agent()?;
    let client = lab.client(Host::Ssp).with_identity(identity);
    ensure!(is_accepted(&client)?, "what is in the folder does not count");
    let fetched = lab.agent().output(&["crl", "fetch"])?;
    ensure!(fetched.code != Some(0), "{}", fetched.said());
    ensure!(is_accepted(&client)?, "a failed fetch took the CRLs away");
    let known = fetch_of(lab, SUB_CRL)?.context("the client's distribution point is forgotten")?;
    ensure!(at(&known, "/last_error").is_string(), "{known}");
    Ok(())
}

fn nothing_is_fetched_from_a_host_that_is_not_listed(lab: &mut Lab) -> Result<()> {
    let elsewhere = "127.0.0.1:8089".parse::<SocketAddr>()?;
    let other = Web::open(&lab.network().namespace(Host::Edge), elsewhere)?;
    let leaf = Leaf::client(SSP_FQDN).with_crl_at("http://127.0.0.1:8089/sub.crl");
    let client = lab
        .client(Host::Ssp)
        .with_identity(lab.pki().client("elsewhere", &leaf)?);
    let web = begin(lab, &client)?;
    lab.agent().order(&["crl", "fetch"])?;
    ensure!(other.asked().is_empty(), "{:?}", other.asked());
    ensure!(!web.asked().is_empty(), "nothing was fetched at all");
    Ok(())
}

/// Publishes CRLs that revoke nobody, and has them fetched.
fn begin(lab: &Lab, client: &Client<'_>) -> Result<Web> {
    let web = serve(lab)?;
    publish(lab, &web, &[])?;
    // Its certificate is seen whether or not it is accepted.
    client.handshake(Offer::RIGHT)?;
    // A client of the distribution point, in case no test before has made it known.
    let another = lab
        .pki()
        .client("another", &Leaf::client(SSP_FQDN).with_crl_at(SUB_CRL))?;
    lab.client(Host::Ssp)
        .with_identity(another)
        .handshake(Offer::RIGHT)?;
    wait_until("the client's CRL to be wanted", PATIENCE, || {
        Ok(fetch_of(lab, SUB_CRL)?.is_some())
    })?;
    lab.agent().order(&["crl", "fetch"])?;
    wait_until("the client to be accepted", PATIENCE, || is_accepted(client))?;
    Ok(web)
}

fn serve(lab: &Lab) -> Result<Web> {
    Web::open(&lab.network().namespace(Host::Edge), SERVER.parse()?)
}

fn publish(lab: &Lab, web: &Web, revoked: &[&X509]) -> Result<()> {
    let pki = lab.pki();
    let revoked: Vec<_> = revoked.iter().map(|certificate| &***certificate).collect();
    web.publish("/root.crl", pki.root_authority.crl(&[], Validity::days(-1, 30))?);
    web.publish(
        "/sub.crl",
        pki.sub_authority.crl(&revoked, Validity::days(-1, 30))?,
    );
    Ok(())
}

/// A client's certificate with the distribution point.
fn identity(lab: &Lab) -> Result<Identity> {
    lab.pki()
        .client("with_point", &Leaf::client(SSP_FQDN).with_crl_at(SUB_CRL))
}

/// What `crl status` says of the fetching of a URL.
fn fetch_of(lab: &Lab, url: &str) -> Result<Option<Value>> {
    let status = lab.agent().json(&["crl", "status"])?;
    let fetches = at(&status, "/fetches").as_array().context("no fetches")?;
    Ok(fetches.iter().find(|fetch| *at(fetch, "/url") == url).cloned())
}

fn message() -> Message {
    Message::search(NHS_NUMBER).from(&CONSUMER)
}

fn is_accepted(client: &Client<'_>) -> Result<bool> {
    Ok(client.send(&message())?.status() == Some(200))
}
