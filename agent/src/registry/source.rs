//! Where systems are known from.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A source of the registry.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// `registry.file`
    File,
    /// `[registry.ldap]`: the Spine Directory Service over LDAP.
    Ldap,
    /// `[registry.sds]`: its FHIR API, or bundles in files.
    Sds,
}

impl Source {
    /// Its word in the configuration, on the command line and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Ldap => "ldap",
            Self::Sds => "sds",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
