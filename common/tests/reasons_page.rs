//! `docs/reasons.md` is the list of reasons, and can't differ from it.

use std::{fs, path::PathBuf};

use spinegate_common::Reason;

const HEAD: &str = "\
# Reasons

Every refusal has one reason: the same word stands in the kernel's counters, the audit log, the metrics, the output of
`spinegate` and here. The reasons stand in the order in which a packet and then a request meets the layers.

This page is written from `common/src/reason.rs` by `SPINEGATE_WRITE_DOCS=1 cargo test -p spinegate-common --test reasons_page`;
without the variable the same test fails if the two differ.

| number | code | layer | meaning | mend |
|---:|---|---|---|---|
";

#[test]
fn the_page_of_reasons_says_what_the_code_says() {
    let page = page();
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/reasons.md");
    if std::env::var_os("SPINEGATE_WRITE_DOCS").is_some_and(|value| value == "1") {
        fs::write(&file, &page).unwrap();
    }
    let written = fs::read_to_string(&file).unwrap_or_default();
    let differs = page
        .lines()
        .zip(written.lines().chain(std::iter::repeat("")))
        .find(|(a, b)| a != b);
    assert!(
        written == page,
        "docs/reasons.md is out of date, first at {differs:?}; \
         write it again with SPINEGATE_WRITE_DOCS=1 cargo test -p spinegate-common --test reasons_page"
    );
}

fn page() -> String {
    let row = |reason: &Reason| {
        let (number, code, layer) = (*reason as u8, reason.as_str(), reason.layer().as_str());
        let (meaning, mend) = (cell(reason.meaning()), cell(reason.mend()));
        format!("| {number} | `{code}` | {layer} | {meaning} | {mend} |\n")
    };
    HEAD.to_owned() + &Reason::ALL.iter().map(row).collect::<String>()
}

/// A text that can't end its cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
