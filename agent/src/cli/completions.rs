//! `spinegate completions`

use clap::{Args, Command};
use clap_complete::Shell;

use super::{Exit, Failure, output};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The shell that completes.
    shell: Shell,
}

pub(super) fn run(mut command: Command, arguments: &Arguments) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    let name = command.get_name().to_owned();
    clap_complete::generate(arguments.shell, &mut command, name, &mut script);
    output::text(&String::from_utf8_lossy(&script))
}
