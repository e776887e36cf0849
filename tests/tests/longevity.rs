//! The gateway's long life: stops, reloads and upgrades under load lose no request, limits hold, and what runs for long does
//! not grow.

use std::{
    env, fs,
    net::SocketAddr,
    process::ExitCode,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::signal::Signal;
use spinegate_tests::{
    client::{Line, Message, NHS_NUMBER, pointer},
    command::Run,
    echo::answers,
    expect::{serves, silent},
    json::at,
    lab::{Lab, PROVIDER, open_limits},
    netns::{Family, Host},
    pump::while_pumping,
    soak::{Plan, descriptors, soak},
    suite::Suite,
    wait::wait_until,
};
use toml::{Table, Value};

const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    Suite {
        name: "longevity",
        edit: |table| {
            open_limits(table);
            set(table, "drain_timeout", "5s");
        },
        tests: spinegate_tests::tests![
            a_stop_under_load_loses_no_request_on_kept_and_on_new_connections,
            a_request_under_way_is_finished_and_its_connection_closed,
            a_request_that_does_not_end_is_cut_off_when_the_time_is_over,
            a_second_signal_cuts_at_once,
            reloads_under_load_lose_no_request,
            a_takeover_under_load_loses_no_connection_and_lets_no_packet_pass,
            a_takeover_that_fails_leaves_everything_as_it_was,
            without_an_agent_a_takeover_is_a_start,
            a_configuration_on_trial_is_not_handed_over,
            with_sockets_from_systemd_a_restart_refuses_nobody,
            sockets_from_systemd_must_be_those_of_the_configuration,
            without_descriptors_the_gateway_waits_and_goes_on,
            what_runs_for_long_does_not_grow,
        ],
    }
    .run()
}

fn a_stop_under_load_loses_no_request_on_kept_and_on_new_connections(lab: &mut Lab) -> Result<()> {
    let gone = AtomicBool::new(false);
    let ((), pumped) = while_pumping(lab, &gone, |lab, answered| {
        for _ in 0..3 {
            more(answered, 50)?;
            gone.store(true, Ordering::Relaxed);
            lab.stop_agent()?;
            lab.start_agent()?;
            gone.store(false, Ordering::Relaxed);
        }
        more(answered, 50)
    })?;
    // The two kept connections, three times.
    ensure!(
        pumped.closed >= 6,
        "no connection was closed in order: {pumped:?}"
    );
    println!(
        "  {} requests, {} connections closed in order",
        pumped.answered, pumped.closed
    );
    Ok(())
}

fn a_request_under_way_is_finished_and_its_connection_closed(lab: &mut Lab) -> Result<()> {
    let (mut line, rest) = half_sent(lab)?;
    let mut idle = lab.client(Host::Ssp).line()?;
    terminate(lab)?;
    ensure!(
        idle.ends_within(Duration::from_secs(3))?,
        "an idle connection stays open"
    );
    line.send(&rest)?;
    let reply = line.reply()?;
    ensure!(reply.status == 201 && reply.closes(), "{reply:?}");
    ensure!(
        line.ends_within(Duration::from_secs(1))?,
        "the connection stays open"
    );
    lab.agent_ended(Duration::from_secs(2))?;
    silent(lab)?;
    lab.start_agent()
}

fn a_request_that_does_not_end_is_cut_off_when_the_time_is_over(lab: &mut Lab) -> Result<()> {
    let (mut line, _) = half_sent(lab)?;
    let begin = Instant::now();
    terminate(lab)?;
    lab.agent_ended(Duration::from_secs(8))?;
    let took = begin.elapsed();
    ensure!(took > Duration::from_secs(4), "the agent waited {took:?} only");
    ensure!(
        line.ends_within(Duration::from_secs(1))?,
        "the connection stays open"
    );
    lab.start_agent()
}

fn a_second_signal_cuts_at_once(lab: &mut Lab) -> Result<()> {
    let (mut line, _) = half_sent(lab)?;
    terminate(lab)?;
    thread::sleep(Duration::from_millis(500));
    let begin = Instant::now();
    terminate(lab)?;
    lab.agent_ended(Duration::from_secs(3))?;
    ensure!(
        begin.elapsed() < Duration::from_secs(2),
        "it took {:?}",
        begin.elapsed()
    );
    ensure!(
        line.ends_within(Duration::from_secs(1))?,
        "the connection stays open"
    );
    lab.start_agent()
}

fn reloads_under_load_lose_no_request(lab: &mut Lab) -> Result<()> {
    let ((), pumped) = while_pumping(lab, &AtomicBool::new(false), |lab, answered| {
        for _ in 0..10 {
            more(answered, 20)?;
            lab.agent_process()?.signal(Signal::SIGHUP)?;
        }
        more(answered, 20)
    })?;
    ensure!(pumped.closed == 0, "a reload closed connections: {pumped:?}");
    println!("  {} requests over 10 reloads", pumped.answered);
    Ok(())
}

fn a_takeover_under_load_loses_no_connection_and_lets_no_packet_pass(lab: &mut Lab) -> Result<()> {
    let tap = lab.tap()?;
    let stranger = lab.network().namespace(Host::Stranger);
    let target = lab.gateway(Family::V4);
    let link = link_id(lab)?;
    let (done, probes) = (AtomicBool::new(false), AtomicUsize::new(0));
    let pumped = thread::scope(|scope| -> Result<_> {
        let probing: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| probe(&stranger, target, &done, &probes)))
            .collect();
        let pumped = while_pumping(lab, &AtomicBool::new(false), |lab, answered| {
            for _ in 0..3 {
                more(answered, 100)?;
                let (id, program) = (lab.agent_process()?.id(), program(lab)?);
                lab.take_over()?;
                ensure!(lab.agent_process()?.id() != id, "the same agent goes on");
                ensure!(
                    program_changed(lab, program)?,
                    "the successor runs the old program"
                );
            }
            more(answered, 100)
        });
        done.store(true, Ordering::Relaxed);
        for probing in probing {
            probing.join().map_err(|_| anyhow!("the stranger panicked"))??;
        }
        Ok(pumped?.1)
    })?;
    ensure!(
        link_id(lab)? == link,
        "the link was replaced, not updated in its place"
    );
    let probes = probes.load(Ordering::Relaxed);
    ensure!(probes >= 20, "{probes} probes prove little");
    let passed = tap.syns(Host::Stranger.address(Family::V4))?;
    ensure!(passed == 0, "{passed} SYNs of a stranger passed");
    ensure!(
        pumped.closed >= 6,
        "no connection was closed in order: {pumped:?}"
    );
    println!(
        "  {} requests, {} connections closed in order, {probes} probes of a stranger",
        pumped.answered, pumped.closed
    );
    // What the operator orders goes to the one that is left.
    lab.agent().order(&["reload"])?;
    serves(lab)
}

fn a_takeover_that_fails_leaves_everything_as_it_was(lab: &mut Lab) -> Result<()> {
    let id = lab.agent_process()?.id();
    let program = program(lab)?;
    // A port that is another's: found after the sockets have come, and before the filter is touched.
    let config = lab.files().folder().join("other.toml");
    let mut table: Table = toml::from_str(&fs::read_to_string(lab.files().config())?)?;
    set_in(
        &mut table,
        "listen",
        "addresses",
        vec![Value::from("192.0.2.254:443")],
    );
    fs::write(&config, toml::to_string(&table)?)?;
    let finished = lab.at_edge(&config, &["run", "--take-over"])?;
    ensure!(
        finished.code == Some(1) && finished.said().contains("192.0.2.254:443"),
        "{:?}: {}",
        finished.code,
        finished.said()
    );
    serves(lab)?;
    ensure!(lab.agent_process()?.id() == id && !program_changed(lab, program)?);
    // Nor does it stand in the way of the next.
    lab.take_over()?;
    serves(lab)
}

fn without_an_agent_a_takeover_is_a_start(lab: &mut Lab) -> Result<()> {
    lab.kill_agent()?;
    lab.start_agent_with(&["run", "--take-over"])?;
    serves(lab)?;
    silent(lab)
}

fn a_configuration_on_trial_is_not_handed_over(lab: &mut Lab) -> Result<()> {
    lab.agent().order(&["reload", "--confirm-within", "60s"])?;
    let finished = lab.at_edge(&lab.files().config(), &["run", "--take-over"])?;
    ensure!(
        finished.code == Some(1) && finished.said().contains("on trial"),
        "{:?}: {}",
        finished.code,
        finished.said()
    );
    lab.agent().order(&["reload", "--confirm"])?;
    serves(lab)
}

fn with_sockets_from_systemd_a_restart_refuses_nobody(lab: &mut Lab) -> Result<()> {
    lab.stop_agent()?;
    // In another order than in the configuration.
    let run = passing(lab, &[Family::V6, Family::V4]);
    lab.start_agent_by(&run)?;
    let ((), pumped) = while_pumping(lab, &AtomicBool::new(false), |lab, answered| {
        for _ in 0..3 {
            more(answered, 50)?;
            let id = pid(lab)?;
            Run::new("kill").args(["-TERM", &id.to_string()]).success()?;
            wait_until("the next agent", PATIENCE, || {
                Ok(pid(lab).is_ok_and(|now| now != id))
            })?;
        }
        more(answered, 50)
    })?;
    ensure!(
        pumped.closed >= 6,
        "no connection was closed in order: {pumped:?}"
    );
    println!("  {} requests over 3 restarts", pumped.answered);
    silent(lab)?;
    lab.stop_agent()?;
    lab.start_agent()
}

fn sockets_from_systemd_must_be_those_of_the_configuration(lab: &mut Lab) -> Result<()> {
    lab.stop_agent()?;
    let finished = passing(lab, &[Family::V4]).output()?;
    let (passed, missing) = (lab.gateway(Family::V4), lab.gateway(Family::V6));
    ensure!(
        finished.code == Some(1)
            && finished.said().contains(&format!("systemd passes {passed}, but"))
            && finished.said().contains(&missing.to_string()),
        "{:?}: {}",
        finished.code,
        finished.said()
    );
    lab.start_agent()
}

/// The agent with the gateway's sockets of these families from elsewhere.
fn passing(lab: &Lab, families: &[Family]) -> Run {
    let probe = concat!(env!("CARGO_MANIFEST_DIR"), "/probes/sockets.py");
    Run::inside(&lab.network().namespace(Host::Edge), "python3")
        .arg(probe)
        .args(families.iter().map(|family| lab.gateway(*family).to_string()))
        .arg("--")
        .arg(lab.binary())
        .arg("--config")
        .arg(lab.files().config())
        .arg("run")
}

fn pid(lab: &Lab) -> Result<u64> {
    let status = lab.agent().json(&["status"])?;
    at(&status, "/pid").as_u64().context("no process")
}

fn without_descriptors_the_gateway_waits_and_goes_on(lab: &mut Lab) -> Result<()> {
    serves(lab)?;
    let process = lab.agent_process()?;
    let (id, open) = (process.id(), descriptors(process.id())?);
    let limit = |soft: usize| {
        Run::new("prlimit")
            .args([format!("--pid={id}"), format!("--nofile={soft}:")])
            .success()
    };
    let before = Run::new("prlimit")
        .args([
            format!("--pid={id}"),
            "--nofile".into(),
            "--noheadings".into(),
            "--raw".into(),
            "--output=SOFT".into(),
        ])
        .success()?;
    limit(open + 8)?;
    let held: Vec<_> = (0..24)
        .map(|_| lab.client(Host::Ssp).connect())
        .collect::<Result<_>>()?;
    wait_until("accepting to fail", PATIENCE, || {
        Ok(process.log()?.contains("accepting a connection failed"))
    })?;
    // Those that were accepted are served still, and the others wait.
    let now = descriptors(id)?;
    ensure!(
        now < open + held.len(),
        "{open} descriptors became {now}: the limit is none"
    );
    drop(held);
    wait_until("the gateway to serve again", PATIENCE, || Ok(serves(lab).is_ok()))?;
    limit(before.trim().parse()?)?;
    serves(lab)
}

/// For half a minute, or with `SPINEGATE_LONG=1` for half an hour.
fn what_runs_for_long_does_not_grow(lab: &mut Lab) -> Result<()> {
    let long = env::var_os("SPINEGATE_LONG").is_some_and(|value| value == "1");
    let (plan, most) = if long {
        // The last of the allocator's steps were seen after five minutes.
        let plan = Plan {
            warm: Duration::from_secs(8 * 60),
            rest: Duration::from_secs(22 * 60),
            sample: Duration::from_secs(5),
            change: Duration::from_secs(3),
        };
        (plan, 512.0)
    } else {
        let plan = Plan {
            warm: Duration::from_secs(8),
            rest: Duration::from_secs(12),
            sample: Duration::from_millis(250),
            change: Duration::from_millis(700),
        };
        (plan, 2048.0)
    };
    lab.configure(|table| {
        set(table, "connection_age", "5s");
        set(table, "requests_per_connection", 500);
    })?;
    lab.stop_agent()?;
    // With one arena the allocator takes no more memory for the same work because other threads do it.
    let run = Run::inside(&lab.network().namespace(Host::Edge), lab.binary())
        .env("MALLOC_ARENA_MAX", "1")
        .arg("--config")
        .arg(lab.files().config())
        .arg("run");
    lab.start_agent_by(&run)?;
    let soaked = soak(lab, &plan)?;
    let (first, last) = soaked
        .samples
        .first()
        .zip(soaked.samples.last())
        .context("nothing was looked at")?;
    println!(
        "  {:?}: {} requests served, {} refused, {} connections, {} handshakes refused, {} reloads and new CRLs",
        plan.warm + plan.rest,
        soaked.served,
        soaked.refused,
        soaked.connections,
        soaked.turned_away,
        soaked.changes
    );
    println!(
        "  {} KiB and {} descriptors, then {} KiB and {}; along the line through {} samples {:+.0} KiB and {:+.1}",
        first.resident,
        first.descriptors,
        last.resident,
        last.descriptors,
        soaked.samples.len(),
        soaked.memory_growth(),
        soaked.descriptor_growth()
    );
    ensure!(
        soaked.served > 200 && soaked.refused > 50 && soaked.turned_away > 10 && soaked.changes > 5,
        "too little was done: {soaked:?}"
    );
    // A leak of a kilobyte a request would be seen in either.
    ensure!(soaked.memory_growth() < most, "resident memory grows: {soaked:?}");
    ensure!(soaked.descriptor_growth() < 4.0, "descriptors grow: {soaked:?}");
    Ok(())
}

/// A create of which the head and a half of the body are sent, and the other half.
fn half_sent(lab: &Lab) -> Result<(Line, String)> {
    let create = Message::create(&pointer(PROVIDER.ods, NHS_NUMBER)).from(&PROVIDER);
    let whole = create.bytes();
    let (now, later) = whole.split_at(whole.len() - 40);
    let mut line = lab.client(Host::Ssp).line()?;
    line.send(now)?;
    // The gateway has read it when it has answered on another connection.
    serves(lab)?;
    Ok((line, later.to_owned()))
}

fn terminate(lab: &Lab) -> Result<()> {
    lab.agent_process()?.signal(Signal::SIGTERM)
}

/// Waits until so many more requests are answered.
fn more(answered: &AtomicUsize, count: usize) -> Result<()> {
    let wanted = answered.load(Ordering::Relaxed) + count;
    wait_until("requests to be answered", Duration::from_secs(20), || {
        Ok(answered.load(Ordering::Relaxed) >= wanted)
    })
}

fn probe(namespace: &str, target: SocketAddr, done: &AtomicBool, probes: &AtomicUsize) -> Result<()> {
    while !done.load(Ordering::Relaxed) {
        ensure!(!answers(namespace, target)?, "a stranger got an answer");
        probes.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn program(lab: &Lab) -> Result<u64> {
    let status = lab.agent().json(&["status"])?;
    at(&status, "/interfaces/0/program_id")
        .as_u64()
        .context("no program")
}

fn program_changed(lab: &Lab, from: u64) -> Result<bool> {
    Ok(program(lab)? != from)
}

fn link_id(lab: &Lab) -> Result<u64> {
    let pin = lab.pins().join("links").join(spinegate_tests::netns::INTERFACE);
    let shown = Run::new("bpftool")
        .args(["--json", "link", "show", "pinned"])
        .arg(&pin)
        .success()?;
    let shown: serde_json::Value = serde_json::from_str(&shown)?;
    at(&shown, "/id")
        .as_u64()
        .with_context(|| format!("no link in {shown}"))
}

fn set(table: &mut Table, key: &str, value: impl Into<Value>) {
    set_in(table, "gateway", key, value);
}

fn set_in(table: &mut Table, section: &str, key: &str, value: impl Into<Value>) {
    if let Some(Value::Table(section)) = table.get_mut(section) {
        section.insert(key.to_owned(), value.into());
    }
}
