//! Everything that can be found wrong with a configuration without starting anything.

use crate::{
    audit,
    config::{Config, Problem},
    control,
};

/// Asks each room about its part of the configuration and about what that part names.
#[must_use]
pub fn problems(config: &Config) -> Vec<Problem> {
    [control::problems(&config.control), audit::problems(&config.audit)].concat()
}
