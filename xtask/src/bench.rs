//! Measurements beside named peers, in one run.

mod page;
mod picture;
mod proxies;

use std::{
    fs,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use serde_json::Value;

use self::page::Page;
use crate::{build, command, host};

/// What can be measured.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Subject {
    /// What the filter costs, beside xdp-filter and nftables.
    Filter,
    /// What handshakes cost, beside nginx, HAProxy and stunnel.
    Handshake,
    /// What requests cost, beside nginx and HAProxy.
    Gateway,
    /// How many decisions a second the audit log takes.
    Audit,
    /// What a registry of a million systems costs.
    Registry,
}

const PICTURE: &str = "docs/benchmarks.svg";

/// `cargo xtask bench`
pub(crate) fn run(subject: Subject, json: bool, write: bool) -> Result<ExitCode> {
    if let Some(why) = host::obstacle() {
        eprintln!("xtask: {why}, so there is nothing to measure here");
        return Ok(ExitCode::FAILURE);
    }
    let mut measuring = match subject {
        Subject::Filter => example("bench-filter")?,
        Subject::Registry => example("bench-registry")?,
        Subject::Handshake => proxies::handshake()?,
        Subject::Gateway => proxies::gateway()?,
        Subject::Audit => audit()?,
    };
    if !write {
        command::run(measuring.args(json.then_some("--json")))?;
        return Ok(ExitCode::SUCCESS);
    }
    let output = measuring.arg("--json").output().context("measuring")?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{}", said.trim());
    let figures: Value = serde_json::from_slice(&output.stdout).context("the benchmark's JSON")?;
    match subject {
        Subject::Filter => {
            Page::read("figures")?.write(&page::table(&figures)?)?;
            fs::write(host::root().join(PICTURE), picture::draw(&figures))?;
            println!("xtask: {} and {PICTURE} hold this run's figures", page::PATH);
        }
        Subject::Handshake => put("handshakes", &figures, &said)?,
        Subject::Gateway => put("requests", &figures, &said)?,
        Subject::Audit => put("audit", &figures, &said)?,
        Subject::Registry => put("registry", &figures, &said)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Puts a run's figures on their part of the page, and what the run said besides.
fn put(part: &str, figures: &Value, said: &str) -> Result<()> {
    let mut text = page::table(figures)?;
    if !said.trim().is_empty() {
        text.push_str(&format!("\n```text\n{}\n```\n", said.trim()));
    }
    Page::read(part)?.write(&text)?;
    println!("xtask: {} holds this run's figures", page::PATH);
    Ok(())
}

/// On the disk that holds what is built.
fn audit() -> Result<Command> {
    let mut command = example("bench-audit")?;
    command.arg(host::target());
    Ok(command)
}

fn example(name: &str) -> Result<Command> {
    let mut cargo = build::cargo()?;
    #[rustfmt::skip]
    cargo.args(["run", "--quiet", "--profile", "measure", "--package", "spinegate", "--example", name, "--"]);
    Ok(cargo)
}
