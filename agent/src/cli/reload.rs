//! `spinegate reload`

use clap::Args;

use super::{Exit, Failure, Place, guard::Force, output, verdicts::seconds};
use crate::{control::Request, upgrade};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Go back to the old configuration after this time, as in 60s, unless `spinegate reload --confirm` comes.
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    confirm_within: Option<u64>,
    /// Keep the configuration that is on trial.
    #[arg(long, conflicts_with_all = ["confirm_within", "force"])]
    confirm: bool,
    /// If the program's file is no longer that which the agent runs, have a new agent take over instead. Meant for
    /// systemd, which gives that one what the service has: `systemctl reload spinegate`.
    #[arg(long, conflicts_with_all = ["confirm_within", "confirm", "force"])]
    upgrade: bool,
    #[command(flatten)]
    force: Force,
}

pub(super) fn run(place: &Place, arguments: &Arguments) -> Result<Exit, Failure> {
    if arguments.confirm {
        return place.order(Request::Confirm);
    }
    if arguments.upgrade && upgrade::is_due(&place.socket()?)? {
        let pid = upgrade::take_over(&place.config(), &place.socket()?)?;
        return output::line(&format!("agent {pid} has taken over"));
    }
    place.order(Request::Reload {
        guard: arguments.force.guard(),
        confirm_within: arguments.confirm_within,
    })
}
