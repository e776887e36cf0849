//! `spinegate reload`

use clap::Args;

use super::{Exit, Failure, Place, guard::Force, verdicts::seconds};
use crate::control::Request;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Go back to the old configuration after this time, as in 60s, unless `spinegate reload --confirm` comes.
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    confirm_within: Option<u64>,
    /// Keep the configuration that is on trial.
    #[arg(long, conflicts_with_all = ["confirm_within", "force"])]
    confirm: bool,
    #[command(flatten)]
    force: Force,
}

pub(super) fn run(place: &Place, arguments: &Arguments) -> Result<Exit, Failure> {
    if arguments.confirm {
        return place.order(Request::Confirm);
    }
    place.order(Request::Reload {
        guard: arguments.force.guard(),
        confirm_within: arguments.confirm_within,
    })
}
