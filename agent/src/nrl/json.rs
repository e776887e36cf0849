//! Strict JSON: what two parsers could read differently is refused, so that the locator sees what was checked.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Null,
    Bool,
    Number(serde_json::Number),
    String(String),
    Array(Vec<Value>),
    Object(Members),
}

type Members = BTreeMap<String, Value>;

/// A whole JSON text whose outermost value is an object.
///
/// Beyond RFC 8259: no member name twice in an object, not even in another case (some parsers take the first,
/// some the last, some ignore case); at most [`Self::MAX_DEPTH`] values inside one another; nothing after the
/// value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Document(Members);

/// An object inside a [`Document`], and the path that leads to it.
#[derive(Clone, Debug)]
pub(super) struct Element<'a> {
    members: &'a Members,
    path: String,
}

/// What is wrong with a JSON text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// It is not strict JSON.
    #[error("not acceptable as JSON: {0}")]
    Malformed(String),
    /// A member that must be there is not.
    #[error("{0} is missing")]
    Missing(String),
    /// A member's value has another type than it must have.
    #[error("{path} must be {wanted}")]
    WrongType {
        /// Where.
        path: String,
        /// What it must be, with its article.
        wanted: &'static str,
    },
}

impl Document {
    /// How many values may stand inside one another. A DocumentReference needs about ten.
    pub(super) const MAX_DEPTH: u8 = 32;

    pub(super) fn parse(text: &[u8]) -> Result<Self, Fault> {
        let mut deserializer = serde_json::Deserializer::from_slice(text);
        let value = Strict {
            room: Self::MAX_DEPTH,
        }
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| Fault::Malformed(error.to_string()))?;
        match value {
            Value::Object(members) => Ok(Self(members)),
            _ => Err(Fault::Malformed("it is not an object".to_owned())),
        }
    }

    pub(super) fn root(&self) -> Element<'_> {
        Element {
            members: &self.0,
            path: String::new(),
        }
    }
}

impl<'a> Element<'a> {
    /// The path of a member, as diagnostics name it.
    pub(super) fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    pub(super) fn string(&self, name: &str) -> Result<Option<&'a str>, Fault> {
        self.member(name, "a string", |value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    pub(super) fn required_string(&self, name: &str) -> Result<&'a str, Fault> {
        self.string(name)?
            .ok_or_else(|| Fault::Missing(self.path_of(name)))
    }

    /// A whole number that is not negative.
    pub(super) fn whole_number(&self, name: &str) -> Result<Option<u64>, Fault> {
        self.member(name, "a whole number", |value| match value {
            Value::Number(number) => number.as_u64(),
            _ => None,
        })
    }

    pub(super) fn object(&self, name: &str) -> Result<Option<Element<'a>>, Fault> {
        let path = self.path_of(name);
        self.member(name, "an object", |value| match value {
            Value::Object(members) => Some(Element { members, path }),
            _ => None,
        })
    }

    pub(super) fn required_object(&self, name: &str) -> Result<Element<'a>, Fault> {
        self.object(name)?
            .ok_or_else(|| Fault::Missing(self.path_of(name)))
    }

    /// An array of objects; empty if the member is not there. FHIR has no empty arrays, so one that is there
    /// has entries.
    pub(super) fn objects(&self, name: &str) -> Result<Vec<Element<'a>>, Fault> {
        let path = self.path_of(name);
        let entries = self.member(
            name,
            "an array of objects that is not empty",
            |value| match value {
                Value::Array(values) if !values.is_empty() => values
                    .iter()
                    .enumerate()
                    .map(|(index, value)| match value {
                        Value::Object(members) => Some(Element {
                            members,
                            path: format!("{path}[{index}]"),
                        }),
                        _ => None,
                    })
                    .collect::<Option<Vec<_>>>(),
                _ => None,
            },
        )?;
        Ok(entries.unwrap_or_default())
    }

    fn member<T>(
        &self,
        name: &str,
        wanted: &'static str,
        take: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Fault> {
        match self.members.get(name) {
            None => Ok(None),
            Some(value) => match take(value) {
                Some(taken) => Ok(Some(taken)),
                None => Err(Fault::WrongType {
                    path: self.path_of(name),
                    wanted,
                }),
            },
        }
    }
}

/// Reads a value with so much room for values inside it.
struct Strict {
    room: u8,
}

impl Strict {
    fn inside<E: Error>(&self) -> Result<Self, E> {
        match self.room.checked_sub(1) {
            Some(room) => Ok(Self { room }),
            None => Err(E::custom("values are nested too deeply")),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Bool)
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
        serde_json::Number::from_f64(number)
            .map(Value::Number)
            .ok_or_else(|| E::custom("a number is out of range"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = seq.next_element_seed(self.inside()?)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Members::new();
        let mut folded = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if !folded.insert(name.to_lowercase()) {
                return Err(A::Error::custom(format_args!(
                    "the member {name:?} is there twice"
                )));
            }
            let value = map.next_value_seed(self.inside()?)?;
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::{Document, Fault};
    use proptest::prelude::*;

    fn malformed(text: &str) -> String {
        match Document::parse(text.as_bytes()) {
            Err(Fault::Malformed(why)) => why,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn a_member_named_twice_is_refused_wherever_it_stands_and_however_it_is_spelt() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"a":1,"A":2}"#,
            r#"{"x":{"y":[{"custodian":1,"b":2,"Custodian":3}]}}"#,
        ] {
            assert!(malformed(text).contains("twice"), "{text}");
        }
        assert!(Document::parse(br#"{"x":{"a":1},"y":{"a":1}}"#).is_ok());
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(Document::parse(nested(30).as_bytes()).is_ok());
        assert!(malformed(&nested(33)).contains("deeply"));
        assert!(Document::parse(nested(100_000).as_bytes()).is_err());
    }

    #[test]
    fn nothing_may_follow_and_the_outermost_value_is_an_object() {
        for text in [
            "{} {}",
            "{}x",
            "{},",
            "[]",
            "1",
            "null",
            "",
            " ",
            "{",
            "{\"a\":1e999}",
            "{'a':1}",
            "{\"a\":NaN}",
        ] {
            malformed(text);
        }
        assert!(Document::parse(b" {} \n").is_ok());
        assert!(Document::parse(b"{\"a\":\"\xff\"}").is_err());
        assert!(Document::parse(b"\xef\xbb\xbf{}").is_err());
    }

    #[test]
    fn a_value_of_another_type_is_named_with_its_path() {
        let document = Document::parse(br#"{"a":{"b":1,"c":null,"d":[1],"e":[],"f":1.5}}"#).unwrap();
        let a = document.root().object("a").unwrap().unwrap();
        assert_eq!(a.string("b").unwrap_err().to_string(), "a.b must be a string");
        assert_eq!(a.string("c").unwrap_err().to_string(), "a.c must be a string");
        assert!(a.objects("d").is_err() && a.objects("e").is_err() && a.whole_number("f").is_err());
        assert_eq!(a.required_string("z").unwrap_err().to_string(), "a.z is missing");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Document::parse(&bytes);
        }
    }
}
