//! Clients that are slow on purpose: the four modes of slowhttptest, through a TLS client that has the proxy's certificate.
//! Each is cut off with its reason, holds little, and takes nothing from others.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpStream,
    path::Path,
    process::ExitCode,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use spinegate_tests::{
    client::{Dialer, Message, NHS_NUMBER},
    command::Run,
    json::at,
    lab::{Background, CONSUMER, Lab, PROVIDER, UPSTREAM, open_limits},
    netns::{self, Family, Host},
    pki::EDGE_FQDN,
    rogue::{Rogue, Step, say},
    soak::{descriptors, resident},
    suite::Suite,
    tools,
    wait::{wait_for, wait_until},
};
use toml::Value;

const CONNECTIONS: usize = 20;
/// Where the TLS client takes what slowhttptest sends.
const PLAIN: &str = "127.0.0.1:8070";
const PATIENCE: Duration = Duration::from_secs(20);
/// Under way at the gateway at once, all of it: heads, buffers of TLS and of HTTP.
const MOST_KIB: u64 = 24 * 1024;

fn main() -> ExitCode {
    Suite {
        name: "slow",
        edit: |table| {
            open_limits(table);
            if let Some(Value::Table(tls)) = table.get_mut("tls") {
                tls.insert("handshake_timeout".to_owned(), "20s".into());
            }
            if let Some(Value::Table(gateway)) = table.get_mut("gateway") {
                for (key, value) in [
                    ("header_timeout", "2s"),
                    ("body_idle_timeout", "1500ms"),
                    ("body_timeout", "3s"),
                    ("idle_timeout", "3s"),
                    ("answer_timeout", "2s"),
                ] {
                    gateway.insert(key.to_owned(), value.into());
                }
            }
        },
        tests: spinegate_tests::tests![
            slow_heads_are_cut_off_and_others_are_served,
            slow_bodies_are_cut_off_and_others_are_served,
            ranges_are_nothing_to_the_gateway_and_others_are_served,
            slow_readers_are_cut_off_and_others_are_served,
        ],
    }
    .run()
}

fn slow_heads_are_cut_off_and_others_are_served(lab: &mut Lab) -> Result<()> {
    let read = Message::read("slow").from(&CONSUMER);
    attack(
        lab,
        "slow_heads_are_cut_off_and_others_are_served",
        &["-H", "-i", "1", "-x", "10"],
        &read,
        &["head_too_slow"],
    )
}

fn slow_bodies_are_cut_off_and_others_are_served(lab: &mut Lab) -> Result<()> {
    let create = Message::create(&serde_json::Value::Null).from(&PROVIDER);
    attack(
        lab,
        "slow_bodies_are_cut_off_and_others_are_served",
        &[
            "-B",
            "-i",
            "2",
            "-x",
            "10",
            "-s",
            "8000",
            "-f",
            "application/fhir+json",
        ],
        &create,
        &["body_idle", "body_timeout"],
    )
}

/// A head of a few kilobytes, and a method that no resource has.
fn ranges_are_nothing_to_the_gateway_and_others_are_served(lab: &mut Lab) -> Result<()> {
    let read = Message::read("slow").from(&CONSUMER);
    attack(
        lab,
        "ranges_are_nothing_to_the_gateway_and_others_are_served",
        &["-R", "-a", "1", "-b", "900"],
        &read,
        &["method_unknown"],
    )
}

/// The answer is too large for what lies between.
fn slow_readers_are_cut_off_and_others_are_served(lab: &mut Lab) -> Result<()> {
    const LARGE: usize = 4 << 20;
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Type: application/fhir+json\r\nContent-Length: {LARGE}\r\n\r\n");
    lab.kill_locator()?;
    let _upstream = Rogue::open(
        &lab.network().namespace(Host::Edge),
        UPSTREAM.parse()?,
        vec![Step::Read, say(head + &"x".repeat(LARGE)), Step::Again],
    )?;
    let read = Message::read("slow").from(&CONSUMER);
    attack(
        lab,
        "slow_readers_are_cut_off_and_others_are_served",
        &["-X", "-n", "1", "-z", "32", "-w", "512", "-y", "1024"],
        &read,
        &["answer_stalled"],
    )
}

/// Runs slowhttptest in a mode with the fields of a sound request. Each of its connections has to end for one of the reasons.
fn attack(lab: &Lab, test: &str, mode: &[&str], message: &Message, reasons: &[&str]) -> Result<()> {
    let programs = (
        tools::peer("slowhttptest/usr/bin/slowhttptest"),
        tools::peer("stunnel4/usr/bin/stunnel4"),
    );
    let (program, stunnel) = match programs {
        (Ok(program), Ok(stunnel)) => (program, stunnel),
        (Err(missing), _) | (_, Err(missing)) => {
            println!("SKIPPED {test}: {missing}");
            return Ok(());
        }
    };
    let client = tls_client(lab, &stunnel)?;
    let id = lab.agent_process()?.id();
    let before = (resident(id)?, descriptors(id)?);
    let mark = lab.audit().mark()?;
    let (done, most) = (AtomicBool::new(false), AtomicU64::new(0));
    let others = lab.client(Host::System).dialer()?;
    let served = thread::scope(|scope| -> Result<_> {
        let others = scope.spawn(|| serve_others(&others, &done));
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                most.fetch_max(resident(id).unwrap_or(u64::MAX), Ordering::Relaxed);
                thread::sleep(Duration::from_millis(20));
            }
        });
        let attacked = Run::inside(&lab.network().namespace(Host::Ssp), &program)
            .args(["-c", &CONNECTIONS.to_string(), "-r", "10"])
            .args(["-l", "15", "-p", "3", "-v", "1", "-u"])
            .arg(format!("http://{PLAIN}{}", message.target()))
            .args(mode)
            .args(fields(message, mode))
            .within(PATIENCE * 2)
            .output();
        let ended = attacked.and_then(|attacked| {
            ensure!(!attacked.timed_out, "slowhttptest goes on: {}", attacked.said());
            wait_for("every connection to be cut off", PATIENCE, || {
                let found = found(lab, mark)?;
                let cut: usize = reasons.iter().filter_map(|reason| found.get(*reason)).sum();
                // One or two may have been given up by slowhttptest itself.
                Ok((cut + 2 >= CONNECTIONS).then_some(found))
            })
            .with_context(|| format!("{:?} after\n{}", found(lab, mark), attacked.said()))
        });
        done.store(true, Ordering::Relaxed);
        let served = others.join().map_err(|_| anyhow!("a client panicked"))??;
        Ok((served, ended?))
    });
    client.stop(PATIENCE).or_else(|error| {
        // It dies of the signal, as its manual says.
        if error.to_string().contains("signal") {
            Ok(())
        } else {
            Err(error)
        }
    })?;
    let ((served, longest), found) = served?;
    let most = most.load(Ordering::Relaxed).saturating_sub(before.0);
    println!("    {found:?}; {served} others served, the slowest in {longest:?}; {most} KiB more at most");
    ensure!(served >= 5, "only {served} others were served");
    ensure!(longest < Duration::from_secs(5), "one waited {longest:?}");
    ensure!(most < MOST_KIB, "{most} KiB more were resident");
    wait_until("the descriptors to be as many as before", PATIENCE, || {
        Ok(descriptors(id)? <= before.1 + 4)
    })
}

/// What turns plain connections into TLS of the proxy's.
fn tls_client(lab: &Lab, stunnel: &Path) -> Result<Background> {
    let (namespace, good) = (lab.network().namespace(Host::Ssp), lab.pki().leaf("good")?);
    let config = lab.files().folder().join("stunnel.conf");
    fs::write(
        &config,
        format!(
            "foreground = quiet\npid =\nsyslog = no\ndebug = err\n[gateway]\nclient = yes\naccept = {PLAIN}\nconnect = {}\n\
             cert = {}\nkey = {}\nCAfile = {}\nverifyChain = yes\ncheckHost = {EDGE_FQDN}\n\
             socket = l:SO_SNDBUF=8192\nsocket = r:SO_RCVBUF=8192\n\
             sslVersionMin = TLSv1.2\nsslVersionMax = TLSv1.2\nciphers = DHE-RSA-AES256-SHA256\n",
            lab.gateway(Family::V4),
            good.cert.display(),
            good.key.display(),
            lab.pki().server_ca.display(),
        ),
    )?;
    let run = Run::inside(&namespace, stunnel).arg(&config);
    let mut process = Background::start("stunnel", &run, lab.files())?;
    wait_for("stunnel to accept connections", PATIENCE, || {
        process.must_run()?;
        netns::enter(&namespace, || Ok(TcpStream::connect(PLAIN).ok()))
    })
    .with_context(|| process.tail())?;
    Ok(process)
}

/// Searches from elsewhere, each on a new connection. Gives how many were served, and how long the slowest took.
fn serve_others(dialer: &Dialer, done: &AtomicBool) -> Result<(usize, Duration)> {
    let (mut served, mut longest) = (0, Duration::ZERO);
    while !done.load(Ordering::Relaxed) {
        let begin = Instant::now();
        let reply = dialer.line()?.ask(&Message::search(NHS_NUMBER).from(&CONSUMER))?;
        ensure!(reply.status == 200, "{reply:?}");
        (served, longest) = (served + 1, longest.max(begin.elapsed()));
        thread::sleep(Duration::from_millis(50));
    }
    Ok((served, longest))
}

/// The proxy's connections and requests after a mark, by the reason for which they were refused or cut off.
fn found(lab: &Lab, mark: usize) -> Result<BTreeMap<String, usize>> {
    let proxy = lab.client(Host::Ssp).address();
    let mut found = BTreeMap::new();
    for entry in lab.audit().since(mark)? {
        if *at(&entry, "/peer/ip") == proxy
            && let Some(reason) = at(&entry, "/reason").as_str()
        {
            *found.entry(reason.to_owned()).or_default() += 1;
        }
    }
    Ok(found)
}

/// The fields of a request in the value of one that slowhttptest takes: it has no other way to send any.
fn fields(message: &Message, mode: &[&str]) -> [String; 2] {
    let named = |name: &str| message.headers().iter().find(|(one, _)| one == name);
    let fields: String = ["fromASID", "toASID", "Authorization"]
        .into_iter()
        .filter_map(named)
        .map(|(name, value)| format!("\r\n{name}: {value}"))
        .collect();
    // A slow reader sends no Accept.
    let (option, value) = if mode.contains(&"-X") {
        ("-j", "a=b")
    } else {
        ("-m", "application/fhir+json")
    };
    [option.to_owned(), format!("{value}{fields}")]
}
