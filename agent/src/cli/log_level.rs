//! `spinegate log-level`

use clap::Args;

use super::{Exit, Failure, Format, Place, output};
use crate::control::{Request, Response};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// What to write from now on: `error`, `warn`, `info`, `debug`, `trace`, or by rooms, as in `spinegate::tls=debug,info`. Without
    /// it the command says what is written now.
    #[arg(value_name = "FILTER", conflicts_with = "reset")]
    filter: Option<String>,
    /// Go back to what the agent began with.
    #[arg(long)]
    reset: bool,
    #[command(flatten)]
    format: Format,
}

pub(super) fn run(place: &Place, arguments: Arguments) -> Result<Exit, Failure> {
    if arguments.filter.is_some() || arguments.reset {
        return place.order(Request::SetLogLevel {
            filter: arguments.filter,
        });
    }
    let Response::LogLevel(filter) = place.ask(Request::LogLevel)? else {
        return Err(Failure::other_answer());
    };
    if arguments.format.json {
        return output::json(&serde_json::json!({ "filter": filter }));
    }
    output::line(&filter)
}
