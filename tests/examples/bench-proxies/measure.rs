//! The measurements.

pub(crate) mod gateway;
pub(crate) mod handshake;

use anyhow::Result;

use crate::{Arguments, ground::Ground, report::Report};

/// A part of a benchmark: its name, and what measures it.
pub(crate) type Part = (&'static str, fn(&Ground, &Arguments, &mut Report) -> Result<()>);
