//! The lab by hand: up, down, status, and the demo.

use std::{env, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use spinegate_tests::{
    demo,
    lab::{self, Lab, Plan},
};

/// A whole Spinegate in network namespaces of this machine: edge host, proxy, system, stranger, PKI, record locator, agent.
#[derive(Parser)]
#[command(name = "spinegate-lab", version)]
struct Arguments {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Args)]
struct Place {
    /// The lab's name; its namespaces' names begin with it.
    #[arg(long, global = true, default_value = "sg")]
    name: String,
    /// The folder for all of the lab's files.
    #[arg(long, global = true, default_value = "target/lab")]
    dir: PathBuf,
    /// The agent's binary [default: `spinegate` beside this binary].
    #[arg(long, global = true)]
    agent: Option<PathBuf>,
    /// The record locator's binary [default: `record-locator` beside this binary].
    #[arg(long, global = true)]
    locator: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Verb {
    /// Bring the lab up, and leave it up.
    Up,
    /// Remove all of the lab, also after a crash.
    Down,
    /// Say what there is of the lab; exit code 1 if it is not wholly up.
    Status {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Play the story: a real request passes, and every kind of intruder fails. Exit code 1 if anything was not as expected.
    Demo {
        /// Leave the lab up, and print commands to try.
        #[arg(long)]
        keep: bool,
        /// Print the results as JSON.
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("spinegate-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<bool> {
    let Arguments { place, verb } = arguments;
    match verb {
        Verb::Up => {
            let lab = Lab::up(place.plan()?)?;
            println!(
                "lab {} is up; {} says where everything is",
                lab.name(),
                lab.files().record().display()
            );
            print!("{}", demo::commands(&lab));
            lab.leave();
            Ok(true)
        }
        Verb::Down => {
            let removed = lab::down(&place.name, &place.dir)?;
            removed.iter().for_each(|what| println!("removed {what}"));
            if removed.is_empty() {
                println!("nothing of lab {} was there", place.name);
            }
            Ok(true)
        }
        Verb::Status { json } => {
            let status = lab::status(&place.name, &place.dir)?;
            if json {
                println!("{}", serde_json::to_string_pretty(&status)?);
            } else {
                println!("{status}");
            }
            Ok(status.up)
        }
        Verb::Demo { keep, json } => demo::play(place.plan()?, demo::Show { keep, json }),
    }
}

impl Place {
    fn plan(&self) -> Result<Plan> {
        let own = env::current_exe().context("can't tell where this binary is")?;
        let beside = |name: &str| own.with_file_name(name);
        Ok(Plan {
            name: self.name.clone(),
            folder: self.dir.clone(),
            agent: self.agent.clone().unwrap_or_else(|| beside("spinegate")),
            locator: self.locator.clone().unwrap_or_else(|| beside("record-locator")),
            // Not in the lab's folder, which goes with the lab.
            keys: beside("lab-keys"),
            edit: |_| {},
        })
    }
}
