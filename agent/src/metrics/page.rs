//! `docs/metrics.md` is the catalogue, and can't differ from it; rules and dashboard name nothing that it has not.

use std::{collections::BTreeSet, fs, path::PathBuf};

use super::{FAMILIES, Family, catalogue::Kind};
use crate::written;

const HEAD: &str = "\
# Metrics

Served at `/metrics` where `metrics.listen` says: as OpenMetrics 1.0 to whoever asks for it, as Prometheus does, else in the older text form, as
for `curl` and `promtool check metrics`. Beside it stand

- `/healthz`: 200 as long as the agent answers at all;
- `/readyz`: 200 if requests can be served, else 503, with what does not hold as JSON:
  `{\"ready\":false,\"reasons\":[{\"need\":\"upstream\",\"message\":\"every upstream is ejected or down\"}]}`. The needs are those of the
  label `need` below.

A name is `spinegate_`, what is measured, the base unit where there is one (`_seconds`, `_bytes`; a time is `_timestamp_seconds`, since 1970), and
`_total` for what only grows. The agent's own counters begin anew when it starts, the kernel's (`filter_…`) outlive it. Labels come from enums and from the
configuration alone, never from what a client sends: no address, no ASID. The codes of `reason` are those of [reasons.md](reasons.md).

`packaging/prometheus/spinegate.rules.yml` has the alerts, each with its meaning and its mend; `packaging/grafana/spinegate.json` is a dashboard.

This page is written from `agent/src/metrics/catalogue.rs` by `SPINEGATE_WRITE_DOCS=1 cargo test -p spinegate --lib metrics::page`;
without the variable the same test fails if the two differ.

| name | type | labels | meaning | alerts that use it |
|---|---|---|---|---|
";

#[test]
fn the_page_of_metrics_says_what_the_code_says() {
    written::same(&repository("docs/metrics.md"), &page());
}

#[test]
fn rules_and_dashboard_name_metrics_that_there_are() {
    let known = samples();
    for (file, least) in [
        ("packaging/prometheus/spinegate.rules.yml", 20),
        ("packaging/prometheus/spinegate.rules.test.yml", 20),
        ("packaging/grafana/spinegate.json", 20),
    ] {
        let text = fs::read_to_string(repository(file)).unwrap();
        let named = named(&text);
        let unknown: Vec<_> = named.difference(&known).collect();
        assert!(
            unknown.is_empty(),
            "{file} names {unknown:?}, which the agent has not"
        );
        assert!(named.len() >= least, "{file} names {} metrics alone", named.len());
    }
}

#[test]
fn the_dashboard_is_json_that_asks_for_something_in_every_panel() {
    let text = fs::read_to_string(repository("packaging/grafana/spinegate.json")).unwrap();
    let board: serde_json::Value = serde_json::from_str(&text).unwrap();
    let panels = board["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        if panel["type"] == "row" {
            continue;
        }
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{panel}");
        for target in targets {
            assert!(!named(target["expr"].as_str().unwrap()).is_empty(), "{target}");
        }
    }
}

#[test]
fn every_alert_is_tried() {
    let tried = fs::read_to_string(repository("packaging/prometheus/spinegate.rules.test.yml")).unwrap();
    let alerts = alerts();
    assert!(alerts.len() >= 15);
    for (alert, _) in &alerts {
        assert!(
            tried.contains(&format!("{{alertname=\"{alert}\"}}")),
            "no test has {alert} fire"
        );
    }
    // Each test says when nothing fires, and the first that of a sound gateway nothing ever does.
    let silent = tried.matches("exp_samples: []").count();
    assert!(silent > alerts.len(), "{silent} tests have nothing fire");
}

fn page() -> String {
    let alerts = alerts();
    let row = |family: &&Family| {
        let name = family.full_name();
        let labels: Vec<_> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        let used: Vec<_> = alerts
            .iter()
            .filter(|(_, text)| {
                samples_of(family)
                    .iter()
                    .any(|sample| named(text).contains(sample))
            })
            .map(|(alert, _)| format!("`{alert}`"))
            .collect();
        let (kind, labels, help, used) = (
            family.kind.as_str(),
            labels.join(", "),
            family.help,
            used.join(", "),
        );
        format!("| `{name}` | {kind} | {labels} | {help} | {used} |\n")
    };
    HEAD.to_owned() + &FAMILIES.iter().map(row).collect::<String>()
}

/// Each alert, and the text of its rule.
fn alerts() -> Vec<(String, String)> {
    let text = fs::read_to_string(repository("packaging/prometheus/spinegate.rules.yml")).unwrap();
    text.split("- alert: ")
        .skip(1)
        .map(|rule| {
            let name = rule.lines().next().unwrap_or_default();
            (name.trim().to_owned(), rule.to_owned())
        })
        .collect()
}

/// The names of all samples.
fn samples() -> BTreeSet<String> {
    FAMILIES.iter().flat_map(|family| samples_of(family)).collect()
}

fn samples_of(family: &Family) -> Vec<String> {
    let name = family.full_name();
    if family.kind == Kind::Histogram {
        return ["bucket", "count", "sum"]
            .map(|part| format!("{name}_{part}"))
            .into();
    }
    vec![name]
}

/// What a text names that begins as our metrics do.
fn named(text: &str) -> BTreeSet<String> {
    let of_a_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    text.split(|c| !of_a_name(c))
        .filter(|word| word.starts_with("spinegate_"))
        .map(str::to_owned)
        .collect()
}

fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}
