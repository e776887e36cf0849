//! `spinegate crl`

use clap::Subcommand;

use super::{Exit, Failure, Place};
use crate::control::Request;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Fetch all CRLs that the agent fetches now, without waiting until they are due.
    Fetch,
}

pub(super) fn run(place: &Place, command: &Command) -> Result<Exit, Failure> {
    match command {
        Command::Fetch => place.order(Request::CrlFetch),
    }
}
