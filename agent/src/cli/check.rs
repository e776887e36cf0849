//! `spinegate check`

use std::{fmt::Write as _, path::Path};

use serde::Serialize;

use super::{Exit, Failure, Format, Place, output};
use crate::config::{self, Diagnostic, Loaded};

pub(super) fn run(place: &Place, format: Format) -> Result<Exit, Failure> {
    let file = place.config();
    let (problems, warnings) = match load(&file) {
        Ok((loaded, of_rooms)) => (Vec::new(), [loaded.warnings, of_rooms].concat()),
        Err(problems) => (problems, Vec::new()),
    };
    if format.json {
        output::json(&Findings {
            problems: &problems,
            warnings: &warnings,
        })?;
    } else {
        output::text(&lines(&file, &problems, &warnings))?;
    }
    Ok(if problems.is_empty() {
        Exit::Done
    } else {
        Exit::Usage
    })
}

/// The configuration if it, and all that it names, is sound; and what the rooms warn of in what it names.
pub(super) fn load(file: &Path) -> Result<(Loaded, Vec<Diagnostic>), Vec<Diagnostic>> {
    let loaded = config::load(file)?;
    let found = crate::check::findings(&loaded.config);
    let [problems, warnings] = [found.problems, found.warnings].map(|found| {
        let mut found = loaded.source.diagnose_all(&found);
        found.sort_by_key(|problem| (problem.file != file, problem.line));
        found
    });
    if problems.is_empty() {
        Ok((loaded, warnings))
    } else {
        Err(problems)
    }
}

#[derive(Serialize)]
struct Findings<'f> {
    problems: &'f [Diagnostic],
    warnings: &'f [Diagnostic],
}

fn lines(file: &Path, problems: &[Diagnostic], warnings: &[Diagnostic]) -> String {
    let mut text = String::new();
    // Writing to a string can't fail.
    for warning in warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    for problem in problems {
        let _ = writeln!(text, "{problem}");
    }
    let _ = match problems.len() {
        0 => writeln!(text, "{}: sound", file.display()),
        1 => writeln!(text, "1 problem"),
        count => writeln!(text, "{count} problems"),
    };
    text
}
