//! What the API has: a row for each resource and method. The server, the command line, the index at `/v1` and
//! `docs/control-api.md` go by the same table.

use std::fmt;

use serde::{Serialize, Serializer};

use super::{Request, Role};

/// The API's version. A new one is needed where a caller of the old one would be misunderstood: a resource or a parameter
/// gone or with another meaning. What is only added leaves it as it is.
pub const VERSION: u32 = 1;

/// What can be asked in one way.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path; what stands in braces is a parameter.
    pub path: &'static str,
    /// Who may.
    pub role: Role,
    /// The request's name, as in the audit log.
    pub verb: &'static str,
    /// What comes of it.
    pub does: &'static str,
    /// The key of the answer, or those of each line of it.
    pub answer: &'static [&'static str],
    /// What is given with it: in the query, or in the JSON object that a POST has for a body.
    pub parameters: &'static [Parameter],
}

/// Something that is given with a request.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Parameter {
    /// Its name; a dot leads into an object.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Whether it must be given.
    pub required: bool,
    /// What it says.
    pub meaning: &'static str,
}

/// What a parameter is in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A string.
    Text,
    /// An integer that is not negative.
    Number,
    /// `true` or `false`.
    Flag,
    /// A list.
    List,
    /// An object.
    Object,
}

/// The methods that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Has something done.
    Post,
    /// Takes something away.
    Delete,
}

impl Method {
    /// The method as HTTP has it.
    #[must_use]
    pub const fn http(self) -> http::Method {
        match self {
            Self::Get => http::Method::GET,
            Self::Post => http::Method::POST,
            Self::Delete => http::Method::DELETE,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.http().fmt(f)
    }
}

impl Serialize for Method {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "string",
            Self::Number => "number",
            Self::Flag => "true or false",
            Self::List => "list",
            Self::Object => "object",
        })
    }
}

impl Route {
    /// The tag that stands for the request in serde's eyes.
    pub(super) fn tag(&self) -> String {
        self.verb.replace(' ', "_")
    }

    /// Whether it belongs in the audit log.
    #[must_use]
    pub fn changes(&self) -> bool {
        self.role == Role::Write
    }
}

macro_rules! parameter {
    ($name:literal $kind:ident required $meaning:literal) => {
        Parameter {
            name: $name,
            kind: Kind::$kind,
            required: true,
            meaning: $meaning,
        }
    };
    ($name:literal $kind:ident optional $meaning:literal) => {
        Parameter {
            name: $name,
            kind: Kind::$kind,
            required: false,
            meaning: $meaning,
        }
    };
}

macro_rules! routes {
    ($($variant:ident = $method:ident $path:literal, $role:ident, $verb:literal, $does:literal, [$($answer:literal),+],
        [$($name:literal $kind:ident $need:ident $meaning:literal;)*];)+) => {
        /// Every route, in the order of the documentation.
        pub const ROUTES: &[&Route] = &[$(route!($method $path, $role, $verb, $does, [$($answer),+],
            [$($name $kind $need $meaning;)*])),+];

        impl Request {
            /// The way in which this is asked.
            #[must_use]
            pub const fn route(&self) -> &'static Route {
                match self {
                    $(Self::$variant { .. } => route!($method $path, $role, $verb, $does, [$($answer),+],
                        [$($name $kind $need $meaning;)*]),)+
                }
            }
        }
    };
}

macro_rules! route {
    ($method:ident $path:literal, $role:ident, $verb:literal, $does:literal, [$($answer:literal),+],
        [$($name:literal $kind:ident $need:ident $meaning:literal;)*]) => {
        &Route {
            method: Method::$method,
            path: $path,
            role: Role::$role,
            verb: $verb,
            does: $does,
            answer: &[$($answer),+],
            parameters: &[$(parameter!($name $kind $need $meaning)),*],
        }
    };
}

routes! {
    Status = Get "/v1/status", Read, "status", "How the agent is.", ["status"], [];
    Stats = Get "/v1/stats", Read, "stats", "What the filter and the gateway have counted.", ["stats"], [];
    SourcesList = Get "/v1/sources", Read, "sources list", "The allowlist.", ["sources"], [];
    SourcesAdd = Post "/v1/sources", Write, "sources add",
        "Puts an entry on the allowlist; it stays there over restarts.", ["done"], [
        "cidr" Text required "its addresses, as in `10.239.14.31/32`";
        "name" Text required "what to call it: 1 to 64 characters";
        "kind" Text required "`proxy` or `system`";
        "services" List optional "those that it may reach, as in `tcp/443`; none: all";
        "reply_ports" List optional "in scope `host`: the source ports from which it may answer";
        "ends_in" Number optional "after how many seconds the entry ends; none: never";
    ];
    SourcesRemove = Delete "/v1/sources", Write, "sources remove",
        "Takes an entry off the allowlist that was put there by an operator.", ["done"], [
        "cidr" Text required "its addresses, as the list has them";
        "guard.force" Flag optional "do it even if that cuts off the operator's own session or an address of `filter.control_plane`";
        "guard.session.source" Text optional "where the operator's session comes from: `address:port`";
        "guard.session.destination" Text optional "where it goes to: `address:port`";
    ];
    VerdictsList = Get "/v1/verdicts", Read, "verdicts list", "The verdicts in force.", ["verdicts"], [];
    VerdictsAdd = Post "/v1/verdicts", Write, "verdicts add", "Puts a verdict in force.", ["done"], [
        "source" Text required "an address or a network";
        "kind" Text required "`deny` or `trust`";
        "ttl" Number optional "for how many seconds; none: `verdict.ttl_max`";
        "guard" Object optional "what must not be cut off: `force`, `session.source`, `session.destination` as above";
    ];
    VerdictsRemove = Delete "/v1/verdicts", Write, "verdicts remove", "Lifts a verdict.", ["done"], [
        "source" Text required "the address or the network, as the list has it";
    ];
    VerdictsClear = Post "/v1/verdicts/clear", Write, "verdicts clear", "Lifts all verdicts.", ["done"], [
        "source" Text optional "only those on addresses and networks within this one";
    ];
    Reload = Post "/v1/reload", Write, "reload",
        "Reads the configuration again, and takes it over if it is sound.", ["done"], [
        "guard" Object optional "what must not be cut off: `force`, `session.source`, `session.destination` as above";
        "confirm_within" Number optional "go back to the old configuration after so many seconds, unless it is confirmed";
    ];
    Confirm = Post "/v1/reload/confirm", Write, "reload confirm", "Keeps the configuration that is on trial.", ["done"], [];
    LogLevel = Get "/v1/log-level", Read, "log_level", "What the log has in it.", ["log_level"], [];
    SetLogLevel = Post "/v1/log-level", Write, "log_level set",
        "Has the log have something else in it, until the agent starts again.", ["done"], [
        "filter" Text optional "a level, or by rooms, as in `spinegate::tls=debug,info`; none: what it began with";
    ];
    Attach = Post "/v1/attach", Write, "attach", "Attaches the filter to its interfaces again.", ["done"], [];
    Detach = Post "/v1/detach", Write, "detach",
        "Takes the filter off its interfaces: nothing is guarded there until it is attached again.", ["done"], [];
    Settings = Get "/v1/settings", Read, "settings",
        "The keys to which the configuration in force gives another value than their default, each with its value as TOML.", ["settings"], [];
    CrlStatus = Get "/v1/crls", Read, "crl status", "The CRLs in force.", ["crls"], [];
    CrlFetch = Post "/v1/crls/fetch", Write, "crl fetch",
        "Fetches all CRLs that are fetched at all, and asks OCSP responders again.", ["done"], [];
    RegistryList = Get "/v1/registry", Read, "registry list",
        "Systems of the registry, in the order of their ASIDs: a page.", ["systems"], [
        "after" Text optional "only those after this ASID: the last one of the page before";
        "limit" Number optional "at most so many, 1000 if nothing is said, and never more than 5000; the page after the last one is empty";
    ];
    RegistryShow = Get "/v1/registry/{asid}", Read, "registry show",
        "What each source of the registry says of an ASID, in the order of precedence.", ["versions"], [
        "asid" Text required "the ASID";
    ];
    RegistrySync = Post "/v1/registry/sync", Write, "registry sync", "Fetches sources of the registry.", ["done"], [
        "source" Text optional "the only one; none: all that are fetched";
        "accept_shrink" Flag optional "take over what is held back because so many systems are gone";
    ];
    Explain = Post "/v1/explain", Read, "explain",
        "What would become of a request. Nothing is sent.", ["explanation"], [
        "described" Object optional "the request: `asid`, `interaction`, `method`, `path`, `headers` (a list of pairs), `token`, `body` (base64)";
        "raw" Text optional "or its bytes as they are sent, in base64";
        "certificate" Text optional "the client's certificate and what was sent with it, in base64";
        "fqdn" Text optional "the name in the client's certificate";
        "source" Text optional "the client's address";
        "custodian" Text optional "the ODS code of the custodian of the pointer concerned";
        "stored" Text optional "what the locator has of that pointer, in base64";
        "at" Text optional "the time at which it is judged: RFC 3339; none: now";
    ];
    ExplainPackets = Post "/v1/explain/packets", Read, "explain packets",
        "What the loaded program would do with packets. Nothing is sent.", ["packets"], [
        "frames" List required "the frames, each in base64";
    ];
    ExplainDecision = Get "/v1/decisions/{id}", Read, "explain decision",
        "Why a connection or a request was decided as it was.", ["past_decision"], [
        "id" Text required "the decision's id: the `X-Request-Id` that the client has from its answer";
    ];
    Events = Get "/v1/events", Read, "events", "The sampled drops, a JSON object a line.", ["event", "missed", "end"], [
        "last" Number optional "how many of the latest come first, 100 if nothing is said";
        "follow" Flag optional "whether those that are still to happen come after them";
        "reason" Text optional "the code of the only reason that is wanted";
    ];
    Errors = Get "/v1/errors", Read, "errors", "The refused connections and requests, a JSON object a line.",
        ["refusal", "missed", "end"], [
        "last" Number optional "how many of the latest come first, 100 if nothing is said";
        "follow" Flag optional "whether those that are still to happen come after them";
    ];
}

/// What was found for a path.
pub(super) enum Found {
    /// A route, with the parameters in the path.
    Route(&'static Route, Vec<(&'static str, String)>),
    /// The path has other methods.
    Methods(Vec<Method>),
    /// There is no such path.
    Nothing,
}

/// Looks for a route.
pub(super) fn find(method: &http::Method, path: &str) -> Found {
    let mut methods = Vec::new();
    for route in ROUTES {
        let Some(captured) = matches(route.path, path) else {
            continue;
        };
        if route.method.http() == *method {
            return Found::Route(route, captured);
        }
        // A fixed path goes before one with a parameter in its place.
        if methods.is_empty() || captured.is_empty() {
            methods.push(route.method);
        }
    }
    if methods.is_empty() {
        Found::Nothing
    } else {
        Found::Methods(methods)
    }
}

/// The parameters in a path, if it is of this form.
fn matches(form: &'static str, path: &str) -> Option<Vec<(&'static str, String)>> {
    let mut captured = Vec::new();
    let mut given = path.split('/');
    for part in form.split('/') {
        let given = given.next()?;
        match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
            Some(_) if given.is_empty() => return None,
            Some(name) => captured.push((name, given.to_owned())),
            None if part == given => {}
            None => return None,
        }
    }
    given.next().is_none().then_some(captured)
}

impl Request {
    /// The request as a command line has it, for logs.
    #[must_use]
    pub const fn verb(&self) -> &'static str {
        self.route().verb
    }

    /// Whether it changes what the agent does, so that it belongs in the audit log.
    #[must_use]
    pub fn changes(&self) -> bool {
        self.route().changes()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_route_is_of_this_version_and_one_of_its_kind() {
        let mut ways = HashSet::new();
        for route in ROUTES {
            assert!(route.path.starts_with(&format!("/v{VERSION}/")), "{}", route.path);
            assert!(
                ways.insert((route.method.to_string(), route.path)),
                "{} {}",
                route.method,
                route.path
            );
            assert!(
                route.method != Method::Get || route.role == Role::Read,
                "{}",
                route.verb
            );
        }
    }

    #[test]
    fn paths_are_told_apart_and_other_methods_named() {
        let at = |method: http::Method, path: &str| match find(&method, path) {
            Found::Route(route, captured) => format!("{} {captured:?}", route.verb),
            Found::Methods(methods) => format!("{methods:?}"),
            Found::Nothing => "nothing".to_owned(),
        };
        let get = http::Method::GET;
        assert_eq!(at(get.clone(), "/v1/status"), "status []");
        assert_eq!(
            at(get.clone(), "/v1/registry/7"),
            r#"registry show [("asid", "7")]"#
        );
        assert_eq!(at(http::Method::POST, "/v1/registry/sync"), "registry sync []");
        assert_eq!(at(http::Method::PUT, "/v1/sources"), "[Get, Post, Delete]");
        for path in [
            "/v1/status/",
            "/v1//status",
            "/v2/status",
            "/v1/registry/",
            "/v1/decisions/a/b",
            "/",
        ] {
            assert_eq!(at(get.clone(), path), "nothing", "{path}");
        }
    }
}
