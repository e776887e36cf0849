//! Problems as an operator sees them: the line of the file, what is wrong in it underlined, and below it the mend.

use std::{
    collections::HashMap,
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet, renderer::DecorStyle};

use super::output::{Look, printable};
use crate::config::Diagnostic;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing is started with it.
    Error,
    /// It should be seen to.
    Warning,
}

/// The problems, one after the other.
pub(super) fn render(kind: Kind, diagnostics: &[Diagnostic], look: Look) -> String {
    let mut sources = Sources::default();
    diagnostics
        .iter()
        .map(|diagnostic| one(kind, diagnostic, sources.line(diagnostic), look) + "\n\n")
        .collect()
}

/// The files that are looked into, each read once.
#[derive(Default)]
struct Sources(HashMap<PathBuf, Option<String>>);

impl Sources {
    /// The line that a problem is in; none if the file has none such, as when it can't be read.
    fn line(&mut self, diagnostic: &Diagnostic) -> Option<(usize, &str)> {
        let line = diagnostic.line?;
        let text = self.text(&diagnostic.file)?;
        Some((line, text.lines().nth(line.checked_sub(1)?)?))
    }

    fn text(&mut self, file: &Path) -> Option<&str> {
        // A line that is no UTF-8 is shown as far as it is.
        let read = |file: &Path| {
            fs::read(file)
                .ok()
                .map(|text| String::from_utf8_lossy(&text).into_owned())
        };
        self.0
            .entry(file.to_owned())
            .or_insert_with(|| read(file))
            .as_deref()
    }
}

fn one(kind: Kind, diagnostic: &Diagnostic, line: Option<(usize, &str)>, look: Look) -> String {
    let level = match kind {
        Kind::Error => Level::ERROR,
        Kind::Warning => Level::WARNING,
    };
    let file = diagnostic.file.display().to_string();
    let mut what = printable(&diagnostic.message);
    if !diagnostic.key.is_empty() {
        what = format!("{}: {what}", printable(&diagnostic.key));
    }
    let mend = printable(&diagnostic.mend);
    let group = match line {
        Some((number, text)) => level.primary_title(what).element(
            Snippet::source(text)
                .path(printable(&file))
                .line_start(number)
                .annotation(AnnotationKind::Primary.span(place(text, &diagnostic.key))),
        ),
        None => {
            let number = diagnostic
                .line
                .map(|number| format!(":{number}"))
                .unwrap_or_default();
            Group::with_title(level.primary_title(format!("{}{number}: {what}", printable(&file))))
        }
    };
    let renderer = if look.color {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    renderer
        .decor_style(DecorStyle::Ascii)
        .term_width(look.width.map_or(WIDE, usize::from))
        .render(&[group.element(Level::HELP.message(mend))])
}

/// Where there is no terminal: no line of a configuration is longer, unless it is a long list.
const WIDE: usize = 200;

/// What is underlined: the key, or all of a line that does not have it, as where it is missing, or is in a list.
fn place(line: &str, key: &str) -> Range<usize> {
    let name = key.rsplit('.').next().unwrap_or_default();
    let name = name.split('[').next().unwrap_or_default();
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let found = line.match_indices(name).find(|(at, _)| {
        let before = line.get(..*at).and_then(|before| before.chars().next_back());
        let after = line.get(at + name.len()..).and_then(|after| after.chars().next());
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    });
    match found {
        Some((at, _)) if !name.is_empty() => at..at + name.len(),
        _ => {
            let begin = line.len() - line.trim_start().len();
            begin..begin.max(line.trim_end().len())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{config, screens};

    const FAULTY: &str = include_str!("../screens/faulty.toml");

    /// What is wrong with a text, as if it stood in `spinegate.toml`.
    fn found(text: &str, look: Look) -> String {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("spinegate.toml");
        fs::write(&file, text).unwrap();
        let problems = config::load(&file).unwrap_err();
        let path = format!("{}/", folder.path().display());
        render(Kind::Error, &problems, look).replace(&path, "/etc/spinegate/")
    }

    #[test]
    fn a_faulty_configuration_is_shown_with_its_lines() {
        screens::same("configuration-errors", &found(FAULTY, Look::default()));
    }

    #[test]
    fn on_a_terminal_the_same_has_colours() {
        let look = Look {
            color: true,
            width: Some(100),
        };
        let colored = found(FAULTY, look);
        assert!(colored.contains("\u{1b}[1m\u{1b}[91merror"), "{colored:?}");
    }

    #[test]
    fn a_syntax_error_and_a_file_that_is_not_there_are_shown_as_far_as_they_can_be() {
        let syntax = found("[filter\nmode = 1\n", Look::default());
        assert!(
            syntax.contains("--> /etc/spinegate/spinegate.toml:1:1"),
            "{syntax}"
        );
        assert!(syntax.contains("1 | [filter\n  | ^^^^^^^"), "{syntax}");
        let problems = config::load(Path::new("/nowhere/a.toml")).unwrap_err();
        let said = render(Kind::Error, &problems, Look::default());
        assert!(
            said.starts_with("error: /nowhere/a.toml: the file can't be read: "),
            "{said}"
        );
        assert!(said.contains("help: create it"), "{said}");
    }

    #[test]
    fn the_key_is_underlined_or_the_line_where_it_is_not_in_it() {
        let of = |line: &str, key: &str| place(line, key);
        assert_eq!(of("  asid = \"1\"", "gateway.asid"), 2..6);
        assert_eq!(of("asids = 1 # asid", "gateway.asid"), 12..16);
        assert_eq!(of("  \"eth0\",  ", "filter.interfaces[1]"), 2..9);
        assert_eq!(of("interfaces = []", "filter.interfaces[0]"), 0..10);
        assert_eq!(of("[listen]", "listen.addresses"), 0..8);
        assert_eq!(of("", "x"), 0..0);
        assert_eq!(of(" \t", ""), 2..2);
    }

    proptest! {
        #[test]
        fn any_line_and_key_are_shown_without_a_panic(line in "[ a-zé\t\u{1b}=.\\[\\]]{0,30}", key in "[a-zé.\\[\\]0-9]{0,12}") {
            let span = place(&line, &key);
            prop_assert!(line.get(span).is_some());
            let diagnostic = Diagnostic {
                file: "a.toml".into(),
                line: Some(1),
                key,
                message: "m".to_owned(),
                mend: "n".to_owned(),
            };
            let shown = one(Kind::Error, &diagnostic, Some((1, &line)), Look::default());
            prop_assert!(!shown.contains('\u{1b}'), "{shown:?}");
        }
    }
}
