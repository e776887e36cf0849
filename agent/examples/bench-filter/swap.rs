//! How long it takes to put a policy of a million prefixes in force, from the list in memory to the last packet judged
//! by the old one.

use std::time::Instant;

use anyhow::Result;

use crate::{
    policies::{self, settings},
    report::{Report, median},
};

const SIZE: usize = 1_000_000;
const ROUNDS: usize = 5;

pub(crate) fn measure(report: &mut Report) -> Result<()> {
    let sources = policies::spread(SIZE);
    let settings = settings(SIZE);
    let mut filter = policies::filter(policies::spread(1).as_slice())?;
    drop(filter);
    filter = policies::filter(&sources)?;
    let mut seconds = Vec::new();
    for round in 0..ROUNDS {
        // Every second policy lacks a thousand sources, so that numbers are taken away and given out again.
        let listed = if round % 2 == 0 {
            sources.get(1000..).unwrap_or_default()
        } else {
            &sources
        };
        let begun = Instant::now();
        filter.apply(&settings, listed)?;
        seconds.push(begun.elapsed().as_secs_f64());
    }
    report.add("swap_1m_seconds", median(&seconds));
    report.add(
        "swap_1m_worst_seconds",
        seconds.iter().copied().fold(0.0, f64::max),
    );
    Ok(())
}
