//! The agent's log: for people on a terminal, as JSON or to journald otherwise; never more lines than a disk can bear, and of a
//! level that can be changed while it runs.

mod flood;

use std::{
    env,
    io::{self, IsTerminal as _},
    sync::OnceLock,
};

use anyhow::Context as _;
use tracing_subscriber::{
    EnvFilter, Layer as _, Registry,
    filter::LevelFilter,
    layer::{Layered, SubscriberExt as _},
    reload,
    util::SubscriberInitExt as _,
};

use self::flood::Flood;
use crate::config::LogFormat;

const VARIABLE: &str = "SPINEGATE_LOG";
/// `netlink-packet-route` warns of each link attribute that is newer than it.
const ALWAYS: &str = "netlink_packet_route=error";

type Output = Box<dyn tracing_subscriber::Layer<Filtered> + Send + Sync>;
type Filtered = Layered<reload::Layer<EnvFilter, Registry>, Registry>;

/// What can be changed of a log that is open.
struct Log {
    filter: reload::Handle<EnvFilter, Registry>,
    output: reload::Handle<Output, Filtered>,
    flood: Flood,
    /// The filter that it began with.
    first: String,
}

static LOG: OnceLock<Log> = OnceLock::new();

/// Why the log is not as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The text is no filter.
    #[error(
        "{filter:?} is not a filter: {error}; write a level, as in `debug`, or `spinegate::tls=debug,info`"
    )]
    Filter {
        /// The text.
        filter: String,
        /// Why.
        error: String,
    },
    /// The journal's socket is not there, or refuses.
    #[error("the log can't go to journald: {0}; set `log.format` to `json`, or start systemd-journald")]
    Journald(io::Error),
    /// The process has no log of this kind.
    #[error("this process's log can't be changed; start it as `spinegate run`")]
    Closed,
}

/// Opens the log for people, on standard error, with the filter of `SPINEGATE_LOG`.
///
/// # Errors
/// If that is none, or the process has a log already.
pub fn open() -> anyhow::Result<()> {
    let wanted = env::var(VARIABLE).unwrap_or_default();
    let first = if wanted.trim().is_empty() {
        "info".to_owned()
    } else {
        wanted
    };
    let filter = parse(&first).context(VARIABLE)?;
    let (filter, filter_handle) = reload::Layer::new(filter);
    let (output, output_handle) = reload::Layer::new(human());
    let flood = Flood::default();
    let log = Log {
        filter: filter_handle,
        output: output_handle,
        flood: flood.clone(),
        first,
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(output)
        .with(flood)
        .try_init()
        .context("the log can't be opened")?;
    LOG.set(log)
        .map_err(|_| anyhow::anyhow!("the log is open already"))
}

/// Writes in another form from now on.
///
/// # Errors
/// If journald is asked for, and is not there.
pub fn write_as(format: LogFormat) -> Result<(), LogError> {
    let Some(log) = LOG.get() else { return Ok(()) };
    let output = match format {
        LogFormat::Auto if io::stderr().is_terminal() => human(),
        // systemd says so of a service whose standard error is the journal's.
        LogFormat::Auto if env::var_os("JOURNAL_STREAM").is_some() => journald().unwrap_or_else(|_| json()),
        LogFormat::Auto | LogFormat::Json => json(),
        LogFormat::Human => human(),
        LogFormat::Journald => journald().map_err(LogError::Journald)?,
    };
    log.output.reload(output).map_err(|_| LogError::Closed)
}

/// The filter in force.
#[must_use]
pub fn filter() -> Option<String> {
    LOG.get()?.filter.with_current(spelled).ok()
}

/// Lets through what another filter lets through, or the one that the process began with. Gives the filter in force.
///
/// # Errors
/// If the text is no filter.
pub fn set_filter(filter: Option<&str>) -> Result<String, LogError> {
    let log = LOG.get().ok_or(LogError::Closed)?;
    let wanted = parse(filter.unwrap_or(&log.first))?;
    let said = spelled(&wanted);
    log.filter.reload(wanted).map_err(|_| LogError::Closed)?;
    Ok(said)
}

/// Lines that were left out since the process's start.
#[must_use]
pub fn left_out() -> u64 {
    LOG.get().map_or(0, |log| log.flood.left_out())
}

/// Says which lines were left out since it was last asked.
pub fn tell_left_out() {
    if let Some(told) = LOG.get().and_then(|log| log.flood.tell()) {
        tracing::warn!("lines were left out, as there were too many like them: {told}");
    }
}

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    let failed = |error: &dyn std::fmt::Display| LogError::Filter {
        filter: filter.to_owned(),
        error: error.to_string(),
    };
    let parsed = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .parse(filter)
        .map_err(|error| failed(&error))?;
    Ok(parsed.add_directive(ALWAYS.parse().map_err(|error| failed(&error))?))
}

/// As an operator writes it.
fn spelled(filter: &EnvFilter) -> String {
    let all = filter.to_string();
    let directives: Vec<_> = all.split(',').filter(|one| *one != ALWAYS).collect();
    directives.join(",")
}

fn human() -> Output {
    tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .boxed()
}

fn json() -> Output {
    tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_writer(io::stderr)
        .boxed()
}

fn journald() -> io::Result<Output> {
    let layer = tracing_journald::layer()?.with_syslog_identifier("spinegate".to_owned());
    Ok(layer.boxed())
}

#[cfg(test)]
mod tests {
    use super::{parse, spelled};

    #[test]
    fn a_filter_is_spelled_as_an_operator_writes_it() {
        for (written, said) in [
            ("info", "info"),
            ("debug", "debug"),
            ("", "info"),
            ("spinegate::tls=debug,warn", "spinegate::tls=debug,warn"),
        ] {
            assert_eq!(spelled(&parse(written).unwrap()), said, "{written}");
        }
    }

    #[test]
    fn what_is_no_filter_is_named_with_its_mend() {
        let error = parse("spinegate=loud").unwrap_err().to_string();
        assert!(error.starts_with("\"spinegate=loud\" is not a filter"), "{error}");
        assert!(error.ends_with("`spinegate::tls=debug,info`"), "{error}");
    }
}
