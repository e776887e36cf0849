//! Files that are written from the code and can't differ from it: pages, pictures, screens.

use std::{env, fs, path::Path};

/// Compares a file with what the code says. `SPINEGATE_WRITE_DOCS=1` writes it anew first.
pub(crate) fn same(file: &Path, text: &str) {
    if env::var_os("SPINEGATE_WRITE_DOCS").is_some_and(|value| value == "1") {
        fs::write(file, text).unwrap();
    }
    let kept = fs::read_to_string(file).unwrap_or_default();
    let differs = text
        .lines()
        .zip(kept.lines().chain(std::iter::repeat("")))
        .find(|(says, written)| says != written);
    assert!(
        kept == text,
        "{} is out of date, first at {differs:?}; write it again with SPINEGATE_WRITE_DOCS=1 cargo test -p spinegate --lib",
        file.display()
    );
}

/// A page with a text between two marks.
pub(crate) fn with(page: &str, (begin, end): (&str, &str), text: &str) -> String {
    let parts = page
        .split_once(begin)
        .and_then(|(before, rest)| Some((before, rest.split_once(end)?.1)));
    let (before, after) = parts.unwrap_or_else(|| panic!("the page has no {begin:?} with {end:?} after it"));
    format!("{before}{begin}{text}{end}{after}")
}
