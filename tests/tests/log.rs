//! The agent's log: its forms, its level at run time, what never stands in it, and how much of it there can be.

use std::{fs, process::ExitCode, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use spinegate_tests::{
    client::{Message, NHS_NUMBER, Token, pointer},
    command::Run,
    expect::{allowed, created, refused, serves},
    json::at,
    lab::{CONSUMER, Lab, PROVIDER, System, UNKNOWN_ASID, open_limits, open_metrics},
    netns::Host,
    suite::Suite,
    wait::wait_for,
};

const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    Suite {
        name: "log",
        edit: |table| {
            open_metrics(table);
            open_limits(table);
        },
        tests: spinegate_tests::tests![
            without_a_terminal_each_line_is_json,
            the_level_is_changed_while_it_runs_and_goes_back_on_restart,
            what_is_no_filter_changes_nothing,
            no_token_number_or_key_is_ever_in_it,
            a_flood_of_lines_is_bounded_counted_and_told,
            for_people_if_that_is_asked_for,
        ],
    }
    .run()
}

fn without_a_terminal_each_line_is_json(lab: &mut Lab) -> Result<()> {
    let log = lab.agent_process()?.log()?;
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
        .collect::<Result<_>>()?;
    let serving = lines
        .iter()
        .find(|line| *at(line, "/message") == "serving")
        .with_context(|| log.clone())?;
    ensure!(
        *at(serving, "/level") == "INFO" && *at(serving, "/target") == "spinegate::run",
        "{serving}"
    );
    Ok(())
}

fn the_level_is_changed_while_it_runs_and_goes_back_on_restart(lab: &mut Lab) -> Result<()> {
    let level = |lab: &Lab| lab.agent().json(&["log-level"]);
    ensure!(*at(&level(lab)?, "/filter") == "info");
    let before = lab.agent_process()?.log()?.matches("\"TRACE\"").count();
    ensure!(before == 0, "{before} lines of level trace");
    let mark = lab.audit().mark()?;
    lab.agent().order(&["log-level", "trace"])?;
    ensure!(*at(&level(lab)?, "/filter") == "trace");
    ensure!(*at(&lab.agent().json(&["status"])?, "/log_filter") == "trace");
    let lines = lab.audit().since(mark)?;
    ensure!(
        lines
            .iter()
            .any(|line| line.to_string().contains("log_level set") && *at(line, "/event") == "operator"),
        "{lines:?}"
    );
    serves(lab)?;
    wait_for("a line of level trace", PATIENCE, || {
        Ok(lab.agent_process()?.log()?.contains("\"TRACE\"").then_some(()))
    })?;
    lab.agent().order(&["log-level", "--reset"])?;
    ensure!(*at(&level(lab)?, "/filter") == "info");
    lab.agent().order(&["log-level", "warn"])?;
    lab.stop_agent()?;
    lab.start_agent()?;
    ensure!(*at(&level(lab)?, "/filter") == "info");
    Ok(())
}

fn what_is_no_filter_changes_nothing(lab: &mut Lab) -> Result<()> {
    let refused = lab.agent().output(&["log-level", "spinegate=loud"])?;
    ensure!(refused.code == Some(2), "{}", refused.said());
    ensure!(refused.said().contains("write a level"), "{}", refused.said());
    ensure!(*at(&lab.agent().json(&["log-level"])?, "/filter") == "info");
    Ok(())
}

fn no_token_number_or_key_is_ever_in_it(lab: &mut Lab) -> Result<()> {
    lab.agent().order(&["log-level", "trace"])?;
    let id = created(lab, &pointer(PROVIDER.ods, NHS_NUMBER))?;
    let token = Token::of(&CONSUMER, "read");
    allowed(lab, &Message::read(&id).from(&CONSUMER).token(&token), 200)?;
    allowed(lab, &Message::search(NHS_NUMBER).from(&CONSUMER), 200)?;
    let unknown = System {
        asid: UNKNOWN_ASID,
        ..CONSUMER
    };
    refused(
        lab,
        &Message::search(NHS_NUMBER).from(&unknown),
        400,
        "asid_unknown",
    )?;
    // In places where it is not looked for.
    let odd = Message::search(NHS_NUMBER)
        .from(&CONSUMER)
        .at(&format!("/STU3/{NHS_NUMBER}?subject={NHS_NUMBER}"));
    lab.client(Host::Ssp).send(&odd)?;
    lab.client(Host::Ssp).raw(
        format!("GET /STU3/{NHS_NUMBER} HTTP/1.1\r\nAuthorization: Bearer {NHS_NUMBER}\r\n\r\n").as_bytes(),
    )?;
    lab.agent().order(&["reload"])?;
    lab.stop_agent()?;
    let logs = logs(lab)?;
    lab.start_agent()?;
    ensure!(
        logs.contains("TRACE") && logs.contains("spinegate::"),
        "nothing was written"
    );
    ensure!(!logs.contains(NHS_NUMBER), "{}", around(&logs, NHS_NUMBER));
    // The header and the payload of every JWT begin so.
    ensure!(!logs.contains("eyJ"), "{}", around(&logs, "eyJ"));
    for line in keys(lab)? {
        ensure!(!logs.contains(&line), "a line of a key is in the log");
    }
    Ok(())
}

fn a_flood_of_lines_is_bounded_counted_and_told(lab: &mut Lab) -> Result<()> {
    lab.agent().order(&["log-level", "trace"])?;
    // At this level each connection is a line of the event loop's.
    for _ in 0..300 {
        lab.client(Host::Ssp).connect()?;
    }
    let told = wait_for("what was left out to be told", PATIENCE, || {
        Ok(lab
            .agent_process()?
            .log()?
            .contains("lines were left out")
            .then_some(()))
    });
    lab.agent().order(&["log-level", "--reset"])?;
    told?;
    let text = lab.metrics()?;
    let counted = text
        .lines()
        .find_map(|line| line.strip_prefix("spinegate_log_suppressed_total "))
        .context("it is not counted")?;
    ensure!(counted.parse::<u64>()? > 0, "{counted}");
    Ok(())
}

fn for_people_if_that_is_asked_for(lab: &mut Lab) -> Result<()> {
    lab.stop_agent()?;
    lab.start_agent_with(&["run", "--log-format", "human"])?;
    let log = lab.agent_process()?.log()?;
    let line = log
        .lines()
        .find(|line| line.contains(" spinegate::run: serving "))
        .with_context(|| log.clone())?;
    ensure!(
        line.contains(" INFO ") && !line.contains('{') && !line.contains('\x1b'),
        "{line}"
    );
    Ok(())
}

/// What the agent, its keeper and its commands have written in this lab.
fn logs(lab: &Lab) -> Result<String> {
    lab.agent_process()
        .and_then(spinegate_tests::lab::Background::log)
        .or_else(|_| fs::read_to_string(lab.files().log("agent")).context("the agent's log can't be read"))
}

/// Lines of base64 of the private keys that the agent reads.
fn keys(lab: &Lab) -> Result<Vec<String>> {
    let found = Run::new("grep")
        .args(["-rl", "PRIVATE KEY"])
        .arg(lab.files().folder())
        .success()?;
    let mut lines = Vec::new();
    for file in found.lines() {
        let text = fs::read_to_string(file)?;
        lines.extend(
            text.lines()
                .filter(|line| line.len() >= 40 && !line.starts_with('-'))
                .map(str::to_owned),
        );
    }
    ensure!(!lines.is_empty(), "no key was found");
    Ok(lines)
}

fn around(text: &str, what: &str) -> String {
    let line = text.lines().find(|line| line.contains(what)).unwrap_or_default();
    format!("{what} is in the log: {line}")
}
