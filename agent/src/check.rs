//! Everything that can be found wrong with a configuration without starting anything.

use crate::{
    audit,
    config::{Config, Problem},
    control, filter, gateway,
    run::Parts,
};

/// Asks each room about its part of the configuration and about what that part names.
#[must_use]
pub fn problems(config: &Config) -> Vec<Problem> {
    let named = Parts::load(config).err().unwrap_or_default();
    [
        filter::problems(&config.filter),
        named,
        listening(config),
        control::problems(&config.control),
        audit::problems(&config.audit),
    ]
    .concat()
}

/// Addresses that can't be listened on. A running agent holds its own, so nothing is said of them then.
fn listening(config: &Config) -> Vec<Problem> {
    let running = || control::call(&config.control.socket, control::Request::Status).is_ok();
    let mut problems = Vec::new();
    for (position, address) in config.listen.addresses.iter().enumerate() {
        if let Err(error) = gateway::bind(*address)
            && !running()
        {
            let mend = "give an address of this host, and a port that nothing else has (`ss -ltnp` shows who listens)";
            problems.push(Problem::new(
                format!("listen.addresses[{position}]"),
                error.to_string(),
                mend,
            ));
        }
    }
    problems
}
