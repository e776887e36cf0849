//! OCSP (R11): responders are asked after the handshake and before the first request, and never for longer than the deadline.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use openssl::x509::X509;
use spinegate_tests::{
    client::{Client, Message, NHS_NUMBER},
    command::Run,
    lab::{Background, CONSUMER, Lab, open_verdicts},
    netns::{Host, enter},
    pki::{Authority, Identity, Leaf, SSP_FQDN},
    suite::Suite,
    wait::wait_until,
    web::Web,
};
use toml::{Table, Value as Setting};

const PATIENCE: Duration = Duration::from_secs(10);
/// Where the RootCA's responder listens, as the SubCA's certificate says, and the SubCA's.
const ROOT_PORT: &str = "2560";
const SUB_PORT: &str = "2561";
const SUB_URL: &str = "http://127.0.0.1:2561/";
/// Nobody listens there.
const DOWN_URL: &str = "http://127.0.0.1:2562/";

fn main() -> ExitCode {
    Suite {
        name: "ocsp",
        edit: |table| {
            set(table, "require");
            open_verdicts(table);
        },
        tests: spinegate_tests::tests![
            a_client_is_served_while_responders_say_that_it_is_good,
            a_revoked_client_is_refused_and_its_open_connection_closed,
            without_a_responder_prefer_serves_and_require_refuses,
            a_responder_that_says_nothing_holds_a_client_up_no_longer_than_the_deadline,
            a_forged_answer_and_one_of_another_ca_count_for_nothing,
        ],
    }
    .run()
}

fn set(table: &mut Table, mode: &str) {
    let mut ocsp = Table::new();
    ocsp.insert("mode".into(), mode.into());
    let hosts = [ROOT_PORT, SUB_PORT, "2562", "2563", "2564", "2565"].map(|port| format!("127.0.0.1:{port}"));
    ocsp.insert("hosts".into(), hosts.to_vec().into());
    ocsp.insert("deadline".into(), "1s".into());
    if let Some(client) = table
        .get_mut("tls")
        .and_then(|tls| tls.get_mut("client"))
        .and_then(Setting::as_table_mut)
    {
        client.insert("ocsp".into(), ocsp.into());
    }
}

fn a_client_is_served_while_responders_say_that_it_is_good(lab: &mut Lab) -> Result<()> {
    let good = own(lab, "ocsp_good", SUB_URL)?;
    let responders = Responders::start(lab, &[&good])?;
    let client = lab.client(Host::Ssp).with_identity(good);
    let status = client.send(&message())?.status();
    ensure!(status == Some(200), "{status:?}: {}", log(lab)?);
    // A certificate that the responder does not know is not a good one.
    let unknown = lab
        .client(Host::Ssp)
        .with_identity(own(lab, "ocsp_unknown", SUB_URL)?);
    refused(lab, &unknown, "ocsp_unavailable")?;
    responders.stop()?;
    // The answers still count.
    ensure!(
        client.send(&message())?.status() == Some(200),
        "an answer was forgotten"
    );
    Ok(())
}

fn a_revoked_client_is_refused_and_its_open_connection_closed(lab: &mut Lab) -> Result<()> {
    let identity = own(lab, "ocsp_revoked", SUB_URL)?;
    let responders = Responders::start(lab, &[&identity])?;
    let client = lab.client(Host::Ssp).with_identity(identity.clone());
    let mark = lab.audit().mark()?;
    let statuses = client.before_and_after(&message(), || {
        responders.list(lab, &[&identity])?;
        lab.agent().output(&["crl", "fetch"])?;
        let reason = lab.audit().refusal(mark, &client.address())?;
        ensure!(reason == "certificate_revoked", "refused for {reason}");
        Ok(())
    })?;
    ensure!(
        statuses == (200, None),
        "the connection is still open: {statuses:?}"
    );
    refused(lab, &client, "certificate_revoked")?;
    let fresh = own(lab, "ocsp_revoked_before", SUB_URL)?;
    responders.list(lab, &[&fresh])?;
    refused(
        lab,
        &lab.client(Host::Ssp).with_identity(fresh),
        "certificate_revoked",
    )?;
    responders.stop()
}

fn without_a_responder_prefer_serves_and_require_refuses(lab: &mut Lab) -> Result<()> {
    let client = lab
        .client(Host::Ssp)
        .with_identity(own(lab, "ocsp_down", DOWN_URL)?);
    refused(lab, &client, "ocsp_unavailable")?;
    // Of a host that is not listed nobody is asked.
    let elsewhere = own(lab, "ocsp_elsewhere", "http://127.0.0.1:9999/")?;
    refused(
        lab,
        &lab.client(Host::Ssp).with_identity(elsewhere),
        "ocsp_unavailable",
    )?;
    in_mode(lab, "prefer")?;
    let status = client.send(&message())?.status();
    ensure!(status == Some(200), "{status:?}");
    in_mode(lab, "require")?;
    refused(lab, &client, "ocsp_unavailable")
}

fn a_responder_that_says_nothing_holds_a_client_up_no_longer_than_the_deadline(lab: &mut Lab) -> Result<()> {
    // The kernel takes connections, and nobody reads from them.
    let _silent = enter(&lab.network().namespace(Host::Edge), || {
        Ok(TcpListener::bind("127.0.0.1:2563".parse::<SocketAddr>()?)?)
    })?;
    let url = "http://127.0.0.1:2563/";
    let limit = Duration::from_secs(4);
    let begin = Instant::now();
    let client = lab.client(Host::Ssp).with_identity(own(lab, "ocsp_silent", url)?);
    refused(lab, &client, "ocsp_unavailable")?;
    let waited = begin.elapsed();
    ensure!(waited > Duration::from_secs(1) && waited < limit, "{waited:?}");
    in_mode(lab, "prefer")?;
    let client = lab
        .client(Host::Ssp)
        .with_identity(own(lab, "ocsp_silent_too", url)?);
    let begin = Instant::now();
    let status = client.send(&message())?.status();
    let waited = begin.elapsed();
    ensure!(
        status == Some(200) && waited < limit,
        "{status:?} after {waited:?}"
    );
    in_mode(lab, "require")
}

fn a_forged_answer_and_one_of_another_ca_count_for_nothing(lab: &mut Lab) -> Result<()> {
    let forger = Web::open(
        &lab.network().namespace(Host::Edge),
        "127.0.0.1:2564".parse::<SocketAddr>()?,
    )?;
    forger.publish("/", "no answer");
    let forged = own(lab, "ocsp_forged", "http://127.0.0.1:2564/")?;
    refused(
        lab,
        &lab.client(Host::Ssp).with_identity(forged),
        "ocsp_unavailable",
    )?;
    ensure!(forger.asked() == ["POST / HTTP/1.1"], "{:?}", forger.asked());
    let log = log(lab)?;
    ensure!(
        log.contains("counts for nothing"),
        "the forged answer is not logged: {log}"
    );

    // A sound answer that the wrong CA has signed.
    let identity = own(lab, "ocsp_other_ca", "http://127.0.0.1:2565/")?;
    let pki = lab.pki();
    let (index, signer) = (files(lab, "other")?, &pki.root_authority);
    write_index(&index.0, &[&identity], &[])?;
    let responder = start_responder(lab, "2565", &index, &pki.sub_authority, signer)?;
    refused(
        lab,
        &lab.client(Host::Ssp).with_identity(identity),
        "ocsp_unavailable",
    )?;
    responder.kill()
}

/// `openssl ocsp` as the responders of both CAs, in the edge's namespace.
struct Responders {
    processes: Vec<Background>,
    index: PathBuf,
}

impl Responders {
    /// Begins to answer: the SubCA, and these of its leaves, are good.
    fn start(lab: &Lab, good: &[&Identity]) -> Result<Self> {
        let pki = lab.pki();
        let (root, sub) = (files(lab, "root")?, files(lab, "sub")?);
        let authentication = Identity {
            cert: pki.sub.clone(),
            key: pki.sub.clone(),
        };
        write_index(&root.0, &[&authentication], &[])?;
        write_index(&sub.0, good, &[])?;
        let processes = vec![
            start_responder(lab, ROOT_PORT, &root, &pki.root_authority, &pki.root_authority)?,
            start_responder(lab, SUB_PORT, &sub, &pki.sub_authority, &pki.sub_authority)?,
        ];
        Ok(Self {
            processes,
            index: sub.0,
        })
    }

    /// Lists these leaves alone from now on, as revoked.
    fn list(&self, lab: &Lab, revoked: &[&Identity]) -> Result<()> {
        write_index(&self.index, &[], revoked)?;
        // It looks for a changed index before it waits for a connection, so that one question is still answered from the old.
        lab.agent().output(&["crl", "fetch"]).map(drop)
    }

    fn stop(self) -> Result<()> {
        self.processes.into_iter().try_for_each(Background::kill)
    }
}

/// The index, the CA's certificate, the signer's and its key.
type ResponderFiles = (PathBuf, PathBuf, PathBuf, PathBuf);

fn files(lab: &Lab, name: &str) -> Result<ResponderFiles> {
    let folder = lab.files().pki().join(format!("ocsp_{name}"));
    fs::create_dir_all(&folder)?;
    let file = |name| folder.join(name);
    Ok((
        file("index.txt"),
        file("ca.pem"),
        file("signer.pem"),
        file("signer.key"),
    ))
}

fn start_responder(
    lab: &Lab,
    port: &str,
    (index, ca, signer, key): &ResponderFiles,
    authority: &Authority,
    signing: &Authority,
) -> Result<Background> {
    fs::write(ca, authority.pem()?)?;
    fs::write(signer, signing.pem()?)?;
    fs::write(key, signing.key_pem()?)?;
    let namespace = lab.network().namespace(Host::Edge);
    let run = Run::inside(&namespace, "openssl")
        .args(["ocsp", "-port", port, "-ndays", "1", "-ignore_err"])
        .arg("-index")
        .arg(index)
        .arg("-CA")
        .arg(ca)
        .arg("-rsigner")
        .arg(signer)
        .arg("-rkey")
        .arg(key);
    let name = format!("ocsp-{port}");
    let mut process = Background::start(&name, &run, lab.files())?;
    // A connection to try it would be the only one that it ever looks at.
    wait_until("the responder to listen", PATIENCE, || {
        process.must_run()?;
        Ok(fs::read_to_string(lab.files().log(&name))?.contains("waiting for OCSP client connections"))
    })?;
    Ok(process)
}

/// Writes a database as `openssl ca` keeps one (ca(1)), in one step.
fn write_index(path: &PathBuf, good: &[&Identity], revoked: &[&Identity]) -> Result<()> {
    let mut lines = String::new();
    let marked = good.iter().map(|identity| ('V', "", identity));
    let marked = marked.chain(revoked.iter().map(|identity| ('R', "240101000000Z", identity)));
    for (mark, since, identity) in marked {
        let certificate = X509::from_pem(&fs::read(&identity.cert)?)?;
        let serial = certificate.serial_number().to_bn()?.to_hex_str()?.to_string();
        lines += &format!("{mark}\t330101000000Z\t{since}\t{serial}\tunknown\t/CN=lab\n");
    }
    let draft = path.with_extension("draft");
    fs::write(&draft, lines)?;
    Ok(fs::rename(&draft, path)?)
}

fn in_mode(lab: &Lab, mode: &str) -> Result<()> {
    lab.reconfigure(|table| set(table, mode))
}

/// The client finishes its handshake or not, but it gets no answer, for this reason.
fn refused(lab: &Lab, client: &Client<'_>, wanted: &str) -> Result<()> {
    let mark = lab.audit().mark()?;
    let outcome = client.send(&message())?;
    ensure!(
        outcome.status().is_none(),
        "must be refused ({wanted}), but: {outcome}"
    );
    let reason = lab.audit().refusal(mark, &client.address())?;
    ensure!(reason == wanted, "refused for {reason}, not for {wanted}");
    Ok(())
}

/// What the agent has printed.
fn log(lab: &Lab) -> Result<String> {
    fs::read_to_string(lab.files().log("agent")).context("the agent's log")
}

fn own(lab: &Lab, name: &str, responder: &str) -> Result<Identity> {
    lab.pki()
        .client(name, &Leaf::client(SSP_FQDN).with_ocsp_at(responder))
}

fn message() -> Message {
    Message::search(NHS_NUMBER).from(&CONSUMER)
}
