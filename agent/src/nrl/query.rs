//! Query strings: split and decoded so that no two parsers could disagree on what they say.

use spinegate_common::Reason;

use super::Refusal;

/// The parameters of a query, each at most once, with decoded values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Query<'a>(Vec<(&'a str, String)>);

impl<'a> Query<'a> {
    /// Splits a query string.
    ///
    /// Refused beside what is malformed: a name that is not spelt plainly, an unencoded `;` (once a
    /// separator) and an unencoded `+` (once a blank) except in `_format`, where the MIME types have it.
    pub(super) fn parse(query: Option<&'a str>) -> Result<Self, Refusal> {
        let mut parameters: Vec<(&str, String)> = Vec::new();
        for pair in query
            .unwrap_or_default()
            .split('&')
            .filter(|_| query.is_some_and(|query| !query.is_empty()))
        {
            let Some((name, value)) = pair.split_once('=') else {
                return Err(invalid(format!("The parameter {pair:?} has no value")));
            };
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.');
            if name.is_empty() || !name.bytes().all(plain) {
                return Err(invalid(format!("The parameter {name:?} is not supported")));
            }
            if parameters.iter().any(|(known, _)| *known == name) {
                return Err(invalid(format!("The parameter {name} is there more than once")));
            }
            let ambiguous = value.contains(';') || (value.contains('+') && name != "_format");
            match decoded(value) {
                Some(value) if !ambiguous => parameters.push((name, value)),
                _ => {
                    return Err(invalid(format!(
                        "The value of the parameter {name} is not properly percent-encoded"
                    )));
                }
            }
        }
        Ok(Self(parameters))
    }

    /// Takes a parameter's value out.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        let index = self.0.iter().position(|(known, _)| *known == name)?;
        Some(self.0.swap_remove(index).1)
    }

    /// Refuses what nobody took.
    pub(super) fn finish(self) -> Result<(), Refusal> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(invalid(format!("The parameter {name} is not supported here"))),
        }
    }
}

/// A refusal for a parameter.
pub(super) fn invalid(diagnostics: impl AsRef<str>) -> Refusal {
    Refusal::new(Reason::ParameterInvalid, diagnostics)
}

/// Percent-decodes a value once. None if an escape is broken, or the value is not UTF-8 or has a control
/// character.
pub(super) fn decoded(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => hex(rest.next()?)? << 4 | hex(rest.next()?)?,
            other => other,
        });
    }
    String::from_utf8(bytes)
        .ok()
        .filter(|text| !text.chars().any(char::is_control))
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::{Query, decoded};

    #[test]
    fn what_two_parsers_could_read_differently_is_refused() {
        for bad in [
            "a", "=1", "a=1&a=1", "a=1&&b=2", "a=1&", "&", "%61=1", "a=1;b=2", "a=1+2", "a=%", "a=%4",
            "a=%zz", "a=%00", "a=%ff", "a[]=1", "a:b=1",
        ] {
            assert!(Query::parse(Some(bad)).is_err(), "{bad}");
        }
        for empty in [None, Some("")] {
            assert_eq!(Query::parse(empty).unwrap().finish(), Ok(()));
        }
    }

    #[test]
    fn a_value_is_decoded_once() {
        assert_eq!(decoded("%257C").as_deref(), Some("%7C"));
        assert_eq!(decoded("a%7Cb%c3%a9").as_deref(), Some("a|bé"));
    }
}
