//! What is wrong with a configuration, said so that it can be mended.

use std::{fmt, path::PathBuf};

/// One fault of a configuration. Every room that reads configuration reports in this form; [`super`] adds file and line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The dotted key, with indices for lists: `filter.source[2].cidr`.
    pub key: String,
    /// What is wrong, naming the offending value or file.
    pub message: String,
    /// What to do about it.
    pub mend: String,
    /// File and line, where the fault is in another file, that the configuration names.
    pub place: Option<(PathBuf, usize)>,
}

impl Problem {
    /// A problem with the value of a key.
    pub fn new(key: impl Into<String>, message: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            message: message.into(),
            mend: mend.into(),
            place: None,
        }
    }

    /// The problem as one of a line, counted from 1, of a file that the configuration names.
    #[must_use]
    pub fn within(self, file: impl Into<PathBuf>, line: usize) -> Self {
        Self {
            place: Some((file.into(), line)),
            ..self
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((file, line)) = &self.place {
            write!(f, "{}:{line}: ", file.display())?;
        }
        write!(f, "{}: {} ({})", self.key, self.message, self.mend)
    }
}
