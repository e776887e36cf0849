//! The figures, raw and as ratios, in the order in which they were measured.

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::{Map, Value, json};

/// A figure that is promised, and the promise.
struct Target {
    key: &'static str,
    limit: f64,
    at_least: bool,
}

const TARGETS: &[Target] = &[
    target("deny_net_ratio", 0.5, false),
    target("allow_net_ratio", 0.8, false),
    target("growth_1m", 2.0, false),
    target("drop_vs_nft_ingress", 3.0, true),
    target("drop_vs_nft_prerouting", 5.0, true),
    target("drop_vs_xdp_filter", 1.1, true),
    target("swap_1m_seconds", 1.0, false),
    target("verdict_p99_ms", 1.0, false),
];

const fn target(key: &'static str, limit: f64, at_least: bool) -> Target {
    Target { key, limit, at_least }
}

pub(crate) struct Report {
    figures: Map<String, Value>,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self { figures: Map::new() }
    }

    /// Adds a figure.
    pub(crate) fn add(&mut self, key: &str, value: f64) {
        let digits = if value.abs() < 10.0 { 1000.0 } else { 10.0 };
        self.figures
            .insert(key.to_owned(), json!((value * digits).round() / digits));
    }

    pub(crate) fn print(&self, json: bool) -> Result<()> {
        if json {
            println!("{}", serde_json::to_string_pretty(&self.figures)?);
            return Ok(());
        }
        let mut text = String::new();
        for (key, value) in &self.figures {
            let promise = TARGETS.iter().find(|target| target.key == key);
            let said = promise.map_or(String::new(), |target| {
                let found = value.as_f64().unwrap_or(f64::NAN);
                let held = if target.at_least {
                    found >= target.limit
                } else {
                    found <= target.limit
                };
                let (sign, held) = (
                    if target.at_least { '≥' } else { '≤' },
                    if held { "held" } else { "MISSED" },
                );
                format!("  target {sign} {}: {held}", target.limit)
            });
            writeln!(text, "{key:<36} {value:>12}{said}")?;
        }
        print!("{text}");
        Ok(())
    }
}

/// The middle of the values.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}
