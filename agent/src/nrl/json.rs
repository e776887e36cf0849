//! Strict JSON: what two parsers could read differently is refused, so that the locator sees what was checked.

use std::{cell::Cell, collections::HashSet, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::tree::{Document, Fault, Node, Scalar, Written, folded, is_same_name};

impl Document {
    /// Reads a JSON text whose outermost value is an object.
    ///
    /// Beyond RFC 8259: no member name twice in an object, not even in another case (some parsers take the first,
    /// some the last, some ignore case); no array inside an array, which FHIR has nowhere; at most
    /// [`Self::MAX_DEPTH`] values inside one another, and [`Self::MAX_NODES`] in all; nothing after the value.
    pub(super) fn from_json(text: &[u8]) -> Result<Self, Fault> {
        let malformed = |why: String| Fault::Malformed { format: "JSON", why };
        if text.trim_ascii_start().starts_with(b"<") {
            return Err(malformed("it begins as XML does".to_owned()));
        }
        let left = Cell::new(Self::MAX_NODES);
        let strict = Strict {
            room: Self::MAX_DEPTH,
            left: &left,
        };
        let mut deserializer = serde_json::Deserializer::from_slice(text);
        let value = strict
            .deserialize(&mut deserializer)
            .and_then(|value| deserializer.end().map(|()| value))
            .map_err(|error| malformed(error.to_string()))?;
        match value {
            Value::Node(root) if !root.is_value() => Ok(Self::new(root)),
            _ => Err(malformed("it is not an object".to_owned())),
        }
    }
}

/// What a member's name stands for.
enum Value {
    Node(Node),
    Array(Vec<Node>),
}

/// Reads a value with so much room for values inside it, and with so many left in all.
#[derive(Clone, Copy)]
struct Strict<'c> {
    room: usize,
    left: &'c Cell<usize>,
}

impl Strict<'_> {
    fn inside<E: Error>(&self) -> Result<Self, E> {
        match self.room.checked_sub(1) {
            Some(room) => Ok(Self { room, ..*self }),
            None => Err(E::custom("values are nested too deeply")),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self.left.get().checked_sub(1) {
            Some(left) => self.left.set(left),
            None => return Err(D::Error::custom("there are too many values")),
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(scalar(Scalar::Null))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
        Ok(scalar(Scalar::Bool))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(scalar(Scalar::Number(number.into())))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(scalar(Scalar::Number(number.into())))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
        serde_json::Number::from_f64(number)
            .map(|number| scalar(Scalar::Number(number)))
            .ok_or_else(|| E::custom("a number is out of range"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(scalar(Scalar::Text(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut nodes = Vec::new();
        while let Some(value) = seq.next_element_seed(self.inside()?)? {
            match value {
                Value::Node(node) => nodes.push(node),
                Value::Array(_) => return Err(A::Error::custom("an array is inside an array")),
            }
        }
        Ok(Value::Array(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut node = Node::default();
        let mut names = Names::default();
        while let Some(name) = map.next_key::<String>()? {
            if !names.are_without(&name, &node) {
                return Err(A::Error::custom(format_args!(
                    "the member {name:?} is there twice"
                )));
            }
            match map.next_value_seed(self.inside()?)? {
                Value::Node(value) => node.add(name, vec![value], Written::One),
                Value::Array(values) => node.add(name, values, Written::List),
            }
        }
        Ok(Value::Node(node))
    }
}

/// The names in an object, as far as it has so many that comparing each with each would take long.
#[derive(Default)]
struct Names(HashSet<String>);

impl Names {
    /// Whether a name is not in the object yet, in whatever case. It is from now on.
    fn are_without(&mut self, name: &str, object: &Node) -> bool {
        const FEW: usize = 16;
        let mut there = object.names();
        if there.len() < FEW {
            return !there.any(|other| is_same_name(other, name));
        }
        if self.0.is_empty() {
            self.0.extend(there.map(folded));
        }
        self.0.insert(folded(name))
    }
}

fn scalar(value: Scalar) -> Value {
    Value::Node(Node::of(value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Document, Fault};

    fn malformed(text: &str) -> String {
        match Document::from_json(text.as_bytes()) {
            Err(Fault::Malformed { why, .. }) => why,
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
        assert!(Document::from_json(br#"{"x":{"a":1},"y":{"a":1}}"#).is_ok());
    }

    #[test]
    fn in_an_object_of_any_size_each_name_is_compared_with_each() {
        for size in [1, 2, 15, 16, 17, 18, 40] {
            let names: Vec<_> = (0..size).map(|number| format!("k{number}")).collect();
            let object = |names: &[String]| {
                let members: Vec<_> = names.iter().map(|name| format!("\"{name}\":1")).collect();
                format!("{{{}}}", members.join(","))
            };
            assert!(Document::from_json(object(&names).as_bytes()).is_ok(), "{size}");
            for first in 0..size {
                for second in first + 1..size {
                    // The Kelvin sign is a k in lower case.
                    for again in [names[first].to_uppercase(), names[first].replace('k', "\u{212a}")] {
                        let mut names = names.clone();
                        names[second] = again;
                        assert!(malformed(&object(&names)).contains("twice"), "{names:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        assert!(Document::from_json(nested(30).as_bytes()).is_ok());
        assert!(malformed(&nested(33)).contains("deeply"));
        assert!(Document::from_json(nested(100_000).as_bytes()).is_err());
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
        assert!(Document::from_json(b" {} \n").is_ok());
        assert!(Document::from_json(b"{\"a\":\"\xff\"}").is_err());
        assert!(Document::from_json(b"\xef\xbb\xbf{}").is_err());
    }

    #[test]
    fn a_value_of_another_type_is_named_with_its_path() {
        let document = Document::from_json(br#"{"a":{"b":1,"c":null,"d":[1],"e":[],"f":1.5}}"#).unwrap();
        let a = document.root().object("a").unwrap().unwrap();
        assert_eq!(a.string("b").unwrap_err().to_string(), "a.b must be a string");
        assert_eq!(a.string("c").unwrap_err().to_string(), "a.c must be a string");
        assert!(a.objects("d").is_err() && a.objects("e").is_err() && a.whole_number("f").is_err());
        assert_eq!(a.required_string("z").unwrap_err().to_string(), "a.z is missing");
    }

    #[test]
    fn text_is_one_sequence_of_characters_and_a_number_one_number() {
        for text in [
            r#"{"a":"\ud800"}"#,
            r#"{"a":"\udc00\ud800"}"#,
            r#"{"\ud800":1}"#,
            r#"{"a":"\x41"}"#,
            "{\"a\":\"\n\"}",
            "{\"a\":\"\u{0}\"}",
            r#"{"a":01}"#,
            r#"{"a":+1}"#,
            r#"{"a":1.}"#,
            r#"{"a":.5}"#,
            r#"{"a":0x10}"#,
            r#"{"a":1e400}"#,
            r#"{"a":-}"#,
            r#"{"a":Infinity}"#,
            r#"{"a":[[1]]}"#,
            r#"{"a":1,}"#,
            r#"{"a":[1,]}"#,
            r#"{"a":1 /* x */}"#,
            r#"{a:1}"#,
            "\u{feff}{}",
            "<a/>",
        ] {
            malformed(text);
        }
        let sound =
            Document::from_json(br#"{"a":"\ud83d\ude00","b":1e10,"c":18446744073709551616}"#).unwrap();
        assert_eq!(sound.root().string("a"), Ok(Some("\u{1f600}")));
        assert!(sound.root().whole_number("b").is_err() && sound.root().whole_number("c").is_err());
    }

    #[test]
    fn the_number_of_values_is_bounded() {
        let many = |count: usize| format!("{{\"a\":[{}1]}}", "1,".repeat(count));
        assert!(Document::from_json(many(Document::MAX_NODES - 3).as_bytes()).is_ok());
        assert!(malformed(&many(Document::MAX_NODES - 2)).contains("too many"));
    }

    #[test]
    fn what_only_a_lenient_parser_would_find_is_refused() {
        let document =
            Document::from_json(br#"{"RelatesTo":[{}],"K":{},"status":"a","_status":{}}"#).unwrap();
        let root = document.root();
        assert_eq!(
            root.objects("relatesTo").unwrap_err().to_string(),
            "RelatesTo is not how relatesTo is written"
        );
        assert_eq!(
            root.string("status").unwrap_err().to_string(),
            "status must be a string without an extension"
        );
        assert_eq!(root.string("id"), Ok(None));
        // The Kelvin sign is a K to parsers that fold case by Unicode.
        let kelvin = Document::from_json("{\"\u{212a}ind\":\"x\"}".as_bytes()).unwrap();
        assert!(kelvin.root().string("kind").is_err());
        assert!(malformed("{\"k\":1,\"\u{212a}\":2}").contains("twice"));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Document::from_json(&bytes);
        }
    }
}
