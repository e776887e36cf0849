//! Fully qualified domain names, as certificates and the registry hold them.

use std::{fmt, sync::Arc};

/// A DNS name of at least two labels in lower case, without wildcard and without trailing dot (RFC 1123 section 2.1).
/// Copies share the text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fqdn(Arc<str>);

/// Why a text is not an FQDN.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not a fully qualified domain name: {fault}")]
pub struct FqdnError {
    name: String,
    fault: &'static str,
}

impl Fqdn {
    /// Takes a name as it stands in a certificate or a file; letters are folded to lower case.
    ///
    /// # Errors
    /// If the text is not ASCII, has fewer than two labels, or a label that DNS host names don't allow.
    pub fn parse(name: &str) -> Result<Self, FqdnError> {
        match fault(name) {
            None => Ok(Self(name.to_ascii_lowercase().into())),
            Some(fault) => Err(FqdnError {
                name: name.to_owned(),
                fault,
            }),
        }
    }

    /// The name in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn fault(name: &str) -> Option<&'static str> {
    if name.len() > 253 {
        return Some("it is longer than 253 characters");
    }
    if !name.contains('.') {
        return Some("it has only one label");
    }
    for label in name.split('.') {
        if label.is_empty() || label.len() > 63 {
            return Some("a label is empty or longer than 63 characters");
        }
        if !label
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        {
            return Some("a label has a character other than a letter, a digit or a hyphen");
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Some("a label begins or ends with a hyphen");
        }
    }
    None
}

impl fmt::Display for Fqdn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Fqdn;

    #[test]
    fn names_compare_without_case_and_nothing_but_host_names_parse() {
        assert_eq!(
            Fqdn::parse("SSP.Example.NHS.uk"),
            Fqdn::parse("ssp.example.nhs.uk")
        );
        for bad in [
            "",
            "localhost",
            "*.nhs.uk",
            "a..uk",
            "a.uk.",
            "a b.uk",
            "a\0.nhs.uk",
            "-a.uk",
            "é.uk",
        ] {
            assert!(Fqdn::parse(bad).is_err(), "{bad:?}");
        }
    }
}
