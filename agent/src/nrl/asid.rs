//! Accredited system identifiers.

use std::fmt;

/// An ASID: twelve digits (NRL onboarding guide; NRL "HTTP headers" pages).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Asid([u8; 12]);

/// Why a text is not an ASID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an ASID: an ASID is twelve digits")]
pub struct AsidError(String);

impl Asid {
    /// Takes an ASID as it stands in a header or a file.
    ///
    /// # Errors
    /// If the text is anything but twelve ASCII digits.
    pub fn parse(text: &str) -> Result<Self, AsidError> {
        match <[u8; 12]>::try_from(text.as_bytes()) {
            Ok(digits) if digits.iter().all(u8::is_ascii_digit) => Ok(Self(digits)),
            _ => Err(AsidError(text.to_owned())),
        }
    }

    /// Its twelve digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Asid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
