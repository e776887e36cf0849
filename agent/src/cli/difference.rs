//! How what a reload would change is shown.

use std::fmt::Write as _;

use super::table::Table;
use crate::{
    control::{CertificateStatus, CrlStatus, SourceEntry, SystemEntry},
    diff::{Changes, Difference, Setting},
};

/// Of each kind of change so many are shown: all are in the JSON.
const SHOWN: usize = 10;
/// A longer value of a key is cut off.
const VALUE: usize = 60;

pub(super) fn render(difference: &Difference) -> String {
    if difference.is_empty() {
        return "a reload would change nothing\n".to_owned();
    }
    let mut text = "a reload would change this:\n".to_owned();
    if !difference.settings.is_empty() {
        text.push('\n');
        text.push_str(&settings(&difference.settings));
    }
    section(&mut text, "allowlist", &difference.sources, source);
    section(&mut text, "systems", &difference.systems, system);
    section(&mut text, "certificates", &difference.certificates, certificate);
    section(&mut text, "CRLs", &difference.crls, crl);
    text
}

fn settings(settings: &[Setting]) -> String {
    let mut table = Table::titled(["KEY", "IN FORCE", "IN THE FILE", "BY"]);
    for setting in settings {
        let by = if setting.needs_restart {
            "restart"
        } else {
            "reload"
        };
        table.row([
            setting.key.clone(),
            value(setting.old.as_deref()),
            value(setting.new.as_deref()),
            by.to_owned(),
        ]);
    }
    table.render()
}

fn value(value: Option<&str>) -> String {
    let value = value.unwrap_or("(default)");
    match value.char_indices().nth(VALUE) {
        Some((end, _)) => format!("{}…", value.get(..end).unwrap_or_default()),
        None => value.to_owned(),
    }
}

fn section<T, const N: usize>(
    text: &mut String,
    name: &str,
    changes: &Changes<T>,
    cells: fn(&T) -> [String; N],
) {
    if changes.is_empty() {
        return;
    }
    let Changes {
        added,
        removed,
        changed,
    } = changes;
    // Writing to a string can't fail.
    let _ = writeln!(
        text,
        "\n{name}: {} added, {} removed, {} changed",
        added.len(),
        removed.len(),
        changed.len()
    );
    let mut table = Table::untitled();
    let mut row = |mark: &str, one: &T| {
        let mut cells = cells(one);
        if let Some(first) = cells.first_mut() {
            *first = format!("{mark} {first}");
        }
        table.row(cells);
    };
    added.iter().take(SHOWN).for_each(|one| row("+", one));
    removed.iter().take(SHOWN).for_each(|one| row("-", one));
    for change in changed.iter().take(SHOWN) {
        row("<", &change.old);
        row(">", &change.new);
    }
    text.push_str(&table.render());
    let hidden: usize = [added.len(), removed.len(), changed.len()]
        .iter()
        .map(|count| count.saturating_sub(SHOWN))
        .sum();
    if hidden > 0 {
        let _ = writeln!(
            text,
            "and {hidden} more: `spinegate check --diff --json` has them all"
        );
    }
}

fn source(source: &SourceEntry) -> [String; 5] {
    let services: Vec<_> = source.services.iter().map(ToString::to_string).collect();
    [
        source.cidr.to_string(),
        source.name.clone(),
        source.kind.as_str().to_owned(),
        if services.is_empty() {
            "all".to_owned()
        } else {
            services.join(",")
        },
        source.expires.clone().unwrap_or_default(),
    ]
}

fn system(system: &SystemEntry) -> [String; 6] {
    let access = match (system.active, system.shadow) {
        (false, _) => "inactive",
        (true, true) => "in shadow",
        (true, false) => "active",
    };
    [
        system.asid.clone(),
        system.ods.clone(),
        system.source.to_string(),
        access.to_owned(),
        system.fqdn.clone().unwrap_or_else(|| "-".to_owned()),
        system.interactions.join(" "),
    ]
}

fn certificate(certificate: &CertificateStatus) -> [String; 4] {
    [
        certificate.what.clone(),
        certificate.subject.clone(),
        format!("until {}", certificate.ends),
        certificate.sha256.clone(),
    ]
}

fn crl(crl: &CrlStatus) -> [String; 4] {
    [
        crl.issuer.clone(),
        format!("number {}", crl.number.as_deref().unwrap_or("-")),
        format!("next update {}", crl.next_update.as_deref().unwrap_or("-")),
        format!("{} revoked", crl.entries),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{diff::State, screens};

    #[test]
    fn a_difference_is_shown_by_kind_and_cut_off_where_it_is_long() {
        let state = |pids: std::ops::Range<u32>, mode: &str, services: &str| State {
            settings: [("filter.mode", mode), ("listen.addresses", services)]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            sources: pids
                .clone()
                .map(|pid| SourceEntry {
                    cidr: format!("10.0.{pid}.0/24").parse().unwrap(),
                    ..screens::answer::<Vec<SourceEntry>>("sources-list").remove(0)
                })
                .collect(),
            systems: screens::answer::<Vec<SystemEntry>>("registry-list")
                .into_iter()
                .take(pids.len())
                .map(|system| SystemEntry {
                    ods: format!("R{}", pids.start),
                    ..system
                })
                .collect(),
            ..State::default()
        };
        let old = state(0..2, "\"monitor\"", "[\"0.0.0.0:443\"]");
        let new = state(
            1..14,
            "\"enforce\"",
            "[\"0.0.0.0:443\", \"[::]:443\", \"192.0.2.1:443\", \"192.0.2.2:443\"]",
        );
        screens::same("check-diff", &render(&Difference::between(old, new)));
        assert_eq!(render(&Difference::default()), "a reload would change nothing\n");
    }
}
