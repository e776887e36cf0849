//! Spinegate.

use std::{
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
};

use anyhow::Context as _;
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

fn main() -> ExitCode {
    match log_to_stderr() {
        Ok(()) => spinegate::cli::main(std::env::args_os()),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "spinegate: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn log_to_stderr() -> anyhow::Result<()> {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .with_env_var("SPINEGATE_LOG")
        .from_env()
        .context(
            "SPINEGATE_LOG is not a filter; write a level, as in `debug`, or `spinegate::tls=debug,info`",
        )?
        // It warns of each link attribute that is newer than it.
        .add_directive("netlink_packet_route=error".parse()?);
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(filter)
        .try_init()
        .map_err(|error| anyhow::anyhow!("the log can't be opened: {error}"))
}
