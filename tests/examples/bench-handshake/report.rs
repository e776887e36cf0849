//! The figures, in the order in which they were measured, and what is to be said about them.

use anyhow::Result;
use serde_json::{Map, Value, json};

/// What a figure must not exceed: a number, or another figure.
enum Limit {
    Number(f64),
    Figure(&'static str),
}

const TARGETS: &[(&str, Limit)] = &[
    ("ratio_floor", Limit::Number(1.2)),
    ("ratio_nginx", Limit::Number(0.3)),
    ("ratio_haproxy", Limit::Number(0.3)),
    ("ratio_stunnel", Limit::Number(0.15)),
    ("ratio_nginx_system_openssl", Limit::Number(1.0)),
    ("flood_p99_ratio", Limit::Number(5.0)),
    ("idle_kib_per_conn", Limit::Figure("haproxy_idle_kib_per_conn")),
];

#[derive(Default)]
pub(crate) struct Report {
    figures: Map<String, Value>,
}

impl Report {
    /// Adds a figure.
    pub(crate) fn add(&mut self, key: &str, value: f64) {
        self.figures
            .insert(key.to_owned(), json!((value * 1000.0).round() / 1000.0));
    }

    pub(crate) fn print(&self, json: bool) -> Result<()> {
        if json {
            println!("{}", serde_json::to_string_pretty(&self.figures)?);
            return Ok(());
        }
        for (key, value) in &self.figures {
            println!("{key:<28} {value:>10}{}", self.judged(key, value));
        }
        Ok(())
    }

    fn judged(&self, key: &str, value: &Value) -> String {
        let target = TARGETS.iter().find(|(name, _)| *name == key);
        let limit = target.and_then(|(_, limit)| match limit {
            Limit::Number(number) => Some(*number),
            Limit::Figure(name) => self.figures.get(*name)?.as_f64(),
        });
        let (Some(limit), Some(found)) = (limit, value.as_f64()) else {
            return String::new();
        };
        let held = if found <= limit { "held" } else { "MISSED" };
        format!("  target ≤ {limit}: {held}")
    }
}

/// Says something at once that is no figure.
pub(crate) fn note(text: impl AsRef<str>) {
    eprintln!("{}", text.as_ref());
}

/// The middle of the values.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}
