//! The filter outlives its agent: kills and upgrades under load break no connection and open no gate (R13).

use std::{
    fs,
    net::SocketAddr,
    process::ExitCode,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;
use spinegate_tests::{
    client::Knock,
    command::Run,
    echo::{Connection, Echo, answers},
    expect::{dropped, serves, silent},
    json::at,
    lab::{Background, Lab, filter, guard},
    netns::{Family, Host, INTERFACE},
    suite::Suite,
    wait::wait_for,
};
use toml::Table;

const NOT_ALLOWLISTED: &str = "source_not_allowlisted";
const REFUSED: i32 = 1;
/// Guarded ports of the edge host with plain services: an echo, and iperf3's server.
const ECHO: u16 = 7;
const IPERF: u16 = 5_201;

fn main() -> ExitCode {
    Suite {
        name: "survival",
        edit: guard_plain_services,
        tests: spinegate_tests::tests![
            a_killed_agent_breaks_no_connection_and_opens_no_gate,
            upgrades_and_reloads_under_load_break_no_connection_and_open_no_gate,
            a_newer_agents_filter_is_neither_replaced_nor_read,
        ],
    }
    .run()
}

fn a_killed_agent_breaks_no_connection_and_opens_no_gate(lab: &mut Lab) -> Result<()> {
    let _echo = Echo::open(&namespace(lab, Host::Edge), ECHO)?;
    let mut connection = Connection::open(&namespace(lab, Host::Ssp), service(ECHO))?;
    connection.exchange(1 << 20)?;
    // The kill comes while bytes are under way.
    let (done, carried) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let load = scope.spawn(|| -> Result<()> {
            while !done.load(Ordering::Relaxed) {
                connection.exchange(1 << 18)?;
                carried.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        let killed = (|| {
            lab.kill_agent()?;
            let before = carried.load(Ordering::Relaxed);
            for _ in 0..2 {
                silent(lab)?;
            }
            ensure!(
                carried.load(Ordering::Relaxed) > before,
                "nothing came through after the kill"
            );
            ensure!(
                lab.client(Host::Ssp).knock()? == Knock::Refused,
                "without an agent nobody listens, and a listed source learns that"
            );
            lab.start_agent()
        })();
        done.store(true, Ordering::Relaxed);
        let load = load.join().map_err(|_| anyhow!("the load panicked"))?;
        killed?;
        load.context("the open connection broke")
    })?;
    dropped(lab, &lab.client(Host::Stranger), NOT_ALLOWLISTED)
}

fn upgrades_and_reloads_under_load_break_no_connection_and_open_no_gate(lab: &mut Lab) -> Result<()> {
    const SECONDS: u64 = 8;
    let server = Run::inside(&namespace(lab, Host::Edge), "iperf3").args([
        "--server",
        "--one-off",
        "--port",
        &IPERF.to_string(),
    ]);
    let server = Background::start("iperf3-server", &server, lab.files())?;
    let client = Run::inside(&namespace(lab, Host::Ssp), "iperf3")
        .args(["--client", &Host::Edge.v4().to_string(), "--port", &IPERF.to_string()])
        .args(["--time", &SECONDS.to_string(), "--json"])
        // Not all that two cores can do: the agent is to get on with its restarts.
        .args(["--bitrate", "400M", "--parallel", "2"])
        .within(Duration::from_secs(SECONDS + 10));
    let done = AtomicBool::new(false);
    let (stranger, targets) = (
        namespace(lab, Host::Stranger),
        [lab.gateway(Family::V4), service(IPERF)],
    );
    let (measured, probes) = thread::scope(|scope| -> Result<_> {
        let load = scope.spawn(move || {
            wait_for("iperf3's server", Duration::from_secs(5), || {
                let finished = client.output()?;
                let refused = finished.stdout.contains("unable to connect");
                Ok((!refused).then_some(finished))
            })
        });
        let probing = scope.spawn(|| -> Result<usize> {
            let mut probes = 0;
            while !done.load(Ordering::Relaxed) {
                for target in targets {
                    ensure!(
                        !answers(&stranger, target)?,
                        "a stranger got an answer from {target}"
                    );
                    probes += 1;
                }
            }
            Ok(probes)
        });
        let changed = upgrade_and_reload(lab);
        let measured = load.join().map_err(|_| anyhow!("the load panicked"))?;
        done.store(true, Ordering::Relaxed);
        let probes = probing.join().map_err(|_| anyhow!("the stranger panicked"))?;
        changed?;
        Ok((measured?, probes?))
    })?;
    server.kill()?;
    ensure!(probes >= 6, "{probes} probes prove little");
    let report: Value = serde_json::from_str(&measured.stdout).with_context(|| measured.said())?;
    ensure!(
        measured.code == Some(0) && report.get("error").is_none(),
        "iperf3: {}",
        at(&report, "/error")
    );
    let (bytes, retransmits) = (
        at(&report, "/end/sum_received/bytes").as_u64().unwrap_or(0),
        at(&report, "/end/sum_sent/retransmits")
            .as_u64()
            .unwrap_or(u64::MAX),
    );
    ensure!(bytes > 10 << 20, "only {bytes} bytes came through");
    // A frame is 1500 bytes at the most. A gate that shuts for a moment costs whole windows.
    ensure!(
        retransmits * 1_000 <= bytes / 1_500,
        "{retransmits} retransmits for {bytes} bytes"
    );
    println!("  {bytes} bytes, {retransmits} retransmits, {probes} probes of a stranger");
    Ok(())
}

/// Three upgrades, one of them after a kill, and ten reloads, spread over some seconds.
fn upgrade_and_reload(lab: &mut Lab) -> Result<()> {
    let link = link_id(lab)?;
    let mut programs = vec![program(lab)?];
    for round in 0..3 {
        if round == 1 {
            lab.kill_agent()?;
        } else {
            lab.stop_agent()?;
        }
        lab.start_agent()?;
        programs.push(program(lab)?);
        for _ in 0..4 {
            lab.agent().order(&["reload"])?;
            thread::sleep(Duration::from_millis(100));
        }
    }
    programs.dedup();
    ensure!(
        programs.len() == 4,
        "an upgrade did not change the program: {programs:?}"
    );
    ensure!(
        link_id(lab)? == link,
        "the link was replaced, not updated in its place"
    );
    Ok(())
}

fn a_newer_agents_filter_is_neither_replaced_nor_read(lab: &mut Lab) -> Result<()> {
    let newer = lab.pins().join("v4000");
    lab.stop_agent()?;
    fs::create_dir(&newer)?;
    for (command, code) in [("run", REFUSED), ("check", 2)] {
        let finished = lab.at_edge(&lab.files().config(), &[command])?;
        ensure!(
            finished.code == Some(code)
                && finished.said().contains("newer agent")
                && finished.said().contains("spinegate detach"),
            "`{command}` ended with {:?}: {}",
            finished.code,
            finished.said()
        );
    }
    silent(lab)?;
    let finished = lab.at_edge(&lab.files().config(), &["detach"])?;
    ensure!(finished.code == Some(0), "{}", finished.said());
    ensure!(!newer.exists(), "the newer agent's maps are left");
    lab.start_agent()?;
    silent(lab)?;
    serves(lab)
}

fn program(lab: &Lab) -> Result<u64> {
    let status = lab.agent().json(&["status"])?;
    at(&status, "/interfaces/0/program_id")
        .as_u64()
        .with_context(|| format!("no program in {status}"))
}

fn link_id(lab: &Lab) -> Result<u64> {
    let pin = lab.pins().join("links").join(INTERFACE);
    let shown = Run::new("bpftool")
        .args(["--json", "link", "show", "pinned"])
        .arg(&pin)
        .success()?;
    let shown: Value = serde_json::from_str(&shown)?;
    at(&shown, "/id")
        .as_u64()
        .with_context(|| format!("no link in {shown}"))
}

fn service(port: u16) -> SocketAddr {
    SocketAddr::new(Host::Edge.address(Family::V4), port)
}

fn namespace(lab: &Lab, host: Host) -> String {
    lab.network().namespace(host)
}

fn guard_plain_services(table: &mut Table) {
    for port in [ECHO, IPERF] {
        guard(filter(table), "tcp", port);
    }
}
