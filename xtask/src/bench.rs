//! Measurements beside named peers, in one run.

use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;

use crate::{build, command, host};

/// What can be measured.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Subject {
    /// A packet's cost, beside xdp-filter's.
    Filter,
}

/// `cargo xtask bench`
pub(crate) fn run(subject: Subject, json: bool) -> Result<ExitCode> {
    let Subject::Filter = subject;
    if let Some(why) = host::obstacle() {
        eprintln!("xtask: {why}, so there is nothing to measure here");
        return Ok(ExitCode::FAILURE);
    }
    let mut cargo = build::cargo()?;
    cargo.args([
        "run",
        "--quiet",
        "--package",
        "spinegate",
        "--example",
        "filter-cost",
        "--",
    ]);
    command::run(cargo.args(json.then_some("--json")))?;
    Ok(ExitCode::SUCCESS)
}
