//! NHS numbers, as the subject of a pointer and of a search.

use std::fmt;

/// An NHS number: ten digits. Its check digit is the locator's to check: the gateway only compares patients.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct NhsNumber([u8; 10]);

/// A text is not an NHS number. It says nothing about the text, which may identify a patient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an NHS number is ten digits")]
pub struct NhsNumberError;

/// Why a text is not a patient reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PatientError {
    /// It is none at all.
    #[error("must be {}[NHS number]", NhsNumber::REFERENCE_PREFIX)]
    Reference,
    /// It is one, but not with an NHS number. The text is for whoever sent it alone.
    #[error("The NHS number does not conform to the NHS Number format: {0}")]
    Number(String),
}

impl NhsNumber {
    /// What stands before the number in a patient reference (NRL "Pointer FHIR Resource" page).
    pub const REFERENCE_PREFIX: &'static str = "https://demographics.spineservices.nhs.uk/STU3/Patient/";

    /// Takes ten digits.
    ///
    /// # Errors
    /// If the text is anything but ten ASCII digits.
    pub fn parse(text: &str) -> Result<Self, NhsNumberError> {
        match <[u8; 10]>::try_from(text.as_bytes()) {
            Ok(digits) if digits.iter().all(u8::is_ascii_digit) => Ok(Self(digits)),
            _ => Err(NhsNumberError),
        }
    }

    /// Takes a patient reference: [`Self::REFERENCE_PREFIX`], then the number.
    ///
    /// # Errors
    /// If the text is any other.
    pub(super) fn from_reference(reference: &str) -> Result<Self, PatientError> {
        let number = reference
            .strip_prefix(Self::REFERENCE_PREFIX)
            .ok_or(PatientError::Reference)?;
        // Beyond a number that is misspelt it is another form of reference, or another parameter behind it.
        let is_one_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b' ' | b'-');
        Self::parse(number).map_err(|_| {
            if number.bytes().all(is_one_word) {
                PatientError::Number(number.to_owned())
            } else {
                PatientError::Reference
            }
        })
    }

    /// Its ten digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Keeps the number, which identifies a patient, out of logs that print values for debugging.
impl fmt::Debug for NhsNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NhsNumber(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::{NhsNumber, PatientError};

    #[test]
    fn a_patient_reference_is_the_exact_prefix_and_ten_digits() {
        let good = "https://demographics.spineservices.nhs.uk/STU3/Patient/9876543210";
        assert_eq!(NhsNumber::from_reference(good).unwrap().as_str(), "9876543210");
        for bad in [
            "9876543210",
            "http://demographics.spineservices.nhs.uk/STU3/Patient/9876543210",
            "https://demographics.spineservices.nhs.uk/STU3/Patient/987654321",
            "https://demographics.spineservices.nhs.uk/STU3/Patient/98765432100",
            "https://demographics.spineservices.nhs.uk/STU3/Patient/987654321O",
            "https://demographics.spineservices.nhs.uk/STU3/Patient/9876543210/",
        ] {
            assert!(NhsNumber::from_reference(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_follows_the_prefix_is_called_a_number_only_where_it_may_be_meant_as_one() {
        let of = |tail: &str| NhsNumber::from_reference(&format!("{}{tail}", NhsNumber::REFERENCE_PREFIX));
        for tail in [
            "",
            "987654321",
            "98765432100",
            "987 654 3210",
            "987-654-3210",
            "987654321O",
        ] {
            assert_eq!(of(tail), Err(PatientError::Number(tail.to_owned())));
        }
        for tail in [
            "9876543210/",
            "9876543210&identifier=a|b",
            "9876543210?x",
            "９８７６５４３２１０",
        ] {
            assert_eq!(of(tail), Err(PatientError::Reference), "{tail}");
        }
    }

    #[test]
    fn the_number_does_not_show_in_debug_output() {
        assert!(!format!("{:?}", NhsNumber::parse("9876543210")).contains("9876"));
    }
}
