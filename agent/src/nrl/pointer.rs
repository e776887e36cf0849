//! Pointers: the parts of an STU3 DocumentReference that decide who owns it and what it replaces.

use spinegate_common::Reason;

use super::{
    EntityTag, Format, NhsNumber, OdsCode, PointerId, Refusal,
    nhs_number::PatientError,
    tree::{Document, Element, Fault},
};

/// What stands before the ODS code in an organisation's reference (NRL "Pointer FHIR Resource" page).
pub const ORGANISATION_PREFIX: &str = "https://directory.spineservices.nhs.uk/STU3/Organization/";

/// A pointer, as a body or the locator shows it. The clinical parts are not the gateway's to judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// Its logical id; a new pointer has none yet.
    pub id: Option<PointerId>,
    /// `status`
    pub status: Status,
    /// The owner: the last segment of `custodian.reference`.
    pub custodian: OdsCode,
    /// The patient: the last segment of `subject.reference`.
    pub subject: NhsNumber,
    /// `masterIdentifier`
    pub master_identifier: Option<Identifier>,
    /// The pointer that it supersedes: the only entry of `relatesTo`.
    pub replaces: Option<TargetRef>,
    /// `meta.versionId`, which the locator sets.
    pub version: Option<EntityTag>,
}

/// `DocumentReference.status`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// In force.
    Current,
    /// Replaced by another pointer.
    Superseded,
    /// Withdrawn.
    EnteredInError,
}

/// A system and a value that is unique in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identifier {
    /// A URI.
    pub system: String,
    /// The value; compared exactly.
    pub value: String,
}

/// How a superseding pointer names the one that it replaces.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TargetRef {
    /// By its logical id.
    Id(PointerId),
    /// By its masterIdentifier.
    Identifier(Identifier),
    /// By both, which must agree.
    Both(PointerId, Identifier),
}

/// Why a text is not a pointer; its message names the element.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PointerError {
    /// The text breaks a rule of its format.
    #[error("Invalid Request Message: {0}")]
    Malformed(String),
    /// An element that decides is missing or is not what it must be.
    #[error("DocumentReference: {0}")]
    Element(String),
    /// The patient's number is none.
    #[error("{0}")]
    NhsNumber(String),
    /// The owner's code is none.
    #[error("The ODS code in the custodian and/or author element is not resolvable - {0}")]
    Organisation(String),
}

impl Pointer {
    /// Takes a pointer from its text.
    ///
    /// # Errors
    /// If the text is not strict JSON or XML, or an element that decides is missing or malformed.
    pub fn read(format: Format, text: &[u8]) -> Result<Self, PointerError> {
        let document = Document::read(format, text)?;
        Self::from_element(&document.root())
    }

    /// Takes the pointers from a search's answer: a Bundle of type `searchset`. Entries that are no
    /// DocumentReference, such as an OperationOutcome, are passed over.
    ///
    /// # Errors
    /// If the text is not such a Bundle, has further pages, or one of its pointers is malformed.
    pub fn read_searchset(format: Format, text: &[u8]) -> Result<Vec<Self>, PointerError> {
        let document = Document::read(format, text)?;
        let bundle = document.root();
        if bundle.required_string("resourceType")? != "Bundle"
            || bundle.required_string("type")? != "searchset"
        {
            return Err(PointerError::Element(
                "the answer to a search must be a Bundle of type searchset".to_owned(),
            ));
        }
        for link in bundle.objects("link")? {
            if link.string("relation")? == Some("next") {
                return Err(PointerError::Element(
                    "the answer to a search must be a single page".to_owned(),
                ));
            }
        }
        let mut pointers = Vec::new();
        for entry in bundle.objects("entry")? {
            let resource = entry.required_object("resource")?;
            if resource.required_string("resourceType")? == "DocumentReference" {
                pointers.push(Self::from_element(&resource)?);
            }
        }
        Ok(pointers)
    }

    fn from_element(pointer: &Element<'_>) -> Result<Self, PointerError> {
        if pointer.required_string("resourceType")? != "DocumentReference" {
            return Err(PointerError::Element(
                "resourceType must be DocumentReference".to_owned(),
            ));
        }
        let id = pointer
            .string("id")?
            .map(PointerId::parse)
            .transpose()
            .map_err(|e| PointerError::Element(e.to_string()))?;
        let status = match pointer.required_string("status")? {
            "current" => Status::Current,
            "superseded" => Status::Superseded,
            "entered-in-error" => Status::EnteredInError,
            other => {
                let message = format!("status {other:?} is not current, superseded or entered-in-error");
                return Err(PointerError::Element(message));
            }
        };
        let custodian = custodian(&pointer.required_object("custodian")?)?;
        let subject = pointer.required_object("subject")?.required_string("reference")?;
        let subject = NhsNumber::from_reference(subject).map_err(|error| match error {
            PatientError::Reference => PointerError::Element(format!("subject.reference {error}")),
            PatientError::Number(_) => PointerError::NhsNumber(error.to_string()),
        })?;
        let master_identifier = pointer
            .object("masterIdentifier")?
            .map(|e| Identifier::from_element(&e))
            .transpose()?;
        let replaces = match pointer.objects("relatesTo")?.as_slice() {
            [] => None,
            [relation] => Some(TargetRef::from_relation(relation)?),
            _ => {
                return Err(PointerError::Element(
                    "relatesTo must not have more than one entry".to_owned(),
                ));
            }
        };
        let version = match pointer.object("meta")? {
            None => None,
            Some(meta) => meta.string("versionId")?.map(version).transpose()?,
        };
        Ok(Self {
            id,
            status,
            custodian,
            subject,
            master_identifier,
            replaces,
            version,
        })
    }
}

fn version(id: &str) -> Result<EntityTag, PointerError> {
    EntityTag::of_version(id)
        .ok_or_else(|| PointerError::Element(format!("meta.versionId {id:?} is not a version's id")))
}

/// The owner. An identifier beside the reference is not part of the NRL's profile; where one is sent it must
/// not name another organisation, or a locator that looks at it would see another owner than was checked.
fn custodian(custodian: &Element<'_>) -> Result<OdsCode, PointerError> {
    let code = custodian
        .required_string("reference")?
        .strip_prefix(ORGANISATION_PREFIX)
        .ok_or_else(|| {
            PointerError::Element(format!(
                "custodian.reference must be {ORGANISATION_PREFIX}[ODS code]"
            ))
        })?;
    let code = OdsCode::parse(code).map_err(|_| PointerError::Organisation(code.to_owned()))?;
    if let Some(identifier) = custodian.object("identifier")? {
        let same = OdsCode::parse(identifier.required_string("value")?).is_ok_and(|other| other == code);
        if !same {
            return Err(PointerError::Element(
                "custodian.identifier must not name another organisation".to_owned(),
            ));
        }
    }
    Ok(code)
}

impl Identifier {
    fn from_element(identifier: &Element<'_>) -> Result<Self, PointerError> {
        let text = |name: &str| match identifier.required_string(name) {
            Ok("") => Err(PointerError::Element(format!(
                "{} must not be empty",
                identifier.path_of(name)
            ))),
            Ok(text) => Ok(text.to_owned()),
            Err(fault) => Err(fault.into()),
        };
        Ok(Self {
            system: text("system")?,
            value: text("value")?,
        })
    }
}

impl TargetRef {
    fn from_relation(relation: &Element<'_>) -> Result<Self, PointerError> {
        if relation.required_string("code")? != "replaces" {
            return Err(PointerError::Element(
                "relatesTo[0].code must be replaces".to_owned(),
            ));
        }
        let target = relation.required_object("target")?;
        let id = target.string("reference")?.map(id_of_reference).transpose()?;
        let identifier = target
            .object("identifier")?
            .map(|e| Identifier::from_element(&e))
            .transpose()?;
        match (id, identifier) {
            (Some(id), None) => Ok(Self::Id(id)),
            (None, Some(identifier)) => Ok(Self::Identifier(identifier)),
            (Some(id), Some(identifier)) => Ok(Self::Both(id, identifier)),
            (None, None) => Err(PointerError::Element(
                "relatesTo[0].target must have a reference or an identifier".to_owned(),
            )),
        }
    }

    /// The id, where it names the pointer by one.
    #[must_use]
    pub const fn id(&self) -> Option<&PointerId> {
        match self {
            Self::Id(id) | Self::Both(id, _) => Some(id),
            Self::Identifier(_) => None,
        }
    }

    /// The masterIdentifier, where it names the pointer by one.
    #[must_use]
    pub const fn identifier(&self) -> Option<&Identifier> {
        match self {
            Self::Identifier(identifier) | Self::Both(_, identifier) => Some(identifier),
            Self::Id(_) => None,
        }
    }

    /// Whether it names this pointer.
    #[must_use]
    pub fn names(&self, pointer: &Pointer) -> bool {
        self.id().is_none_or(|id| pointer.id.as_ref() == Some(id))
            && self
                .identifier()
                .is_none_or(|identifier| pointer.master_identifier.as_ref() == Some(identifier))
    }
}

/// The id at the end of an absolute URL of a pointer (NRL "Supersede" page: an absolute literal reference).
fn id_of_reference(reference: &str) -> Result<PointerId, PointerError> {
    let wrong = || {
        PointerError::Element(
            "relatesTo[0].target.reference must be https://[host]/[path]/DocumentReference/[id]".to_owned(),
        )
    };
    let rest = reference
        .strip_prefix("https://")
        .or_else(|| reference.strip_prefix("http://"))
        .ok_or_else(wrong)?;
    let (place, id) = rest.rsplit_once('/').ok_or_else(wrong)?;
    let host = place.strip_suffix("/DocumentReference").ok_or_else(wrong)?;
    // Whatever two parsers could split differently has no place before the id.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/".contains(&byte);
    if host.is_empty() || host.starts_with('/') || !host.bytes().all(plain) {
        return Err(wrong());
    }
    PointerId::parse(id).map_err(|_| wrong())
}

impl From<Fault> for PointerError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Malformed { .. } => Self::Malformed(fault.to_string()),
            _ => Self::Element(fault.to_string()),
        }
    }
}

/// A body that the client sent.
impl From<PointerError> for Refusal {
    fn from(error: PointerError) -> Self {
        let reason = match error {
            PointerError::Malformed(_) => Reason::BodyMalformed,
            PointerError::Element(_) => Reason::BodyInvalid,
            PointerError::NhsNumber(_) => Reason::NhsNumberInvalid,
            PointerError::Organisation(_) => Reason::OrganisationNotFound,
        };
        Self::new(reason, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::{Identifier, ORGANISATION_PREFIX, Pointer, Status, TargetRef};
    use crate::nrl::{Format, NhsNumber, OdsCode, PointerId};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn sample() -> Value {
        json!({
            "resourceType": "DocumentReference",
            "meta": {"profile": ["https://fhir.nhs.uk/STU3/StructureDefinition/NRL-DocumentReference-1"]},
            "masterIdentifier": {"system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2.3"},
            "status": "current",
            "subject": {"reference": "https://demographics.spineservices.nhs.uk/STU3/Patient/9876543210"},
            "author": [{"reference": format!("{ORGANISATION_PREFIX}RGD")}],
            "custodian": {"reference": format!("{ORGANISATION_PREFIX}RR8")},
            "content": [{"attachment": {"contentType": "application/pdf", "url": "https://p.nhs.uk/1"}}],
        })
    }

    fn with(path: &str, value: Value) -> Result<Pointer, String> {
        let mut pointer = sample();
        match path.split_once('.') {
            None => pointer[path] = value,
            Some((outer, inner)) => pointer[outer][inner] = value,
        }
        Pointer::read(Format::Json, pointer.to_string().as_bytes()).map_err(|error| error.to_string())
    }

    fn replacing(target: &Value) -> Result<Option<TargetRef>, String> {
        with("relatesTo", json!([{"code": "replaces", "target": target}])).map(|pointer| pointer.replaces)
    }

    #[test]
    fn the_owner_is_the_custodian_and_never_the_author() {
        let pointer = Pointer::read(Format::Json, sample().to_string().as_bytes()).unwrap();
        assert_eq!(pointer.custodian, OdsCode::parse("RR8").unwrap());
        assert_eq!(pointer.subject, NhsNumber::parse("9876543210").unwrap());
        assert_eq!(
            (pointer.id, pointer.status, pointer.replaces, pointer.version),
            (None, Status::Current, None, None)
        );
    }

    #[test]
    fn a_custodian_that_is_not_plainly_one_organisation_is_refused() {
        for bad in [
            json!({}),
            json!(null),
            json!([]),
            json!("RR8"),
            json!([{"reference": format!("{ORGANISATION_PREFIX}RR8")}]),
            json!({"reference": ["x"]}),
            json!({"reference": "RR8"}),
            json!({"reference": "Organization/RR8"}),
            json!({"reference": ORGANISATION_PREFIX}),
            json!({"reference": format!("{ORGANISATION_PREFIX}RR8/")}),
            json!({"reference": format!("{ORGANISATION_PREFIX}RR8?x")}),
            json!({"reference": format!("{ORGANISATION_PREFIX}RGD/RR8")}),
            json!({"reference": format!("http{}RR8", &ORGANISATION_PREFIX[5..])}),
            json!({"identifier": {"system": "https://fhir.nhs.uk/Id/ods-organization-code", "value": "RR8"}}),
            json!({"reference": format!("{ORGANISATION_PREFIX}RR8"), "identifier": {"value": "RGD"}}),
        ] {
            assert!(
                with("custodian", bad.clone()).unwrap_err().contains("custodian"),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_second_custodian_is_refused_in_whatever_case() {
        for name in ["custodian", "Custodian", "\\u0063ustodian"] {
            let text = sample().to_string();
            let text = format!(
                "{{\"{name}\":{{\"reference\":\"{ORGANISATION_PREFIX}RGD\"}},{}",
                &text[1..]
            );
            assert!(
                Pointer::read(Format::Json, text.as_bytes())
                    .unwrap_err()
                    .to_string()
                    .contains("twice"),
                "{name}"
            );
        }
    }

    #[test]
    fn elements_of_another_kind_are_refused_by_name() {
        for (path, value, named) in [
            ("resourceType", json!("Patient"), "resourceType"),
            ("meta.versionId", json!("1\""), "meta.versionId"),
            ("meta.versionId", json!(1), "meta.versionId"),
            ("id", json!("a/b"), "id"),
            ("id", json!(1), "id"),
            ("status", json!("draft"), "status"),
            ("subject.reference", json!("Patient/1"), "subject.reference"),
            ("masterIdentifier.value", json!(""), "masterIdentifier.value"),
            ("masterIdentifier.system", json!(null), "masterIdentifier.system"),
            ("relatesTo", json!([]), "relatesTo"),
            ("relatesTo", json!({}), "relatesTo"),
            ("relatesTo", json!([{"code": "replaces"}]), "relatesTo[0].target"),
            (
                "relatesTo",
                json!([{"code": "appends", "target": {"reference": "x"}}]),
                "relatesTo[0].code",
            ),
        ] {
            let error = with(path, value.clone()).unwrap_err();
            assert!(error.contains(named), "{path} {value}: {error}");
        }
        let relation = json!({"code": "replaces", "target": {"reference": "https://h/DocumentReference/1"}});
        assert!(
            with("relatesTo", json!([relation, relation]))
                .unwrap_err()
                .contains("more than one")
        );
    }

    #[test]
    fn elements_that_a_lenient_locator_would_take_for_those_that_decide_are_refused() {
        for (name, value) in [
            (
                "RelatesTo",
                json!([{"code": "replaces", "target": {"reference": "https://h/DocumentReference/1"}}]),
            ),
            ("RELATESTO", json!([])),
            ("MasterIdentifier", json!({"system": "a", "value": "b"})),
            ("Id", json!("p1")),
            ("_id", json!({"extension": []})),
            (
                "_status",
                json!({"extension": [{"url": "x", "valueCode": "superseded"}]}),
            ),
        ] {
            let mut pointer = sample();
            pointer["id"] = json!("p2");
            if name == "Id" || name == "MasterIdentifier" {
                pointer.as_object_mut().unwrap().remove("id");
                pointer.as_object_mut().unwrap().remove("masterIdentifier");
            }
            pointer[name] = value;
            let read = Pointer::read(Format::Json, pointer.to_string().as_bytes());
            assert!(read.is_err(), "{name}");
        }
        let mut pointer = sample();
        pointer["custodian"]["_reference"] = json!({"id": "x"});
        assert!(Pointer::read(Format::Json, pointer.to_string().as_bytes()).is_err());
    }

    #[test]
    fn numbers_and_codes_that_are_none_are_refused_with_what_was_sent() {
        let number = "https://demographics.spineservices.nhs.uk/STU3/Patient/987 654 3210";
        assert_eq!(
            with("subject.reference", json!(number)).unwrap_err(),
            "The NHS number does not conform to the NHS Number format: 987 654 3210"
        );
        assert_eq!(
            with("custodian.reference", json!(format!("{ORGANISATION_PREFIX}R-8"))).unwrap_err(),
            "The ODS code in the custodian and/or author element is not resolvable - R-8"
        );
    }

    #[test]
    fn the_superseded_pointer_is_named_by_url_by_identifier_or_by_both() {
        let id = PointerId::parse("da2b-58").unwrap();
        let identifier = Identifier {
            system: "urn:ietf:rfc:3986".to_owned(),
            value: "urn:oid:1".to_owned(),
        };
        let url = "https://psis-sync.national.ncrs.nhs.uk/DocumentReference/da2b-58";
        let name = json!({"system": "urn:ietf:rfc:3986", "value": "urn:oid:1"});
        assert_eq!(
            replacing(&json!({"reference": url})),
            Ok(Some(TargetRef::Id(id.clone())))
        );
        assert_eq!(
            replacing(&json!({"identifier": name})),
            Ok(Some(TargetRef::Identifier(identifier.clone())))
        );
        let both = TargetRef::Both(id, identifier);
        assert_eq!(
            replacing(&json!({"reference": url, "identifier": name})),
            Ok(Some(both))
        );
        for bad in [
            json!({}),
            json!({"reference": ""}),
            json!({"reference": "DocumentReference/1"}),
            json!({"reference": "https://DocumentReference/1"}),
            json!({"reference": "https:///DocumentReference/1"}),
            json!({"reference": "https://h/DocumentReference/"}),
            json!({"reference": "https://h/DocumentReference/1/_history/1"}),
            json!({"reference": "https://h/DocumentReference/1?x"}),
            json!({"reference": "https://h/?/DocumentReference/1"}),
            json!({"reference": "https://h/%3f/DocumentReference/1"}),
            json!({"reference": "https://a@h/DocumentReference/1"}),
            json!({"reference": "https://h /DocumentReference/1"}),
            json!({"reference": " https://h/DocumentReference/1"}),
            json!({"reference": "https://h/Patient/1"}),
            json!({"reference": "ftp://h/DocumentReference/1"}),
            json!({"identifier": {"value": "urn:oid:1"}}),
            json!({"reference": "https://h/Patient/1", "identifier": name}),
        ] {
            assert!(replacing(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_searchset_gives_its_pointers_and_only_a_whole_one() {
        let outcome = json!({"resourceType": "OperationOutcome"});
        let bundle = json!({"resourceType": "Bundle", "type": "searchset", "total": 1,
            "entry": [{"resource": sample()}, {"resource": outcome}]});
        assert_eq!(
            Pointer::read_searchset(Format::Json, bundle.to_string().as_bytes())
                .unwrap()
                .len(),
            1
        );
        let empty = br#"{"resourceType":"Bundle","type":"searchset","total":0}"#;
        assert_eq!(Pointer::read_searchset(Format::Json, empty), Ok(Vec::new()));
        for bad in [
            json!({"resourceType": "Bundle", "type": "history"}),
            json!({"resourceType": "DocumentReference", "type": "searchset"}),
            json!({"resourceType": "Bundle", "type": "searchset", "link": [{"relation": "next", "url": "x"}]}),
            json!({"resourceType": "Bundle", "type": "searchset", "entry": [{}]}),
            json!({"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": {"resourceType": "DocumentReference"}}]}),
        ] {
            assert!(
                Pointer::read_searchset(Format::Json, bad.to_string().as_bytes()).is_err(),
                "{bad}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_none_but_a_pointer_is_one(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Pointer::read(Format::Json, &bytes).is_err());
            prop_assert!(Pointer::read_searchset(Format::Json, &bytes).is_err());
        }

        #[test]
        fn no_reference_but_the_exact_one_makes_an_owner(tail in "\\PC{0,20}", prefix in "\\PC{0,10}") {
            let reference = format!("{prefix}{ORGANISATION_PREFIX}{tail}");
            if let Ok(pointer) = with("custodian.reference", json!(reference)) {
                prop_assert!(prefix.is_empty());
                prop_assert_eq!(pointer.custodian.as_str(), tail.to_ascii_uppercase());
            }
        }
    }
}
