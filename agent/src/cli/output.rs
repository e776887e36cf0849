//! Standard output: lines, tables and JSON. A reader that goes away, as `head` does, is no failure.

use std::{
    io::{self, Write as _},
    ops::ControlFlow,
};

use serde::Serialize;

use super::{Exit, Failure};

/// Prints a line.
pub(super) fn line(line: &str) -> Result<Exit, Failure> {
    text(&format!("{line}\n"))
}

/// Prints JSON.
pub(super) fn json<T: Serialize>(value: &T) -> Result<Exit, Failure> {
    let json = serde_json::to_string_pretty(value).map_err(|error| not_printable(&error))?;
    line(&json)
}

/// Prints a text that has its own line ends.
pub(super) fn text(text: &str) -> Result<Exit, Failure> {
    stream(text).map(|_| Exit::Done)
}

/// Prints a piece of a text that has no certain end: breaks when nobody reads it any more.
pub(super) fn stream(text: &str) -> Result<ControlFlow<()>, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(ControlFlow::Continue(())),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
        Err(error) => Err(Failure::new(
            Exit::Refused,
            format!("standard output can't be written: {error}; free space"),
        )),
    }
}

/// Prints a JSON value as one line of a text that has no certain end.
pub(super) fn json_line<T: Serialize>(value: &T) -> Result<ControlFlow<()>, Failure> {
    let json = serde_json::to_string(value).map_err(|error| not_printable(&error))?;
    stream(&format!("{json}\n"))
}

/// Tells the operator, beside what is printed.
pub(super) fn note(note: &str) {
    let _ = writeln!(io::stderr(), "spinegate: {}", printable(note));
}

fn not_printable(error: &serde_json::Error) -> Failure {
    Failure::new(Exit::Refused, format!("the answer can't be printed: {error}"))
}

/// Rows with aligned columns.
#[derive(Debug)]
pub(super) struct Table<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// A table with a row of titles.
    pub(super) fn titled(titles: [&str; N]) -> Self {
        let mut table = Self::untitled();
        table.row(titles);
        table
    }

    /// A table without titles.
    pub(super) const fn untitled() -> Self {
        Self { rows: Vec::new() }
    }

    /// Adds a row.
    pub(super) fn row<T: ToString>(&mut self, cells: [T; N]) {
        self.rows.push(cells.map(|cell| printable(&cell.to_string())));
    }

    /// The table with a line end after each row.
    pub(super) fn render(&self) -> String {
        let mut widths = [0; N];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        for row in &self.rows {
            let cells: Vec<String> = row
                .iter()
                .zip(widths)
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect();
            text.push_str(cells.join("  ").trim_end());
            text.push('\n');
        }
        text
    }
}

/// Control characters written out, so that no name or header value can move the cursor.
pub(super) fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped: Box<dyn Iterator<Item = char>> = if c.is_control() {
                Box::new(c.escape_default())
            } else {
                Box::new(std::iter::once(c))
            };
            escaped
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_have_no_trailing_blanks() {
        let mut table = Table::titled(["NAME", "KIND"]);
        table.row(["é", "proxy"]);
        table.row(["longer", ""]);
        assert_eq!(table.render(), "NAME    KIND\né       proxy\nlonger\n");
    }

    #[test]
    fn control_characters_are_written_out() {
        let mut table = Table::untitled();
        table.row(["a\u{1b}[2Jb\nc"]);
        assert_eq!(table.render(), "a\\u{1b}[2Jb\\nc\n");
    }
}
