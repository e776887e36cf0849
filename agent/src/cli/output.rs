//! Standard output: lines and JSON, and how they look there. A reader that goes away, as `head` does, is no failure.

use std::{
    env,
    ffi::OsStr,
    io::{self, IsTerminal, Write as _},
    ops::ControlFlow,
    sync::OnceLock,
};

use clap::ValueEnum;
use ratatui::crossterm::terminal;
use serde::Serialize;

use super::{Exit, Failure};

/// `--color`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Color {
    /// On a terminal, unless `NO_COLOR` is set or `TERM` is `dumb`.
    #[default]
    Auto,
    /// Wherever it goes.
    Always,
    /// Nowhere.
    Never,
}

/// How a text looks where it goes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    /// Whether it has colours.
    pub(super) color: bool,
    /// The columns of the terminal; none for a file or a pipe: then no row is wrapped, so that `grep` and `awk` see whole ones.
    pub(super) width: Option<u16>,
}

static COLOR: OnceLock<Color> = OnceLock::new();

/// Chooses the colours of the whole command.
pub(super) fn choose(color: Color) {
    // Only the first choice counts, and there is only one.
    let _ = COLOR.set(color);
}

/// How a text looks on standard output.
pub(super) fn look() -> Look {
    // Wherever the tests are run, the screens that they compare are those of a pipe.
    if cfg!(test) {
        return Look::default();
    }
    look_on(&io::stdout())
}

/// How it looks on one of the streams.
pub(super) fn look_on(stream: &impl IsTerminal) -> Look {
    let is_terminal = stream.is_terminal();
    let size = || terminal::size().ok();
    Look {
        color: colored(
            COLOR.get().copied().unwrap_or_default(),
            is_terminal,
            env::var_os("NO_COLOR").as_deref(),
            env::var_os("TERM").as_deref(),
        ),
        width: is_terminal
            .then(size)
            .flatten()
            .map(|(columns, _)| columns)
            .filter(|columns| *columns > 0),
    }
}

/// <https://no-color.org>: set and not empty, `NO_COLOR` speaks against colours that nobody asked for.
fn colored(color: Color, is_terminal: bool, no_color: Option<&OsStr>, term: Option<&OsStr>) -> bool {
    match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => {
            is_terminal && no_color.is_none_or(OsStr::is_empty) && term.is_none_or(|term| term != "dumb")
        }
    }
}

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
    fn colours_are_for_terminals_unless_something_says_otherwise() {
        let table = [
            (Color::Auto, true, None, Some("xterm"), true),
            (Color::Auto, true, None, None, true),
            (Color::Auto, true, Some(""), None, true),
            (Color::Auto, true, Some("1"), None, false),
            (Color::Auto, true, None, Some("dumb"), false),
            (Color::Auto, false, None, None, false),
            (Color::Always, false, Some("1"), Some("dumb"), true),
            (Color::Never, true, None, None, false),
        ];
        for (color, is_terminal, no_color, term, expected) in table {
            let found = colored(color, is_terminal, no_color.map(OsStr::new), term.map(OsStr::new));
            assert_eq!(found, expected, "{color:?} {is_terminal} {no_color:?} {term:?}");
        }
    }
}
