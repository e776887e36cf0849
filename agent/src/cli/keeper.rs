//! `spinegate keeper`, which `spinegate run` starts by itself.

use super::{Exit, Failure, Place};
use crate::keeper;

pub(super) fn run(place: &Place) -> Result<Exit, Failure> {
    keeper::serve(&place.config()).map_err(|error| {
        let message = format!("the keeper serves `spinegate run` alone, which starts it by itself: {error}");
        Failure::new(Exit::Usage, message)
    })?;
    Ok(Exit::Done)
}
