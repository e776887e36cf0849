//! A pointer as a client sends it: a `DocumentReference` of the NRL profile (NRL "Pointer FHIR resource").

use serde_json::{Map, Value};

use super::answer::Refusal;

const PATIENT: &str = "https://demographics.spineservices.nhs.uk/STU3/Patient/";
const ORGANISATION: &str = "https://directory.spineservices.nhs.uk/STU3/Organization/";

/// A pointer that may be stored: the profile's mandatory elements are there.
#[derive(Clone, Debug)]
pub struct NewPointer {
    /// The owner's ODS code, from `custodian.reference`.
    pub custodian: String,
    /// The patient, from `subject.reference`.
    pub nhs_number: NhsNumber,
    /// `masterIdentifier`
    pub master: Option<Identifier>,
    /// The pointer that this one supersedes.
    pub replaces: Option<Target>,
    /// The resource less `id`, `status`, `indexed`, `meta.versionId` and `meta.lastUpdated`, which the locator sets.
    pub body: Map<String, Value>,
}

/// `relatesTo.target` (NRL "Supersede").
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `reference`: the logical id, which is the URL's last segment.
    Reference(String),
    /// `identifier`: the master identifier of a pointer of the same patient.
    Identifier(Identifier),
    /// Both, and the pointer under the reference must have the identifier.
    Both(String, Identifier),
}

/// An identifier of which both halves are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identifier {
    /// `system`
    pub system: String,
    /// `value`
    pub value: String,
}

/// An NHS number whose check digit is right (NHS data dictionary, "NHS NUMBER": modulus 11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NhsNumber(String);

impl NewPointer {
    /// Takes the body of a create or a supersede.
    ///
    /// # Errors
    /// If it is not JSON, or an element that the profile wants is missing or malformed.
    pub fn parse(body: &[u8]) -> Result<Self, Refusal> {
        let Ok(Value::Object(mut body)) = serde_json::from_slice(body) else {
            return Err(Refusal::InvalidMessage);
        };
        let resource = Element::root(&body);
        if resource.text("resourceType")? != "DocumentReference" {
            return Err(Refusal::resource(
                "resourceType",
                "The resource is not a DocumentReference.",
            ));
        }
        if resource.text("status")? != "current" {
            return Err(Refusal::resource(
                "status",
                "The status of a new pointer must be 'current'.",
            ));
        }
        resource.child("type")?.codings()?;
        resource.child("class")?.codings()?;
        resource.child("context")?.child("practiceSetting")?.codings()?;
        resource.first("author")?.last_segment(ORGANISATION)?;
        for content in resource.list("content")? {
            let attachment = content.child("attachment")?;
            attachment.text("contentType")?;
            attachment.text("url")?;
        }
        let custodian = resource
            .child("custodian")?
            .last_segment(ORGANISATION)?
            .to_owned();
        let nhs_number = NhsNumber::parse(resource.child("subject")?.last_segment(PATIENT)?)?;
        let master = resource
            .optional("masterIdentifier")
            .map(|element| element.identifier())
            .transpose()?;
        let replaces = resource.target()?;

        for element in ["id", "status", "indexed"] {
            body.remove(element);
        }
        if let Some(Value::Object(meta)) = body.get_mut("meta") {
            meta.remove("versionId");
            meta.remove("lastUpdated");
        }
        Ok(Self {
            custodian,
            nhs_number,
            master,
            replaces,
            body,
        })
    }
}

/// Takes the body of an update: the only change there is, to `entered-in-error` (NRL "Update").
/// As there, only the first `parameter` counts.
///
/// # Errors
/// If it is not JSON, or asks for anything else.
pub(super) fn parse_update(body: &[u8]) -> Result<(), Refusal> {
    let Ok(Value::Object(body)) = serde_json::from_slice(body) else {
        return Err(Refusal::InvalidMessage);
    };
    let resource = Element::root(&body);
    if resource.text("resourceType")? != "Parameters" {
        return Err(Refusal::resource(
            "resourceType",
            "The resource is not a Parameters.",
        ));
    }
    let operation = resource.first("parameter")?;
    if operation.text("name")? != "operation" {
        return Err(operation.refuse("its name must be 'operation'"));
    }
    for (name, key, wanted) in [
        ("type", "valueCode", "replace"),
        ("path", "valueString", "DocumentReference.status"),
        ("value", "valueString", "entered-in-error"),
    ] {
        let mut parts = operation
            .list("part")?
            .into_iter()
            .filter(|part| part.text("name") == Ok(name));
        match (parts.next(), parts.next()) {
            (Some(part), None) if part.text(key)? == wanted => {}
            (Some(part), None) => return Err(part.refuse(&format!("its {key} must be '{wanted}'"))),
            _ => return Err(operation.refuse(&format!("it must have one part with the name '{name}'"))),
        }
    }
    Ok(())
}

impl NhsNumber {
    /// Takes ten digits.
    ///
    /// # Errors
    /// If they are not ten digits, or the check digit is wrong.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let digits = text
            .bytes()
            .filter(u8::is_ascii_digit)
            .map(|byte| u32::from(byte - b'0'));
        // The check digit's own weight is 1, so that a right number's weighted sum is a multiple of 11.
        let sum: u32 = digits
            .zip((1..=10).rev())
            .map(|(digit, weight)| digit * weight)
            .sum();
        if text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit()) && sum.is_multiple_of(11) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Refusal::InvalidNhsNumber(text.to_owned()))
        }
    }

    /// From the URL of a patient, as `subject` has it.
    pub(super) fn from_url(url: &str) -> Result<Self, Refusal> {
        match url.strip_prefix(PATIENT) {
            Some(number) => Self::parse(number),
            None => Err(Refusal::InvalidParameter(format!(
                "The subject must be {PATIENT}[nhsNumber] - {url}"
            ))),
        }
    }

    /// Its ten digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The ODS code at the end of an organisation's URL, as a search has it.
pub(super) fn ods_from_url(url: &str) -> Result<String, Refusal> {
    match url.strip_prefix(ORGANISATION) {
        Some(ods) if is_segment(ods) => Ok(ods.to_owned()),
        _ => Err(Refusal::InvalidParameter(format!(
            "The custodian must be {ORGANISATION}[odsCode] - {url}"
        ))),
    }
}

fn is_segment(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// A JSON object with the path that led to it, so that every refusal can name the element.
#[derive(Clone)]
struct Element<'a> {
    path: String,
    object: &'a Map<String, Value>,
}

impl<'a> Element<'a> {
    fn root(object: &'a Map<String, Value>) -> Self {
        Self {
            path: String::new(),
            object,
        }
    }

    fn at(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    fn refuse(&self, why: &str) -> Refusal {
        Refusal::resource(&self.path, &format!("{} is invalid: {why}.", self.path))
    }

    fn missing(&self, key: &str) -> Refusal {
        let path = self.at(key);
        Refusal::resource(&path, &format!("{path} is missing or malformed."))
    }

    fn text(&self, key: &str) -> Result<&'a str, Refusal> {
        match self.object.get(key) {
            Some(Value::String(text)) if !text.is_empty() => Ok(text),
            _ => Err(self.missing(key)),
        }
    }

    fn child(&self, key: &str) -> Result<Self, Refusal> {
        self.optional(key).ok_or_else(|| self.missing(key))
    }

    /// Nothing only if the key is absent: anything but an object becomes an empty one, so that it is refused
    /// for what it lacks and not taken as left out.
    fn optional(&self, key: &str) -> Option<Self> {
        static EMPTY: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
        let object = self.object.get(key)?.as_object().unwrap_or(&EMPTY);
        Some(Self {
            path: self.at(key),
            object,
        })
    }

    fn list(&self, key: &str) -> Result<Vec<Self>, Refusal> {
        let items = self
            .object
            .get(key)
            .and_then(Value::as_array)
            .ok_or_else(|| self.missing(key))?;
        if items.is_empty() {
            return Err(self.missing(key));
        }
        let element = |(index, item): (usize, &'a Value)| {
            let key = format!("{key}[{index}]");
            match item {
                Value::Object(object) => Ok(Self {
                    path: self.at(&key),
                    object,
                }),
                _ => Err(self.missing(&key)),
            }
        };
        items.iter().enumerate().map(element).collect()
    }

    fn first(&self, key: &str) -> Result<Self, Refusal> {
        self.list(key)?
            .into_iter()
            .next()
            .ok_or_else(|| self.missing(key))
    }

    fn codings(&self) -> Result<(), Refusal> {
        for coding in self.list("coding")? {
            coding.text("system")?;
            coding.text("code")?;
        }
        Ok(())
    }

    fn last_segment(&self, prefix: &str) -> Result<&'a str, Refusal> {
        match self.text("reference")?.strip_prefix(prefix) {
            Some(segment) if is_segment(segment) => Ok(segment),
            _ => Err(self.refuse(&format!("the reference must be {prefix} and a code"))),
        }
    }

    fn identifier(&self) -> Result<Identifier, Refusal> {
        Ok(Identifier {
            system: self.text("system")?.to_owned(),
            value: self.text("value")?.to_owned(),
        })
    }

    fn target(&self) -> Result<Option<Target>, Refusal> {
        if !self.object.contains_key("relatesTo") {
            return Ok(None);
        }
        let all = self.list("relatesTo")?;
        let [relates] = all.as_slice() else {
            return Err(Refusal::resource("relatesTo", "Only one relatesTo is allowed."));
        };
        if relates.text("code")? != "replaces" {
            return Err(Refusal::resource(
                "relatesTo.code",
                "The only relatesTo.code allowed is 'replaces'.",
            ));
        }
        let target = relates.child("target")?;
        let id = match target.object.get("reference") {
            None => None,
            Some(_) => match target.text("reference")?.rsplit_once("/DocumentReference/") {
                Some((_, id)) if !id.is_empty() => Some(id.to_owned()),
                _ => {
                    return Err(
                        target.refuse("the reference must be the absolute URL of a DocumentReference")
                    );
                }
            },
        };
        let identifier = target
            .optional("identifier")
            .map(|element| element.identifier())
            .transpose()?;
        match (id, identifier) {
            (Some(id), Some(identifier)) => Ok(Some(Target::Both(id, identifier))),
            (Some(id), None) => Ok(Some(Target::Reference(id))),
            (None, Some(identifier)) => Ok(Some(Target::Identifier(identifier))),
            (None, None) => Err(target.refuse("it needs a reference or an identifier")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::locator::tests::fixture::{OTHER_PATIENT, PATIENT, replacing, withdrawal};

    #[test]
    fn a_wrong_check_digit_is_no_nhs_number() {
        for good in [PATIENT, OTHER_PATIENT, "4010232137"] {
            assert!(NhsNumber::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "987654321",
            "98765432100",
            "9876543211",
            "987654321O",
            "987 654 3210",
            "٠٠٠٠٠",
        ] {
            assert_eq!(
                NhsNumber::parse(bad),
                Err(Refusal::InvalidNhsNumber(bad.to_owned()))
            );
        }
    }

    proptest! {
        #[test]
        fn no_body_makes_the_parsers_panic(noise in any::<Vec<u8>>(), path in 0_usize..14, value in json_value()) {
            let _ = NewPointer::parse(&noise);
            let _ = parse_update(&noise);
            const PATHS: [&str; 14] = [
                "", "/meta", "/masterIdentifier", "/status", "/type", "/type/coding/0", "/subject/reference", "/author",
                "/custodian", "/content", "/content/0/attachment", "/context", "/relatesTo", "/relatesTo/0/target",
            ];
            let mut body = replacing("urn:uuid:a", json!({ "reference": "https://x/DocumentReference/1" }));
            *body.pointer_mut(PATHS[path]).unwrap() = value.clone();
            let _ = NewPointer::parse(body.to_string().as_bytes());
            let mut update = withdrawal();
            update["parameter"][0]["part"][path % 3] = value;
            let _ = parse_update(update.to_string().as_bytes());
        }
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC*".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::hash_map("name|code|system|reference|part|coding", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }
}
