//! The configuration file as parsed TOML that still knows its lines.

use std::{
    collections::BTreeMap,
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use toml_edit::{Item, TableLike, Value};

use super::{Diagnostic, Problem};

/// A file whose TOML is sound; whether its keys and values are is not yet known.
#[derive(Clone, Debug)]
pub struct Document {
    file: PathBuf,
    toml: toml_edit::Document<String>,
}

impl Document {
    /// Reads and parses a file.
    ///
    /// # Errors
    /// If it can't be read, is not UTF-8 or not TOML. The first syntax error hides what follows it.
    pub fn read(file: &Path) -> Result<Self, Diagnostic> {
        let bytes = fs::read(file).map_err(|error| {
            let mend = match error.kind() {
                std::io::ErrorKind::NotFound => "create it, or name another with --config",
                std::io::ErrorKind::PermissionDenied => "run as root, or let this user read it",
                _ => "name a file with --config",
            };
            Diagnostic::new(
                file,
                None,
                Problem::new("", format!("the file can't be read: {error}"), mend),
            )
        })?;
        match String::from_utf8(bytes) {
            Ok(text) => Self::parse(file, text),
            Err(error) => {
                let sound = error.utf8_error().valid_up_to();
                let line = line_at(error.as_bytes(), sound);
                let problem = Problem::new(
                    "",
                    "the line is not UTF-8",
                    "save the file as UTF-8: TOML allows nothing else",
                );
                Err(Diagnostic::new(file, Some(line), problem))
            }
        }
    }

    /// Parses a text as if it stood in `file`.
    ///
    /// # Errors
    /// At the first syntax error.
    pub fn parse(file: &Path, text: String) -> Result<Self, Diagnostic> {
        match toml_edit::Document::parse(text.clone()) {
            Ok(toml) => Ok(Self {
                file: file.to_owned(),
                toml,
            }),
            Err(error) => {
                let line = error.span().map(|span| line_at(text.as_bytes(), span.start));
                let message = format!("not TOML: {}", error.message().replace('\n', ", "));
                let mend = "correct this line; the rest is checked once the file parses";
                Err(Diagnostic::new(file, line, Problem::new("", message, mend)))
            }
        }
    }

    /// Gives a problem its file and the line of its key, or of the nearest table above it that the file has. One of another
    /// file keeps its own.
    #[must_use]
    pub fn diagnose(&self, problem: &Problem) -> Diagnostic {
        let (file, line) = match &problem.place {
            Some((file, line)) => (file, *line),
            None => (&self.file, self.line_of(&problem.key)),
        };
        Diagnostic::new(file, Some(line), problem.clone())
    }

    /// The same for several.
    #[must_use]
    pub fn diagnose_all(&self, problems: &[Problem]) -> Vec<Diagnostic> {
        problems.iter().map(|problem| self.diagnose(problem)).collect()
    }

    /// The file's path as it was given.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The folder that relative paths of the file start from; empty where that is the working directory.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new(""))
    }

    /// Each key with its value as TOML, but for the allowlist, which may be long.
    pub(super) fn settings(&self) -> BTreeMap<String, String> {
        let mut settings = BTreeMap::new();
        flatten(String::new(), self.root(), &mut settings);
        settings
    }

    pub(super) fn root(&self) -> &dyn TableLike {
        self.toml.as_table()
    }

    pub(super) fn line_at(&self, span: Range<usize>) -> usize {
        line_at(self.toml.raw().as_bytes(), span.start)
    }

    fn line_of(&self, key: &str) -> usize {
        let mut line = 1;
        let mut here = Here::Item(self.toml.as_item());
        for step in steps(key) {
            let Some((next, span)) = here.step(step) else {
                break;
            };
            line = span.map_or(line, |span| self.line_at(span));
            here = next;
        }
        line
    }
}

fn flatten(prefix: String, table: &dyn TableLike, settings: &mut BTreeMap<String, String>) {
    for (name, item) in table.iter() {
        let key = if prefix.is_empty() {
            name.to_owned()
        } else {
            format!("{prefix}.{name}")
        };
        if key == "filter.source" {
            continue;
        }
        match item {
            Item::ArrayOfTables(tables) => {
                for (index, table) in tables.iter().enumerate() {
                    flatten(format!("{key}[{index}]"), table, settings);
                }
            }
            Item::Value(value) => {
                settings.insert(key, plain(value));
            }
            Item::Table(table) => flatten(key, table, settings),
            Item::None => {}
        }
    }
}

/// A value without the comments and line ends around it.
fn plain(value: &Value) -> String {
    match value {
        Value::Array(values) => {
            let values: Vec<_> = values.iter().map(plain).collect();
            format!("[{}]", values.join(", "))
        }
        value => value.clone().decorated("", "").to_string(),
    }
}

/// The line, counted from 1, of a position in a text.
fn line_at(text: &[u8], position: usize) -> usize {
    1 + text.iter().take(position).filter(|byte| **byte == b'\n').count()
}

#[derive(Clone, Copy)]
enum Step<'k> {
    Key(&'k str),
    Index(usize),
}

/// The steps of a dotted key: `filter.source[2].cidr` is filter, source, 2, cidr.
fn steps(key: &str) -> impl Iterator<Item = Step<'_>> {
    key.split('.').flat_map(|part| {
        let mut pieces = part.split('[');
        let name = pieces.next().filter(|name| !name.is_empty()).map(Step::Key);
        name.into_iter()
            .chain(pieces.map_while(|piece| piece.strip_suffix(']')?.parse().ok().map(Step::Index)))
    })
}

/// A place in the tree: lists hold values and tables that are no items.
#[derive(Clone, Copy)]
enum Here<'d> {
    Item(&'d Item),
    Value(&'d Value),
    Table(&'d toml_edit::Table),
}

impl<'d> Here<'d> {
    fn step(self, step: Step<'_>) -> Option<(Self, Option<Range<usize>>)> {
        match step {
            Step::Key(name) => {
                let (key, item) = self.table()?.get_key_value(name)?;
                Some((Self::Item(item), item.span().or_else(|| key.span())))
            }
            Step::Index(index) => {
                if let Self::Item(Item::ArrayOfTables(tables)) = self {
                    let table = tables.get(index)?;
                    return Some((Self::Table(table), table.span()));
                }
                let value = match self {
                    Self::Item(item) => item.as_array(),
                    Self::Value(value) => value.as_array(),
                    Self::Table(_) => None,
                }?
                .get(index)?;
                Some((Self::Value(value), value.span()))
            }
        }
    }

    fn table(self) -> Option<&'d dyn TableLike> {
        match self {
            Self::Item(item) => item.as_table_like(),
            Self::Value(value) => value.as_inline_table().map(|table| table as &dyn TableLike),
            Self::Table(table) => Some(table),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "\
# a comment
[filter]
interfaces = [
  \"eth0\",
  \"eth1\",
]
[[filter.source]]
cidr = \"10.0.0.0/8\"

[[filter.source]]
name = \"b\"
[tls.client]
roots = []
";

    fn line(key: &str) -> usize {
        let document = Document::parse(Path::new("a.toml"), TEXT.to_owned()).unwrap();
        document.diagnose(&Problem::new(key, "m", "n")).line.unwrap()
    }

    #[test]
    fn a_problem_gets_the_line_of_its_key_or_of_the_nearest_table_above() {
        assert_eq!(line("filter"), 2);
        assert_eq!(line("filter.interfaces"), 3);
        assert_eq!(line("filter.interfaces[1]"), 5);
        assert_eq!(line("filter.interfaces[7]"), 3);
        assert_eq!(line("filter.mode"), 2);
        assert_eq!(line("filter.source[0].cidr"), 8);
        assert_eq!(line("filter.source[1].cidr"), 10);
        assert_eq!(line("filter.source[1].name"), 11);
        assert_eq!(line("tls.client.roots"), 13);
        assert_eq!(line("tls.certificate"), 12);
        assert_eq!(line("registry.file"), 1);
    }

    #[test]
    fn settings_are_told_without_comments_and_without_the_allowlist() {
        let text = TEXT.replace("\"eth0\",", "\"eth0\", # the first")
            + "[verdict]\nttl = \"1m\" # short\n[[authz.shadow]]\nasid=\"1\"\n";
        let document = Document::parse(Path::new("a.toml"), text).unwrap();
        let settings: Vec<_> = document.settings().into_iter().collect();
        let expected = [
            ("authz.shadow[0].asid", "\"1\""),
            ("filter.interfaces", "[\"eth0\", \"eth1\"]"),
            ("tls.client.roots", "[]"),
            ("verdict.ttl", "\"1m\""),
        ];
        assert_eq!(
            settings,
            expected.map(|(key, value)| (key.to_owned(), value.to_owned()))
        );
    }

    #[test]
    fn a_diagnostic_reads_file_line_key_fault_mend() {
        let document = Document::parse(Path::new("a.toml"), TEXT.to_owned()).unwrap();
        let diagnostic = document.diagnose(&Problem::new("filter.mode", "is wrong", "mend it"));
        assert_eq!(diagnostic.to_string(), "a.toml:2: filter.mode: is wrong; mend it");
    }

    proptest! {
        #[test]
        fn any_key_has_a_line_of_the_file(key in "[a-z.\\[\\]0-9]{0,40}") {
            prop_assert!((1..=13).contains(&line(&key)));
        }

        #[test]
        fn any_text_parses_or_is_refused_without_a_panic(text in "[\\x00-\\x7fé\\[\\]=\"\\n]{0,80}") {
            let _ = Document::parse(Path::new("a.toml"), text);
        }

        #[test]
        fn lines_that_are_almost_toml_parse_or_are_refused_without_a_panic(
            text in "((\\[?[ab]\\]?|[ab]\\.[ab]) ?=? ?=? ?(1|\"|\\[|\\[\\]|\\{|)\n){0,8}",
        ) {
            let _ = Document::parse(Path::new("a.toml"), text);
        }
    }
}
