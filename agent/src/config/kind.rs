//! What the values of a key are: how one is read, how it is written, and what the documentation calls it.

use std::{borrow::Cow, fmt::Display, path::Path, time::Duration};

use toml_edit::{Item, Value};

/// A value as it stands in the file.
#[derive(Clone, Copy)]
pub(super) struct Given<'v>(pub(super) &'v Value);

/// What is wrong with a value.
pub(super) struct Fault {
    pub(super) message: String,
    pub(super) mend: String,
}

/// The values that a key may have.
pub(super) struct Kind<'k, T> {
    /// What the documentation calls one of them, and several.
    pub(super) one: Cow<'static, str>,
    pub(super) many: Cow<'static, str>,
    write: Box<dyn Fn(&T) -> String + 'k>,
    read: Box<Reading<'k, T>>,
}

type Reading<'k, T> = dyn Fn(Given<'_>) -> Result<T, Fault> + 'k;

impl Fault {
    pub(super) fn new(message: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            mend: mend.into(),
        }
    }
}

impl Given<'_> {
    pub(super) fn text(&self, example: &str) -> Result<&str, Fault> {
        self.0.as_str().ok_or_else(|| {
            let message = format!("is {}, not a string", self.type_name());
            Fault::new(message, format!("write a string, as in {example}"))
        })
    }

    pub(super) fn type_name(&self) -> &'static str {
        type_of(self.0)
    }
}

impl<'k, T> Kind<'k, T> {
    pub(super) fn new(
        one: impl Into<Cow<'static, str>>,
        write: impl Fn(&T) -> String + 'k,
        read: impl Fn(Given<'_>) -> Result<T, Fault> + 'k,
    ) -> Self {
        let one = one.into();
        Self {
            many: one.clone(),
            one,
            write: Box::new(write),
            read: Box::new(read),
        }
    }

    /// Several have another name than one.
    pub(super) fn or_many(mut self, many: &'static str) -> Self {
        self.many = many.into();
        self
    }

    pub(super) fn read(&self, given: Given<'_>) -> Result<T, Fault> {
        (self.read)(given)
    }

    /// A value as it would stand in a file.
    pub(super) fn write(&self, value: &T) -> String {
        (self.write)(value)
    }

    pub(super) fn write_list(&self, values: &[T]) -> String {
        let values: Vec<_> = values.iter().map(|value| self.write(value)).collect();
        format!("[{}]", values.join(", "))
    }
}

/// Writes a value that is no text.
pub(super) fn bare(value: &impl Display) -> String {
    value.to_string()
}

/// Writes a value that is a text.
pub(super) fn quoted(value: &impl Display) -> String {
    Value::from(value.to_string()).to_string()
}

pub(super) fn quoted_path(path: &impl AsRef<Path>) -> String {
    quoted(&path.as_ref().display())
}

pub(super) fn quoted_span(span: &Duration) -> String {
    quoted(&humantime::format_duration(*span))
}

/// What an item is, with its article.
pub(super) fn type_name(item: &Item) -> &'static str {
    match item {
        Item::None => "nothing",
        Item::Value(value) => type_of(value),
        Item::Table(_) => "a table",
        Item::ArrayOfTables(_) => "a list of tables",
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::Integer(_) => "an integer",
        Value::Float(_) => "a float",
        Value::Boolean(_) => "a boolean",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::InlineTable(_) => "a table",
    }
}
