//! `spinegate keeper`, which `spinegate run` starts by itself.

use super::{Exit, Failure, Place};
use crate::{config, keeper, log};

pub(super) fn run(place: &Place) -> Result<Exit, Failure> {
    // A file that is not sound is the agent's to tell of.
    if let Ok(loaded) = config::load(&place.config()) {
        log::write_as(loaded.config.log.format)
            .map_err(|error| Failure::new(Exit::Refused, error.to_string()))?;
    }
    keeper::serve(&place.config()).map_err(|error| {
        let message = format!("the keeper serves `spinegate run` alone, which starts it by itself: {error}");
        Failure::new(Exit::Usage, message)
    })?;
    Ok(Exit::Done)
}
