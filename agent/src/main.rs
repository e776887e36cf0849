//! Spinegate.

use std::{io::Write as _, process::ExitCode};

fn main() -> ExitCode {
    match spinegate::log::open() {
        Ok(()) => spinegate::cli::main(std::env::args_os()),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "spinegate: {error:#}");
            ExitCode::from(2)
        }
    }
}
