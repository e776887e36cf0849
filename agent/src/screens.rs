//! What commands show, compared with the texts in `screens/`.

use std::{fs, path::Path};

use serde::de::DeserializeOwned;

use crate::written;

/// Compares a screen with its text.
pub(crate) fn same(name: &str, shown: &str) {
    written::same(&folder().join(format!("{name}.txt")), shown);
}

/// An answer of an agent.
pub(crate) fn answer<T: DeserializeOwned>(name: &str) -> T {
    let file = folder().join(format!("{name}.json"));
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/screens"))
}
