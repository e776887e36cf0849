//! What the filter costs, beside the tools that an operator could install instead. Run by `cargo xtask bench filter`.
//!
//! Runs are interleaved and medians taken, as machines are noisy: compare the ratios, not the nanoseconds. Everything
//! happens in a network namespace that ends with the process.

mod cost;
mod driver;
mod flood;
mod frames;
mod growth;
mod nftables;
mod policies;
mod report;
mod shell;
mod swap;
mod verdict;
mod veth;
mod xdp_filter;

use anyhow::{Context as _, Result};
use nix::sched::{CloneFlags, unshare};

use self::report::Report;

type Measure = fn(&mut Report) -> Result<()>;

fn main() -> Result<()> {
    let json = std::env::args().any(|argument| argument == "--json");
    let only = std::env::args()
        .skip_while(|argument| argument != "--only")
        .nth(1);
    unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace: this needs root")?;
    shell::run("ip", &["link", "set", "lo", "up"])?;
    let mut report = Report::new();
    let parts: [(&str, Measure); 5] = [
        ("cost", cost::measure),
        ("growth", growth::measure),
        ("flood", flood::measure),
        ("swap", swap::measure),
        ("verdict", verdict::measure),
    ];
    for (name, measure) in parts {
        if only.as_deref().is_none_or(|only| only == name) {
            measure(&mut report).with_context(|| format!("measuring {name}"))?;
        }
    }
    report.print(json)
}
