//! `spinegate attach`

use super::{Exit, Failure, Place};
use crate::control::Request;

pub(super) fn run(place: &Place) -> Result<Exit, Failure> {
    place.order(Request::Attach)
}
