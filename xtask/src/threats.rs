//! The threat model: each mitigation in docs/threat-model.md is proven by the tests that it names.

use std::fs;

use anyhow::{Context as _, Result, bail};

use crate::{host, test::Report};

const PAGE: &str = "docs/threat-model.md";
const BEGIN: &str = "<!-- mitigations -->";
const END: &str = "<!-- /mitigations -->";
/// Headings and the line below them.
const HEADINGS: usize = 2;

/// A row of the page's table.
#[derive(Debug, PartialEq, Eq)]
struct Mitigation {
    threat: String,
    tests: Vec<String>,
}

/// Whether each mitigation is proven by tests that passed in this run.
pub(crate) fn check(report: &mut Report) {
    const NAME: &str = "threat model";
    let mitigations = match load() {
        Ok(mitigations) => mitigations,
        Err(error) => return report.failed(NAME, &format!("{error:#}")),
    };
    for Mitigation { threat, tests } in mitigations {
        report.proven(&format!("{NAME}: {threat}"), &tests);
    }
}

fn load() -> Result<Vec<Mitigation>> {
    let page = fs::read_to_string(host::root().join(PAGE)).with_context(|| format!("reading {PAGE}"))?;
    read(&page)
}

fn read(page: &str) -> Result<Vec<Mitigation>> {
    let table = page
        .split_once(BEGIN)
        .and_then(|(_, rest)| Some(rest.split_once(END)?.0))
        .with_context(|| format!("{PAGE} has no table between {BEGIN} and {END}"))?;
    let mut mitigations = Vec::new();
    for row in table.lines().filter(|line| line.starts_with('|')).skip(HEADINGS) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [threat, _, proven] = cells.as_slice() else {
            bail!("{PAGE}: a row of mitigations has not three cells: {row}");
        };
        let tests: Vec<String> = proven
            .split("<br>")
            .map(|test| test.trim_matches('`').to_owned())
            .collect();
        if tests.iter().any(|test| !test.contains("::")) {
            bail!("{PAGE}: {threat:?} is proven by no test");
        }
        mitigations.push(Mitigation {
            threat: (*threat).to_owned(),
            tests,
        });
    }
    if mitigations.is_empty() {
        bail!("{PAGE} has no mitigations");
    }
    Ok(mitigations)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mitigation_has_its_tests() {
        let page = |rows: &str| {
            format!("x\n{BEGIN}\n| a | b | c |\n|---|---|---|\n{rows}{END}\n| no | more | rows |\n")
        };
        let read_one = read(&page("| fire | water | `x::y`<br>`z::w` |\n")).unwrap();
        assert_eq!(
            read_one,
            [Mitigation {
                threat: "fire".to_owned(),
                tests: vec!["x::y".to_owned(), "z::w".to_owned()],
            }]
        );
        for bad in ["", "| fire | water | |\n", "| fire | `x::y` |\n"] {
            assert!(read(&page(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_tests_that_the_page_names_are_there() {
        let sources = |folder: &str| -> String {
            let mut found = String::new();
            let mut folders = vec![host::root().join(folder)];
            while let Some(folder) = folders.pop() {
                for entry in fs::read_dir(&folder).unwrap() {
                    let path = entry.unwrap().path();
                    if path.is_dir() {
                        folders.push(path);
                    } else if path.extension().is_some_and(|extension| extension == "rs") {
                        found += &fs::read_to_string(path).unwrap();
                    }
                }
            }
            found
        };
        let (agent, lab) = (sources("agent"), sources("tests"));
        for test in load()
            .unwrap()
            .into_iter()
            .flat_map(|mitigation| mitigation.tests)
        {
            let name = test.rsplit("::").next().unwrap();
            let written = if test.starts_with("spinegate-tests::") {
                &lab
            } else {
                &agent
            };
            assert!(written.contains(name), "{PAGE} names {test}, which is nowhere");
        }
    }
}
