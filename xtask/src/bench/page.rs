//! The page of figures, of which runs write their own parts.

use std::{fs, thread};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::host;

pub(super) const PATH: &str = "docs/benchmarks.md";

/// The page around a part.
pub(super) struct Page {
    before: String,
    after: String,
}

impl Page {
    /// Finds the part between its two marks.
    pub(super) fn read(part: &str) -> Result<Self> {
        let text = fs::read_to_string(host::root().join(PATH)).with_context(|| PATH.to_owned())?;
        Self::split(&text, part)
    }

    /// Writes the part anew, and leaves everything around it as it was.
    pub(super) fn write(&self, part: &str) -> Result<()> {
        let text = format!("{}\n{part}{}", self.before, self.after);
        fs::write(host::root().join(PATH), text).with_context(|| PATH.to_owned())
    }

    fn split(text: &str, part: &str) -> Result<Self> {
        let cut = |mark: &str| {
            let mark = format!("<!-- {part}:{mark} -->");
            let at = text
                .find(&mark)
                .with_context(|| format!("{PATH} has no {mark}"))?;
            Ok::<_, anyhow::Error>((at, at + mark.len()))
        };
        let ((_, begin), (end, _)) = (cut("begin")?, cut("end")?);
        let (before, after) = (text.get(..begin), text.get(end..));
        Ok(Self {
            before: before.unwrap_or_default().to_owned(),
            after: after.unwrap_or_default().to_owned(),
        })
    }
}

/// The machine, and every figure.
pub(super) fn table(figures: &Value) -> Result<String> {
    let figures = figures.as_object().context("figures")?;
    let mut text = format!("Measured on {}.\n\n| figure | value |\n|---|---:|\n", machine());
    for (key, value) in figures {
        text.push_str(&format!("| `{key}` | {value} |\n"));
    }
    Ok(text)
}

fn machine() -> String {
    let field = |file: &str, name: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':'))
            .map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{cores} cores ({}) of a virtual machine with {}, kernel {}",
        field("/proc/cpuinfo", "model name"),
        field("/proc/meminfo", "MemTotal"),
        kernel.trim()
    )
}

#[cfg(test)]
mod tests {
    use super::Page;

    #[test]
    fn a_part_is_what_stands_between_its_own_marks() {
        let text = "a <!-- x:begin -->1<!-- x:end --> b <!-- y:begin -->2<!-- y:end --> c";
        let page = Page::split(text, "y").unwrap();
        assert!(page.before.ends_with("<!-- y:begin -->") && page.before.contains(">1<"));
        assert_eq!(page.after, "<!-- y:end --> c");
        assert!(Page::split(text, "z").is_err());
    }

    #[test]
    fn the_page_has_a_part_for_each_benchmark() {
        for part in ["figures", "handshakes", "requests"] {
            let page = Page::read(part).unwrap();
            assert!(page.before.ends_with(&format!("<!-- {part}:begin -->")), "{part}");
        }
    }
}
