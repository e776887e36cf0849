//! `cargo xtask`: everything that is done with this repository besides editing it.

mod bench;
mod build;
mod command;
mod conformance;
mod debian;
mod host;
mod lab;
mod package;
mod setup;
mod test;
mod threats;
mod vm;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};

/// Setup, demo, tests, lab and VM of Spinegate.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install what is missing on this machine. Every other verb does this first.
    Setup {
        /// Only say what would be done.
        #[arg(long)]
        dry_run: bool,
    },
    /// Play the story: a real request passes, and every kind of intruder fails.
    Demo {
        /// Leave the lab up, and print commands to try.
        #[arg(long)]
        keep: bool,
        /// Print the results as JSON.
        #[arg(long)]
        json: bool,
    },
    /// The lab of namespaces that the demo plays in.
    Lab {
        /// What to do with it.
        action: lab::Action,
    },
    /// Format, lints, unit tests, packet tables, lab suites, the filter on kernel 6.1, conformance, threat model.
    Test {
        /// Succeed though tests were skipped.
        #[arg(long)]
        allow_skips: bool,
    },
    /// Run the demo, the tests or the filter's tests in a virtual machine with a Debian kernel.
    Vm {
        /// The kernel's series.
        #[arg(long, default_value = "6.1")]
        kernel: vm::Series,
        /// What to run.
        #[arg(last = true, required = true)]
        payload: vm::Payload,
    },
    /// Measure beside the tools that an operator could install instead.
    Bench {
        /// What to measure.
        subject: bench::Subject,
        /// Print the figures as JSON.
        #[arg(long)]
        json: bool,
        /// Write the figures into docs/benchmarks.md, and draw them.
        #[arg(long, conflicts_with = "json")]
        write: bool,
    },
    /// Make the Debian package, in target/package.
    Package {
        /// For tests: not optimised, and with the system's OpenSSL.
        #[arg(long)]
        quick: bool,
        /// Those that the package's own suite installs and upgrades to.
        #[arg(long, conflicts_with = "quick")]
        suite: bool,
    },
    /// Compare README.md's conformance table with docs/conformance.toml.
    Conformance {
        /// Write the table anew.
        #[arg(long)]
        write: bool,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().verb) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::Setup { dry_run } => setup::run(dry_run).map(|()| ExitCode::SUCCESS),
        Verb::Conformance { write } => conformance::table(write).map(|()| ExitCode::SUCCESS),
        verb => {
            setup::run(false)?;
            match verb {
                Verb::Demo { keep, json } => lab::demo(keep, json),
                Verb::Lab { action } => lab::run(action),
                Verb::Test { allow_skips } => test::run(allow_skips),
                Verb::Vm { kernel, payload } => vm::run(kernel, payload),
                Verb::Bench { subject, json, write } => bench::run(subject, json, write),
                Verb::Package { suite: true, .. } => package::for_the_suite().map(|_| ExitCode::SUCCESS),
                Verb::Package { quick, .. } => package::run(quick).map(|()| ExitCode::SUCCESS),
                Verb::Setup { .. } | Verb::Conformance { .. } => Ok(ExitCode::SUCCESS),
            }
        }
    }
}

/// The word of a value, as the command line has it.
fn word<T: ValueEnum>(value: T) -> String {
    value
        .to_possible_value()
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default()
}
