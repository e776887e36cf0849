//! A request in HTTP, and out of it. What is not as the table of routes has it is refused, and nothing is guessed.

use bytes::Bytes;
use form_urlencoded::{Serializer, parse};
use http::{HeaderValue, Uri, header};
use http_body_util::Full;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::{Map, Value};

use super::{
    Failure, FailureKind, Request,
    routes::{Kind, Method, Route},
};

/// The media type of requests and of single answers.
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// The media type of answers that are a JSON object a line.
pub(super) const JSON_LINES: HeaderValue = HeaderValue::from_static("application/jsonl");
/// The tag of [`Request`].
const TAG: &str = "verb";

/// Reads a request of a route, of which the path's parameters are known.
pub(super) fn read(
    route: &Route,
    captured: Vec<(&'static str, String)>,
    query: Option<&str>,
    body: &[u8],
) -> Result<Request, Failure> {
    let mut given = match route.method {
        Method::Post => {
            if query.is_some() {
                return Err(usage(
                    "a POST has no query",
                    "send what is in it as a JSON object, the body",
                ));
            }
            object(body)?
        }
        Method::Get | Method::Delete => {
            if !body.is_empty() {
                let message = format!("a {} has no body", route.method);
                return Err(usage(&message, "send what is in it as the query"));
            }
            from_query(route, query.unwrap_or_default())?
        }
    };
    for (name, value) in captured {
        let value = percent_decode_str(&value)
            .decode_utf8()
            .map_err(|_| usage("the path is not UTF-8", "percent-encode it"))?;
        given.insert(name.to_owned(), value.into());
    }
    for name in given.keys() {
        let mut known = route.parameters.iter().map(|one| one.name.split('.').next());
        if !known.any(|known| known == Some(name)) {
            return Err(unknown(route, name));
        }
    }
    given.insert(TAG.to_owned(), route.tag().into());
    serde_json::from_value(Value::Object(given)).map_err(|error| {
        let message = format!("`{}` is not asked so: {error}", route.verb);
        usage(&message, &format!("give {}", names(route)))
    })
}

fn object(body: &[u8]) -> Result<Map<String, Value>, Failure> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_slice(body).map_err(|error| {
        let message = format!("the body is not a JSON object: {error}");
        usage(&message, "send one, or no body where nothing need be said")
    })
}

fn from_query(route: &Route, query: &str) -> Result<Map<String, Value>, Failure> {
    let mut given = Map::new();
    for (name, text) in parse(query.as_bytes()) {
        // What is in the path is not in the query too.
        let in_path = route.path.contains(&format!("{{{name}}}"));
        let Some(parameter) = route.parameters.iter().find(|one| one.name == name && !in_path) else {
            return Err(unknown(route, &name));
        };
        let wrong = || {
            let message = format!("{name} is {text:?}");
            usage(&message, &format!("give it as {}", parameter.kind))
        };
        let value = match parameter.kind {
            Kind::Text => Value::from(text.as_ref()),
            Kind::Number => text.parse::<u64>().map_err(|_| wrong())?.into(),
            Kind::Flag => text.parse::<bool>().map_err(|_| wrong())?.into(),
            Kind::List | Kind::Object => return Err(wrong()),
        };
        if !put(&mut given, &name, value) {
            return Err(usage(&format!("{name} is given more than once"), "give it once"));
        }
    }
    Ok(given)
}

/// Puts a value in its place, unless something is there.
fn put(object: &mut Map<String, Value>, name: &str, value: Value) -> bool {
    match name.split_once('.') {
        None => object.insert(name.to_owned(), value).is_none(),
        Some((first, rest)) => object
            .entry(first)
            .or_insert_with(|| Map::new().into())
            .as_object_mut()
            .is_some_and(|inner| put(inner, rest, value)),
    }
}

/// What is given with a request, without what is not.
pub(crate) fn arguments(request: &Request) -> Result<Map<String, Value>, serde_json::Error> {
    let mut value = serde_json::to_value(request)?;
    drop_empty(&mut value);
    let mut arguments = match value {
        Value::Object(arguments) => arguments,
        _ => Map::new(),
    };
    arguments.remove(TAG);
    Ok(arguments)
}

fn drop_empty(value: &mut Value) {
    if let Value::Object(object) = value {
        object.values_mut().for_each(drop_empty);
        object.retain(|_, value| !value.is_null());
    }
}

/// Writes a request down.
pub(super) fn write(request: &Request) -> Result<http::Request<Full<Bytes>>, Box<dyn std::error::Error>> {
    let route = request.route();
    let mut arguments = arguments(request)?;
    let mut path = route.path.to_owned();
    for parameter in route.parameters {
        let place = format!("{{{}}}", parameter.name);
        if path.contains(&place) {
            let value = arguments.remove(parameter.name).unwrap_or_default();
            let value = utf8_percent_encode(value.as_str().unwrap_or_default(), NON_ALPHANUMERIC);
            path = path.replace(&place, &value.to_string());
        }
    }
    let mut body = Vec::new();
    if route.method == Method::Post {
        body = serde_json::to_vec(&arguments)?;
    } else if !arguments.is_empty() {
        let mut query = Serializer::new(String::new());
        append(&mut query, "", &arguments);
        path = path + "?" + &query.finish();
    }
    let mut written = http::Request::new(Full::from(body));
    *written.method_mut() = route.method.http();
    *written.uri_mut() = path.parse::<Uri>()?;
    let headers = written.headers_mut();
    headers.insert(header::HOST, HeaderValue::from_static("spinegate"));
    if route.method == Method::Post {
        headers.insert(header::CONTENT_TYPE, JSON);
    }
    Ok(written)
}

fn append(query: &mut Serializer<'_, String>, prefix: &str, object: &Map<String, Value>) {
    for (name, value) in object {
        let name = format!("{prefix}{name}");
        match value {
            Value::Object(inner) => append(query, &format!("{name}."), inner),
            Value::String(text) => {
                query.append_pair(&name, text);
            }
            other => {
                query.append_pair(&name, &other.to_string());
            }
        }
    }
}

fn unknown(route: &Route, name: &str) -> Failure {
    let message = format!("`{}` has no parameter {name:?}", route.verb);
    usage(&message, &format!("give {}", names(route)))
}

fn names(route: &Route) -> String {
    if route.parameters.is_empty() {
        return "nothing with it".to_owned();
    }
    let names: Vec<_> = route.parameters.iter().map(|one| one.name).collect();
    format!("{}; docs/control-api.md describes them", names.join(", "))
}

fn usage(message: &str, mend: &str) -> Failure {
    Failure::new(FailureKind::Usage, message, mend)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        config::SourceKind,
        control::{
            Addition, DescribedRequest, ErrorsWanted, EventsWanted, Guard, Question, Session, VerdictKind,
            routes::{Found, ROUTES, find},
        },
    };

    fn guard() -> Guard {
        Guard {
            force: true,
            session: Some(Session {
                source: "[2001:db8::1]:50000".parse().unwrap(),
                destination: "192.0.2.1:22".parse().unwrap(),
            }),
        }
    }

    /// One of each.
    fn requests() -> Vec<Request> {
        vec![
            Request::Status,
            Request::Stats,
            Request::Settings,
            Request::CrlStatus,
            Request::SourcesList,
            Request::SourcesAdd(Addition {
                cidr: "10.0.0.0/8".parse().unwrap(),
                name: "a & b = c".parse().unwrap(),
                kind: SourceKind::Proxy,
                services: vec!["tcp/443".parse().unwrap()],
                reply_ports: vec![53],
                ends_in: Some(60),
            }),
            Request::SourcesRemove {
                cidr: "2001:db8::/32".parse().unwrap(),
                guard: guard(),
            },
            Request::VerdictsList,
            Request::VerdictsAdd {
                source: "10.0.0.1".parse().unwrap(),
                kind: VerdictKind::Trust,
                ttl: None,
                guard: guard(),
            },
            Request::VerdictsRemove {
                source: "2001:db8::/33".parse().unwrap(),
            },
            Request::VerdictsClear { source: None },
            Request::Reload {
                guard: Guard::default(),
                confirm_within: Some(60),
            },
            Request::Confirm,
            Request::LogLevel,
            Request::SetLogLevel {
                filter: Some("debug".to_owned()),
            },
            Request::Attach,
            Request::Detach,
            Request::CrlFetch,
            Request::RegistryList {
                after: Some("1".to_owned()),
                limit: 7,
            },
            Request::RegistryShow {
                asid: "a/b?c{}#é%2F".to_owned(),
            },
            Request::RegistrySync {
                source: None,
                accept_shrink: true,
            },
            Request::Explain(Box::new(Question {
                described: Some(DescribedRequest {
                    headers: vec![("a".to_owned(), "b".to_owned())],
                    ..DescribedRequest::default()
                }),
                ..Question::default()
            })),
            Request::ExplainDecision { id: "..".to_owned() },
            Request::ExplainPackets {
                frames: vec!["AAAA".to_owned()],
            },
            Request::Events(EventsWanted {
                last: 3,
                follow: true,
                reason: Some("verdict_deny".to_owned()),
            }),
            Request::Errors(ErrorsWanted {
                last: 0,
                follow: false,
            }),
        ]
    }

    fn read_again(written: http::Request<Full<Bytes>>) -> Request {
        let (head, body) = written.into_parts();
        let Found::Route(route, captured) = find(&head.method, head.uri.path()) else {
            panic!("{} {}", head.method, head.uri);
        };
        let body = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(body.collect())
            .unwrap()
            .to_bytes();
        read(route, captured, head.uri.query(), &body).unwrap()
    }

    #[test]
    fn each_request_is_read_as_it_was_written() {
        for request in requests() {
            assert_eq!(read_again(write(&request).unwrap()), request);
        }
    }

    #[test]
    fn each_route_is_that_of_a_request_and_has_its_parameters_and_no_others() {
        let requests = requests();
        for route in ROUTES {
            let of_route = |request: &&Request| request.verb() == route.verb;
            let request = requests
                .iter()
                .find(of_route)
                .unwrap_or_else(|| panic!("{}", route.verb));
            let value = serde_json::to_value(request).unwrap();
            let mut fields: Vec<_> = value
                .as_object()
                .unwrap()
                .keys()
                .filter(|key| *key != TAG)
                .collect();
            let mut documented: Vec<_> = route
                .parameters
                .iter()
                .map(|one| one.name.split('.').next().unwrap())
                .collect();
            documented.dedup();
            documented.sort_unstable();
            fields.sort_unstable();
            // What is left out where it is not given.
            if route.verb != "events" {
                assert_eq!(fields, documented, "{}", route.verb);
            }
        }
        assert_eq!(requests.len(), ROUTES.len());
    }

    #[test]
    fn what_is_not_in_the_table_is_refused_by_name() {
        let refused = |verb: &str, query: Option<&str>, body: &str| {
            let route = ROUTES.iter().find(|route| route.verb == verb).unwrap();
            let failure = read(route, Vec::new(), query, body.as_bytes()).unwrap_err();
            assert_eq!(failure.kind, FailureKind::Usage);
            failure.to_string()
        };
        for (verb, query, body, said) in [
            (
                "status",
                Some("verbose=true"),
                "",
                "`status` has no parameter \"verbose\"; give nothing with it",
            ),
            (
                "status",
                None,
                "{}",
                "a GET has no body; send what is in it as the query",
            ),
            ("reload confirm", Some("x=1"), "", "a POST has no query"),
            (
                "events",
                Some("last=many"),
                "",
                "last is \"many\"; give it as number",
            ),
            (
                "events",
                Some("follow=yes"),
                "",
                "follow is \"yes\"; give it as true or false",
            ),
            (
                "events",
                Some("last=1&last=2"),
                "",
                "last is given more than once; give it once",
            ),
            (
                "sources remove",
                Some("cidr=10.0.0.0/8&guard=x"),
                "",
                "`sources remove` has no parameter \"guard\"",
            ),
            ("sources remove", None, "", "missing field `cidr`"),
            ("reload", None, "[]", "the body is not a JSON object"),
            (
                "reload",
                None,
                r#"{"verb":"detach"}"#,
                "`reload` has no parameter \"verb\"",
            ),
            (
                "reload",
                None,
                r#"{"guard":{"forced":true}}"#,
                "unknown field `forced`",
            ),
            (
                "sources add",
                None,
                r#"{"cidr":"10.0.0.1/8","name":"n","kind":"proxy"}"#,
                "`sources add` is not asked so",
            ),
        ] {
            let found = refused(verb, query, body);
            assert!(found.contains(said), "{verb}: {found}");
        }
    }

    proptest! {
        #[test]
        fn any_query_and_body_is_a_request_or_a_failure(which in 0..ROUTES.len(), query in "[a-z.=&%0-9]{0,40}", body in ".{0,60}") {
            let route = ROUTES[which];
            let _ = read(route, Vec::new(), Some(&query), &[]);
            let _ = read(route, Vec::new(), None, body.as_bytes());
        }
    }
}
