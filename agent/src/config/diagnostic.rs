//! A problem with its place in the file, as the operator sees it.

use std::{fmt, path::PathBuf};

use serde::Serialize;

use super::Problem;

/// One line of what `check` prints: `FILE:LINE: KEY: what is wrong; mend`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// The configuration file, or one that it names.
    pub file: PathBuf,
    /// Counted from 1; none where the fault is with the file itself.
    pub line: Option<usize>,
    /// The dotted key; empty where the fault is with the file or its syntax.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub mend: String,
}

impl Diagnostic {
    pub(super) fn new(file: impl Into<PathBuf>, line: Option<usize>, problem: Problem) -> Self {
        let Problem {
            key, message, mend, ..
        } = problem;
        Self {
            file: file.into(),
            line,
            key,
            message,
            mend,
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}; {}", self.message, self.mend)
    }
}
