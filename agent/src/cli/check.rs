//! `spinegate check`

use std::{fmt::Write as _, path::Path, time::SystemTime};

use clap::Args;
use serde::Serialize;

use super::{
    Exit, Failure, Format, Place, difference,
    output::{self, Look},
    registry,
    snippet::{self, Kind},
};
use crate::{
    config::{self, Diagnostic, Loaded},
    control::{ClientError, Request, Response},
    diff::{Difference, State},
    run::Parts,
};

#[derive(Clone, Copy, Debug, Args)]
#[command(
    after_help = "Exit codes: 0 the configuration is sound, 1 a reload would change something and --exit-code was \
                        given, 2 it is not sound, 3 --diff was given and no agent runs."
)]
pub(super) struct Arguments {
    /// Show what a reload would change of what is in force.
    #[arg(long)]
    diff: bool,
    /// End with exit code 1 if that is anything.
    #[arg(long, requires = "diff")]
    exit_code: bool,
    #[command(flatten)]
    format: Format,
}

pub(super) fn run(place: &Place, arguments: Arguments) -> Result<Exit, Failure> {
    let file = place.config();
    let json = arguments.format.json;
    let (loaded, problems, warnings) = match load(&file) {
        Ok((loaded, of_rooms)) => {
            let warnings = [loaded.warnings.clone(), of_rooms].concat();
            (Some(loaded), Vec::new(), warnings)
        }
        Err(problems) => (None, problems, Vec::new()),
    };
    if !json {
        output::text(&render(&file, &problems, &warnings, output::look()))?;
    }
    let compared = match loaded {
        Some(loaded) if arguments.diff => Some(compare(place, &loaded)?),
        _ => None,
    };
    let difference = compared.as_ref().and_then(|compared| compared.as_ref());
    if json {
        output::json(&Findings {
            problems: &problems,
            warnings: &warnings,
            running: compared.as_ref().map(Option::is_some),
            difference,
        })?;
    } else if let Some(difference) = difference {
        output::text(&difference::render(difference))?;
    }
    if !problems.is_empty() {
        return Ok(Exit::Usage);
    }
    match compared {
        Some(None) => Err(ClientError::NotRunning.into()),
        Some(Some(difference)) if arguments.exit_code && !difference.is_empty() => Ok(Exit::Refused),
        _ => Ok(Exit::Done),
    }
}

/// What a reload would change; none without an agent.
fn compare(place: &Place, loaded: &Loaded) -> Result<Option<Difference>, Failure> {
    let in_force = match in_force(place) {
        Ok(in_force) => in_force,
        Err(failure) if failure.exit() == Exit::NotRunning => return Ok(None),
        Err(failure) => return Err(failure),
    };
    // They were sound a moment ago.
    let parts = Parts::load(&loaded.config).map_err(|problems| {
        let problems = loaded.source.diagnose_all(&problems);
        Failure::new(Exit::Usage, super::failure::lines(&problems))
    })?;
    let would_be = parts.into_state(&loaded.config, SystemTime::now());
    Ok(Some(Difference::between(in_force, would_be)))
}

fn in_force(place: &Place) -> Result<State, Failure> {
    let Response::Settings(settings) = place.ask(Request::Settings)? else {
        return Err(Failure::other_answer());
    };
    let Response::Status(status) = place.ask(Request::Status)? else {
        return Err(Failure::other_answer());
    };
    let Response::Sources(sources) = place.ask(Request::SourcesList)? else {
        return Err(Failure::other_answer());
    };
    Ok(State {
        settings,
        sources,
        systems: registry::all(place)?,
        certificates: status.certificates,
        crls: status.crls,
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
    /// With `--diff`: whether there is an agent to compare with.
    #[serde(skip_serializing_if = "Option::is_none")]
    running: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    difference: Option<&'f Difference>,
}

fn render(file: &Path, problems: &[Diagnostic], warnings: &[Diagnostic], look: Look) -> String {
    let mut text = snippet::render(Kind::Warning, warnings, look);
    text.push_str(&snippet::render(Kind::Error, problems, look));
    // Writing to a string can't fail.
    let _ = match problems.len() {
        0 => writeln!(text, "{}: sound", file.display()),
        1 => writeln!(text, "1 problem"),
        count => writeln!(text, "{count} problems"),
    };
    text
}
