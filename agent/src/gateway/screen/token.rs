//! The character classes of RFC 9110 and RFC 3986 that the rules share.

/// A rule that is broken, and the offending byte's position in what was given.
pub(super) type Fault = (super::rule::Rule, usize);

/// RFC 9110 section 5.6.2.
pub(super) const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

/// Where a text stops being a token; none if all of it is one. An empty text is none.
pub(super) fn token_fault(text: &[u8]) -> Option<usize> {
    if text.is_empty() {
        return Some(0);
    }
    text.iter().position(|byte| !is_token_byte(*byte))
}

/// RFC 3986 section 3.3: what may stand in a path besides `%` and `/`.
pub(super) const fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&'..=b',' | b';' | b'=' | b':' | b'@'
        )
}

pub(super) const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// A field's value without the optional whitespace around it (RFC 9110 section 5.5).
pub(super) fn trimmed(value: &[u8]) -> &[u8] {
    let begin = value
        .iter()
        .position(|byte| !is_space(*byte))
        .unwrap_or(value.len());
    let value = value.get(begin..).unwrap_or_default();
    let end = value
        .iter()
        .rposition(|byte| !is_space(*byte))
        .map_or(0, |last| last + 1);
    value.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_bytes_are_those_of_the_rfc() {
        for byte in 0..=u8::MAX {
            let listed = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            assert_eq!(is_token_byte(byte), listed, "{byte}");
        }
    }

    #[test]
    fn path_bytes_are_those_of_the_rfc() {
        for byte in 0..=u8::MAX {
            let listed = byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte);
            assert_eq!(is_path_byte(byte), listed, "{byte}");
        }
    }

    #[test]
    fn a_value_is_trimmed_at_both_ends_and_nowhere_else() {
        for (value, inner) in [(" \ta b\t ", "a b"), ("", ""), (" \t", ""), ("a", "a")] {
            assert_eq!(trimmed(value.as_bytes()), inner.as_bytes());
        }
    }
}
