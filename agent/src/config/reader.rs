//! A typed reader over a parsed file, which goes on after a fault so that every fault is reported.
//!
//! Each read gives `None` if, and only if, it has reported a problem: a section is built from its values with `?` once
//! all of them were read.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use toml_edit::{Item, TableLike};

use super::{
    Diagnostic, Document, Problem,
    kind::{Fault, Given, Kind, type_name},
};

/// What was found wrong with a document, and which keys were looked for.
pub(super) struct Report<'d> {
    document: &'d Document,
    problems: RefCell<Vec<Diagnostic>>,
    warnings: RefCell<Vec<Diagnostic>>,
    keys: RefCell<BTreeMap<String, Key>>,
    /// The keys whose values are their defaults, with indices.
    usual: RefCell<BTreeSet<String>>,
}

/// A table of the document, or the want of one: then every key has its default, or is missing.
pub(super) struct Section<'r> {
    report: &'r Report<'r>,
    key: String,
    /// The key without indices.
    kind: String,
    line: usize,
    table: Option<&'r dyn TableLike>,
    known: Vec<&'static str>,
}

/// What the documentation says of a key: the number that it was looked for as, the kind of its values, its default, its meaning.
pub(super) type Key = (usize, [String; 3]);

/// What the mend of a missing key shows.
pub(super) struct Example(pub(super) &'static str);

/// What is so where a key without a default is left out.
pub(super) struct Absent(pub(super) &'static str);

/// Whether a key must be there, and when that is so.
pub(super) struct Needed(pub(super) bool, pub(super) &'static str);

impl<'d> Report<'d> {
    pub(super) fn new(document: &'d Document) -> Self {
        Self {
            document,
            problems: RefCell::default(),
            warnings: RefCell::default(),
            keys: RefCell::default(),
            usual: RefCell::default(),
        }
    }

    pub(super) fn root(&'d self) -> Section<'d> {
        Section {
            report: self,
            key: String::new(),
            kind: String::new(),
            line: 1,
            table: Some(self.document.root()),
            known: Vec::new(),
        }
    }

    pub(super) fn problem(&self, problem: &Problem) {
        self.problems.borrow_mut().push(self.document.diagnose(problem));
    }

    pub(super) fn warning(&self, problem: &Problem) {
        self.warnings.borrow_mut().push(self.document.diagnose(problem));
    }

    /// The problems and the warnings, each in the order of the lines.
    pub(super) fn finish(self) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
        let mut problems = self.problems.into_inner();
        let mut warnings = self.warnings.into_inner();
        problems.sort_by_key(|problem| problem.line);
        warnings.sort_by_key(|warning| warning.line);
        (problems, warnings)
    }

    /// Whether a key is given, and its value is its default.
    pub(super) fn is_usual(&self, key: &str) -> bool {
        self.usual.borrow().contains(key)
    }

    /// Every key that was looked for, without indices.
    #[cfg(test)]
    pub(super) fn keys(&self) -> BTreeMap<String, Key> {
        self.keys.borrow().clone()
    }

    fn at(&self, line: usize, problem: Problem) {
        self.problems
            .borrow_mut()
            .push(Diagnostic::new(self.document.file(), Some(line), problem));
    }
}

impl<'r> Section<'r> {
    /// A table within this one; where it is missing its keys are.
    pub(super) fn section(&mut self, name: &'static str) -> Section<'r> {
        let table = self.item(name).and_then(|item| match item.as_table_like() {
            Some(table) => Some(table),
            None => {
                let mend = format!("write it as a table, [{}]", self.key_of(name));
                self.fault(
                    name,
                    Fault::new(format!("is {}, not a table", type_name(item)), mend),
                );
                None
            }
        });
        let key = self.key_of(name);
        let line = self
            .report
            .document
            .diagnose(&Problem::new(&key, "", ""))
            .line
            .unwrap_or(self.line);
        Section {
            report: self.report,
            kind: self.kind_of(name),
            key,
            line,
            table,
            known: Vec::new(),
        }
    }

    /// The tables of a list of tables, `[[name]]`.
    pub(super) fn sections(&mut self, name: &'static str) -> Vec<Section<'r>> {
        let tables: Vec<Option<&'r dyn TableLike>> = match self.item(name) {
            None => Vec::new(),
            Some(Item::ArrayOfTables(tables)) => {
                tables.iter().map(|table| Some(table as &dyn TableLike)).collect()
            }
            Some(item) => match item.as_array() {
                Some(array) => array
                    .iter()
                    .map(|value| value.as_inline_table().map(|table| table as &dyn TableLike))
                    .collect(),
                None => vec![None],
            },
        };
        if tables.iter().any(Option::is_none) {
            let mend = format!("begin each entry with a line [[{}]]", self.key_of(name));
            self.fault(name, Fault::new("is not a list of tables", mend));
        }
        let entries = tables.into_iter().enumerate();
        entries
            .filter_map(|(index, table)| {
                let table = table?;
                let key = format!("{}[{index}]", self.key_of(name));
                let line = self
                    .report
                    .document
                    .diagnose(&Problem::new(&key, "", ""))
                    .line
                    .unwrap_or(self.line);
                let kind = self.kind_of(name);
                Some(Section {
                    report: self.report,
                    key,
                    kind,
                    line,
                    table: Some(table),
                    known: Vec::new(),
                })
            })
            .collect()
    }

    /// A value that must be there.
    pub(super) fn required<T>(
        &mut self,
        name: &'static str,
        example: Example,
        kind: Kind<'_, T>,
        meaning: &str,
    ) -> Option<T> {
        self.required_if(Needed::ALWAYS, name, example, kind, meaning)
            .flatten()
    }

    /// A value that must be there in some cases.
    pub(super) fn required_if<T>(
        &mut self,
        needed: Needed,
        name: &'static str,
        example: Example,
        kind: Kind<'_, T>,
        meaning: &str,
    ) -> Option<Option<T>> {
        self.say(name, &kind.one, || needed.said(), meaning);
        self.needed_value(&needed, name, &example, &kind)
    }

    /// A value that has a default.
    pub(super) fn or<T: PartialEq>(
        &mut self,
        name: &'static str,
        default: T,
        kind: Kind<'_, T>,
        meaning: &str,
    ) -> Option<T> {
        self.say(name, &kind.one, || code(&kind.write(&default)), meaning);
        let Some(value) = self.value(name, &kind)? else {
            return Some(default);
        };
        self.note_usual(name, value == default);
        Some(value)
    }

    /// A value that may be left out.
    pub(super) fn optional<T>(
        &mut self,
        name: &'static str,
        absent: Absent,
        kind: Kind<'_, T>,
        meaning: &str,
    ) -> Option<Option<T>> {
        self.say(name, &kind.one, || format!("*{}*", absent.0), meaning);
        self.value(name, &kind)
    }

    /// A list of values, no two of them alike; empty where it is left out.
    pub(super) fn list<T: PartialEq>(
        &mut self,
        name: &'static str,
        kind: Kind<'_, T>,
        meaning: &str,
    ) -> Option<Vec<T>> {
        self.say(name, &list_of(&kind), || code(&kind.write_list(&[])), meaning);
        let values = self.values(name, &kind)?;
        self.note_usual(name, values.is_empty());
        Some(values)
    }

    /// A list of at least one value.
    pub(super) fn required_list<T: PartialEq>(
        &mut self,
        name: &'static str,
        example: Example,
        kind: Kind<'_, T>,
        meaning: &str,
    ) -> Option<Vec<T>> {
        self.required_list_if(Needed::ALWAYS, name, example, kind, meaning)
    }

    /// A list that must have a value in some cases.
    pub(super) fn required_list_if<T: PartialEq>(
        &mut self,
        needed: Needed,
        name: &'static str,
        example: Example,
        kind: Kind<'_, T>,
        meaning: &str,
    ) -> Option<Vec<T>> {
        self.say(name, &list_of(&kind), || needed.said(), meaning);
        self.needed_values(&needed, name, &example, &kind)
    }

    /// A list of at least one value that has a default.
    pub(super) fn list_or<T: PartialEq>(
        &mut self,
        name: &'static str,
        default: Vec<T>,
        example: Example,
        kind: Kind<'_, T>,
        meaning: &str,
    ) -> Option<Vec<T>> {
        self.say(
            name,
            &list_of(&kind),
            || code(&kind.write_list(&default)),
            meaning,
        );
        if self.item(name).is_none() {
            return Some(default);
        }
        let values = self.values_at_least_one(name, &example, &kind)?;
        self.note_usual(name, values == default);
        Some(values)
    }

    /// One value, or a list of at least one. Where it is not needed it may be left out, or be an empty list.
    pub(super) fn one_or_list<T: PartialEq>(
        &mut self,
        needed: Needed,
        name: &'static str,
        example: Example,
        kind: Kind<'_, T>,
        meaning: &str,
    ) -> Option<Vec<T>> {
        let either = format!("{}, or a {}", kind.one, list_of(&kind));
        self.say(name, &either, || needed.said(), meaning);
        if self.item(name).is_some_and(Item::is_array) {
            return self.needed_values(&needed, name, &example, &kind);
        }
        let value = self.needed_value(&needed, name, &example, &kind)?;
        Some(value.into_iter().collect())
    }

    fn needed_value<T>(
        &mut self,
        needed: &Needed,
        name: &'static str,
        example: &Example,
        kind: &Kind<'_, T>,
    ) -> Option<Option<T>> {
        let value = self.value(name, kind)?;
        if needed.0 && value.is_none() {
            let mend = format!("add `{name} = {}`{}", example.0, self.place());
            self.fault(name, Fault::new("is missing", mend));
            return None;
        }
        Some(value)
    }

    fn needed_values<T: PartialEq>(
        &mut self,
        needed: &Needed,
        name: &'static str,
        example: &Example,
        kind: &Kind<'_, T>,
    ) -> Option<Vec<T>> {
        if needed.0 {
            self.values_at_least_one(name, example, kind)
        } else {
            self.values(name, kind)
        }
    }

    fn value<T>(&mut self, name: &'static str, kind: &Kind<'_, T>) -> Option<Option<T>> {
        let Some(item) = self.item(name) else {
            return Some(None);
        };
        let Some(value) = item.as_value() else {
            let mend = format!("write it as `{name} = …`{}", self.place());
            self.fault(
                name,
                Fault::new(format!("is {}, not a value", type_name(item)), mend),
            );
            return None;
        };
        match kind.read(Given(value)) {
            Ok(value) => Some(Some(value)),
            Err(fault) => {
                self.fault(name, fault);
                None
            }
        }
    }

    fn values<T: PartialEq>(&mut self, name: &'static str, kind: &Kind<'_, T>) -> Option<Vec<T>> {
        let Some(item) = self.item(name) else {
            return Some(Vec::new());
        };
        let Some(array) = item.as_array() else {
            let fault = Fault::new(
                format!("is {}, not a list", type_name(item)),
                "put its values in [ ]",
            );
            self.fault(name, fault);
            return None;
        };
        let mut values: Vec<T> = Vec::new();
        let mut sound = true;
        for (index, value) in array.iter().enumerate() {
            let fault = match kind.read(Given(value)) {
                Err(fault) => fault,
                Ok(value) if values.contains(&value) => {
                    Fault::new("stands in the list already", "take it out")
                }
                Ok(value) => {
                    values.push(value);
                    continue;
                }
            };
            sound = false;
            let key = format!("{}[{index}]", self.key_of(name));
            self.report.problem(&Problem::new(key, fault.message, fault.mend));
        }
        sound.then_some(values)
    }

    fn values_at_least_one<T: PartialEq>(
        &mut self,
        name: &'static str,
        example: &Example,
        kind: &Kind<'_, T>,
    ) -> Option<Vec<T>> {
        let values = self.values(name, kind)?;
        if values.is_empty() {
            let message = if self.item(name).is_some() {
                "is empty"
            } else {
                "is missing"
            };
            let mend = format!("write `{name} = {}`{}", example.0, self.place());
            self.fault(name, Fault::new(message, mend));
            return None;
        }
        Some(values)
    }

    fn note_usual(&self, name: &str, is_usual: bool) {
        if is_usual {
            self.report.usual.borrow_mut().insert(self.key_of(name));
        }
    }

    /// Notes what the documentation says of a key, for the test that writes it: an agent that reads its configuration has no
    /// use for it.
    fn say(&self, name: &str, kind: &str, default: impl FnOnce() -> String, meaning: &str) {
        if !cfg!(test) {
            return;
        }
        let mut keys = self.report.keys.borrow_mut();
        let number = keys.len();
        keys.entry(self.kind_of(name))
            .or_insert_with(|| (number, [kind.to_owned(), default(), meaning.to_owned()]));
    }

    /// Whether the file has this table.
    pub(super) const fn is_given(&self) -> bool {
        self.table.is_some()
    }

    /// Warns of this table.
    pub(super) fn warning(&self, fault: Fault) {
        self.report
            .warning(&Problem::new(&self.key, fault.message, fault.mend));
    }

    /// Reports a fault with the value of a key of this section.
    pub(super) fn fault(&self, name: &str, fault: Fault) {
        self.report
            .problem(&Problem::new(self.key_of(name), fault.message, fault.mend));
    }

    /// The dotted key of a name in this section.
    pub(super) fn key_of(&self, name: &str) -> String {
        join(&self.key, name)
    }

    /// Reports the keys that nobody looked for. Called when all others were read.
    pub(super) fn finish(self) {
        let Some(table) = self.table else { return };
        for (name, item) in table.iter() {
            if self.known.contains(&name) {
                continue;
            }
            let key = table.key(name);
            let shown = key.map_or_else(|| name.to_owned(), |key| key.display_repr().into_owned());
            let span = key.and_then(toml_edit::Key::span).or_else(|| item.span());
            let line = span.map_or(self.line, |span| self.report.document.line_at(span));
            let nearest = self
                .known
                .iter()
                .map(|known| (strsim::damerau_levenshtein(known, name), known))
                .filter(|(distance, known)| *distance <= (known.len() / 3).max(1))
                .min();
            let mend = match nearest {
                Some((_, known)) => format!("did you mean `{known}`?"),
                None => format!("take it out; known here: {}", self.known.join(", ")),
            };
            self.report.at(
                line,
                Problem::new(join(&self.key, &shown), "is not a known key", mend),
            );
        }
    }

    fn item(&mut self, name: &'static str) -> Option<&'r Item> {
        if !self.known.contains(&name) {
            self.known.push(name);
        }
        self.table?.get(name).filter(|item| !item.is_none())
    }

    fn kind_of(&self, name: &str) -> String {
        join(&self.kind, name)
    }

    fn place(&self) -> String {
        match (self.kind.as_str(), self.key.ends_with(']')) {
            ("", _) => " at the top".to_owned(),
            (kind, true) => format!(" under its [[{kind}]]"),
            (kind, false) => format!(" under [{kind}]"),
        }
    }
}

impl Needed {
    /// It must be there in any case.
    pub(super) const ALWAYS: Self = Self(true, "");

    fn said(&self) -> String {
        format!("*required* {}", self.1).trim_end().to_owned()
    }
}

fn list_of<T>(kind: &Kind<'_, T>) -> String {
    format!("list of {}", kind.many)
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

fn join(table: &str, name: &str) -> String {
    if table.is_empty() {
        name.to_owned()
    } else {
        format!("{table}.{name}")
    }
}
