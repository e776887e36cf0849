//! Measurements beside named peers, in one run.

mod picture;

use std::{
    fs,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use serde_json::Value;

use crate::{build, command, host};

/// What can be measured.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Subject {
    /// What the filter costs, beside xdp-filter and nftables.
    Filter,
}

const PAGE: &str = "docs/benchmarks.md";
const PICTURE: &str = "docs/benchmarks.svg";
const BEGIN: &str = "<!-- figures:begin -->";
const END: &str = "<!-- figures:end -->";

/// `cargo xtask bench`
pub(crate) fn run(subject: Subject, json: bool, write: bool) -> Result<ExitCode> {
    let Subject::Filter = subject;
    if let Some(why) = host::obstacle() {
        eprintln!("xtask: {why}, so there is nothing to measure here");
        return Ok(ExitCode::FAILURE);
    }
    if !write {
        command::run(measuring()?.args(json.then_some("--json")))?;
        return Ok(ExitCode::SUCCESS);
    }
    let output = measuring()?.arg("--json").output().context("measuring")?;
    anyhow::ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let figures: Value = serde_json::from_slice(&output.stdout).context("the benchmark's JSON")?;
    let page = host::root().join(PAGE);
    let text = fs::read_to_string(&page).with_context(|| PAGE.to_owned())?;
    let (before, rest) = text
        .split_once(BEGIN)
        .with_context(|| format!("{PAGE} has no {BEGIN}"))?;
    let (_, after) = rest
        .split_once(END)
        .with_context(|| format!("{PAGE} has no {END}"))?;
    let table = table(&figures)?;
    fs::write(&page, format!("{before}{BEGIN}\n{table}{END}{after}"))?;
    fs::write(host::root().join(PICTURE), picture::draw(&figures))?;
    println!("xtask: {PAGE} and {PICTURE} hold this run's figures");
    Ok(ExitCode::SUCCESS)
}

fn measuring() -> Result<Command> {
    let mut cargo = build::cargo()?;
    #[rustfmt::skip]
    cargo.args(["run", "--quiet", "--profile", "measure", "--package", "spinegate", "--example", "bench-filter", "--"]);
    Ok(cargo)
}

/// The machine, and every figure.
fn table(figures: &Value) -> Result<String> {
    let figures = figures.as_object().context("figures")?;
    let mut text = format!("Measured on {}.\n\n| figure | value |\n|---|---:|\n", machine());
    for (key, value) in figures {
        text.push_str(&format!("| `{key}` | {value} |\n"));
    }
    Ok(text)
}

fn machine() -> String {
    let field = |file: &str, name: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':'))
            .map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{cores} cores ({}) of a virtual machine with {}, kernel {}",
        field("/proc/cpuinfo", "model name"),
        field("/proc/meminfo", "MemTotal"),
        kernel.trim()
    )
}
