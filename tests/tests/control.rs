//! The operator's command line: every verb, its exit code, and what it changes.

use std::{fs, process::ExitCode};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use spinegate_tests::{
    client::{Knock, Message, NHS_NUMBER},
    command::Finished,
    json::at,
    lab::{Agent, CONSUMER, Interaction, Lab, PROVIDER, System, UNKNOWN_ASID, WRITER},
    netns::{Host, INTERFACE},
    suite::Suite,
};

/// Exit codes: refused or not found, bad usage or configuration, no agent.
const REFUSED: i32 = 1;
const USAGE: i32 = 2;
const NO_AGENT: i32 = 3;

fn main() -> ExitCode {
    Suite {
        name: "control",
        edit: |_| {},
        tests: spinegate_tests::tests![
            status_names_the_process_the_mode_and_the_interface,
            stats_count_handshakes_requests_and_refusals,
            sources_are_listed_added_and_removed,
            a_source_that_is_no_network_is_refused,
            a_source_that_is_not_there_cannot_be_removed,
            verdicts_are_listed_added_and_removed,
            a_verdict_on_what_is_no_address_is_refused,
            a_verdict_that_is_not_there_cannot_be_removed,
            explain_tells_an_allowed_request_from_a_refused_one,
            reload_puts_a_changed_registry_in_force,
            reload_of_a_faulty_file_leaves_the_old_policy_in_force_and_says_so,
            check_accepts_the_configuration_of_the_lab,
            without_an_agent_every_command_says_so,
            bad_usage_is_told_apart_from_everything_else,
            a_second_agent_on_the_same_socket_is_refused,
        ],
    }
    .run()
}

fn status_names_the_process_the_mode_and_the_interface(lab: &mut Lab) -> Result<()> {
    let status = lab.agent().json(&["status"])?;
    ensure!(*at(&status, "/mode") == "enforce", "{status}");
    let pid = at(&status, "/pid")
        .as_u64()
        .with_context(|| format!("no pid in {status}"))?;
    let command = fs::read_to_string(format!("/proc/{pid}/cmdline"))?;
    ensure!(command.contains("spinegate"), "process {pid} is {command:?}");
    ensure!(*at(&status, "/interfaces/0/name") == INTERFACE, "{status}");
    ensure!(
        at(&status, "/interfaces/0/program_id")
            .as_u64()
            .is_some_and(|id| id > 0),
        "{status}"
    );
    ensure!(lab.agent().order(&["status"])?.contains("enforce"));
    Ok(())
}

fn stats_count_handshakes_requests_and_refusals(lab: &mut Lab) -> Result<()> {
    let count = |pointer: &str| -> Result<u64> {
        Ok(at(&lab.agent().json(&["stats"])?, pointer).as_u64().unwrap_or(0))
    };
    let pointers = [
        "/handshakes/accepted",
        "/requests/allowed",
        "/requests/refused",
        "/refusals/asid_unknown",
    ];
    let before = pointers.map(count);
    let client = lab.client(Host::Ssp);
    client.answer(&search(&CONSUMER))?;
    client.answer(&search(&System {
        asid: UNKNOWN_ASID,
        ..CONSUMER
    }))?;
    for ((pointer, before), more) in pointers.iter().zip(before).zip([2, 1, 1, 1]) {
        let (before, after) = (before?, count(pointer)?);
        ensure!(
            after == before + more,
            "{pointer}: {before} before, {after} after, not {more} more"
        );
    }
    let stats = lab.agent().json(&["stats"])?;
    ensure!(
        at(&stats, "/filter/passes/allowlisted/packets")
            .as_u64()
            .is_some_and(|count| count > 0),
        "{stats}"
    );
    ensure!(at(&stats, "/filter/lost_events").is_u64(), "{stats}");
    Ok(())
}

fn sources_are_listed_added_and_removed(lab: &mut Lab) -> Result<()> {
    let agent = lab.agent();
    for (cidr, name, kind) in [
        ("192.0.2.0/24", "example", "proxy"),
        ("2001:db8::/32", "example6", "system"),
    ] {
        agent.order(&[
            "sources",
            "add",
            cidr,
            "--name",
            name,
            "--kind",
            kind,
            "--service",
            "tcp/443",
        ])?;
        let source = find(&agent, "sources", "cidr", cidr)?.context("the added source is not listed")?;
        ensure!(
            *at(&source, "/name") == name && *at(&source, "/kind") == kind,
            "{source}"
        );
        ensure!(agent.order(&["sources", "list"])?.contains(cidr));
        agent.order(&["sources", "remove", cidr])?;
        ensure!(
            find(&agent, "sources", "cidr", cidr)?.is_none(),
            "{cidr} is still listed"
        );
    }
    let configured =
        find(&agent, "sources", "name", "ssp")?.context("the configured source is not listed")?;
    ensure!(*at(&configured, "/kind") == "proxy", "{configured}");
    Ok(())
}

fn a_source_that_is_no_network_is_refused(lab: &mut Lab) -> Result<()> {
    for cidr in ["192.0.2.1/24", "192.0.2.0/33", "nonsense", "::/129"] {
        let finished = lab.agent().output(&["sources", "add", cidr, "--name", "x"])?;
        failed(&finished, &[USAGE], &[])?;
    }
    Ok(())
}

fn a_source_that_is_not_there_cannot_be_removed(lab: &mut Lab) -> Result<()> {
    failed(
        &lab.agent().output(&["sources", "remove", "198.51.100.0/24"])?,
        &[REFUSED],
        &["198.51.100.0/24"],
    )
}

fn verdicts_are_listed_added_and_removed(lab: &mut Lab) -> Result<()> {
    let agent = lab.agent();
    for address in ["192.0.2.7", "2001:db8::7"] {
        agent.order(&["verdicts", "add", address, "--ttl", "10m"])?;
        let verdict = agent
            .verdict_on(address)?
            .context("the added verdict is not listed")?;
        ensure!(
            *at(&verdict, "/kind") == "deny" && *at(&verdict, "/reason") == "operator_order",
            "{verdict}"
        );
        ensure!(agent.order(&["verdicts", "list"])?.contains(address));
        agent.order(&["verdicts", "remove", address])?;
        ensure!(
            agent.verdict_on(address)?.is_none(),
            "the verdict on {address} is still listed"
        );
    }
    Ok(())
}

fn a_verdict_on_what_is_no_address_is_refused(lab: &mut Lab) -> Result<()> {
    for arguments in [
        ["verdicts", "add", "nonsense", "--ttl", "1m"],
        ["verdicts", "add", "192.0.2.1/24", "--ttl", "1m"],
        ["verdicts", "add", "192.0.2.7", "--ttl", "soon"],
    ] {
        failed(&lab.agent().output(&arguments)?, &[USAGE], &[])?;
    }
    Ok(())
}

fn a_verdict_that_is_not_there_cannot_be_removed(lab: &mut Lab) -> Result<()> {
    failed(
        &lab.agent().output(&["verdicts", "remove", "198.51.100.1"])?,
        &[REFUSED],
        &["198.51.100.1"],
    )
}

fn explain_tells_an_allowed_request_from_a_refused_one(lab: &mut Lab) -> Result<()> {
    let explain = |asid: &str, interaction: Interaction, custodian: &str| {
        let arguments = [
            "explain",
            "--asid",
            asid,
            "--interaction",
            interaction.urn(),
            "--custodian",
            custodian,
            "--json",
        ];
        lab.agent().output(&arguments)
    };
    let allowed = explain(PROVIDER.asid, Interaction::Delete, PROVIDER.ods)?;
    ensure!(allowed.code == Some(0), "{}", allowed.said());
    for (asid, interaction, custodian, reason) in [
        (PROVIDER.asid, Interaction::Delete, "RGD", "not_owner"),
        (
            WRITER.asid,
            Interaction::Delete,
            WRITER.ods,
            "interaction_not_allowed",
        ),
        (UNKNOWN_ASID, Interaction::Delete, "RR8", "asid_unknown"),
    ] {
        let refused = explain(asid, interaction, custodian)?;
        serde_json::from_str::<Value>(&refused.stdout).with_context(|| refused.said())?;
        ensure!(
            refused.stdout.contains(reason),
            "{reason} is not named: {}",
            refused.said()
        );
        ensure!(
            !allowed.stdout.contains(&format!("\"{reason}\"")),
            "{}",
            allowed.stdout
        );
    }
    Ok(())
}

fn reload_puts_a_changed_registry_in_force(lab: &mut Lab) -> Result<()> {
    let registry = lab.files().registry();
    let old = fs::read_to_string(&registry)?;
    let newcomer = System {
        asid: UNKNOWN_ASID,
        ..CONSUMER
    };
    ensure!(lab.client(Host::Ssp).answer(&search(&newcomer))?.status == 400);
    let added = format!(
        "{old}\n[[system]]\nasid = \"{}\"\nods = \"{}\"\ninteractions = [\"{}\"]\n",
        newcomer.asid,
        newcomer.ods,
        Interaction::Search.urn()
    );
    fs::write(&registry, added)?;
    lab.agent().order(&["reload"])?;
    let answer = lab.client(Host::Ssp).answer(&search(&newcomer))?;
    ensure!(answer.status == 200, "{answer}");
    fs::write(&registry, old)?;
    lab.agent().order(&["reload"])?;
    ensure!(
        lab.client(Host::Ssp).answer(&search(&newcomer))?.status == 400,
        "what was removed is still in force"
    );
    Ok(())
}

fn reload_of_a_faulty_file_leaves_the_old_policy_in_force_and_says_so(lab: &mut Lab) -> Result<()> {
    let config = lab.files().config();
    let old = fs::read_to_string(&config)?;
    fs::write(
        &config,
        old.replace("mode = \"enforce\"", "mode = \"off-and-on\""),
    )?;
    let finished = lab.agent().output(&["reload"])?;
    fs::write(&config, old)?;
    failed(&finished, &[REFUSED, USAGE], &["filter.mode", "spinegate.toml"])?;
    ensure!(
        lab.client(Host::Stranger).knock()? == Knock::Silence,
        "the filter is open"
    );
    ensure!(lab.client(Host::Ssp).answer(&search(&CONSUMER))?.status == 200);
    lab.agent().order(&["reload"]).map(drop)
}

fn check_accepts_the_configuration_of_the_lab(lab: &mut Lab) -> Result<()> {
    let finished = lab.at_edge(&lab.files().config(), &["check"])?;
    ensure!(finished.code == Some(0), "{}", finished.said());
    ensure!(finished.stderr.is_empty(), "it said more: {}", finished.stderr);
    Ok(())
}

fn without_an_agent_every_command_says_so(lab: &mut Lab) -> Result<()> {
    lab.kill_agent()?;
    let agent = lab.agent();
    for arguments in [
        &["status"][..],
        &["stats", "--json"],
        &["sources", "list"],
        &["sources", "add", "192.0.2.0/24", "--name", "x"],
        &["verdicts", "list"],
        &["verdicts", "remove", "192.0.2.1"],
        &["reload"],
    ] {
        failed(&agent.output(arguments)?, &[NO_AGENT], &[]).with_context(|| format!("{arguments:?}"))?;
    }
    lab.start_agent()
}

fn bad_usage_is_told_apart_from_everything_else(lab: &mut Lab) -> Result<()> {
    for arguments in [
        &["frobnicate"][..],
        &["sources", "add"],
        &["explain"],
        &["status", "--nonsense"],
    ] {
        failed(&lab.agent().output(arguments)?, &[USAGE], &[]).with_context(|| format!("{arguments:?}"))?;
    }
    Ok(())
}

fn a_second_agent_on_the_same_socket_is_refused(lab: &mut Lab) -> Result<()> {
    let finished = lab.at_edge(&lab.files().config(), &["run"])?;
    ensure!(
        finished.code.is_some_and(|code| code != 0),
        "a second agent ran: {}",
        finished.said()
    );
    ensure!(
        lab.client(Host::Ssp).answer(&search(&CONSUMER))?.status == 200,
        "the first agent no longer serves"
    );
    ensure!(
        lab.client(Host::Stranger).knock()? == Knock::Silence,
        "the filter is open"
    );
    lab.agent().order(&["status"]).map(drop)
}

fn search(system: &System) -> Message {
    Message::search(NHS_NUMBER).from(system)
}

fn find(agent: &Agent, what: &str, key: &str, value: &str) -> Result<Option<Value>> {
    let list = agent.json(&[what, "list"])?;
    let list = list
        .as_array()
        .with_context(|| format!("`{what} list --json` printed no list"))?;
    Ok(list
        .iter()
        .find(|one| one.get(key).is_some_and(|one| one == value))
        .cloned())
}

/// It failed with one of these exit codes, and its error names these things.
fn failed(finished: &Finished, codes: &[i32], words: &[&str]) -> Result<()> {
    let said = finished.said();
    ensure!(
        finished.code.is_some_and(|code| codes.contains(&code)),
        "`{}` ended with {:?}, not with one of {codes:?}: {said}",
        finished.command,
        finished.code
    );
    ensure!(
        !finished.stderr.trim().is_empty(),
        "`{}` failed without a word",
        finished.command
    );
    for word in words {
        ensure!(
            said.contains(word),
            "`{}` does not name {word}: {said}",
            finished.command
        );
    }
    Ok(())
}
