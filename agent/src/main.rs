//! Spinegate.

use std::{io::Write as _, process::ExitCode};

use mimalloc::MiMalloc;

/// A tenth of a request's time goes into memory with the C library's.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    match spinegate::log::open() {
        Ok(()) => spinegate::cli::main(std::env::args_os()),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "spinegate: {error:#}");
            ExitCode::from(2)
        }
    }
}
