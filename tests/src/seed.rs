//! What a test draws at random: another sequence at each run, and an earlier one where it is asked for.

use std::{env, time::SystemTime};

use anyhow::{Context, Result};

/// A seed: that of the environment (`SPINEGATE_SEED`), or of the time. It is printed, so that a run can be repeated.
///
/// # Errors
/// The environment's is no number.
pub fn seed() -> Result<u64> {
    let seed = match env::var("SPINEGATE_SEED") {
        Ok(seed) => seed.parse().context("SPINEGATE_SEED is no number")?,
        Err(_) => SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)?
            .as_nanos() as u64,
    };
    println!("SPINEGATE_SEED={seed}");
    Ok(seed)
}
