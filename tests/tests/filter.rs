//! The kernel half: who gets through to the listener, and that nothing but `detach` opens the gate (R13, R14).

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use spinegate_tests::{
    client::{Client, Knock, Message, NHS_NUMBER, Offer},
    expect::dropped,
    json::at,
    lab::{CONSUMER, Lab, System, UNKNOWN_ASID},
    netns::{self, Family, Host},
    suite::Suite,
    wait::wait_until,
};
use toml::Value;

const NOT_ALLOWLISTED: &str = "source_not_allowlisted";
const DENIED: &str = "verdict_deny";

fn main() -> ExitCode {
    Suite {
        name: "filter",
        edit: |_| {},
        tests: spinegate_tests::tests![
            a_stranger_is_dropped_before_the_network_stack_over_ipv4,
            a_stranger_is_dropped_before_the_network_stack_over_ipv6,
            an_allowlisted_source_reaches_the_listener_over_ipv4_and_ipv6,
            a_port_that_no_service_lists_is_left_alone,
            a_source_that_the_operator_adds_is_let_in_and_one_that_is_removed_is_not,
            an_added_source_is_still_there_after_a_restart,
            an_operators_verdict_holds_from_the_next_packet_on,
            a_verdict_silences_a_connection_that_is_already_open,
            a_verdict_ends_by_itself,
            failures_of_a_dedicated_system_earn_a_verdict_that_the_kernel_executes,
            failures_of_a_system_behind_the_proxy_earn_the_proxy_no_verdict,
            failures_of_the_proxy_itself_earn_a_verdict_at_its_own_threshold,
            packets_of_a_stranger_earn_no_verdict,
            the_policy_outlives_an_agent_that_is_killed,
            the_policy_outlives_an_agent_that_is_stopped,
            a_verdict_outlives_a_restart_with_its_remaining_time,
            a_restarted_agent_adopts_the_filter_and_its_counters,
            monitor_mode_counts_what_it_would_drop_and_passes_it,
        ],
    }
    .run()
}

fn a_stranger_is_dropped_before_the_network_stack_over_ipv4(lab: &mut Lab) -> Result<()> {
    dropped(lab, &lab.client(Host::Stranger), NOT_ALLOWLISTED)
}

fn a_stranger_is_dropped_before_the_network_stack_over_ipv6(lab: &mut Lab) -> Result<()> {
    dropped(lab, &lab.client(Host::Stranger).over(Family::V6), NOT_ALLOWLISTED)
}

fn an_allowlisted_source_reaches_the_listener_over_ipv4_and_ipv6(lab: &mut Lab) -> Result<()> {
    for host in [Host::Ssp, Host::System] {
        for family in [Family::V4, Family::V6] {
            let (client, tap) = (lab.client(host).over(family), lab.tap()?);
            let answer = client.answer(&search())?;
            ensure!(
                tap.syns(client.ip())? == 1,
                "the tap is blind, and proves nothing elsewhere"
            );
            ensure!(answer.status == 200, "{host} over {family:?}: {answer}");
        }
    }
    Ok(())
}

fn a_port_that_no_service_lists_is_left_alone(lab: &mut Lab) -> Result<()> {
    let ssh = SocketAddr::new(Host::Edge.address(Family::V4), 22);
    let knock = lab.client(Host::Stranger).knock_at(ssh)?;
    ensure!(
        knock == Knock::Refused,
        "the host itself must answer on port 22, but: {}",
        knock.as_str()
    );
    Ok(())
}

fn a_source_that_the_operator_adds_is_let_in_and_one_that_is_removed_is_not(lab: &mut Lab) -> Result<()> {
    for family in [Family::V4, Family::V6] {
        let client = lab.client(Host::Stranger).over(family);
        let cidr = host_cidr(&client);
        lab.agent().order(&["sources", "add", &cidr, "--name", "guest"])?;
        ensure!(
            client.knock()? == Knock::Opened,
            "{cidr} was added, but is not let in"
        );
        lab.agent().order(&["sources", "remove", &cidr])?;
        dropped(lab, &client, NOT_ALLOWLISTED)?;
    }
    Ok(())
}

fn an_added_source_is_still_there_after_a_restart(lab: &mut Lab) -> Result<()> {
    let cidr = host_cidr(&lab.client(Host::Stranger));
    lab.agent().order(&["sources", "add", &cidr, "--name", "guest"])?;
    restart(lab)?;
    ensure!(
        lab.client(Host::Stranger).knock()? == Knock::Opened,
        "{cidr} was forgotten"
    );
    lab.agent().order(&["sources", "remove", &cidr])?;
    restart(lab)?;
    dropped(lab, &lab.client(Host::Stranger), NOT_ALLOWLISTED)
}

fn an_operators_verdict_holds_from_the_next_packet_on(lab: &mut Lab) -> Result<()> {
    for family in [Family::V4, Family::V6] {
        let client = lab.client(Host::Ssp).over(family);
        lab.agent()
            .order(&["verdicts", "add", &client.address(), "--ttl", "10m"])?;
        dropped(lab, &client, DENIED)?;
        let verdict = lab
            .agent()
            .verdict_on(&client.address())?
            .context("the verdict is not listed")?;
        ensure!(*at(&verdict, "/reason") == "operator_order", "{verdict}");
        ensure!(
            at(&verdict, "/remaining_seconds")
                .as_u64()
                .is_some_and(|left| left > 590),
            "{verdict}"
        );
        lab.agent().order(&["verdicts", "remove", &client.address()])?;
        ensure!(
            client.knock()? == Knock::Opened,
            "the verdict was removed, but is still in force"
        );
    }
    Ok(())
}

fn a_verdict_silences_a_connection_that_is_already_open(lab: &mut Lab) -> Result<()> {
    let client = lab.client(Host::Ssp);
    // To garbage the gateway answers with an alert or a reset. Without the verdict one of them comes back.
    ensure!(talk(lab, || Ok(()))?, "without a verdict the gateway must answer");
    let silenced = talk(lab, || {
        lab.agent()
            .order(&["verdicts", "add", &client.address(), "--ttl", "10m"])
            .map(drop)
    })?;
    lab.agent().order(&["verdicts", "remove", &client.address()])?;
    ensure!(
        !silenced,
        "an answer came over a connection whose source is denied"
    );
    Ok(())
}

fn a_verdict_ends_by_itself(lab: &mut Lab) -> Result<()> {
    let client = lab.client(Host::Ssp);
    lab.agent()
        .order(&["verdicts", "add", &client.address(), "--ttl", "3s"])?;
    ensure!(client.knock()? == Knock::Silence, "the verdict is not in force");
    wait_until("the verdict to end", Duration::from_secs(6), || {
        Ok(client.knock()? == Knock::Opened)
    })?;
    ensure!(
        lab.agent().verdict_on(&client.address())?.is_none(),
        "a verdict that has ended is still listed"
    );
    Ok(())
}

fn failures_of_a_dedicated_system_earn_a_verdict_that_the_kernel_executes(lab: &mut Lab) -> Result<()> {
    let client = lab.client(Host::System).without_certificate();
    let failures = fail_until_denied(lab, &client, 10)?;
    ensure!(failures > 1, "a single failure must not cost a system its access");
    dropped(lab, &client, DENIED)?;
    let verdict = lab
        .agent()
        .verdict_on(&client.address())?
        .context("the verdict is not listed")?;
    ensure!(*at(&verdict, "/reason") == "certificate_missing", "{verdict}");
    wait_until("the verdict to end", Duration::from_secs(10), || {
        Ok(client.knock()? == Knock::Opened)
    })?;
    let answer = lab.client(Host::System).answer(&search())?;
    ensure!(answer.status == 200, "after the verdict: {answer}");
    pardon(lab, &client)
}

fn failures_of_a_system_behind_the_proxy_earn_the_proxy_no_verdict(lab: &mut Lab) -> Result<()> {
    let proxy = lab.client(Host::Ssp);
    let unknown = System {
        asid: UNKNOWN_ASID,
        ..CONSUMER
    };
    let (codes, _) = proxy.repeat(&Message::search(NHS_NUMBER).from(&unknown), 120)?;
    ensure!(
        codes.len() == 120 && codes.iter().all(|code| *code == 400),
        "{codes:?}"
    );
    ensure!(
        lab.agent().verdict_on(&proxy.address())?.is_none(),
        "the proxy paid for a system behind it"
    );
    let answer = proxy.answer(&search())?;
    ensure!(answer.status == 200, "another system behind the proxy: {answer}");
    Ok(())
}

fn failures_of_the_proxy_itself_earn_a_verdict_at_its_own_threshold(lab: &mut Lab) -> Result<()> {
    let proxy = lab.client(Host::Ssp).without_certificate();
    let failures = fail_until_denied(lab, &proxy, 60)?;
    ensure!(
        failures > 10,
        "{failures} failures are a system's threshold, not a proxy's"
    );
    dropped(lab, &proxy, DENIED)?;
    pardon(lab, &proxy)?;
    ensure!(
        proxy.knock()? == Knock::Opened,
        "the operator's pardon must be in force at once"
    );
    Ok(())
}

fn packets_of_a_stranger_earn_no_verdict(lab: &mut Lab) -> Result<()> {
    // Their source may be forged: a verdict would let anyone lock out anyone.
    let stranger = lab.client(Host::Stranger);
    for _ in 0..6 {
        ensure!(
            stranger.knock()? == Knock::Silence,
            "the stranger must be dropped"
        );
    }
    ensure!(
        lab.agent().verdict_on(&stranger.address())?.is_none(),
        "dropped packets earned a verdict"
    );
    Ok(())
}

fn the_policy_outlives_an_agent_that_is_killed(lab: &mut Lab) -> Result<()> {
    lab.agent().order(&[
        "verdicts",
        "add",
        &lab.client(Host::System).address(),
        "--ttl",
        "10m",
    ])?;
    lab.kill_agent()?;
    holds_without_agent(lab)?;
    lab.start_agent()?;
    pardon(lab, &lab.client(Host::System))
}

fn the_policy_outlives_an_agent_that_is_stopped(lab: &mut Lab) -> Result<()> {
    lab.agent().order(&[
        "verdicts",
        "add",
        &lab.client(Host::System).address(),
        "--ttl",
        "10m",
    ])?;
    lab.stop_agent()?;
    holds_without_agent(lab)?;
    lab.start_agent()?;
    pardon(lab, &lab.client(Host::System))
}

fn a_verdict_outlives_a_restart_with_its_remaining_time(lab: &mut Lab) -> Result<()> {
    let client = lab.client(Host::System);
    let address = client.address();
    lab.agent().order(&["verdicts", "add", &address, "--ttl", "5s"])?;
    lab.kill_agent()?;
    lab.start_agent()?;
    let verdict = lab
        .agent()
        .verdict_on(&address)?
        .context("the verdict was forgotten")?;
    ensure!(
        at(&verdict, "/remaining_seconds")
            .as_u64()
            .is_some_and(|left| left <= 5),
        "{verdict}"
    );
    let client = lab.client(Host::System);
    dropped(lab, &client, DENIED)?;
    wait_until("the verdict to end", Duration::from_secs(8), || {
        Ok(client.knock()? == Knock::Opened)
    })
}

fn a_restarted_agent_adopts_the_filter_and_its_counters(lab: &mut Lab) -> Result<()> {
    let before = lab.agent().drops(NOT_ALLOWLISTED)?;
    lab.kill_agent()?;
    ensure!(
        lab.client(Host::Stranger).knock()? == Knock::Silence,
        "open while there is no agent"
    );
    lab.start_agent()?;
    let after = lab.agent().drops(NOT_ALLOWLISTED)?;
    ensure!(
        after > before,
        "{before} drops before, {after} after: what was counted meanwhile is lost"
    );
    let answer = lab.client(Host::Ssp).answer(&search())?;
    ensure!(answer.status == 200, "after the restart: {answer}");
    dropped(lab, &lab.client(Host::Stranger), NOT_ALLOWLISTED)
}

fn monitor_mode_counts_what_it_would_drop_and_passes_it(lab: &mut Lab) -> Result<()> {
    set_mode(lab, "monitor")?;
    let pointer = format!("/filter/would_drops/{NOT_ALLOWLISTED}/packets");
    let would =
        |lab: &Lab| -> Result<u64> { Ok(at(&lab.agent().json(&["stats"])?, &pointer).as_u64().unwrap_or(0)) };
    let (before, drops) = (would(lab)?, lab.agent().drops(NOT_ALLOWLISTED)?);
    let knock = lab.client(Host::Stranger).knock()?;
    ensure!(
        knock == Knock::Opened,
        "monitor mode must pass: {}",
        knock.as_str()
    );
    ensure!(would(lab)? > before, "monitor mode must count what it would drop");
    ensure!(
        lab.agent().drops(NOT_ALLOWLISTED)? == drops,
        "monitor mode must not count it as dropped"
    );
    set_mode(lab, "enforce")?;
    dropped(lab, &lab.client(Host::Stranger), NOT_ALLOWLISTED)
}

fn holds_without_agent(lab: &Lab) -> Result<()> {
    for (host, wanted) in [
        (Host::Stranger, Knock::Silence),
        (Host::System, Knock::Silence),
        (Host::Ssp, Knock::Refused),
    ] {
        let knock = lab.client(host).knock()?;
        ensure!(
            knock == wanted,
            "{host} without an agent: {}, not {}",
            knock.as_str(),
            wanted.as_str()
        );
    }
    Ok(())
}

/// Fails handshakes until there is a verdict, and says how many it took.
fn fail_until_denied(lab: &Lab, client: &Client<'_>, limit: usize) -> Result<usize> {
    for failures in 0..=limit {
        if lab.agent().verdict_on(&client.address())?.is_some() {
            return Ok(failures);
        }
        client.handshake(Offer::RIGHT)?;
    }
    anyhow::bail!("no verdict on {} after {limit} failures", client.address())
}

/// Lifts a verdict, and forgets the failures that led to it.
fn pardon(lab: &Lab, client: &Client<'_>) -> Result<()> {
    lab.agent()
        .output(&["verdicts", "remove", &client.address()])
        .map(drop)
}

/// Opens a connection from the proxy, does something, writes garbage, and tells whether anything came back.
fn talk(lab: &Lab, meanwhile: impl FnOnce() -> Result<()> + Send) -> Result<bool> {
    let address = lab.gateway(Family::V4);
    netns::enter(&lab.network().namespace(Host::Ssp), || {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        meanwhile()?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        match stream.read(&mut [0; 64]) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(false),
            _ => Ok(true),
        }
    })
}

fn search() -> Message {
    Message::search(NHS_NUMBER).from(&CONSUMER)
}

fn host_cidr(client: &Client<'_>) -> String {
    let address = client.address();
    format!("{address}/{}", if address.contains(':') { 128 } else { 32 })
}

fn set_mode(lab: &mut Lab, mode: &str) -> Result<()> {
    lab.configure(|table| {
        if let Some(filter) = table.get_mut("filter").and_then(Value::as_table_mut) {
            filter.insert("mode".into(), mode.into());
        }
    })?;
    restart(lab)
}

fn restart(lab: &mut Lab) -> Result<()> {
    lab.stop_agent()?;
    lab.start_agent()
}
