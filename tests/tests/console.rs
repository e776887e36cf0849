//! What an operator sees: tables and colours, `--watch`, `top` on a terminal, `doctor`, and what a reload would change.

use std::{fs, process::ExitCode, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use spinegate_tests::{
    client::{Message, NHS_NUMBER},
    command::{Finished, Run},
    json::at,
    lab::{CONSUMER, Lab, section},
    netns::{Host, INTERFACE},
    pty::Terminal,
    suite::Suite,
    wait::wait_until,
};
use toml::Value as Setting;

/// Longer than a round of `top` and of `--watch 1`, on a busy machine.
const SOON: Duration = Duration::from_secs(10);
const CHANGES: i32 = 1;
const USAGE: i32 = 2;
const NO_AGENT: i32 = 3;

fn main() -> ExitCode {
    Suite {
        name: "console",
        edit: |_| {},
        tests: spinegate_tests::tests![
            a_pipe_gets_whole_rows_without_colours_and_a_terminal_gets_colours,
            a_watched_status_is_shown_again_and_ends_with_control_c,
            a_watched_status_without_a_terminal_is_repeated_with_a_separator,
            top_shows_what_happens_and_obeys_its_keys,
            top_without_a_terminal_prints_tables,
            doctor_finds_a_working_gateway_in_order,
            doctor_names_what_is_amiss,
            doctor_tells_a_faulty_configuration_apart,
            check_shows_what_a_reload_would_change_and_after_it_nothing,
            what_comes_goes_with_the_agent_ends_with_its_exit_code,
        ],
    }
    .run()
}

fn a_pipe_gets_whole_rows_without_colours_and_a_terminal_gets_colours(lab: &mut Lab) -> Result<()> {
    let piped = lab.agent().order(&["status"])?;
    ensure!(!piped.contains('\u{1b}'), "{piped}");
    let forced = lab.agent().order(&["--color", "always", "status"])?;
    ensure!(forced.contains('\u{1b}'), "{forced}");
    for (arguments, colored) in [(&["status"][..], true), (&["--color", "never", "status"], false)] {
        let mut terminal = Terminal::start(&command(lab, arguments), 120, 60)?;
        let status = terminal.end(SOON)?;
        ensure!(status == Some(0), "{status:?}: {}", terminal.text());
        terminal.shows("XDP SLOT", SOON)?;
        ensure!(
            terminal.is_colored() == colored,
            "{arguments:?}: {}",
            terminal.text()
        );
    }
    Ok(())
}

fn a_watched_status_is_shown_again_and_ends_with_control_c(lab: &mut Lab) -> Result<()> {
    let mut terminal = Terminal::start(&command(lab, &["stats", "--watch", "1"]), 100, 60)?;
    terminal.shows("requests allowed", SOON)?;
    let allowed = count(&terminal.text(), "requests allowed")?;
    lab.client(Host::Ssp)
        .answer(&Message::search(NHS_NUMBER).from(&CONSUMER))?;
    wait_until("one request more", SOON, || {
        // It may be just being drawn.
        Ok(count(&terminal.text(), "requests allowed").is_ok_and(|count| count == allowed + 1))
    })?;
    terminal.press("\u{3}")?;
    let status = terminal.end(SOON)?;
    ensure!(status == Some(0), "Ctrl-C ended it with {status:?}");
    Ok(())
}

fn a_watched_status_without_a_terminal_is_repeated_with_a_separator(lab: &mut Lab) -> Result<()> {
    let watched = |arguments: &[&str]| {
        Run::new("timeout")
            .args(["--signal=INT", "2.5"])
            .args(command(lab, arguments).words())
            .output()
    };
    let finished = watched(&["verdicts", "list", "--watch", "1"])?;
    ensure!(finished.stdout.matches("SOURCE ").count() >= 2, "{finished:?}");
    ensure!(finished.stdout.contains("\n---\nSOURCE "), "{finished:?}");
    let finished = watched(&["errors", "--watch", "1", "--json"])?;
    let lines: Vec<Value> = finished
        .stdout
        .lines()
        .filter(|line| !line.is_empty())
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    ensure!(
        lines.len() >= 2 && lines.iter().all(Value::is_array),
        "{finished:?}"
    );
    Ok(())
}

fn top_shows_what_happens_and_obeys_its_keys(lab: &mut Lab) -> Result<()> {
    let mut terminal = Terminal::start(&command(lab, &["top"]), 80, 24)?;
    terminal.shows("Packets by reason", SOON)?;
    ensure!(terminal.is_alternate(), "it draws over what was there");
    for word in ["enforce", "Verdicts in force", "own certificate", "q quit"] {
        terminal.shows(word, SOON)?;
    }
    lab.client(Host::Stranger).knock()?;
    terminal.shows("source_not_allowlisted", SOON)?;
    lab.agent()
        .order(&["verdicts", "add", "198.51.100.7", "--ttl", "1h"])?;
    terminal.shows("198.51.100.7", SOON)?;
    terminal.press("/198.51\r")?;
    terminal.shows("/ filter [198.51", SOON)?;
    ensure!(
        !terminal.text().contains("own certificate"),
        "{}",
        terminal.text()
    );
    terminal.press("\u{1b}")?;
    terminal.shows("own certificate", SOON)?;
    terminal.press("p")?;
    terminal.shows("PAUSED", SOON)?;
    terminal.resize(60, 20)?;
    terminal.shows("too small", SOON)?;
    terminal.resize(170, 40)?;
    terminal.shows("Packets by allowlist entry", SOON)?;
    terminal.press("q")?;
    let status = terminal.end(SOON)?;
    ensure!(status == Some(0), "q ended it with {status:?}");
    ensure!(!terminal.is_alternate(), "the screen was not given back");
    lab.agent().order(&["verdicts", "clear"]).map(drop)
}

fn top_without_a_terminal_prints_tables(lab: &mut Lab) -> Result<()> {
    let once = lab.agent().order(&["top", "--once"])?;
    ensure!(once.starts_with("FILTER") && !once.contains('\u{1b}'), "{once}");
    let rates = lab.agent().json(&["top", "--once"])?;
    for key in [
        "/seconds",
        "/filter",
        "/actions",
        "/refusals",
        "/handshakes_refused",
    ] {
        ensure!(!at(&rates, key).is_null(), "{key}: {rates}");
    }
    Ok(())
}

fn doctor_finds_a_working_gateway_in_order(lab: &mut Lab) -> Result<()> {
    let (finished, report) = doctor(lab)?;
    ensure!(finished.code == Some(0), "{}", finished.said());
    for check in [
        "kernel",
        "btf",
        "bpf_jit",
        "capabilities",
        "memlock",
        "clock",
        "configuration",
        "bpffs",
        "interface",
        "driver",
        "mtu",
        "lro",
        "vlan_offload",
        "openssl",
        "certificate",
        "crl",
        "registry",
        "upstream",
        "control",
        "audit",
    ] {
        let outcome = outcome(&report, check)?;
        ensure!(
            outcome == "ok" || outcome == "warn",
            "{check} is {outcome}: {report}"
        );
    }
    for check in [
        "kernel",
        "btf",
        "bpffs",
        "interface",
        "certificate",
        "crl",
        "registry",
        "upstream",
        "control",
    ] {
        let outcome = outcome(&report, check)?;
        ensure!(outcome == "ok", "{check} is {outcome}: {report}");
    }
    let said = lab.at_edge(&lab.files().config(), &["doctor"])?.stdout;
    ensure!(said.contains("guarded, ") && said.contains(INTERFACE), "{said}");
    ensure!(said.trim_end().ends_with(" amiss"), "{said}");
    Ok(())
}

fn doctor_names_what_is_amiss(lab: &mut Lab) -> Result<()> {
    let before = fs::read_to_string(lab.files().config())?;
    lab.configure(|table| {
        for (section, key, value) in [
            ("gateway", "upstream", Setting::from("http://127.0.0.1:9")),
            ("filter", "interfaces", vec![INTERFACE, "eth9"].into()),
            ("filter", "pin_dir", "/tmp/spinegate-no-bpffs".into()),
        ] {
            if let Some(section) = table.get_mut(section).and_then(Setting::as_table_mut) {
                section.insert(key.to_owned(), value);
            }
        }
    })?;
    let (finished, report) = doctor(lab)?;
    fs::write(lab.files().config(), before)?;
    ensure!(finished.code == Some(1), "{}", finished.said());
    for check in ["upstream", "bpffs"] {
        let outcome = outcome(&report, check)?;
        ensure!(outcome == "fail", "{check} is {outcome}: {report}");
    }
    let checks = at(&report, "/checks").as_array().context("no checks")?;
    let gone = checks
        .iter()
        .find(|check| *at(check, "/check") == "interface" && *at(check, "/about") == "eth9")
        .context("eth9 is not named")?;
    ensure!(
        *at(gone, "/outcome") == "fail" && at(gone, "/mend").is_string(),
        "{gone}"
    );
    Ok(())
}

fn doctor_tells_a_faulty_configuration_apart(lab: &mut Lab) -> Result<()> {
    let before = fs::read_to_string(lab.files().config())?;
    fs::write(
        lab.files().config(),
        before.replace("mode = \"enforce\"", "mode = \"enforced\""),
    )?;
    let (finished, report) = doctor(lab)?;
    fs::write(lab.files().config(), before)?;
    ensure!(finished.code == Some(USAGE), "{}", finished.said());
    ensure!(outcome(&report, "configuration")? == "fail", "{report}");
    ensure!(outcome(&report, "kernel")? == "ok", "{report}");
    Ok(())
}

fn check_shows_what_a_reload_would_change_and_after_it_nothing(lab: &mut Lab) -> Result<()> {
    let config = lab.files().config();
    let check = |arguments: &[&str]| lab.at_edge(&config, &[&["check", "--diff"], arguments].concat());
    let finished = check(&["--exit-code"])?;
    ensure!(
        finished.code == Some(0) && finished.stdout.ends_with("a reload would change nothing\n"),
        "{}",
        finished.said()
    );

    let before = fs::read_to_string(&config)?;
    let registry = lab.files().registry();
    let systems = fs::read_to_string(&registry).context("the lab's registry")?;
    let mut changed: toml::Table = toml::from_str(&systems)?;
    let list = changed
        .get_mut("system")
        .and_then(Setting::as_array_mut)
        .context("no systems")?;
    let mut more = list.first().context("no system")?.clone();
    more.as_table_mut()
        .context("no table")?
        .insert("asid".into(), "200000000999".into());
    list.push(more);
    fs::write(&registry, toml::to_string(&changed)?)?;
    lab.configure(|table| {
        section(table, "verdict").insert("ttl".into(), "2m".into());
        // It is so already.
        section(table, "gateway").insert("body_timeout".into(), "30000ms".into());
        let sources = table
            .get_mut("filter")
            .and_then(|filter| filter.get_mut("source"));
        if let Some(sources) = sources.and_then(Setting::as_array_mut) {
            sources.push(
                toml::Table::from_iter([
                    ("cidr".to_owned(), Setting::from("192.0.2.0/24")),
                    ("name".to_owned(), Setting::from("newcomer")),
                ])
                .into(),
            );
        }
    })?;
    let text = check(&[])?;
    let coded = check(&["--exit-code"])?;
    let json = check(&["--json"])?;
    lab.agent().order(&["reload"])?;
    let after = check(&["--exit-code"])?;
    fs::write(&config, before)?;
    fs::write(&registry, systems)?;
    lab.agent().order(&["reload"])?;

    ensure!(
        text.code == Some(0) && coded.code == Some(CHANGES),
        "{text:?}\n{coded:?}"
    );
    for words in [
        "verdict.ttl",
        "\"4s\"",
        "\"2m\"",
        "+ 192.0.2.0/24",
        "newcomer",
        "+ 200000000999",
        "systems: 1 added, 0 removed, 0 changed",
    ] {
        ensure!(text.stdout.contains(words), "{words}: {}", text.stdout);
    }
    let json: Value = serde_json::from_str(&json.stdout)?;
    ensure!(*at(&json, "/running") == true, "{json}");
    ensure!(
        *at(&json, "/difference/sources/added/0/name") == "newcomer",
        "{json}"
    );
    ensure!(
        *at(&json, "/difference/settings/0/key") == "verdict.ttl"
            && at(&json, "/difference/settings/1").is_null(),
        "{json}"
    );
    ensure!(
        *at(&json, "/difference/systems/added/0/asid") == "200000000999",
        "{json}"
    );
    ensure!(
        after.code == Some(0) && after.stdout.ends_with("a reload would change nothing\n"),
        "after the reload: {}",
        after.said()
    );
    Ok(())
}

fn what_comes_goes_with_the_agent_ends_with_its_exit_code(lab: &mut Lab) -> Result<()> {
    let mut watched = Terminal::start(&command(lab, &["status", "--watch", "1"]), 100, 30)?;
    let mut top = Terminal::start(&command(lab, &["top"]), 80, 24)?;
    watched.shows("enforce", SOON)?;
    top.shows("Packets by reason", SOON)?;
    lab.kill_agent()?;
    for (what, terminal) in [("status --watch", &mut watched), ("top", &mut top)] {
        let status = terminal.end(SOON)?;
        ensure!(
            status == Some(NO_AGENT),
            "{what} ended with {status:?}: {}",
            terminal.text()
        );
        terminal.shows("the agent is not running", SOON)?;
    }
    let finished = lab.at_edge(&lab.files().config(), &["check", "--diff"])?;
    ensure!(
        finished.code == Some(NO_AGENT) && finished.stdout.contains("sound"),
        "{}",
        finished.said()
    );
    let (finished, report) = doctor(lab)?;
    ensure!(finished.code == Some(1), "{}", finished.said());
    ensure!(outcome(&report, "control")? == "fail", "{report}");
    lab.start_agent()
}

/// The report of `doctor --json`, and how it ended.
fn doctor(lab: &Lab) -> Result<(Finished, Value)> {
    let finished = lab.at_edge(&lab.files().config(), &["doctor", "--json"])?;
    let report = serde_json::from_str(&finished.stdout).with_context(|| finished.said())?;
    Ok((finished, report))
}

/// The worst outcome of a check: it may have been made of several things.
fn outcome(report: &Value, check: &str) -> Result<String> {
    let checks = at(report, "/checks").as_array().context("no checks")?;
    let outcomes = checks.iter().filter(|found| *at(found, "/check") == check);
    let outcomes: Vec<&str> = outcomes
        .filter_map(|found| at(found, "/outcome").as_str())
        .collect();
    let worst = ["fail", "warn", "ok"]
        .into_iter()
        .find(|one| outcomes.contains(one));
    Ok(worst
        .with_context(|| format!("{check} was not looked at: {report}"))?
        .to_owned())
}

/// A command of the agent on the edge host.
fn command(lab: &Lab, arguments: &[&str]) -> Run {
    Run::inside(&lab.network().namespace(Host::Edge), lab.binary())
        .arg("--config")
        .arg(lab.files().config())
        .args(arguments)
}

fn count(text: &str, name: &str) -> Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.with_context(|| format!("no {name} in\n{text}"))?
        .trim()
        .parse()
        .with_context(|| format!("{name} is no number in\n{text}"))
}
