//! Routes: which interaction a method, a path and a query stand for.

use http::Method;
use spinegate_common::Reason;

use super::{
    Identifier, Interaction, NhsNumber, OdsCode, PointerId, Refusal, media,
    nhs_number::PatientError,
    pointer::ORGANISATION_PREFIX,
    query::{self, Query, invalid},
};

/// How the request lines are spelt here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect<'a> {
    /// What stands before `/DocumentReference`.
    pub base_path: &'a str,
    /// Whether the conditional forms may also have their separator and pipe encoded once more, as the examples on
    /// the NRL's pages have them.
    pub double_encoded: bool,
}

/// What a request line asks for (NRL "API interaction" pages).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `GET [base]/DocumentReference/[id]`
    Read(PointerId),
    /// `GET [base]/DocumentReference?...`
    Search(Search),
    /// `POST [base]/DocumentReference`: the body tells a create from a supersede.
    CreateOrSupersede,
    /// `PATCH [base]/DocumentReference/[id]`, or `?subject=...&identifier=...` in place of the id.
    Update(Selector),
    /// `DELETE [base]/DocumentReference/[id]`, or `?_id=[id]` or `?subject=...&identifier=...` in place of the id.
    Delete(Selector),
}

/// How an update or a delete names its pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// By its logical id, in the path or as `_id`.
    Id(PointerId),
    /// By its patient and its masterIdentifier: the conditional form.
    Identifier {
        /// `subject`
        subject: NhsNumber,
        /// `identifier`
        identifier: Identifier,
    },
}

/// What a search asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Search {
    /// `_id`: one pointer.
    ById(PointerId),
    /// `subject`: a patient's pointers.
    BySubject {
        /// The patient.
        subject: NhsNumber,
        /// `custodian`: only this owner's.
        custodian: Option<OdsCode>,
        /// `type` or `type.coding`: only those of this kind, as `[system]|[code]`.
        kind: Option<String>,
        /// `_summary=count`: only how many there are.
        count_only: bool,
    },
}

impl Route {
    /// Classifies a request. The path is taken as it was sent: an id needs no percent-encoding, so an encoded
    /// path is unknown.
    ///
    /// # Errors
    /// [`Reason::PathUnknown`], [`Reason::MethodUnknown`] or [`Reason::ParameterInvalid`], looked for in this
    /// order.
    pub fn classify(
        dialect: Dialect<'_>,
        method: &Method,
        path: &str,
        query: Option<&str>,
    ) -> Result<Self, Refusal> {
        let place = Place::of(dialect.base_path, path).ok_or_else(|| {
            Refusal::new(Reason::PathUnknown, format!("The path {path} is not served here"))
        })?;
        let mut parameters = Query::parse(query);
        let route = match (place, method) {
            (Place::Pointer(id), &Method::GET) => Self::Read(id),
            (Place::Pointer(id), &Method::PATCH) => Self::Update(Selector::Id(id)),
            (Place::Pointer(id), &Method::DELETE) => Self::Delete(Selector::Id(id)),
            (Place::Collection, &Method::POST) => Self::CreateOrSupersede,
            (Place::Collection, &Method::GET) => {
                let parameters = parameters.as_mut().map_err(|refusal| refusal.clone())?;
                Self::Search(Search::from_query(parameters)?)
            }
            (Place::Collection, &Method::PATCH) => {
                let parameters = parameters.as_mut().map_err(|refusal| refusal.clone())?;
                Self::Update(Selector::from_query(parameters, dialect.double_encoded)?)
            }
            (Place::Collection, &Method::DELETE) => {
                let parameters = parameters.as_mut().map_err(|refusal| refusal.clone())?;
                // "May be deprecated" (NRL "Delete" page), and never that of an update.
                let id = parameters.take("_id").map(|id| logical_id(&id)).transpose()?;
                Self::Delete(match id {
                    Some(id) => Selector::Id(id),
                    None => Selector::from_query(parameters, dialect.double_encoded)?,
                })
            }
            (Place::Pointer(_) | Place::Collection, method) => {
                let why = format!("The method {method} is not supported for the path {path}");
                return Err(Refusal::new(Reason::MethodUnknown, why));
            }
        };
        let mut parameters = parameters?;
        if let Some(format) = parameters.take("_format")
            && media::Format::of_media_type(&format).is_none()
        {
            return Err(invalid(format!(
                "The value of the parameter _format is not supported: {format}"
            )));
        }
        parameters.finish()?;
        Ok(route)
    }

    /// The interaction that it performs.
    #[must_use]
    pub const fn interaction(&self) -> Interaction {
        match self {
            Self::Read(_) => Interaction::Read,
            Self::Search(_) => Interaction::Search,
            Self::CreateOrSupersede => Interaction::Create,
            Self::Update(_) => Interaction::Update,
            Self::Delete(_) => Interaction::Delete,
        }
    }

    /// The pointer that it names, if it names one.
    #[must_use]
    pub const fn pointer(&self) -> Option<&PointerId> {
        match self {
            Self::Read(id)
            | Self::Search(Search::ById(id))
            | Self::Update(Selector::Id(id))
            | Self::Delete(Selector::Id(id)) => Some(id),
            Self::Search(Search::BySubject { .. })
            | Self::CreateOrSupersede
            | Self::Update(Selector::Identifier { .. })
            | Self::Delete(Selector::Identifier { .. }) => None,
        }
    }
}

/// The methods for the `Allow` header of an answer that refuses another one; none for a path that is unknown.
#[must_use]
pub fn allowed_methods(base_path: &str, path: &str) -> Option<&'static str> {
    Place::of(base_path, path).map(|place| match place {
        Place::Collection => "GET, POST, PATCH, DELETE",
        Place::Pointer(_) => "GET, PATCH, DELETE",
    })
}

enum Place {
    Collection,
    Pointer(PointerId),
}

impl Place {
    fn of(base_path: &str, path: &str) -> Option<Self> {
        let rest = path
            .strip_prefix(base_path.trim_end_matches('/'))?
            .strip_prefix("/DocumentReference")?;
        match rest.strip_prefix('/') {
            Some(id) => PointerId::parse(id).ok().map(Self::Pointer),
            None => rest.is_empty().then_some(Self::Collection),
        }
    }
}

impl Search {
    /// Takes the search's own parameters out of a query; the caller refuses what is left.
    fn from_query(parameters: &mut Query<'_>) -> Result<Self, Refusal> {
        if let Some(id) = parameters.take("_id") {
            return logical_id(&id).map(Self::ById);
        }
        let subject = parameters
            .take("subject")
            .ok_or_else(|| invalid("A search needs the parameter subject, or _id alone"))?;
        let subject = patient(&subject)?;
        let custodian = match parameters.take("custodian") {
            None => None,
            Some(reference) => {
                let code = reference
                    .strip_prefix(ORGANISATION_PREFIX)
                    .and_then(|code| OdsCode::parse(code).ok());
                Some(code.ok_or_else(|| {
                    invalid(format!(
                        "The parameter custodian must be {ORGANISATION_PREFIX}[ODS code]"
                    ))
                })?)
            }
        };
        let kind = match (parameters.take("type"), parameters.take("type.coding")) {
            (Some(_), Some(_)) => {
                return Err(invalid("The parameters type and type.coding are the same one"));
            }
            (Some(kind), None) | (None, Some(kind)) => Some(coding(kind)?),
            (None, None) => None,
        };
        let count_only = match parameters.take("_summary").as_deref() {
            None => false,
            Some("count") => true,
            Some(_) => return Err(invalid("The parameter _summary must be count")),
        };
        Ok(Self::BySubject {
            subject,
            custodian,
            kind,
            count_only,
        })
    }
}

impl Selector {
    /// Takes the parameters of a conditional form out of a query; the caller refuses what is left.
    fn from_query(parameters: &mut Query<'_>, double_encoded: bool) -> Result<Self, Refusal> {
        let (subject, identifier) = (parameters.take("subject"), parameters.take("identifier"));
        let (subject, identifier) = match (subject, identifier) {
            (Some(subject), Some(identifier)) => (subject, identifier),
            (Some(both), None) if double_encoded => apart(&both)?,
            _ => {
                return Err(invalid(
                    "Without an id in the path the parameters subject and identifier must name the pointer",
                ));
            }
        };
        Ok(Self::Identifier {
            subject: patient(&subject)?,
            identifier: master_identifier(&identifier)?,
        })
    }
}

/// Both parameters out of one value whose separator was encoded, and whose pipe was encoded twice.
fn apart(both: &str) -> Result<(String, String), Refusal> {
    let parts = both.split_once("&identifier=").and_then(|(subject, rest)| {
        // As in a query that is not encoded any further: see Query::parse.
        let identifier = (!rest.contains(['&', ';', '+'])).then(|| query::decoded(rest));
        Some((subject.to_owned(), identifier??))
    });
    parts.ok_or_else(|| {
        invalid("The parameter identifier is missing, in the query and in what is encoded in the parameter subject")
    })
}

fn logical_id(id: &str) -> Result<PointerId, Refusal> {
    PointerId::parse(id).map_err(|_| {
        invalid(format!(
            "The value of the parameter _id is not a logical id: {id}"
        ))
    })
}

fn patient(reference: &str) -> Result<NhsNumber, Refusal> {
    NhsNumber::from_reference(reference).map_err(|error| match error {
        PatientError::Reference => invalid(format!("The parameter subject {error}")),
        PatientError::Number(_) => Refusal::new(Reason::NhsNumberInvalid, error.to_string()),
    })
}

/// `[system]|[value]`, both of one meaning whoever reads them.
fn master_identifier(value: &str) -> Result<Identifier, Refusal> {
    match value.split_once('|') {
        Some((system, value)) if is_plain(system) && is_plain(value) => Ok(Identifier {
            system: system.to_owned(),
            value: value.to_owned(),
        }),
        _ => Err(invalid("The parameter identifier must be [system]%7C[value]")),
    }
}

/// Not empty, and without what a search would take for more than one value.
fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b",|\\".contains(&byte))
}

/// One `[system]|[code]`; a comma would make it several.
fn coding(value: String) -> Result<String, Refusal> {
    match value.split_once('|') {
        Some((system, code)) if is_plain(system) && is_plain(code) => Ok(value),
        _ => Err(invalid("The parameter type must be [system]%7C[code]")),
    }
}

#[cfg(test)]
mod tests {
    use super::{Dialect, Route, Search, Selector, allowed_methods};
    use crate::nrl::{Identifier, Interaction, NhsNumber, OdsCode, PointerId};
    use http::Method;
    use proptest::prelude::*;
    use spinegate_common::Reason;

    const SUBJECT: &str = "subject=https://demographics.spineservices.nhs.uk/STU3/Patient/9876543210";
    const ENCODED: &str =
        "subject=https%3A%2F%2Fdemographics.spineservices.nhs.uk%2FSTU3%2FPatient%2F9876543210";

    const STRICT: Dialect<'_> = Dialect {
        base_path: "/STU3",
        double_encoded: false,
    };
    const LENIENT: Dialect<'_> = Dialect {
        double_encoded: true,
        ..STRICT
    };

    fn classify(line: &str) -> Result<Route, Reason> {
        classify_in(STRICT, line)
    }

    fn classify_in(dialect: Dialect<'_>, line: &str) -> Result<Route, Reason> {
        let (method, target) = line.split_once(' ').unwrap();
        let (path, query) = target
            .split_once('?')
            .map_or((target, None), |(path, query)| (path, Some(query)));
        Route::classify(dialect, &method.parse().unwrap(), path, query).map_err(|refusal| refusal.reason())
    }

    #[test]
    fn each_interaction_has_its_request_line() {
        let id = PointerId::parse("da2b-58").unwrap();
        assert_eq!(
            classify("GET /STU3/DocumentReference/da2b-58"),
            Ok(Route::Read(id.clone()))
        );
        assert_eq!(
            classify("GET /STU3/DocumentReference/da2b-58?_format=application/fhir+json"),
            Ok(Route::Read(id.clone()))
        );
        assert_eq!(
            classify("POST /STU3/DocumentReference"),
            Ok(Route::CreateOrSupersede)
        );
        assert_eq!(
            classify("PATCH /STU3/DocumentReference/da2b-58"),
            Ok(Route::Update(Selector::Id(id.clone())))
        );
        assert_eq!(
            classify("DELETE /STU3/DocumentReference/da2b-58"),
            Ok(Route::Delete(Selector::Id(id.clone())))
        );
        assert_eq!(
            classify("DELETE /STU3/DocumentReference?_id=da2b-58&_format=text/json"),
            Ok(Route::Delete(Selector::Id(id.clone())))
        );
        let by_id = classify("GET /STU3/DocumentReference?_id=da2b-58&_format=text/json").unwrap();
        assert_eq!(by_id, Route::Search(Search::ById(id)));
        assert_eq!(by_id.interaction(), Interaction::Search);
    }

    #[test]
    fn a_search_by_subject_takes_the_parameters_of_the_spec() {
        let target = format!(
            "GET /STU3/DocumentReference?{ENCODED}&custodian=https%3A%2F%2Fdirectory.spineservices.nhs.uk%2FSTU3%2F\
             Organization%2FRR8&type.coding=http%3A%2F%2Fsnomed.info%2Fsct%7C736253002&_summary=count"
        );
        assert_eq!(
            classify(&target),
            Ok(Route::Search(Search::BySubject {
                subject: NhsNumber::parse("9876543210").unwrap(),
                custodian: OdsCode::parse("RR8").ok(),
                kind: Some("http://snomed.info/sct|736253002".to_owned()),
                count_only: true,
            }))
        );
    }

    #[test]
    fn what_is_no_interaction_is_refused_with_its_reason() {
        use Reason::{MethodUnknown, ParameterInvalid, PathUnknown};
        let cases: &[(&str, Reason)] = &[
            ("GET /", PathUnknown),
            ("GET /STU3/metadata", PathUnknown),
            ("GET /DocumentReference/1", PathUnknown),
            ("GET /STU3/DocumentReferenceX", PathUnknown),
            ("GET /STU3/documentreference/1", PathUnknown),
            ("GET /STU3/DocumentReference/", PathUnknown),
            ("GET /STU3/DocumentReference/1/", PathUnknown),
            ("GET /STU3/DocumentReference/1/_history/1", PathUnknown),
            ("GET /STU3/DocumentReference/_history", PathUnknown),
            ("POST /STU3/DocumentReference/_search", PathUnknown),
            ("GET /STU3/DocumentReference/..", PathUnknown),
            ("GET /STU3/DocumentReference/%2e%2e", PathUnknown),
            ("GET /STU3/DocumentReference/%31", PathUnknown),
            ("GET /STU3/x/../DocumentReference/1", PathUnknown),
            ("GET //STU3/DocumentReference/1", PathUnknown),
            ("GET /STU3//DocumentReference/1", PathUnknown),
            ("GET /STU3/DocumentReference//1", PathUnknown),
            ("GET /STU3/DocumentReference;x/1", PathUnknown),
            ("GET *", PathUnknown),
            ("PUT /STU3/DocumentReference/1", MethodUnknown),
            ("HEAD /STU3/DocumentReference/1", MethodUnknown),
            ("OPTIONS /STU3/DocumentReference", MethodUnknown),
            ("PUT /STU3/DocumentReference", MethodUnknown),
            ("POST /STU3/DocumentReference/1", MethodUnknown),
            ("get /STU3/DocumentReference/1", MethodUnknown),
            ("PATCH /STU3/DocumentReference", ParameterInvalid),
            ("PATCH /STU3/DocumentReference?_id=1", ParameterInvalid),
            ("DELETE /STU3/DocumentReference", ParameterInvalid),
            ("DELETE /STU3/DocumentReference?_id=a_b", ParameterInvalid),
            ("DELETE /STU3/DocumentReference/1?_id=1", ParameterInvalid),
            (
                "DELETE /STU3/DocumentReference?identifier=a%7Cb",
                ParameterInvalid,
            ),
            ("GET /STU3/DocumentReference", ParameterInvalid),
            (
                "GET /STU3/DocumentReference?_id=1&_summary=count",
                ParameterInvalid,
            ),
            ("GET /STU3/DocumentReference?_id=a_b", ParameterInvalid),
            ("GET /STU3/DocumentReference?_id=1&_id=1", ParameterInvalid),
            (
                "GET /STU3/DocumentReference?_id=1&_format=text/html",
                ParameterInvalid,
            ),
            ("GET /STU3/DocumentReference?_format=text/json", ParameterInvalid),
            ("GET /STU3/DocumentReference?subject=9876543210", ParameterInvalid),
            (
                "GET /STU3/DocumentReference?subject:Patient=9876543210",
                ParameterInvalid,
            ),
            ("GET /STU3/DocumentReference/1?_id=2", ParameterInvalid),
            (
                "DELETE /STU3/DocumentReference/1?_cascade=delete",
                ParameterInvalid,
            ),
            ("POST /STU3/DocumentReference?subject=1", ParameterInvalid),
        ];
        for (line, reason) in cases {
            assert_eq!(classify(line), Err(*reason), "{line}");
        }
        for extra in [
            "&_id=1",
            "&identifier=a%7Cb",
            "&custodian=RR8",
            "&type=736253002",
            "&type=a%7Cb,c%7Cd",
            "&type=a%7Cb&type.coding=a%7Cb",
            "&_summary=true",
            "&_count=1",
            "&_include=*",
            "&_method=DELETE",
            "&subject=x",
            "&custodian.identifier=a%7Cb",
        ] {
            let line = format!("GET /STU3/DocumentReference?{SUBJECT}{extra}");
            assert_eq!(classify(&line), Err(ParameterInvalid), "{line}");
        }
    }

    fn by_identifier(value: &str) -> Selector {
        Selector::Identifier {
            subject: NhsNumber::parse("9876543210").unwrap(),
            identifier: Identifier {
                system: "urn:ietf:rfc:3986".to_owned(),
                value: value.to_owned(),
            },
        }
    }

    #[test]
    fn a_conditional_form_names_its_pointer_by_patient_and_identifier() {
        let query = format!("{ENCODED}&identifier=urn%3Aietf%3Arfc%3A3986%7Curn%3Aoid%3A1.2");
        for order in [
            query.clone(),
            format!("identifier=urn:ietf:rfc:3986%7Curn:oid:1.2&{SUBJECT}&_format=text/json"),
        ] {
            let line = |method: &str| format!("{method} /STU3/DocumentReference?{order}");
            let named = by_identifier("urn:oid:1.2");
            assert_eq!(classify(&line("PATCH")), Ok(Route::Update(named.clone())));
            let delete = classify(&line("DELETE")).unwrap();
            assert_eq!(delete.pointer(), None);
            assert_eq!(delete, Route::Delete(named));
            assert_eq!(classify(&line("GET")), Err(Reason::ParameterInvalid));
        }
        for bad in [
            "",
            "&identifier=",
            "&identifier=urn:oid:1.2",
            "&identifier=%7Curn:oid:1.2",
            "&identifier=urn:ietf:rfc:3986%7C",
            "&identifier=a%7Cb%7Cc",
            "&identifier=a%7Cb,c%7Cd",
            "&identifier=a%7Cb%5C",
            "&identifier=a%7Cb%20c",
            "&identifier=a%7Cb&identifier=a%7Cb",
            "&identifier=a%7Cb&_id=1",
            "&identifier=a%7Cb&custodian=RR8",
            "&identifier=a%7Cb&_cascade=delete",
            "&identifier:exact=a%7Cb",
        ] {
            for method in ["PATCH", "DELETE"] {
                let line = format!("{method} /STU3/DocumentReference?{SUBJECT}{bad}");
                assert_eq!(classify(&line), Err(Reason::ParameterInvalid), "{line}");
                assert_eq!(
                    classify_in(LENIENT, &line),
                    Err(Reason::ParameterInvalid),
                    "{line}"
                );
            }
        }
    }

    #[test]
    fn the_doubly_encoded_form_of_the_nrls_examples_is_taken_where_that_is_switched_on() {
        let example = format!("{ENCODED}%26identifier%3Durn%3Aietf%3Arfc%3A3986%257Curn%3Aoid%3A1.2");
        for (query, value) in [
            (example.clone(), "urn:oid:1.2"),
            (format!("{example}&_format=application/fhir+json"), "urn:oid:1.2"),
            (example.replace("%257C", "%7C"), "urn:oid:1.2"),
            (example.replace("%3Aoid", "%253Aoid"), "urn:oid:1.2"),
            (example.replace("1.2", "1.2%252526"), "urn:oid:1.2%26"),
        ] {
            let line = format!("DELETE /STU3/DocumentReference?{query}");
            let expected = Route::Delete(by_identifier(value));
            assert_eq!(classify_in(LENIENT, &line), Ok(expected), "{line}");
            assert_eq!(classify(&line), Err(Reason::ParameterInvalid), "{line}");
        }
        for bad in [
            format!("{example}%26identifier%3Da%257Cb"),
            format!("{example}%26_cascade%3Ddelete"),
            format!("{example}&identifier=a%7Cb"),
            format!("{example}&_id=1"),
            example.replace("%257C", "%25257C"),
            example.replace("%26", "%2526"),
            example.replace("%257C", "%25"),
            example.replace("identifier", "identifiers"),
        ] {
            let line = format!("DELETE /STU3/DocumentReference?{bad}");
            assert_eq!(
                classify_in(LENIENT, &line),
                Err(Reason::ParameterInvalid),
                "{line}"
            );
        }
        let search = format!("GET /STU3/DocumentReference?{example}");
        assert_eq!(classify_in(LENIENT, &search), Err(Reason::ParameterInvalid));
    }

    #[test]
    fn the_base_path_is_configuration() {
        for (base_path, path) in [
            ("", "/DocumentReference/1"),
            ("/", "/DocumentReference/1"),
            ("/nrl/STU3/", "/nrl/STU3/DocumentReference/1"),
        ] {
            let dialect = Dialect { base_path, ..STRICT };
            assert!(
                Route::classify(dialect, &Method::GET, path, None).is_ok(),
                "{base_path:?}"
            );
        }
    }

    #[test]
    fn allow_lists_what_classify_takes() {
        for (path, expected) in [
            ("/STU3/DocumentReference", "GET, POST, PATCH, DELETE"),
            ("/STU3/DocumentReference/1", "GET, PATCH, DELETE"),
        ] {
            assert_eq!(allowed_methods("/STU3", path), Some(expected));
        }
        assert_eq!(allowed_methods("/STU3", "/"), None);
    }

    proptest! {
        #[test]
        fn no_path_or_query_panics(method in "[A-Z]{1,7}", path in "\\PC{0,60}", query in proptest::option::of("\\PC{0,60}")) {
            let _ = Route::classify(STRICT, &method.parse().unwrap(), &path, query.as_deref());
        }

        #[test]
        fn whatever_is_routed_names_an_id_without_path_characters(tail in "[a-zA-Z0-9/.%_~;:@-]{0,20}") {
            if let Ok(Route::Read(id)) = Route::classify(STRICT, &Method::GET, &format!("/STU3/DocumentReference/{tail}"), None) {
                prop_assert_eq!(id.as_str(), tail.as_str());
                prop_assert!(!tail.contains(['/', '%', '_', ';']) && tail != "." && tail != "..");
            }
        }
    }
}
