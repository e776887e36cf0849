//! The conformance table: docs/conformance.toml says which tests prove a requirement, and README.md shows it.

use std::{fmt::Write as _, fs};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::{host, test::Report};

const DATA: &str = "docs/conformance.toml";
const PAGE: &str = "README.md";
const BEGIN: &str = "<!-- conformance:begin -->";
const END: &str = "<!-- conformance:end -->";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Conformance {
    requirement: Vec<Requirement>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Requirement {
    id: String,
    text: String,
    enforced: Vec<String>,
    tests: Vec<String>,
}

/// `cargo xtask conformance`
pub(crate) fn table(write: bool) -> Result<()> {
    let table = render(&load()?);
    let file = host::root().join(PAGE);
    let page = fs::read_to_string(&file).with_context(|| format!("reading {PAGE}"))?;
    let wanted = with_table(&page, &table)?;
    if page == wanted {
        return Ok(());
    }
    if !write {
        bail!("{PAGE}'s conformance table is not what {DATA} says: run `cargo xtask conformance --write`");
    }
    fs::write(&file, wanted).with_context(|| format!("writing {PAGE}"))
}

/// Whether the page is right, each requirement is proven by tests that passed in this run, and what enforces it is there.
pub(crate) fn check(report: &mut Report) {
    const NAME: &str = "conformance";
    if let Err(error) = table(false) {
        report.failed(NAME, &format!("{error:#}"));
        return;
    }
    let requirements = match load() {
        Ok(conformance) => conformance.requirement,
        Err(error) => return report.failed(NAME, &format!("{error:#}")),
    };
    for requirement in requirements {
        let name = format!("{NAME} {}", requirement.id);
        let lost = requirement
            .enforced
            .iter()
            .find(|path| !host::root().join(path).exists());
        match lost {
            Some(path) => report.failed(&name, &format!("{path} does not exist")),
            None if requirement.tests.is_empty() => report.failed(&name, "no test proves it"),
            None => report.proven(&name, &requirement.tests),
        }
    }
}

fn load() -> Result<Conformance> {
    let text = fs::read_to_string(host::root().join(DATA)).with_context(|| format!("reading {DATA}"))?;
    toml::from_str(&text).with_context(|| format!("reading {DATA}"))
}

fn render(conformance: &Conformance) -> String {
    let mut table = String::from("| id | requirement | enforced in | proven by |\n|---|---|---|---|\n");
    let code = |items: &[String], between: &str| {
        items
            .iter()
            .map(|item| format!("`{item}`"))
            .collect::<Vec<_>>()
            .join(between)
    };
    for requirement in &conformance.requirement {
        let Requirement {
            id,
            text,
            enforced,
            tests,
        } = requirement;
        let tests = if tests.is_empty() {
            "not proven".to_owned()
        } else {
            code(tests, "<br>")
        };
        // Writing to a string can't fail.
        let _ = writeln!(table, "| {id} | {text} | {} | {tests} |", code(enforced, ", "));
    }
    table
}

fn with_table(page: &str, table: &str) -> Result<String> {
    let (before, rest) = page
        .split_once(BEGIN)
        .with_context(|| format!("{PAGE} has no {BEGIN}"))?;
    let (_, after) = rest
        .split_once(END)
        .with_context(|| format!("{PAGE} has no {END}"))?;
    Ok(format!("{before}{BEGIN}\n{table}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_stands_between_its_marks() {
        let conformance: Conformance = toml::from_str(
            "[[requirement]]\nid = \"R1\"\ntext = \"One.\"\nenforced = [\"a\", \"b\"]\ntests = [\"x::y\", \"z\"]\n\
             [[requirement]]\nid = \"R2\"\ntext = \"Two.\"\nenforced = []\ntests = []\n",
        )
        .unwrap();
        let page = format!("head\n{BEGIN}\nold\n{END}\ntail\n");
        let written = with_table(&page, &render(&conformance)).unwrap();
        assert!(
            written.contains("| R1 | One. | `a`, `b` | `x::y`<br>`z` |\n| R2 | Two. |  | not proven |\n")
        );
        assert!(written.starts_with("head\n") && written.ends_with(&format!("{END}\ntail\n")));
        assert!(with_table("no marks", "").is_err());
    }
}
