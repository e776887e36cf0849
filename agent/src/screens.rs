//! What commands show, compared with the texts in `screens/`. `SPINEGATE_WRITE_DOCS=1` writes them anew.

use std::{env, fs, path::Path};

use serde::de::DeserializeOwned;

/// Compares a screen with its text.
pub(crate) fn same(name: &str, shown: &str) {
    let file = folder().join(format!("{name}.txt"));
    if env::var_os("SPINEGATE_WRITE_DOCS").is_some() {
        fs::write(&file, shown).unwrap();
    }
    let kept = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        kept == shown,
        "{} is not what is shown; if it should be, run the tests with SPINEGATE_WRITE_DOCS=1:\n{shown}",
        file.display()
    );
}

/// An answer of an agent.
pub(crate) fn answer<T: DeserializeOwned>(name: &str) -> T {
    let file = folder().join(format!("{name}.json"));
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/screens"))
}
