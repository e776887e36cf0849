//! Routes: which interaction a method, a path and a query stand for.

use http::Method;
use spinegate_common::Reason;

use super::{
    Interaction, NhsNumber, OdsCode, PointerId, Refusal, media,
    nhs_number::PatientError,
    pointer::ORGANISATION_PREFIX,
    query::{Query, invalid},
};

/// What a request line asks for (NRL "API interaction" pages).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `GET [base]/DocumentReference/[id]`
    Read(PointerId),
    /// `GET [base]/DocumentReference?...`
    Search(Search),
    /// `POST [base]/DocumentReference`: the body tells a create from a supersede.
    CreateOrSupersede,
    /// `PATCH [base]/DocumentReference/[id]`
    Update(PointerId),
    /// `DELETE [base]/DocumentReference/[id]`
    Delete(PointerId),
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
        base_path: &str,
        method: &Method,
        path: &str,
        query: Option<&str>,
    ) -> Result<Self, Refusal> {
        let place = Place::of(base_path, path).ok_or_else(|| {
            Refusal::new(Reason::PathUnknown, format!("The path {path} is not served here"))
        })?;
        let mut parameters = Query::parse(query);
        let route = match (place, method) {
            (Place::Pointer(id), &Method::GET) => Self::Read(id),
            (Place::Pointer(id), &Method::PATCH) => Self::Update(id),
            (Place::Pointer(id), &Method::DELETE) => Self::Delete(id),
            (Place::Collection, &Method::POST) => Self::CreateOrSupersede,
            (Place::Collection, &Method::GET) => {
                let parameters = parameters.as_mut().map_err(|refusal| refusal.clone())?;
                Self::Search(Search::from_query(parameters)?)
            }
            (Place::Collection, &(Method::PATCH | Method::DELETE)) => {
                return Err(invalid(
                    "Conditional update and delete are not supported: name the pointer by its id in the path",
                ));
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
            Self::Read(id) | Self::Search(Search::ById(id)) | Self::Update(id) | Self::Delete(id) => Some(id),
            Self::Search(Search::BySubject { .. }) | Self::CreateOrSupersede => None,
        }
    }
}

/// The methods for the `Allow` header of an answer that refuses another one; none for a path that is unknown.
#[must_use]
pub fn allowed_methods(base_path: &str, path: &str) -> Option<&'static str> {
    Place::of(base_path, path).map(|place| match place {
        Place::Collection => "GET, POST",
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
            return PointerId::parse(&id).map(Self::ById).map_err(|_| {
                invalid(format!(
                    "The value of the parameter _id is not a logical id: {id}"
                ))
            });
        }
        let subject = parameters
            .take("subject")
            .ok_or_else(|| invalid("A search needs the parameter subject, or _id alone"))?;
        let subject = NhsNumber::from_reference(&subject).map_err(|error| match error {
            PatientError::Reference => invalid(format!("The parameter subject {error}")),
            PatientError::Number(_) => Refusal::new(Reason::NhsNumberInvalid, error.to_string()),
        })?;
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

/// One `[system]|[code]`; a comma would make it several.
fn coding(value: String) -> Result<String, Refusal> {
    let part = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|b| b.is_ascii_graphic() && !b",|\\".contains(&b))
    };
    match value.split_once('|') {
        Some((system, code)) if part(system) && part(code) => Ok(value),
        _ => Err(invalid("The parameter type must be [system]%7C[code]")),
    }
}

#[cfg(test)]
mod tests {
    use super::{Route, Search, allowed_methods};
    use crate::nrl::{Interaction, NhsNumber, OdsCode, PointerId};
    use http::Method;
    use proptest::prelude::*;
    use spinegate_common::Reason;

    const SUBJECT: &str = "subject=https://demographics.spineservices.nhs.uk/STU3/Patient/9876543210";
    const ENCODED: &str =
        "subject=https%3A%2F%2Fdemographics.spineservices.nhs.uk%2FSTU3%2FPatient%2F9876543210";

    fn classify(line: &str) -> Result<Route, Reason> {
        let (method, target) = line.split_once(' ').unwrap();
        let (path, query) = target
            .split_once('?')
            .map_or((target, None), |(path, query)| (path, Some(query)));
        Route::classify("/STU3", &method.parse().unwrap(), path, query).map_err(|refusal| refusal.reason())
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
            Ok(Route::Update(id.clone()))
        );
        assert_eq!(
            classify("DELETE /STU3/DocumentReference/da2b-58"),
            Ok(Route::Delete(id.clone()))
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
            ("DELETE /STU3/DocumentReference?_id=1", ParameterInvalid),
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

    #[test]
    fn the_base_path_is_configuration() {
        for base in ["", "/"] {
            assert!(
                Route::classify(base, &Method::GET, "/DocumentReference/1", None).is_ok(),
                "{base:?}"
            );
        }
        assert!(Route::classify("/nrl/STU3/", &Method::GET, "/nrl/STU3/DocumentReference/1", None).is_ok());
    }

    #[test]
    fn allow_lists_what_classify_takes() {
        for (path, expected) in [
            ("/STU3/DocumentReference", "GET, POST"),
            ("/STU3/DocumentReference/1", "GET, PATCH, DELETE"),
        ] {
            assert_eq!(allowed_methods("/STU3", path), Some(expected));
        }
        assert_eq!(allowed_methods("/STU3", "/"), None);
    }

    proptest! {
        #[test]
        fn no_path_or_query_panics(method in "[A-Z]{1,7}", path in "\\PC{0,60}", query in proptest::option::of("\\PC{0,60}")) {
            let _ = Route::classify("/STU3", &method.parse().unwrap(), &path, query.as_deref());
        }

        #[test]
        fn whatever_is_routed_names_an_id_without_path_characters(tail in "[a-zA-Z0-9/.%_~;:@-]{0,20}") {
            if let Ok(Route::Read(id)) = Route::classify("/STU3", &Method::GET, &format!("/STU3/DocumentReference/{tail}"), None) {
                prop_assert_eq!(id.as_str(), tail.as_str());
                prop_assert!(!tail.contains(['/', '%', '_', ';']) && tail != "." && tail != "..");
            }
        }
    }
}
