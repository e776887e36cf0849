//! An edge host looked over: each thing that the gateway needs of it is in order, to be seen to, or amiss. Nothing is changed.

mod clock;
mod disk;
mod host;
mod interfaces;
mod keys;
mod reach;

use std::{path::Path, time::SystemTime};

use serde::Serialize;

use crate::{
    config::{self, FilterMode},
    control::{self, Request, Response},
};
use host::Host;

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// As it should be.
    Ok,
    /// It works, but should be seen to.
    Warn,
    /// The gateway does not work with it, or guards nothing.
    Fail,
}

impl Health {
    /// The word that stands for it in tables and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at: one of a fixed set of words.
    pub check: &'static str,
    /// Which of several: an interface, a certificate, an upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// How it is.
    pub outcome: Health,
    /// What was found.
    pub detail: String,
    /// What to do about it; none where nothing is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, detail: impl Into<String>) -> Self {
        Self {
            check,
            about: None,
            outcome: Health::Ok,
            detail: detail.into(),
            mend: None,
        }
    }

    fn warn(check: &'static str, detail: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            outcome: Health::Warn,
            mend: Some(mend.into()),
            ..Self::ok(check, detail)
        }
    }

    fn fail(check: &'static str, detail: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            outcome: Health::Fail,
            ..Self::warn(check, detail, mend)
        }
    }

    fn about(self, about: impl Into<String>) -> Self {
        Self {
            about: Some(about.into()),
            ..self
        }
    }
}

/// Looks the host over for a configuration, and for the agent that serves `socket`.
#[must_use]
pub fn examine(file: &Path, socket: &Path) -> Vec<Finding> {
    let now = SystemTime::now();
    let loaded = match config::load(file) {
        Ok(loaded) => loaded,
        Err(problems) => {
            // What belongs to no configuration can be looked at all the same.
            let mut findings = host::judge(&Host::read(), true, false);
            let first = problems.first().map(ToString::to_string).unwrap_or_default();
            let detail = format!("{} problems, the first: {first}", problems.len());
            let mend =
                "`spinegate check` shows all of them; what depends on the configuration was not looked at";
            findings.push(Finding::fail(CONFIGURATION, detail, mend));
            return findings;
        }
    };
    let config = &loaded.config;
    let agent = control::call(socket, Request::Status);
    let status = match &agent {
        Ok(Response::Status(status)) => Some(&**status),
        _ => None,
    };
    let filtered = config.filter.mode != FilterMode::Off;
    [
        host::judge(&Host::read(), filtered, status.is_some()),
        vec![configuration(file, &loaded.warnings)],
        interfaces::examine(&config.filter, status),
        keys::examine(config, now),
        reach::registry(config, status, now),
        reach::upstreams(config),
        vec![reach::agent(socket, &agent)],
        disk::audit(&config.audit),
    ]
    .concat()
}

/// The check of the configuration file itself: the exit code of the command depends on it.
pub const CONFIGURATION: &str = "configuration";

fn configuration(file: &Path, warnings: &[config::Diagnostic]) -> Finding {
    match warnings {
        [] => Finding::ok(CONFIGURATION, format!("{} is sound", file.display())),
        [first, ..] => Finding::warn(
            CONFIGURATION,
            format!("{} warnings, the first: {first}", warnings.len()),
            "`spinegate check` shows all of them",
        ),
    }
}
