//! ODS codes: which organisation owns a pointer or runs a system.

use std::fmt;

/// An ODS code: three to twelve ASCII letters and digits, in upper case.
///
/// The Organisation Data Service writes its codes in upper case, so letters are folded to it here, once; two
/// codes are then equal only if every character is. Sites, parents and successors of an organisation are
/// other codes. Bytes after a shorter code's end are zero, so that codes compare as their texts do.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OdsCode([u8; 12]);

/// Why a text is not an ODS code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an ODS code: an ODS code is three to twelve letters and digits")]
pub struct OdsCodeError(String);

impl OdsCode {
    /// Takes a code as it stands in a file, a claim or the last segment of an Organization reference.
    ///
    /// # Errors
    /// If the text is anything but three to twelve ASCII letters and digits.
    pub fn parse(text: &str) -> Result<Self, OdsCodeError> {
        if (3..=12).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            let mut code = [0; 12];
            for (place, byte) in code.iter_mut().zip(text.bytes()) {
                *place = byte.to_ascii_uppercase();
            }
            Ok(Self(code))
        } else {
            Err(OdsCodeError(text.to_owned()))
        }
    }

    /// The code in upper case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let code = self.0.split(|byte| *byte == 0).next().unwrap_or_default();
        std::str::from_utf8(code).unwrap_or_default()
    }
}

impl fmt::Debug for OdsCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OdsCode({:?})", self.as_str())
    }
}

impl fmt::Display for OdsCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::OdsCode;

    #[test]
    fn codes_fold_to_upper_case_and_compare_as_a_whole() {
        assert_eq!(OdsCode::parse("rr8"), OdsCode::parse("RR8"));
        assert_ne!(OdsCode::parse("RR8"), OdsCode::parse("RR807"));
        assert_eq!(OdsCode::parse("a20047").unwrap().as_str(), "A20047");
        assert_eq!(OdsCode::parse("A12345678901").unwrap().as_str(), "A12345678901");
        assert!(OdsCode::parse("RR8").unwrap() < OdsCode::parse("RR80").unwrap());
    }

    #[test]
    fn nothing_but_letters_and_digits_is_a_code() {
        for bad in [
            "",
            "R8",
            "RR8 ",
            " RR8",
            "RR-8",
            "RR8/",
            "RRÉ",
            "RR8\0",
            "A123456789012",
            "％RR",
        ] {
            assert!(OdsCode::parse(bad).is_err(), "{bad:?}");
        }
    }
}
