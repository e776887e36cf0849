//! Everything that can be found wrong with a configuration without starting anything.

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

/// Addresses that can't be listened on. A running agent holds its own, so nothing is said of them then.
fn listening(config: &Config) -> Vec<Problem> {
    const MEND: &str =
        "give an address of this host, and a port that nothing else has (`ss -ltnp` shows who listens)";
    // systemd holds them, and passes them on.
    if std::env::var_os("LISTEN_FDS").is_some() {
        return Vec::new();
    }
    let running = || control::call(&config.control.socket, control::Request::Status).is_ok();
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
            Err(error) => problems.push(Problem::new(key, error.fault(), MEND)),
        }
    }
    problems
}
