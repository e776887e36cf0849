//! The command line: parses it, hands it to the subcommand, turns what came of it into an exit code.

mod attach;
mod audit;
mod cert;
mod check;
mod completions;
mod crl;
mod detach;
mod difference;
mod doctor;
mod errors;
mod events;
mod explain;
mod failure;
mod guard;
mod keeper;
mod log_level;
mod man;
mod output;
mod registry;
mod reload;
mod run;
mod snippet;
mod sources;
mod stats;
mod status;
mod table;
mod top;
mod verdicts;
mod watch;

use std::{ffi::OsString, io::Write as _, path::PathBuf, process::ExitCode};

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::{
    config::{self, Document},
    control::{self, ClientError, Request, Response},
};
use failure::{Exit, Failure};
use output::Color;

const DEFAULT_CONFIG: &str = "/etc/spinegate/spinegate.toml";

/// Edge gateway for NHS record locators: XDP allowlist, mutual TLS and per-request authorisation.
#[derive(Debug, Parser)]
#[command(
    name = "spinegate",
    version,
    after_help = "Exit codes: 0 done, 1 refused or not found, 2 bad usage or configuration, 3 the agent is not running, \
                  4 the kernel or a privilege is missing."
)]
struct Cli {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

/// Where the configuration and the agent are.
#[derive(Debug, Args)]
struct Place {
    /// The configuration file [default: /etc/spinegate/spinegate.toml].
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The running agent's socket [default: the configuration's, else /run/spinegate/control.sock].
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// When to print colours: `auto` is on a terminal, unless `NO_COLOR` is set.
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t)]
    color: Color,
}

/// Whether a program reads the answer.
#[derive(Clone, Copy, Debug, Args)]
struct Format {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Hold the filter for `spinegate run`.
    #[command(hide = true)]
    Keeper,
    /// Run the agent until SIGTERM.
    Run(run::Arguments),
    /// Say everything that is wrong with the configuration and the files it names, and what a reload would change.
    Check(check::Arguments),
    /// Look the host over: kernel, interfaces, certificates, upstreams and all else that the gateway needs, with the mends.
    #[command(
        after_help = "Exit codes: 0 nothing is amiss (there may be warnings), 1 something is, 2 the configuration is \
                            faulty, so what depends on it was not looked at."
    )]
    Doctor(Format),
    /// Say whether a client's certificate would be accepted, and if not, why.
    #[command(subcommand)]
    Cert(cert::Command),
    /// Show how the running agent is.
    Status(watch::Watched),
    /// Show what the filter and the gateway have counted.
    Stats(watch::Watched),
    /// Show the CRLs, or have them fetched.
    #[command(subcommand)]
    Crl(crl::Command),
    /// Verify the audit log, or search it.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Show the registry of systems, compare, import, or have its sources fetched.
    #[command(subcommand)]
    Registry(registry::Command),
    /// Show or change the allowlist.
    #[command(subcommand)]
    Sources(sources::Command),
    /// Show or change the verdicts on sources.
    #[command(subcommand)]
    Verdicts(verdicts::Command),
    /// Show the sampled drops, the latest and those to come.
    Events(events::Arguments),
    /// Show the refused connections and requests, the latest and those to come: who, why, and whose doing it is.
    Errors(errors::Arguments),
    /// Show what happens per second: by reason, by service, by source.
    Top(top::Arguments),
    /// Show every check of a request without making it, or what the filter would do with packets without sending them.
    Explain(Box<explain::Arguments>),
    /// Have the running agent read its configuration again.
    Reload(reload::Arguments),
    /// Show what the running agent's log has in it, or change that until the agent starts again.
    LogLevel(log_level::Arguments),
    /// Attach the filter to its interfaces again, as after `ip link set dev eth0 xdp off`.
    Attach,
    /// Take the filter off its interfaces: nothing is guarded there until `spinegate attach`, or until the agent starts.
    Detach,
    /// Print a script that completes these commands in a shell.
    Completions(completions::Arguments),
    /// Write a manual page for each of these commands.
    Man(man::Arguments),
}

/// Runs the command line `arguments`, the first of which is the program's name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(message) => {
            // A reader that went away has seen enough of the help.
            let _ = message.print();
            return if message.use_stderr() {
                Exit::Usage
            } else {
                Exit::Done
            }
            .into();
        }
    };
    match dispatch(cli) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "spinegate: {failure}");
            failure.exit().into()
        }
    }
}

fn dispatch(Cli { place, command }: Cli) -> Result<Exit, Failure> {
    output::choose(place.color);
    match command {
        Command::Keeper => keeper::run(&place),
        Command::Run(arguments) => run::run(&place, &arguments),
        Command::Check(arguments) => check::run(&place, arguments),
        Command::Doctor(format) => doctor::run(&place, format),
        Command::Cert(command) => cert::run(&place, command),
        Command::Status(watched) => status::run(&place, watched),
        Command::Stats(watched) => stats::run(&place, watched),
        Command::Crl(command) => crl::run(&place, command),
        Command::Audit(command) => audit::run(&place, command),
        Command::Registry(command) => registry::run(&place, command),
        Command::Sources(command) => sources::run(&place, command),
        Command::Verdicts(command) => verdicts::run(&place, command),
        Command::Events(arguments) => events::run(&place, arguments),
        Command::Errors(arguments) => errors::run(&place, &arguments),
        Command::Top(arguments) => top::run(&place, &arguments),
        Command::Explain(arguments) => explain::run(&place, *arguments),
        Command::Reload(arguments) => reload::run(&place, &arguments),
        Command::LogLevel(arguments) => log_level::run(&place, arguments),
        Command::Attach => attach::run(&place),
        Command::Detach => detach::run(&place),
        Command::Completions(arguments) => completions::run(Cli::command(), &arguments),
        Command::Man(arguments) => man::run(Cli::command(), &arguments),
    }
}

impl Place {
    fn config(&self) -> PathBuf {
        self.config
            .clone()
            .unwrap_or_else(|| PathBuf::from(DEFAULT_CONFIG))
    }

    /// The socket to call. A file that was named must be readable; one that merely might be there need not.
    fn socket(&self) -> Result<PathBuf, Failure> {
        if let Some(socket) = &self.socket {
            return Ok(socket.clone());
        }
        let config = self.config();
        if self.config.is_some() {
            Document::read(&config)
                .map_err(|diagnostic| Failure::new(Exit::Usage, diagnostic.to_string()))?;
        }
        Ok(self.socket_if_any())
    }

    /// The socket to call, whatever is wrong with the configuration.
    fn socket_if_any(&self) -> PathBuf {
        self.socket
            .clone()
            .or_else(|| config::control_socket(&self.config()))
            .unwrap_or_else(|| PathBuf::from(config::DEFAULT_SOCKET))
    }

    /// Calls the running agent, if there is one.
    fn call(&self, request: Request) -> Result<Result<Response, ClientError>, Failure> {
        let socket = self.socket()?;
        if let Some(order) = crate::keeper::Order::of(&request) {
            // Only who is an operator is heard by the filter's keeper, and only what it has heard does it carry out.
            crate::keeper::announce(&socket, &order)
                .map_err(|error| Failure::new(Exit::Privilege, error.to_string()))?;
        }
        Ok(control::call(&socket, request))
    }

    /// Asks the running agent; what it refuses is a failure.
    fn ask(&self, request: Request) -> Result<Response, Failure> {
        match self.call(request)?? {
            Response::Error(failure) => Err(failure.into()),
            response => Ok(response),
        }
    }

    /// Has the running agent do something, and prints what it says about that.
    fn order(&self, request: Request) -> Result<Exit, Failure> {
        match self.ask(request)? {
            Response::Done(done) => output::line(&done),
            _ => Err(Failure::other_answer()),
        }
    }
}

#[cfg(test)]
mod tests;
