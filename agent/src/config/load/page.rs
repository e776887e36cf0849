//! `docs/configuration.md` has every key that is looked for, with its kind, its default and its meaning, and can't differ from the code.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    Document, Report, config,
    tests::{least, load_text},
};
use crate::written;

#[test]
fn the_page_of_keys_says_what_the_code_says() {
    let row = |(key, [kind, default, meaning]): (String, [String; 3])| {
        format!("| `{key}` | {kind} | {default} | {meaning} |\n")
    };
    let rows: String = keys().into_iter().map(row).collect();
    let table = format!("| key | type | default | meaning |\n|---|---|---|---|\n{rows}");
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let page = fs::read_to_string(&file).unwrap();
    let marks = ("<!-- keys -->\n", "<!-- /keys -->");
    written::same(&file, &written::with(&page, marks, &table));
}

#[test]
fn a_default_that_is_written_out_is_what_leaving_the_key_out_gives() {
    // With its settings: a default is none.
    let shown = |text: String| format!("{:?}", load_text(text).unwrap().config);
    let mut checked = 0;
    for (key, [_, default, _]) in keys() {
        let Some(default) = default.strip_prefix('`').and_then(|rest| rest.strip_suffix('`')) else {
            continue;
        };
        let (table, name) = key.rsplit_once('.').unwrap();
        let headers = [format!("[[{table}]]"), format!("[{table}]")];
        let mut here = false;
        let kept: String = every_section()
            .split_inclusive('\n')
            .filter(|line| {
                if line.starts_with('[') {
                    here = headers.contains(&line.trim_end().to_owned());
                }
                !(here && line.starts_with(&format!("{name} =")))
            })
            .collect();
        let line = format!("{name} = {default}");
        let written = match headers
            .iter()
            .find(|header| kept.contains(&format!("{header}\n")))
        {
            Some(header) => kept.replacen(header, &format!("{header}\n{line}"), 1),
            None => format!("{kept}\n[{table}]\n{line}\n"),
        };
        assert_eq!(shown(written), shown(kept), "{key}");
        checked += 1;
    }
    assert!(checked > 100, "only {checked} defaults are written out");
}

/// Every key, with its kind, default and meaning: table by table, in the order in which they are looked for.
pub(super) fn keys() -> Vec<(String, [String; 3])> {
    let document = Document::parse(Path::new("a.toml"), every_section()).unwrap();
    let report = Report::new(&document);
    assert!(config(&report, Path::new("")).is_some());
    let mut keys: Vec<_> = report.keys().into_iter().collect();
    keys.sort_by_key(|(_, (number, _))| *number);
    let table = |key: &str| key.rsplit_once('.').unwrap().0.to_owned();
    let mut tables: Vec<String> = Vec::new();
    for (key, _) in &keys {
        if !tables.contains(&table(key)) {
            tables.push(table(key));
        }
    }
    keys.sort_by_key(|(key, _)| tables.iter().position(|known| *known == table(key)));
    keys.into_iter().map(|(key, (_, said))| (key, said)).collect()
}

/// The example with one more entry or table, so that every section of the schema is read.
fn every_section() -> String {
    least()
        + "[[filter.service]]\nprotocol = \"tcp\"\nport = 443\n"
        + "[[filter.failsafe]]\ncidr = \"192.0.2.0/28\"\n"
        + "[[filter.source_list]]\nfile = \"/dev/null\"\nname = \"none\"\n"
        + "[registry.ldap]\nurl = \"ldaps://a.nhs.uk\"\nca = \"ca.pem\"\n"
        + "[registry.sds]\nurl = \"https://a.nhs.uk\"\nca = \"ca.pem\"\norganizations = [\"RR8\"]\n"
        + "interactions = [\"urn:a\"]\n"
        + "[[authz.shadow]]\ninteraction = \"urn:nhs:names:services:nrl:DocumentReference.read\"\n"
}
