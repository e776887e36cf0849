//! `spinegate run`

use std::io::Write as _;

use clap::Args;

use super::{
    Exit, Failure, Place, check, output,
    snippet::{self, Kind},
};
use crate::{
    config::{self, Diagnostic, FilterMode, LogFormat},
    filter, log,
    run::RunError,
};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Take over from the running agent: it hands its sockets over, finishes what is under way, and ends.
    #[arg(long)]
    take_over: bool,
    /// How to write the log [default: the configuration's `log.format`].
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
}

pub(super) fn run(place: &Place, arguments: &Arguments) -> Result<Exit, Failure> {
    let file = place.config();
    // A newer agent's filter is no fault of the configuration.
    if let Ok(loaded) = config::load(&file)
        && loaded.config.filter.mode != FilterMode::Off
    {
        filter::refuse_newer_layout(&loaded.config.filter).map_err(RunError::from)?;
    }
    let loaded = match check::load(&file) {
        // What the rooms warn of is in the agent's log and in its status.
        Ok((loaded, _)) => loaded,
        Err(problems) => {
            report(&problems);
            let message =
                "the configuration is not sound, so nothing was started; mend the above and run again";
            return Err(Failure::new(Exit::Usage, message));
        }
    };
    log::write_as(arguments.log_format.unwrap_or(loaded.config.log.format))
        .map_err(|error| Failure::new(Exit::Refused, error.to_string()))?;
    crate::run::run(loaded, arguments.take_over)?;
    Ok(Exit::Done)
}

fn report(diagnostics: &[Diagnostic]) {
    let mut errors = std::io::stderr();
    let look = output::look_on(&errors);
    let _ = errors.write_all(snippet::render(Kind::Error, diagnostics, look).as_bytes());
}
