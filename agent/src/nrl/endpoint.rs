//! A provider's record endpoint, and the headers with which the Spine Secure Proxy (SSP) asks it for records.

use http::{HeaderMap, Method};
use spinegate_common::Reason;
use uuid::Uuid;

use super::{Interaction, InteractionId, Refusal};

/// What a provider serves to the SSP (NRL "Retrieval via the SSP" page).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The paths under which it has records; `/` for all.
    pub paths: Vec<String>,
    /// Whether a record's URL may have a query.
    pub queries: bool,
    /// The spellings of the retrieval's ID that are taken.
    pub interactions: Vec<InteractionId>,
}

/// `Ssp-TraceID`: a UUID that the consumer makes for each request, as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceId(String);

impl Default for Endpoint {
    /// Every path, no query, either spelling.
    fn default() -> Self {
        let ids = Interaction::Retrieve.ids().map(InteractionId::parse);
        Self {
            paths: vec!["/".to_owned()],
            queries: false,
            interactions: ids.into_iter().flatten().collect(),
        }
    }
}

impl Endpoint {
    /// The only method: records are retrieved, and nothing else (HEAD is a request of its own).
    pub const METHODS: &'static str = "GET";

    /// Whether a request's line asks for a record.
    ///
    /// # Errors
    /// [`Reason::PathUnknown`], [`Reason::MethodUnknown`] or [`Reason::ParameterInvalid`], looked for in this
    /// order.
    pub fn classify(&self, method: &Method, path: &str, query: Option<&str>) -> Result<(), Refusal> {
        if !self.has(path) {
            let why = format!("The path {path} is not served here");
            return Err(Refusal::new(Reason::PathUnknown, why));
        }
        if method != Method::GET {
            let why = format!("The method {method} is not supported for the retrieval of a record");
            return Err(Refusal::new(Reason::MethodUnknown, why));
        }
        if query.is_some() && !self.queries {
            let why = "The URL of a record has no query here";
            return Err(Refusal::new(Reason::ParameterInvalid, why));
        }
        Ok(())
    }

    /// Whether records are under a path, segment by segment as it was sent. The screen has refused what decodes to
    /// another path than it seems.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        self.paths.iter().any(|prefix| {
            path.strip_prefix(prefix.trim_end_matches('/'))
                .is_some_and(|rest| rest.starts_with('/') || (rest.is_empty() && !path.is_empty()))
        })
    }

    /// `Ssp-InteractionID`: a spelling of the retrieval's ID that is taken here.
    ///
    /// # Errors
    /// [`Reason::InteractionMissing`] or [`Reason::InteractionMismatch`].
    pub fn interaction(&self, headers: &HeaderMap) -> Result<InteractionId, Refusal> {
        let text = once(headers, "Ssp-InteractionID", Reason::InteractionMissing)?;
        self.interactions
            .iter()
            .find(|id| id.as_str() == text)
            .cloned()
            .ok_or_else(|| {
                let why =
                    format!("Ssp-InteractionID ({text}) HTTP Header does not name the retrieval of a record");
                Refusal::new(Reason::InteractionMismatch, why)
            })
    }
}

impl TraceId {
    /// Takes the `Ssp-TraceID` of a request.
    ///
    /// # Errors
    /// [`Reason::TraceIdMissing`] or [`Reason::TraceIdInvalid`].
    pub fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let text = once(headers, "Ssp-TraceID", Reason::TraceIdMissing)?;
        // The parser knows forms without hyphens and in braces, too.
        if text.len() == 36 && Uuid::try_parse(&text).is_ok() {
            Ok(Self(text))
        } else {
            let why = format!("Ssp-TraceID ({text}) HTTP Header is not a UUID");
            Err(Refusal::new(Reason::TraceIdInvalid, why))
        }
    }

    /// The UUID as it was sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The value of a header that must be there once.
fn once(headers: &HeaderMap, name: &str, missing: Reason) -> Result<String, Refusal> {
    let mut values = headers.get_all(name).iter();
    let fault = match (values.next(), values.next()) {
        (Some(value), None) => return Ok(String::from_utf8_lossy(value.as_bytes()).into_owned()),
        (None, _) => "missing",
        (Some(_), Some(_)) => "sent more than once",
    };
    Err(Refusal::new(missing, format!("{name} HTTP Header is {fault}")))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue, Method};
    use proptest::prelude::*;
    use spinegate_common::Reason;

    use super::{Endpoint, TraceId};
    use crate::nrl::{Interaction, InteractionId};

    const TRACE: &str = "09a01679-2564-0fb4-5129-aecc81ea2706";

    fn endpoint(paths: &[&str]) -> Endpoint {
        Endpoint {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            ..Endpoint::default()
        }
    }

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(
                name.parse::<HeaderName>().unwrap(),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        headers
    }

    #[test]
    fn records_are_under_whole_segments_of_the_configured_paths() {
        let endpoint = endpoint(&["/RGD/Binary", "/nrl/"]);
        for path in [
            "/RGD/Binary",
            "/RGD/Binary/",
            "/RGD/Binary/1/2",
            "/nrl",
            "/nrl/a%20b",
        ] {
            assert!(endpoint.has(path), "{path}");
        }
        for path in [
            "",
            "/",
            "/RGD",
            "/RGD/Binaryx",
            "/rgd/Binary/1",
            "/RGD/Binary;x/1",
            "/%52GD/Binary/1",
            "//RGD/Binary/1",
            "/x/RGD/Binary/1",
            "RGD/Binary/1",
        ] {
            assert!(!endpoint.has(path), "{path}");
        }
        for path in ["/", "/a", "/a/b"] {
            assert!(Endpoint::default().has(path), "{path}");
        }
        assert!(!Endpoint::default().has("*") && !Endpoint::default().has(""));
    }

    #[test]
    fn a_record_is_got_and_nothing_else_and_only_queries_are_a_choice() {
        let reason = |endpoint: &Endpoint, method: Method, path: &str, query: Option<&str>| {
            endpoint
                .classify(&method, path, query)
                .map_err(|refusal| refusal.reason())
        };
        let strict = endpoint(&["/r"]);
        let lenient = Endpoint {
            queries: true,
            ..strict.clone()
        };
        assert_eq!(reason(&strict, Method::GET, "/r/1", None), Ok(()));
        for method in [
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
            Method::OPTIONS,
        ] {
            assert_eq!(
                reason(&lenient, method, "/r/1", Some("a")),
                Err(Reason::MethodUnknown)
            );
        }
        assert_eq!(
            reason(&strict, Method::POST, "/s", Some("a")),
            Err(Reason::PathUnknown)
        );
        for query in ["", "a=b"] {
            assert_eq!(
                reason(&strict, Method::GET, "/r/1", Some(query)),
                Err(Reason::ParameterInvalid)
            );
            assert_eq!(reason(&lenient, Method::GET, "/r/1", Some(query)), Ok(()));
        }
    }

    #[test]
    fn the_interaction_is_a_retrieval_in_a_spelling_that_is_taken() {
        let of = |endpoint: &Endpoint, fields: &[(&str, &str)]| {
            endpoint
                .interaction(&headers(fields))
                .map_err(|refusal| (refusal.reason(), refusal.diagnostics().to_owned()))
        };
        let name = "Ssp-InteractionID";
        let [declared, registered] = Interaction::Retrieve.ids();
        let both = Endpoint::default();
        for id in [declared, registered] {
            assert_eq!(of(&both, &[(name, id)]).unwrap().as_str(), id);
        }
        let one = Endpoint {
            interactions: vec![InteractionId::parse(declared).unwrap()],
            ..Endpoint::default()
        };
        assert!(of(&one, &[("ssp-interactionid", declared)]).is_ok());
        for id in [
            registered,
            "",
            "urn:x",
            Interaction::Read.ids()[0],
            &declared.to_uppercase(),
            &format!("{declared}s"),
        ] {
            let refused =
                format!("Ssp-InteractionID ({id}) HTTP Header does not name the retrieval of a record");
            assert_eq!(
                of(&one, &[(name, id)]),
                Err((Reason::InteractionMismatch, refused))
            );
        }
        for (fields, why) in [
            (&[] as &[_], "missing"),
            (&[(name, declared), (name, declared)], "sent more than once"),
        ] {
            let refused = format!("Ssp-InteractionID HTTP Header is {why}");
            assert_eq!(of(&both, fields), Err((Reason::InteractionMissing, refused)));
        }
    }

    #[test]
    fn a_trace_id_is_one_uuid_with_its_hyphens() {
        let of = |values: &[&str]| {
            let fields: Vec<_> = values.iter().map(|value| ("Ssp-TraceID", *value)).collect();
            TraceId::of(&headers(&fields)).map_err(|refusal| refusal.reason())
        };
        for good in [TRACE, &TRACE.to_uppercase()] {
            assert_eq!(of(&[good]).unwrap().as_str(), good);
        }
        assert_eq!(of(&[]), Err(Reason::TraceIdMissing));
        assert_eq!(of(&[TRACE, TRACE]), Err(Reason::TraceIdMissing));
        for bad in [
            "",
            "1",
            &TRACE.replace('-', ""),
            &format!("{{{TRACE}}}"),
            &format!("urn:uuid:{TRACE}"),
            &TRACE.replace('-', "_"),
            &TRACE.replace('a', "g"),
            &format!("{TRACE}, {TRACE}"),
            &"-".repeat(36),
            "é9a01679-2564-0fb4-5129-aecc81ea270",
        ] {
            assert_eq!(of(&[bad]), Err(Reason::TraceIdInvalid), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(path in "\\PC{0,40}", bytes in proptest::collection::vec(b'!'..=255_u8, 0..60)) {
            let _ = endpoint(&["/a"]).has(&path);
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let mut headers = HeaderMap::new();
                headers.insert("ssp-traceid", value.clone());
                headers.insert("ssp-interactionid", value);
                let _ = TraceId::of(&headers);
                let _ = Endpoint::default().interaction(&headers);
            }
        }
    }
}
