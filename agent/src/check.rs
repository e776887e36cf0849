//! Everything that can be found wrong with a configuration without starting anything.

use std::path::Path;

use crate::{
    audit,
    config::{Config, Problem},
    control, filter, gateway,
    run::Parts,
};

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// With any of these the agent does not start.
    pub problems: Vec<Problem>,
    /// It starts with these, but they should be seen to.
    pub warnings: Vec<Problem>,
}

/// Asks each room about its part of the configuration and about what that part names.
#[must_use]
pub fn findings(config: &Config) -> Findings {
    let (named, warnings) = match Parts::load(config) {
        Ok(parts) => (Vec::new(), parts.warnings().to_vec()),
        Err(problems) => (problems, Vec::new()),
    };
    let warnings = [warnings, filter::remarks(&config.filter)].concat();
    let problems = [
        filter::problems(&config.filter),
        named,
        listening(config),
        control::problems(&config.control),
        audit::problems(&config.audit),
    ]
    .concat();
    Findings { problems, warnings }
}

/// Addresses that can't be listened on. A running agent holds its own, so nothing is said of them then, and systemd those of a
/// `.socket` unit, which it passes to the agent alone and not to the check before it.
fn listening(config: &Config) -> Vec<Problem> {
    const MEND: &str =
        "give an address of this host, and a port that nothing else has (`ss -ltnp` shows who listens)";
    // systemd holds them, and passes them on.
    if std::env::var_os("LISTEN_FDS").is_some() {
        return Vec::new();
    }
    let running = || is_served(&config.control.socket);
    let requests = config.listen.addresses.iter().enumerate();
    let requests = requests.map(|(position, address)| (format!("listen.addresses[{position}]"), *address));
    let metrics = config
        .metrics
        .listen
        .map(|address| ("metrics.listen".to_owned(), address));
    let mut problems = Vec::new();
    // Held to the end, so that of two keys with one port the second is told so.
    let mut held = Vec::new();
    for (key, address) in requests.chain(metrics) {
        match gateway::bind(address, config.listen.reuse_port) {
            Ok(listener) => held.push(listener),
            Err(_) if running() => {}
            Err(error) if error.is_taken() && is_of_a_unit() => {}
            Err(error) => problems.push(Problem::new(key, error.fault(), MEND)),
        }
    }
    problems
}

/// Whether systemd has started this process as one of a service's.
fn is_of_a_unit() -> bool {
    std::env::var("SYSTEMD_EXEC_PID").is_ok_and(|pid| pid.parse() == Ok(std::process::id()))
}

/// Whether an agent serves a socket, of whatever version: what a successor takes over from may speak otherwise.
fn is_served(socket: &Path) -> bool {
    !matches!(
        control::call(socket, control::Request::Status),
        Err(control::ClientError::NotRunning)
    )
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader, Write as _},
        os::unix::net::UnixListener,
    };

    use super::*;

    #[test]
    fn an_agent_that_speaks_otherwise_is_an_agent_too() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("control.sock");
        assert!(!is_served(&socket));
        let listener = UnixListener::bind(&socket).unwrap();
        let older = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            stream
                .write_all(b"{\"version\":6,\"response\":{\"answer\":\"error\"}}\n")
                .unwrap();
        });
        assert!(is_served(&socket));
        older.join().unwrap();
        assert!(!is_served(&socket), "nobody listens any more");
    }
}
