//! Versions of a stored pointer, as ETag and If-Match name them (RFC 9110 section 8.8.3; FHIR STU3 "Managing Resource
//! Contention").

use std::fmt;

use http::{HeaderMap, HeaderValue, header};

use super::PointerId;

/// An entity tag: the name that the locator has for one version of a pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityTag {
    weak: bool,
    opaque: String,
}

impl EntityTag {
    /// Takes one tag as a header field has it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (weak, quoted) = match text.strip_prefix("W/") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let opaque = quoted.strip_prefix('"')?.strip_suffix('"')?;
        let sound = |byte: u8| byte.is_ascii_graphic() && byte != b'"';
        opaque.bytes().all(sound).then(|| Self {
            weak,
            opaque: opaque.to_owned(),
        })
    }

    /// The tag of a `meta.versionId`: weak, as FHIR has it. None if the text is no FHIR id.
    #[must_use]
    pub fn of_version(id: &str) -> Option<Self> {
        PointerId::parse(id).ok()?;
        Some(Self {
            weak: true,
            opaque: id.to_owned(),
        })
    }

    /// The tag in the ETag field of an answer, if there is one that is sound.
    #[must_use]
    pub fn of_answer(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(header::ETAG).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => Self::parse(value.to_str().ok()?),
            _ => None,
        }
    }

    /// Whether an If-Match field takes this version: `*` takes every one, and a list those that it names, weak or not.
    /// What is malformed takes none.
    #[must_use]
    pub fn is_taken_by(&self, if_match: &HeaderValue) -> bool {
        let Ok(text) = if_match.to_str() else {
            return false;
        };
        if text.trim() == "*" {
            return true;
        }
        // An opaque tag may hold a comma, and then falls apart here into what is no tag.
        let tags: Option<Vec<Self>> = text.split(',').map(|tag| Self::parse(tag.trim())).collect();
        tags.is_some_and(|tags| tags.iter().any(|tag| tag.opaque == self.opaque))
    }
}

impl fmt::Display for EntityTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let weak = if self.weak { "W/" } else { "" };
        write!(f, "{weak}\"{}\"", self.opaque)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn takes(if_match: &'static str, version: &str) -> bool {
        EntityTag::of_version(version)
            .unwrap()
            .is_taken_by(&HeaderValue::from_static(if_match))
    }

    #[test]
    fn a_tag_is_quoted_and_its_version_an_id() {
        for tag in ["\"1\"", "W/\"1\"", "\"\"", "\"a,b\""] {
            assert_eq!(EntityTag::parse(tag).unwrap().to_string(), tag);
        }
        for bad in [
            "", "1", "W/1", "\"1", "1\"", "w/\"1\"", "\"a b\"", "\"a\"b\"", "\"é\"", "*",
        ] {
            assert_eq!(EntityTag::parse(bad), None, "{bad}");
        }
        assert_eq!(EntityTag::of_version("12").unwrap().to_string(), "W/\"12\"");
        assert_eq!(EntityTag::of_version("1\"2"), None);
    }

    #[test]
    fn if_match_takes_the_versions_that_it_names_and_nothing_when_malformed() {
        for taken in ["*", " * ", "W/\"2\"", "\"2\"", "\"1\", W/\"2\""] {
            assert!(takes(taken, "2"), "{taken}");
        }
        for not in [
            "", "2", "W/\"1\"", "\"1\",", "\"2\", 3", "\"22\"", "\"2\" *", "*, \"2\"",
        ] {
            assert!(!takes(not, "2"), "{not}");
        }
    }

    #[test]
    fn an_answer_has_one_tag_or_none() {
        let headers = |tags: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for tag in tags {
                headers.append(header::ETAG, HeaderValue::from_static(tag));
            }
            EntityTag::of_answer(&headers)
        };
        assert_eq!(headers(&["W/\"3\""]), EntityTag::of_version("3"));
        assert_eq!(headers(&["3"]), None);
        assert_eq!(headers(&["\"3\"", "\"4\""]), None);
        assert_eq!(headers(&[]), None);
    }

    proptest! {
        #[test]
        fn a_tag_reads_as_it_is_written(text in "(W/)?\"[!#-~]{0,20}\"") {
            prop_assert_eq!(EntityTag::parse(&text).unwrap().to_string(), text);
        }
    }
}
