//! Loading `registry.toml`: every fault of the file is reported, each with its line.

use std::{
    collections::{BTreeSet, HashMap},
    fmt::Display,
    ops::Range,
    path::Path,
};

use toml_edit::{Document, Item, TableLike, Value};

use crate::{
    config::Problem,
    nrl::{Asid, Fqdn, InteractionId, OdsCode},
};

use super::{Packer, System, Systems};

pub(super) fn load(path: &Path) -> Result<Systems, Vec<Problem>> {
    let file = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&file, &text),
        Err(error) => {
            let mend = "correct the path, and see that the file is UTF-8 text the agent may read";
            let message = format!("{file}: can't be read: {error}");
            Err(vec![Problem::new("registry.file", message, mend)])
        }
    }
}

/// The systems of a text; `file` is what it is called in problems.
pub(super) fn parse(file: &str, text: &str) -> Result<Systems, Vec<Problem>> {
    let mut report = Report {
        file,
        line_ends: text
            .bytes()
            .zip(0..)
            .filter(|(byte, _)| *byte == b'\n')
            .map(|(_, at)| at)
            .collect(),
        problems: Vec::new(),
    };
    match Document::parse(text) {
        Err(error) => {
            let message = format!("is not TOML: {}", error.message().trim().replace('\n', ", "));
            report.add(error.span(), "syntax", message, "correct the line");
        }
        Ok(document) => {
            let systems = systems(&mut report, document.as_table());
            if report.problems.is_empty() {
                return Ok(systems);
            }
        }
    }
    Err(report.finish())
}

fn systems(report: &mut Report<'_>, root: &dyn TableLike) -> Systems {
    report.unknown_keys(root, "", &["system"]);
    let mut systems = Packer::default();
    let mut lines: HashMap<Asid, usize> = HashMap::new();
    for (index, (table, span)) in report.tables(root).into_iter().enumerate() {
        let key = format!("system[{index}]");
        let entry = Entry {
            table,
            span: span.clone(),
            key: &key,
        };
        let asid = entry.asid(report);
        let system = entry.read(report, asid);
        let Some(asid) = asid else { continue };
        let at = entry.span_of("asid");
        let line = report.line(at.clone());
        if let Some(first) = lines.get(&asid) {
            let message = format!("{asid} is already the ASID of the system on line {first}");
            report.add(
                at,
                &format!("{key}.asid"),
                message,
                "one ASID is one system: merge the two, or correct one",
            );
            continue;
        }
        lines.insert(asid, line);
        if let Some(system) = system {
            systems.push(system);
        }
    }
    systems.finish()
}

/// One `[[system]]`.
struct Entry<'t> {
    table: &'t dyn TableLike,
    span: Option<Range<usize>>,
    key: &'t str,
}

impl Entry<'_> {
    const KEYS: &'static [&'static str] = &["asid", "ods", "interactions", "name", "fqdn", "active", "mode"];

    fn asid(&self, report: &mut Report<'_>) -> Option<Asid> {
        let text = self.text(report, "asid", "twelve digits, in quotes")?;
        self.parsed(
            report,
            "asid",
            Asid::parse(text),
            "write the twelve digits of the system's ASID",
        )
    }

    /// The system; every key is looked at even where the ASID is none.
    fn read(&self, report: &mut Report<'_>, asid: Option<Asid>) -> Option<System> {
        report.unknown_keys(self.table, &format!("{}.", self.key), Self::KEYS);
        let ods = self
            .text(report, "ods", "an ODS code, in quotes")
            .and_then(|text| {
                self.parsed(
                    report,
                    "ods",
                    OdsCode::parse(text),
                    "write the ODS code of the system's organisation",
                )
            });
        let interactions = self.interactions(report);
        let name = self.optional_text(report, "name").map(Into::into);
        let fqdn = self.optional_text(report, "fqdn").and_then(|text| {
            self.parsed(
                report,
                "fqdn",
                Fqdn::parse(text),
                "write the name that the system's certificate has",
            )
        });
        let active = match self.table.get("active") {
            None => true,
            Some(item) => item.as_bool().unwrap_or_else(|| {
                self.fault(
                    report,
                    "active",
                    item.span(),
                    wrong_type(item, "a boolean"),
                    "write true or false",
                );
                false
            }),
        };
        let shadow = match self.optional_text(report, "mode") {
            None | Some("enforce") => false,
            Some("shadow") => true,
            Some(other) => {
                let message = format!("{other:?} is none of its values");
                let mend = "write \"enforce\" or \"shadow\"";
                self.fault(report, "mode", self.span_of("mode"), message, mend);
                false
            }
        };
        Some(System {
            asid: asid?,
            ods: ods?,
            interactions: interactions.into_iter().collect(),
            name,
            fqdn,
            active,
            shadow,
        })
    }

    fn interactions(&self, report: &mut Report<'_>) -> BTreeSet<InteractionId> {
        const MEND: &str = "list the interaction IDs, in quotes; [] for none";
        let mut interactions = BTreeSet::new();
        let Some(item) = self.table.get("interactions") else {
            self.fault(report, "interactions", self.span.clone(), "is missing", MEND);
            return interactions;
        };
        let Some(array) = item.as_array() else {
            self.fault(
                report,
                "interactions",
                item.span(),
                wrong_type(item, "an array"),
                MEND,
            );
            return interactions;
        };
        for (index, value) in array.iter().enumerate() {
            let name = format!("interactions[{index}]");
            let Some(text) = value.as_str() else {
                let message = format!("is {}, and must be a string", article(value.type_name()));
                self.fault(report, &name, value.span(), message, MEND);
                continue;
            };
            match InteractionId::parse(text) {
                Err(error) => self.fault(
                    report,
                    &name,
                    value.span(),
                    error.to_string(),
                    "write the whole ID, as the SDS has it",
                ),
                Ok(id) => {
                    if !interactions.insert(id) {
                        self.fault(
                            report,
                            &name,
                            value.span(),
                            format!("{text} is there twice"),
                            "take one of them out",
                        );
                    }
                }
            }
        }
        interactions
    }

    fn text(&self, report: &mut Report<'_>, name: &str, wanted: &str) -> Option<&str> {
        if !self.table.contains_key(name) {
            self.fault(
                report,
                name,
                self.span.clone(),
                "is missing",
                &format!("add {name} = {wanted}"),
            );
        }
        self.optional_text(report, name)
    }

    fn optional_text(&self, report: &mut Report<'_>, name: &str) -> Option<&str> {
        let item = self.table.get(name)?;
        let text = item.as_str();
        if text.is_none() {
            self.fault(
                report,
                name,
                item.span(),
                wrong_type(item, "a string"),
                "put the value in quotes",
            );
        }
        text
    }

    fn parsed<T, E: Display>(
        &self,
        report: &mut Report<'_>,
        name: &str,
        result: Result<T, E>,
        mend: &str,
    ) -> Option<T> {
        result
            .map_err(|error| self.fault(report, name, self.span_of(name), error.to_string(), mend))
            .ok()
    }

    fn span_of(&self, name: &str) -> Option<Range<usize>> {
        self.table
            .get(name)
            .and_then(Item::span)
            .or_else(|| self.span.clone())
    }

    fn fault(
        &self,
        report: &mut Report<'_>,
        name: &str,
        at: Option<Range<usize>>,
        message: impl Into<String>,
        mend: &str,
    ) {
        report.add(at, &format!("{}.{name}", self.key), message, mend);
    }
}

/// The problems found so far, and what turns a place in the text into a line.
struct Report<'t> {
    file: &'t str,
    line_ends: Vec<usize>,
    problems: Vec<(usize, Problem)>,
}

impl Report<'_> {
    fn add(&mut self, at: Option<Range<usize>>, key: &str, message: impl Into<String>, mend: &str) {
        let line = self.line(at);
        let problem = Problem::new(key, message, mend).within(self.file, line);
        self.problems.push((line, problem));
    }

    /// The line, from 1. What has no place in the text stands on the first line.
    fn line(&self, at: Option<Range<usize>>) -> usize {
        let begin = at.map_or(0, |span| span.start);
        1 + self.line_ends.partition_point(|end| *end < begin)
    }

    fn unknown_keys(&mut self, table: &dyn TableLike, prefix: &str, known: &[&str]) {
        for (name, item) in table.iter().filter(|(name, _)| !known.contains(name)) {
            let at = table
                .key(name)
                .and_then(toml_edit::Key::span)
                .or_else(|| item.span());
            let mend = format!("the keys here are {}", known.join(", "));
            self.add(at, &format!("{prefix}{name}"), "is not a known key", &mend);
        }
    }

    /// The systems, written as `[[system]]` or as an array of inline tables.
    fn tables<'t>(&mut self, root: &'t dyn TableLike) -> Vec<(&'t dyn TableLike, Option<Range<usize>>)> {
        const MEND: &str = "begin each system with a line [[system]]";
        match root.get("system") {
            None => Vec::new(),
            Some(Item::ArrayOfTables(tables)) => tables
                .iter()
                .map(|table| (table as &dyn TableLike, table.span()))
                .collect(),
            Some(Item::Value(Value::Array(values))) => {
                let mut tables = Vec::new();
                for (index, value) in values.iter().enumerate() {
                    match value.as_inline_table() {
                        Some(table) => tables.push((table as &dyn TableLike, value.span())),
                        None => self.add(value.span(), &format!("system[{index}]"), "is not a table", MEND),
                    }
                }
                tables
            }
            Some(item) => {
                self.add(item.span(), "system", wrong_type(item, "a list of tables"), MEND);
                Vec::new()
            }
        }
    }

    fn finish(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|(line, _)| *line);
        self.problems.into_iter().map(|(_, problem)| problem).collect()
    }
}

fn wrong_type(item: &Item, wanted: &str) -> String {
    format!("is {}, and must be {wanted}", article(item.type_name()))
}

fn article(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    };
    format!("{article} {noun}")
}

#[cfg(test)]
mod tests {
    use super::{load, parse};
    use crate::nrl::{Asid, Interaction};
    use proptest::prelude::*;

    const GOOD: &str = r#"
# Two systems.
[[system]]
asid = "200000000205"
ods = "rr8"
interactions = ["urn:nhs:names:services:nrl:DocumentReference.read", "urn:nhs:names:services:other:x"]
name = "Ward system"
fqdn = "Ward.Example.nhs.uk"

[[system]]
asid = "200000000206"
ods = "RGD"
interactions = []
active = false
"#;

    fn problems(text: &str) -> Vec<String> {
        parse("registry.toml", text)
            .unwrap_err()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn a_sound_file_gives_its_systems_with_their_defaults() {
        let systems = parse("registry.toml", GOOD).unwrap();
        assert_eq!(systems.len(), 2);
        let ward = systems.get(&Asid::parse("200000000205").unwrap()).unwrap();
        assert_eq!((ward.ods.as_str(), ward.active), ("RR8", true));
        assert!(ward.interactions.contains(Interaction::Read.ids()[0]));
        assert!(!ward.interactions.contains(Interaction::Read.ids()[1]));
        assert_eq!(ward.fqdn.as_ref().unwrap().as_str(), "ward.example.nhs.uk");
        assert!(!systems.get(&Asid::parse("200000000206").unwrap()).unwrap().active);
        assert!(systems.get(&Asid::parse("200000000207").unwrap()).is_none());
        let inline = r#"system = [{ asid = "200000000205", ods = "RR8", interactions = [] }]"#;
        assert_eq!(parse("registry.toml", inline).unwrap().len(), 1);
    }

    #[test]
    fn every_fault_is_reported_with_its_line() {
        let text = r#"version = 1
[[system]]
asid = "2000"
ods = "R-8"
interactions = ["urn:a", "read", 5, "urn:a"]
fqdn = "localhost"
actve = true
[[system]]
asid = 200000000205
active = "yes"
interactions = "urn:a"
"#;
        let found = problems(text);
        let expected = [
            "registry.toml:1: version: is not a known key (the keys here are system)",
            "registry.toml:3: system[0].asid: \"2000\" is not an ASID: an ASID is twelve digits (write the",
            "registry.toml:4: system[0].ods: \"R-8\" is not an ODS code",
            "registry.toml:5: system[0].interactions[1]: \"read\" is not an interaction ID",
            "registry.toml:5: system[0].interactions[2]: is an integer, and must be a string",
            "registry.toml:5: system[0].interactions[3]: urn:a is there twice",
            "registry.toml:6: system[0].fqdn: \"localhost\" is not a fully qualified domain name",
            "registry.toml:7: system[0].actve: is not a known key (the keys here are asid, ods,",
            "registry.toml:8: system[1].ods: is missing",
            "registry.toml:9: system[1].asid: is an integer, and must be a string (put the value in quotes)",
            "registry.toml:10: system[1].active: is a string, and must be a boolean",
            "registry.toml:11: system[1].interactions: is a string, and must be an array",
        ];
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found}\n{expected}");
        }
    }

    #[test]
    fn a_system_is_in_shadow_if_its_mode_says_so_and_no_other_word_does() {
        let with = |mode: &str| GOOD.replace("active = false", &format!("mode = {mode}"));
        for (mode, count) in [("\"shadow\"", 1), ("\"enforce\"", 0)] {
            assert_eq!(
                parse("registry.toml", &with(mode)).unwrap().in_shadow(),
                count,
                "{mode}"
            );
        }
        assert_eq!(parse("registry.toml", GOOD).unwrap().in_shadow(), 0);
        for (mode, said) in [
            (
                "\"Shadow\"",
                "\"Shadow\" is none of its values (write \"enforce\" or \"shadow\")",
            ),
            ("true", "is a boolean, and must be a string"),
        ] {
            let found = problems(&with(mode));
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].contains(&format!("system[1].mode: {said}")), "{found:?}");
        }
    }

    #[test]
    fn two_systems_with_one_asid_are_refused_with_both_lines() {
        let found = problems(&GOOD.replace("200000000206", "200000000205"));
        assert_eq!(
            found,
            [
                "registry.toml:11: system[1].asid: 200000000205 is already the ASID of the system on line 4 (one ASID is one \
              system: merge the two, or correct one)"
            ]
        );
    }

    #[test]
    fn an_asid_is_taken_even_by_a_system_with_another_fault() {
        let found = problems(&GOOD.replace("rr8", "r").replace("200000000206", "200000000205"));
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn a_file_that_is_no_toml_or_no_list_of_systems_is_refused() {
        assert!(problems("\n\n[[system]\n")[0].starts_with("registry.toml:3: syntax: is not TOML: "));
        // toml_edit before 0.25 panicked at this.
        assert!(problems("a = = 1\na.b = 1\n")[0].starts_with("registry.toml:1: syntax: is not TOML: "));
        assert!(problems("system = 1\n")[0].starts_with("registry.toml:1: system: is an integer"));
        assert!(problems("\nsystem = [1]\n")[0].starts_with("registry.toml:2: system[0]: is not a table"));
        assert!(
            problems("[[system]]\nasid = \"1\"\nasid = \"2\"\n")[0].starts_with("registry.toml:3: syntax")
        );
        assert!(
            problems("[[system]]\n")
                .iter()
                .any(|p| p.contains("system[0].asid: is missing"))
        );
        assert!(parse("registry.toml", "").unwrap().is_empty());
    }

    #[test]
    fn a_file_that_is_not_there_or_not_text_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registry.toml");
        assert!(
            load(&path).unwrap_err()[0]
                .to_string()
                .contains("registry.toml: can't be read")
        );
        std::fs::write(&path, b"\xff").unwrap();
        assert!(load(&path).unwrap_err()[0].message.contains("UTF-8"));
        std::fs::write(&path, GOOD).unwrap();
        assert_eq!(load(&path).unwrap().len(), 2);
    }

    proptest! {
        #[test]
        fn no_text_panics(lines in proptest::collection::vec("(\\[\\[system\\]\\]|(asid|ods|interactions|fqdn|active|\\PC{1,4}) = (\"\\PC{0,12}\"|[0-9]{1,12}|\\[\\]|true)|\\PC{0,20})", 0..8)) {
            let _ = parse("registry.toml", &lines.join("\n"));
        }
    }
}
