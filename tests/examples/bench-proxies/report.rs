//! The figures, in the order in which they were measured, and what is to be said about them.

use anyhow::Result;
use serde_json::{Map, Value, json};

/// What a figure must reach.
pub(crate) enum Limit {
    Most(f64),
    MostFigure(&'static str),
    Least(f64),
}

pub(crate) type Target = (&'static str, Limit);

pub(crate) const HANDSHAKE: &[Target] = &[
    ("ratio_floor", Limit::Most(1.2)),
    ("ratio_nginx", Limit::Most(0.3)),
    ("ratio_haproxy", Limit::Most(0.3)),
    ("ratio_stunnel", Limit::Most(0.15)),
    ("ratio_nginx_system_openssl", Limit::Most(1.0)),
    ("flood_p99_ratio", Limit::Most(5.0)),
    (
        "idle_kib_per_conn",
        Limit::MostFigure("haproxy_idle_kib_per_conn"),
    ),
];

pub(crate) const GATEWAY: &[Target] = &[
    ("ratio_haproxy", Limit::Most(1.0)),
    ("ratio_nginx", Limit::Most(1.0)),
    ("scale_2", Limit::Least(1.8)),
    ("mib_ratio_haproxy", Limit::Most(1.1)),
    ("p99_ratio_haproxy", Limit::Most(1.0)),
];

pub(crate) struct Report {
    targets: &'static [Target],
    figures: Map<String, Value>,
}

impl Report {
    pub(crate) fn new(targets: &'static [Target]) -> Self {
        Self {
            targets,
            figures: Map::new(),
        }
    }

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
        let target = self.targets.iter().find(|(name, _)| *name == key);
        let (Some((_, limit)), Some(found)) = (target, value.as_f64()) else {
            return String::new();
        };
        let (sign, limit) = match limit {
            Limit::Most(number) => ('≤', Some(*number)),
            Limit::MostFigure(name) => ('≤', self.figures.get(*name).and_then(Value::as_f64)),
            Limit::Least(number) => ('≥', Some(*number)),
        };
        let Some(limit) = limit else { return String::new() };
        let is_held = if sign == '≤' {
            found <= limit
        } else {
            found >= limit
        };
        let held = if is_held { "held" } else { "MISSED" };
        format!("  target {sign} {limit}: {held}")
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

/// The median of the rounds' ratios: what is compared was measured a moment apart.
pub(crate) fn ratio(ours: &[f64], theirs: &[f64]) -> f64 {
    let ratios: Vec<_> = ours
        .iter()
        .zip(theirs)
        .map(|(ours, theirs)| ours / theirs)
        .collect();
    median(&ratios)
}

/// The values of all rounds as a note: their median, the least and the most.
pub(crate) fn spread(name: &str, values: &[f64], unit: &str) -> String {
    let (least, most) = values.iter().fold((f64::MAX, 0.0_f64), |(least, most), value| {
        (least.min(*value), most.max(*value))
    });
    format!(
        "  {name:<18} {:.3} {unit} ({least:.3} to {most:.3})",
        median(values)
    )
}
