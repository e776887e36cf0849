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

    /// The ASID whose digits are those of a number below 10^12; none for a greater one.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        let mut rest = number;
        let mut digits = [0; 12];
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + u8::try_from(rest % 10).unwrap_or_default();
            rest /= 10;
        }
        (rest == 0).then_some(Self(digits))
    }

    /// Its digits as a number: a key of eight bytes.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.0.iter().fold(0, |number, digit| {
            number * 10 + u64::from(digit.wrapping_sub(b'0'))
        })
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

#[cfg(test)]
mod tests {
    use super::Asid;

    #[test]
    fn an_asid_and_its_number_are_one() {
        for text in ["200000000205", "000000000007", "999999999999", "000000000000"] {
            let asid = Asid::parse(text).unwrap();
            assert_eq!(Asid::from_number(asid.number()), Some(asid));
        }
        assert_eq!(Asid::parse("000000000042").unwrap().number(), 42);
        assert_eq!(Asid::from_number(1_000_000_000_000), None);
    }
}
