//! Logical ids of pointers, as paths, bodies and references name them.

use std::fmt;

/// A FHIR id: 1 to 64 of `A-Z a-z 0-9 - .` (FHIR STU3 "Data types", id), but neither `.` nor `..`, which a
/// path would swallow.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PointerId(String);

/// Why a text is not a logical id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a logical id: an id is 1 to 64 letters, digits, hyphens and dots")]
pub struct PointerIdError(String);

impl PointerId {
    /// Takes an id as it stands in a path or a resource.
    ///
    /// # Errors
    /// If the text is longer than 64, empty, a dot segment or has any other character.
    pub fn parse(text: &str) -> Result<Self, PointerIdError> {
        let sound = (1..=64).contains(&text.len())
            && !matches!(text, "." | "..")
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
        if sound {
            Ok(Self(text.to_owned()))
        } else {
            Err(PointerIdError(text.to_owned()))
        }
    }

    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PointerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::PointerId;

    #[test]
    fn the_nrls_own_example_is_an_id() {
        assert!(PointerId::parse("da2b6e8a-3c8f-11e8-baae-6c3be5a609f5-584d385036514c383142").is_ok());
    }

    #[test]
    fn nothing_that_a_path_could_take_for_something_else_is_an_id() {
        let long = "a".repeat(65);
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "a%2Fb",
            "a_b",
            "_search",
            "a b",
            "a;b",
            "a?b",
            "é",
            "a\0",
            long.as_str(),
        ] {
            assert!(PointerId::parse(bad).is_err(), "{bad:?}");
        }
    }
}
