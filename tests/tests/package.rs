//! The Debian package, on a bare Debian that systemd has booted: installed, started, broken, upgraded, removed.

use std::{
    env,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;
use spinegate_tests::{
    client::{Knock, Message, NHS_NUMBER},
    command::Run,
    echo::answers,
    expect::{accepted, silent},
    guest::{self, Guest},
    json::at,
    lab::{CONSUMER, GATEWAY_ASID, INACTIVE, Lab},
    netns::{Family, Host, INTERFACE},
    pki::SSP_FQDN,
    pump::while_pumping,
    suite::Suite,
    wait::{wait_for, wait_until},
};

const UNIT: &str = "spinegate.service";
const SOCKET: &str = "spinegate.socket";
const CONFIG: &str = "/etc/spinegate/spinegate.toml";
/// What `systemd-analyze security` may find exposed.
const EXPOSURE: f64 = 2.0;
const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    Suite {
        name: "package",
        edit: |_| {},
        tests: spinegate_tests::tests![
            a_bare_debian_serves_when_three_lines_are_edited,
            an_agent_that_dies_or_hangs_is_started_again_behind_the_filter,
            systemd_holds_the_ports_and_its_journal_the_record,
            upgrade_and_rollback_under_load_lose_no_connection_and_open_no_gate,
            a_removed_package_detaches_and_a_purged_one_leaves_nothing,
        ],
    }
    .run_unless(guest::obstacle)
}

fn a_bare_debian_serves_when_three_lines_are_edited(lab: &mut Lab) -> Result<()> {
    let guest = bare(lab)?;
    install(&guest, "current.deb")?;
    for file in [
        "/usr/share/man/man1/spinegate-sources-add.1.gz",
        "/usr/share/bash-completion/completions/spinegate",
        "/usr/share/zsh/vendor-completions/_spinegate",
        "/usr/share/fish/vendor_completions.d/spinegate.fish",
        "/usr/share/doc/spinegate/configuration.md.gz",
    ] {
        let plain = file.trim_end_matches(".gz");
        ensure!(
            guest.path(file).exists() || guest.path(plain).exists(),
            "{file} is not installed"
        );
    }
    ensure!(
        guest.output(&["systemctl", "start", UNIT])?.code != Some(0),
        "the example is no configuration that could be started"
    );
    settle(lab, &guest)?;
    start(&guest)?;
    // No waiting: started is ready.
    serves(lab, &guest)?;
    let before = drops(&guest)?;
    silent(lab)?;
    ensure!(
        drops(&guest)? > before,
        "the stranger was not dropped by the filter"
    );
    ensure!(
        guest
            .property(UNIT, "StatusText")?
            .starts_with("serving at 0.0.0.0:443"),
        "systemd is not told what the agent does"
    );
    exposed_little(&guest)?;
    without_privileges(&guest)?;
    the_keeper_is_closed_to_its_own_user(&guest)?;
    a_broken_file_changes_nothing(lab, &guest)?;
    guest
        .success(&["logrotate", "--force", "/etc/logrotate.d/spinegate"])
        .context("rotating the audit log")?;
    wait_until("the log to be gone on with", PATIENCE, || {
        Ok(guest.path("/var/log/spinegate/audit.jsonl").exists())
    })?;
    serves(lab, &guest)?;
    guest.success(&["spinegate", "audit", "verify"])?;
    guest.end()
}

fn a_broken_file_changes_nothing(lab: &Lab, guest: &Guest) -> Result<()> {
    let (process, sound) = (process(guest)?, fs::read(guest.path(CONFIG))?);
    fs::write(guest.path(CONFIG), [&sound, b"\n[filtre]\n".as_slice()].concat())?;
    ensure!(
        guest.output(&["systemctl", "reload", UNIT])?.code != Some(0),
        "a broken file was reloaded"
    );
    ensure!(
        guest.property(UNIT, "ActiveState")? == "active" && self::process(guest)? == process,
        "a reload that failed touched the agent: {}",
        guest.account(UNIT)
    );
    serves(lab, guest)?;
    silent(lab)?;
    fs::write(guest.path(CONFIG), sound)?;
    guest.success(&["systemctl", "reload", UNIT])?;
    ensure!(
        self::process(guest)? == process,
        "a reload is no restart: {}",
        guest.account(UNIT)
    );
    serves(lab, guest)
}

fn an_agent_that_dies_or_hangs_is_started_again_behind_the_filter(lab: &mut Lab) -> Result<()> {
    let guest = bare(lab)?;
    install(&guest, "current.deb")?;
    settle(lab, &guest)?;
    // So that the test need not wait as long as an operator would.
    let folder = guest.path(&format!("/etc/systemd/system/{UNIT}.d"));
    fs::create_dir_all(&folder)?;
    fs::write(
        folder.join("hasty.conf"),
        "[Service]\nWatchdogSec=3s\nTimeoutAbortSec=1s\n",
    )?;
    guest.success(&["systemctl", "daemon-reload"])?;
    start(&guest)?;
    let first = process(&guest)?;
    // Longer than the watchdog's time: the agent says in between that it works.
    thread::sleep(Duration::from_secs(4));
    ensure!(
        process(&guest)? == first,
        "an agent that works was ended: {}",
        guest.account(UNIT)
    );
    let mut last = first;
    for signal in ["KILL", "STOP"] {
        guest.success(&["systemctl", "kill", "--kill-whom=main", "--signal", signal, UNIT])?;
        let next = wait_for("the agent to be started again", PATIENCE, || {
            silent(lab)?;
            let is_up = guest.property(UNIT, "ActiveState")? == "active";
            let now = process(&guest)?;
            Ok((is_up && now != "0" && now != last).then_some(now))
        });
        last = next.with_context(|| guest.account(UNIT))?;
        serves(lab, &guest)?;
        silent(lab)?;
    }
    ensure!(
        guest.property(UNIT, "NRestarts")? == "2",
        "{}",
        guest.account(UNIT)
    );
    guest.end()
}

fn systemd_holds_the_ports_and_its_journal_the_record(lab: &mut Lab) -> Result<()> {
    let guest = bare(lab)?;
    install(&guest, "current.deb")?;
    settle(lab, &guest)?;
    let text = fs::read_to_string(guest.path(CONFIG))?;
    fs::write(
        guest.path(CONFIG),
        text.replace("[audit]\n", "[audit]\noutput = \"both\"\n"),
    )?;
    #[rustfmt::skip]
    guest.success(&["cp", "/usr/share/doc/spinegate/examples/spinegate.socket", "/etc/systemd/system/"])?;
    guest.success(&["systemctl", "daemon-reload"])?;
    guest.success(&["systemctl", "start", SOCKET])?;
    ensure!(
        guest.property(UNIT, "ActiveState")? == "inactive",
        "the socket alone was to be started"
    );
    // The first connection starts the agent, and waits for it.
    serves(lab, &guest)?;
    ensure!(
        guest.property(UNIT, "ActiveState")? == "active",
        "{}",
        guest.account(UNIT)
    );
    silent(lab)?;
    the_record_is_in_the_journal(lab, &guest)?;
    the_log_is_in_the_journal(&guest)?;
    let (never, first) = (AtomicBool::new(false), process(&guest)?);
    let ((), pumped) = while_pumping(lab, &never, |_, answered| {
        guest.success(&["systemctl", "restart", UNIT])?;
        // With connections from before, from in between and from after.
        let so_far = answered.load(Ordering::Relaxed);
        wait_until("requests after the restart", PATIENCE, || {
            Ok(answered.load(Ordering::Relaxed) > so_far + 20)
        })
    })
    .with_context(|| guest.account(UNIT))?;
    println!(
        "  {} requests answered, {} connections closed in order",
        pumped.answered, pumped.closed
    );
    ensure!(process(&guest)? != first, "the agent was not restarted");
    silent(lab)?;
    guest.end()
}

fn the_record_is_in_the_journal(lab: &Lab, guest: &Guest) -> Result<()> {
    let client = lab.client(Host::Ssp);
    let search = Message::search(NHS_NUMBER);
    for (system, status, priority, reason) in [
        (CONSUMER, 200, "6", None),
        (INACTIVE, 403, "5", Some("asid_inactive")),
    ] {
        let answer = client.answer(&search.clone().from(&system))?;
        ensure!(answer.status == status, "{answer}");
        let id = answer
            .header("x-request-id")
            .context("the answer has no X-Request-Id")?;
        let decision = format!("SPINEGATE_DECISION_ID={id}");
        let entry = journalled(guest, &["SYSLOG_IDENTIFIER=spinegate-audit", &decision])?;
        let field = |name: &str| entry.get(name).and_then(Value::as_str);
        let line: Value = serde_json::from_str(field("MESSAGE").unwrap_or_default())?;
        ensure!(
            field("PRIORITY") == Some(priority)
                && field("SPINEGATE_REASON") == reason
                && field("_SYSTEMD_UNIT") == Some(UNIT)
                && *at(&line, "/decision_id") == *id,
            "{entry}"
        );
        // By its number the line is found in the file, where it is chained and signed.
        let file = fs::read_to_string(guest.path("/var/log/spinegate/audit.jsonl"))?;
        let in_file = file.lines().find(|line| line.contains(id));
        let in_file: Value = serde_json::from_str(in_file.unwrap_or_default())?;
        ensure!(
            field("SPINEGATE_SEQ") == Some(&at(&in_file, "/seq").to_string())
                && at(&in_file, "/request") == at(&line, "/request"),
            "the file and the journal differ: {in_file} {entry}"
        );
    }
    Ok(())
}

/// A line of the keeper's, who writes for itself.
fn the_log_is_in_the_journal(guest: &Guest) -> Result<()> {
    guest.success(&["spinegate", "sources", "add", "192.0.2.99/32", "--name", "guest"])?;
    let entry = journalled(
        guest,
        &["SYSLOG_IDENTIFIER=spinegate", "TARGET=spinegate::keeper::orders"],
    )?;
    let field = |name: &str| entry.get(name).and_then(Value::as_str);
    ensure!(
        field("MESSAGE") == Some("an operator announces")
            && field("F_UID") == Some("0")
            && field("F_ORDER").is_some_and(|order| order.contains("192.0.2.99"))
            && field("PRIORITY") == Some("5")
            && field("_SYSTEMD_UNIT") == Some(UNIT),
        "{entry}"
    );
    Ok(())
}

/// The one entry of the journal that matches.
fn journalled(guest: &Guest, wanted: &[&str]) -> Result<Value> {
    let command = [
        &["journalctl", "--no-pager", "--quiet", "--output", "json"],
        wanted,
    ]
    .concat();
    // journald takes an entry in its own time.
    wait_for("an entry of the journal", PATIENCE, || {
        let printed = guest.success(&command)?;
        let entries: Vec<_> = printed.lines().collect();
        ensure!(
            entries.len() < 2,
            "more than one entry has {wanted:?}:\n{printed}"
        );
        Ok(entries
            .first()
            .map(|entry| serde_json::from_str(entry))
            .transpose()?)
    })
    .with_context(|| format!("{wanted:?}\n{}", guest.account(UNIT)))
}

fn upgrade_and_rollback_under_load_lose_no_connection_and_open_no_gate(lab: &mut Lab) -> Result<()> {
    let guest = bare(lab)?;
    install(&guest, "previous.deb")?;
    settle(lab, &guest)?;
    start(&guest)?;
    let (stranger, gateway) = (lab.network().namespace(Host::Stranger), lab.gateway(Family::V4));
    let (never, done) = (AtomicBool::new(false), AtomicBool::new(false));
    let ((probes, processes), pumped) = while_pumping(lab, &never, |_, _| {
        thread::scope(|scope| {
            let probing = scope.spawn(|| -> Result<usize> {
                let mut probes = 0;
                while !done.load(Ordering::Relaxed) {
                    ensure!(!answers(&stranger, gateway)?, "a stranger got an answer");
                    probes += 1;
                }
                Ok(probes)
            });
            let changed = (|| -> Result<Vec<String>> {
                let mut processes = vec![process(&guest)?];
                for package in ["current.deb", "previous.deb"] {
                    install(&guest, package)?;
                    processes.push(process(&guest)?);
                }
                Ok(processes)
            })();
            done.store(true, Ordering::Relaxed);
            let probes = probing.join().map_err(|_| anyhow!("the stranger panicked"))?;
            Ok((probes?, changed?))
        })
    })
    .with_context(|| guest.account(UNIT))?;
    println!(
        "  {} requests answered, {} connections closed in order, {probes} probes of a stranger",
        pumped.answered, pumped.closed
    );
    ensure!(probes >= 3, "{probes} probes prove little");
    let mut different = processes.clone();
    different.dedup();
    ensure!(
        different.len() == 3 && guest.property(UNIT, "NRestarts")? == "0",
        "no agent took over: {processes:?}\n{}",
        guest.account(UNIT)
    );
    let version = guest.success(&["dpkg-query", "--show", "--showformat=${Version}", "spinegate"])?;
    ensure!(version == "0.0.1-1", "{version} is installed");
    // The service is what took over: it stops as one.
    guest.success(&["systemctl", "stop", UNIT])?;
    silent(lab)?;
    let left = guest.output(&["sh", "-c", "grep -l '^spinegate' /proc/[0-9]*/comm"])?;
    ensure!(left.code == Some(1), "an agent is left: {}", left.said());
    guest.end()
}

fn a_removed_package_detaches_and_a_purged_one_leaves_nothing(lab: &mut Lab) -> Result<()> {
    let guest = bare(lab)?;
    let before = guest.files()?;
    install(&guest, "current.deb")?;
    settle(lab, &guest)?;
    guest.success(&["systemctl", "enable", UNIT])?;
    start(&guest)?;
    serves(lab, &guest)?;
    ensure!(attached(lab)?, "nothing is attached to {INTERFACE}");
    guest.success(&["apt-get", "remove", "--yes", "-qq", "spinegate"])?;
    ensure!(!attached(lab)?, "the filter is still attached to {INTERFACE}");
    let knock = lab.client(Host::Stranger).knock()?;
    ensure!(
        knock == Knock::Refused,
        "the host answers for itself: {}",
        knock.as_str()
    );
    ensure!(
        guest.path(CONFIG).exists() && guest.path("/var/log/spinegate/audit.jsonl").exists(),
        "what is the operator's goes by purge alone"
    );
    guest.success(&["apt-get", "purge", "--yes", "-qq", "spinegate"])?;
    let left: Vec<_> = guest
        .files()?
        .into_iter()
        .filter(|file| before.binary_search(file).is_err())
        .collect();
    ensure!(left.is_empty(), "{left:?} are left");
    for database in ["passwd", "group"] {
        ensure!(
            guest.output(&["getent", database, "spinegate"])?.code == Some(2),
            "the entry in {database} is left"
        );
    }
    guest.end()
}

/// A search through the proxy is answered, also where the agent or the machine needs its time.
fn serves(lab: &Lab, guest: &Guest) -> Result<()> {
    accepted(&lab.client(Host::Ssp).patient()).with_context(|| {
        let recorded = fs::read_to_string(guest.path("/var/log/spinegate/audit.jsonl")).unwrap_or_default();
        let last = recorded.lines().last().unwrap_or_default();
        format!("{}\n{last}", guest.account(UNIT))
    })
}

/// A bare Debian in the place of the lab's own agent.
fn bare(lab: &mut Lab) -> Result<Guest> {
    if lab.agent_process().is_ok() {
        lab.stop_agent()?;
        let detached = lab.at_edge(&lab.files().config(), &["detach"])?;
        ensure!(detached.code == Some(0), "{}", detached.said());
    }
    Guest::boot(lab)
}

fn install(guest: &Guest, package: &str) -> Result<()> {
    let inside = format!("/run/{package}");
    fs::copy(packages()?.join(package), guest.path(&inside))?;
    #[rustfmt::skip]
    let command = ["apt-get", "install", "--yes", "-qq", "--allow-downgrades", &inside];
    guest
        .success(&command)
        .with_context(|| format!("installing {package}"))?;
    Ok(fs::remove_file(guest.path(&inside))?)
}

/// Where `cargo xtask test` has made them.
fn packages() -> Result<PathBuf> {
    let folder = env::var_os("SPINEGATE_PACKAGES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/package/suite"),
        PathBuf::from,
    );
    if !folder.is_dir() {
        bail!(
            "{} is not there: `cargo xtask package --suite` makes it",
            folder.display()
        );
    }
    Ok(folder)
}

/// What an operator does after the installation: three lines, the PKI, the systems.
fn settle(lab: &Lab, guest: &Guest) -> Result<()> {
    let mut text = fs::read_to_string(guest.path(CONFIG))?;
    let edits = [
        ("192.0.2.31", Host::Ssp.v4().to_string()),
        ("ssp.example.nhs.uk", SSP_FQDN.to_owned()),
        ("999999999999", GATEWAY_ASID.to_owned()),
    ];
    for (example, own) in edits {
        let marked = |line: &&str| line.contains(example) && line.contains("# EDIT");
        ensure!(
            text.lines().filter(marked).count() == 1,
            "one line with {example} is to be edited"
        );
        text = text.replace(example, &own);
    }
    fs::write(guest.path(CONFIG), text)?;
    fs::copy(lab.files().registry(), guest.path("/etc/spinegate/registry.toml"))?;
    let pki = lab.pki();
    let [tls, crl] = ["/etc/spinegate/tls", "/etc/spinegate/crl"].map(|folder| guest.path(folder));
    for folder in [&tls, &crl] {
        fs::create_dir_all(folder)?;
    }
    for (file, name) in [
        (&pki.server.cert, "server-chain.pem"),
        (&pki.server.key, "server-key.pem"),
        (&pki.root, "root-ca.pem"),
        (&pki.sub, "sub-ca.pem"),
    ] {
        fs::copy(file, tls.join(name))?;
    }
    fs::set_permissions(tls.join("server-key.pem"), Permissions::from_mode(0o640))?;
    for entry in fs::read_dir(&pki.crls)? {
        let entry = entry?;
        fs::copy(entry.path(), crl.join(entry.file_name()))?;
    }
    guest.success(&["chown", "-R", "root:spinegate", "/etc/spinegate"])?;
    Ok(())
}

fn start(guest: &Guest) -> Result<()> {
    guest.output(&["systemctl", "reset-failed", UNIT])?;
    let started = guest.output(&["systemctl", "start", UNIT])?;
    ensure!(
        started.code == Some(0) && guest.property(UNIT, "ActiveState")? == "active",
        "{}\n{}",
        started.said(),
        guest.account(UNIT)
    );
    Ok(())
}

fn process(guest: &Guest) -> Result<String> {
    guest.property(UNIT, "MainPID")
}

/// The process that serves the network is a user's, and has given everything up.
fn without_privileges(guest: &Guest) -> Result<()> {
    let status = fs::read_to_string(guest.path(&format!("/proc/{}/status", process(guest)?)))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().trim().to_owned()
    };
    let none = "0000000000000000";
    ensure!(
        !field("Uid:").starts_with("0\t") && field("CapPrm:") == none && field("CapAmb:") == none,
        "{status}"
    );
    ensure!(
        field("NoNewPrivs:") == "1" && field("Seccomp:") == "2",
        "{status}"
    );
    Ok(())
}

fn the_keeper_is_closed_to_its_own_user(guest: &Guest) -> Result<()> {
    let agent = process(guest)?;
    let children = fs::read_to_string(guest.path(&format!("/proc/{agent}/task/{agent}/children")))?;
    let keeper = children
        .split_whitespace()
        .next()
        .context("the agent has no keeper")?;
    for file in ["environ", "maps", "mem"] {
        let file = format!("/proc/{keeper}/{file}");
        #[rustfmt::skip]
        let looked = guest.output(&["setpriv", "--reuid=spinegate", "--regid=spinegate", "--clear-groups", "--bounding-set=-all",
            "head", "--bytes=1", &file])?;
        ensure!(
            looked.code == Some(1) && looked.said().contains("Permission denied"),
            "{file}: {}",
            looked.said()
        );
    }
    Ok(())
}

fn exposed_little(guest: &Guest) -> Result<()> {
    let printed = guest.success(&["systemd-analyze", "security", "--no-pager", UNIT])?;
    let level = printed
        .lines()
        .find_map(|line| line.split_once("exposure level for")?.1.split_once(": "))
        .and_then(|(_, level)| level.split(' ').next()?.parse::<f64>().ok())
        .with_context(|| printed.clone())?;
    println!("  systemd-analyze security: {level}");
    ensure!(level <= EXPOSURE, "{printed}");
    Ok(())
}

fn drops(guest: &Guest) -> Result<u64> {
    let printed = guest.success(&["spinegate", "stats", "--json"])?;
    let stats: Value = serde_json::from_str(&printed)?;
    Ok(at(&stats, "/filter/drops/source_not_allowlisted/packets")
        .as_u64()
        .unwrap_or(0))
}

fn attached(lab: &Lab) -> Result<bool> {
    let shown = Run::inside(&lab.network().namespace(Host::Edge), "ip")
        .args(["link", "show", "dev", INTERFACE])
        .success()?;
    Ok(shown.contains("xdp"))
}
