//! The measurements.

pub(crate) mod flood;
pub(crate) mod floor;
pub(crate) mod full;
pub(crate) mod idle;
