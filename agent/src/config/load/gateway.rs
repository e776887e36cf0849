//! `[gateway]` and `[verdict]`

use std::{path::Path, time::Duration};

use crate::{
    config::{
        Compat, Gateway, Health, Profile, Provider, Requester, UpstreamTls, Verdicts,
        reader::{Absent, Example, Needed, Section},
        values::{self, Fault},
    },
    nrl::{ClaimRules, Endpoint, ErrorTable},
};

const DAY: Duration = Duration::from_hours(24);

pub(super) fn read(mut section: Section<'_>, folder: &Path) -> Option<Gateway> {
    let profile = section.or(
        "profile",
        Profile::Locator,
        values::choice(&[("locator", Profile::Locator), ("provider", Profile::Provider)]),
        "what stands behind the gateway: a record locator; a provider's record endpoint, with the Spine \
         Secure Proxy in front ([how](provider.md))",
    );
    let asid = section.required(
        "asid",
        Example("\"999999999999\""),
        values::asid(),
        "the ASID of the guarded service: what `toASID` must be, or `Ssp-To`",
    );
    let upstreams = section.one_or_list(
        Needed::ALWAYS,
        "upstream",
        Example("\"http://127.0.0.1:8080\""),
        values::http_origin(),
        "the guarded service, or several that hold the same; `https://` too",
    );
    let base_path = section.or(
        "base_path",
        "/STU3".to_owned(),
        values::base_path(),
        "what stands before `/DocumentReference` in the paths of both sides",
    );
    let tables = &[("nrl", ErrorTable::Nrl), ("spine-core", ErrorTable::SpineCore)];
    let errors = section.or(
        "errors",
        ErrorTable::Nrl,
        values::choice(tables),
        "whose codes answer a refusal, where the NRL and Spine Core disagree ([table](nrl.md#answers))",
    );
    let hosts = section.list(
        "hosts",
        values::host(),
        "the gateway's own names, without port: requests for any other host are refused, on connections \
         that begin from then on; empty: any will do",
    );
    let max_connections = section.or(
        "max_connections",
        4096,
        values::integer(1..=1_000_000),
        "connections open at once",
    );
    let max_requests = section.or(
        "max_requests",
        2048,
        values::integer(1..=1_000_000),
        "requests under way at once; more are answered with 503 and `Retry-After`",
    );
    let max_requests_per_client = section.or(
        "max_requests_per_client",
        256,
        values::integer(1..=1_000_000),
        "the same for one ASID under one certificate's name; more are answered with 429 and `Retry-After`",
    );
    let requests_per_connection = section.or(
        "requests_per_connection",
        10_000,
        values::integer(1..=1_000_000_000),
        "requests that a connection may bring; the answer to the last says `Connection: close`",
    );
    let age = values::duration(Duration::from_secs(1)..=DAY);
    let connection_age = section.or(
        "connection_age",
        Duration::from_hours(1),
        age,
        "how long a connection may be open, give or take a tenth; then it is closed between two requests",
    );
    let max_body = section.or(
        "max_body",
        1 << 20,
        values::integer(1..=64 << 20),
        "bytes of the largest body that is read to be checked",
    );
    let max_head = section.or(
        "max_head",
        32 << 10,
        values::integer(1 << 10..=1 << 20),
        "bytes of a request's head, its line ends among them; a larger one is refused ([rules](http.md))",
    );
    let max_headers = section.or(
        "max_headers",
        64,
        values::integer(1..=1000),
        "header lines of a request",
    );
    let max_request_line = section.or(
        "max_request_line",
        8 << 10,
        values::integer(64..=64 << 10),
        "bytes of a request line; not more than `gateway.max_head`",
    );
    let wait = || values::duration(Duration::from_millis(100)..=Duration::from_mins(10));
    let header_timeout = section.or(
        "header_timeout",
        Duration::from_secs(10),
        wait(),
        "a request's head that is not whole within this time of its first byte is refused",
    );
    let idle_timeout = section.or(
        "idle_timeout",
        Duration::from_mins(1),
        wait(),
        "a connection on which no request begins within this time is closed",
    );
    let body_timeout = section.or(
        "body_timeout",
        Duration::from_secs(30),
        wait(),
        "a request's body that takes longer is refused",
    );
    let body_idle_timeout = section.or(
        "body_idle_timeout",
        Duration::from_secs(10),
        wait(),
        "a body of which nothing comes for longer is refused",
    );
    let answer_timeout = section.or(
        "answer_timeout",
        Duration::from_secs(30),
        wait(),
        "a client that takes nothing of its answer for longer is cut off",
    );
    let connect_timeout = section.or(
        "connect_timeout",
        Duration::from_secs(5),
        wait(),
        "a connection to an upstream must be there within this time, TLS included",
    );
    let upstream_timeout = section.or(
        "upstream_timeout",
        Duration::from_secs(30),
        wait(),
        "the head of an upstream's answer must be there within this time, a second try included",
    );
    let upstream_idle_timeout = section.or(
        "upstream_idle_timeout",
        Duration::from_secs(30),
        wait(),
        "the longest pause within the body of an upstream's answer",
    );
    let upstream_max_requests = section.or(
        "upstream_max_requests",
        1024,
        values::integer(1..=1_000_000),
        "requests under way at one upstream at once; beyond them clients get 503",
    );
    let upstream_max_idle = section.or(
        "upstream_max_idle",
        64,
        values::integer(0..=65_536),
        "connections to one upstream that are kept for later requests",
    );
    let upstream_keep_alive = section.or(
        "upstream_keep_alive",
        Duration::from_secs(30),
        wait(),
        "how long they are kept; shorter than the upstream keeps its own is best",
    );
    let secure = upstreams
        .as_ref()
        .is_some_and(|upstreams| upstreams.iter().any(|uri| uri.scheme_str() == Some("https")));
    let upstream_tls = upstream_tls(section.section("upstream_tls"), folder, secure);
    let health = health(section.section("health"));
    let claims = claims(section.section("jwt"));
    let provider = provider(section.section("provider"), profile);
    let drain = values::duration(Duration::ZERO..=Duration::from_mins(10));
    let drain_timeout = section.or(
        "drain_timeout",
        Duration::from_secs(10),
        drain,
        "how long a stop waits for requests under way",
    );
    let ods = section.optional(
        "ods",
        Absent("none"),
        values::ods_code(),
        "the gateway's own organisation: with it, what the gateway itself asks of the upstream has a JWT \
         ([ownership](ownership.md))",
    );
    let hide_existence = section.or(
        "hide_existence",
        true,
        values::flag(),
        "whether a system is told of another's pointer that it does not exist ([ownership](ownership.md))",
    );
    let owner_cache = section.or(
        "owner_cache",
        1 << 16,
        values::integer(0..=1_000_000),
        "pointers whose owner is remembered ([ownership](ownership.md)); with 0 every one is fetched \
         each time",
    );
    let owner_age = values::duration(Duration::from_secs(1)..=DAY);
    let owner_cache_age = section.or(
        "owner_cache_age",
        Duration::from_hours(1),
        owner_age,
        "how long an owner is remembered",
    );
    let compat = compat(section.section("compat"));
    if let (Some(line), Some(head)) = (max_request_line, max_head)
        && line > head
    {
        let message = format!("{line} is more than gateway.max_head, {head}");
        section.fault(
            "max_request_line",
            Fault::new(message, "lower it, or raise max_head"),
        );
    }
    section.finish();

    Some(Gateway {
        profile: profile?,
        asid: asid?,
        upstreams: upstreams?,
        base_path: base_path?,
        errors: errors?,
        hosts: hosts?.into(),
        max_connections: max_connections?,
        max_requests: max_requests?,
        max_requests_per_client: max_requests_per_client?,
        requests_per_connection: requests_per_connection?,
        connection_age: connection_age?,
        body_idle_timeout: body_idle_timeout?,
        answer_timeout: answer_timeout?,
        max_body: max_body?,
        max_head: max_head?,
        max_headers: max_headers?,
        max_request_line: max_request_line?,
        header_timeout: header_timeout?,
        idle_timeout: idle_timeout?,
        body_timeout: body_timeout?,
        connect_timeout: connect_timeout?,
        upstream_timeout: upstream_timeout?,
        upstream_idle_timeout: upstream_idle_timeout?,
        upstream_max_requests: upstream_max_requests?,
        upstream_max_idle: upstream_max_idle?,
        upstream_keep_alive: upstream_keep_alive?,
        claims: claims?,
        provider: provider?,
        upstream_tls: upstream_tls?,
        health: health?,
        drain_timeout: drain_timeout?,
        ods: ods?,
        hide_existence: hide_existence?,
        owner_cache: owner_cache?,
        owner_cache_age: owner_cache_age?,
        compat: compat?,
    })
}

fn compat(mut section: Section<'_>) -> Option<Compat> {
    let double_encoded = section.or(
        "double_encoded",
        Compat::default().double_encoded,
        values::flag(),
        "whether conditional updates and deletes may be encoded as in the examples on the NRL's pages",
    );
    section.finish();

    Some(Compat {
        double_encoded: double_encoded?,
    })
}

fn claims(mut section: Section<'_>) -> Option<ClaimRules> {
    let default = ClaimRules::default();
    let span = values::duration(Duration::ZERO..=Duration::from_mins(5));
    let tolerance = section.or(
        "tolerance",
        default.tolerance,
        span,
        "how far a client's clock may be off where [its token](jwt.md) says when",
    );
    let unattended_reads = section.or(
        "unattended_reads",
        default.unattended_reads,
        values::flag(),
        "whether a system may read on nobody's behalf, which the NRL leaves to writing providers",
    );
    section.finish();

    Some(ClaimRules {
        tolerance: tolerance?,
        unattended_reads: unattended_reads?,
    })
}

fn provider(mut section: Section<'_>, profile: Option<Profile>) -> Option<Provider> {
    let default = Endpoint::default();
    let example = Example("[\"/records\"]");
    let paths = section.list_or(
        "paths",
        default.paths,
        example,
        values::endpoint_path(),
        "profile `provider`: the paths under which there are records, by whole segments",
    );
    let queries = section.or(
        "queries",
        default.queries,
        values::flag(),
        "whether a record's URL may have a query, which is then passed on as it is",
    );
    let example = Example("[\"urn:nhs:names:services:nrl:DocumentReference.content.read\"]");
    let interactions = section.list_or(
        "interactions",
        default.interactions,
        example,
        values::retrieval(),
        "which of the retrieval's IDs `Ssp-InteractionID` may be",
    );
    let words = &[("any", Requester::Any), ("registered", Requester::Registered)];
    let requester = section.or(
        "requester",
        Requester::default(),
        values::choice(words),
        "whom the Secure Proxy may pass on: anybody, the registry not being asked; who is registered for \
         the interaction",
    );
    if profile == Some(Profile::Locator) && section.is_given() {
        let message = "is of no use: gateway.profile is \"locator\"";
        let mend = "write gateway.profile = \"provider\", or take the table out";
        section.warning(Fault::new(message, mend));
    }
    section.finish();

    Some(Provider {
        endpoint: Endpoint {
            paths: paths?,
            queries: queries?,
            interactions: interactions?,
        },
        requester: requester?,
    })
}

/// `secure`: an upstream is `https`.
fn upstream_tls(mut section: Section<'_>, folder: &Path, secure: bool) -> Option<UpstreamTls> {
    let tls = outward_tls(
        &mut section,
        folder,
        Needed(secure, "where an upstream is `https://`"),
    );
    if !secure && section.is_given() {
        let message = "is of no use: no upstream is https";
        section.warning(Fault::new(
            message,
            "write https:// in gateway.upstream, or take the table out",
        ));
    }
    section.finish();
    tls
}

/// The keys of TLS to a server. `needed`: there is such a server.
pub(super) fn outward_tls(section: &mut Section<'_>, folder: &Path, needed: Needed) -> Option<UpstreamTls> {
    let ca = section.one_or_list(
        needed,
        "ca",
        Example("\"upstream-ca.pem\""),
        values::path(folder),
        "PEM: the only CAs under which the server's certificate may be",
    );
    let certificate = section.optional(
        "certificate",
        Absent("none"),
        values::path(folder),
        "PEM: the gateway's certificate for servers that ask for one, then its chain",
    );
    let private_key = section.optional(
        "private_key",
        Absent("none"),
        values::path(folder),
        "PEM: its key",
    );
    let server_name = section.optional(
        "server_name",
        Absent("the host of the URL"),
        values::fqdn(),
        "the name that the server's certificate must have, and that is asked for (SNI)",
    );
    match (&certificate, &private_key) {
        (Some(Some(_)), Some(None)) => section.fault(
            "private_key",
            Fault::new(
                "is missing, but there is a certificate",
                "name the certificate's key",
            ),
        ),
        (Some(None), Some(Some(_))) => section.fault(
            "certificate",
            Fault::new("is missing, but there is a key", "name the key's certificate"),
        ),
        _ => {}
    }
    Some(UpstreamTls {
        ca: ca?,
        certificate: certificate?,
        private_key: private_key?,
        server_name: server_name?,
    })
}

fn health(mut section: Section<'_>) -> Option<Health> {
    let times = || values::integer(1..=1000);
    let eject_after = section.or(
        "eject_after",
        3,
        times(),
        "failures in a row after which an upstream gets no requests for a while",
    );
    let span = || values::duration(Duration::from_millis(100)..=DAY);
    let eject_time = section.or(
        "eject_time",
        Duration::from_secs(1),
        span(),
        "how long at first; each further time twice as long, and all give or take a quarter",
    );
    let eject_time_max = section.or(
        "eject_time_max",
        Duration::from_mins(1),
        span(),
        "the longest; not shorter than `gateway.health.eject_time`",
    );
    if let (Some(first), Some(longest)) = (eject_time, eject_time_max)
        && first > longest
    {
        let shown = |span| humantime::format_duration(span).to_string();
        let (first, longest) = (shown(first), shown(longest));
        let message = format!("{longest} is shorter than gateway.health.eject_time, {first}");
        section.fault(
            "eject_time_max",
            Fault::new(message, "raise eject_time_max, or lower eject_time"),
        );
    }
    let path = section.optional(
        "path",
        Absent("none"),
        values::path_and_query(),
        "what every upstream is asked for all the time; without it none is asked",
    );
    let wait = || values::duration(Duration::from_millis(100)..=Duration::from_mins(10));
    let interval = section.or("interval", Duration::from_secs(5), wait(), "how often");
    let timeout = section.or(
        "timeout",
        Duration::from_secs(2),
        wait(),
        "an answer that takes longer is a bad one, and so is every status but 200 to 299",
    );
    let healthy_after = section.or(
        "healthy_after",
        2,
        times(),
        "good answers in a row after which an upstream is up",
    );
    let unhealthy_after = section.or(
        "unhealthy_after",
        3,
        times(),
        "bad answers in a row after which it is down",
    );
    section.finish();

    Some(Health {
        eject_after: eject_after?,
        eject_time: eject_time?,
        eject_time_max: eject_time_max?,
        path: path?,
        interval: interval?,
        timeout: timeout?,
        healthy_after: healthy_after?,
        unhealthy_after: unhealthy_after?,
    })
}

pub(super) fn verdicts(mut section: Section<'_>) -> Option<Verdicts> {
    let strikes = || values::integer(1..=1_000_000);
    let system_threshold = section.or(
        "system_threshold",
        10,
        strikes(),
        "strikes at which a source of kind `system` is denied",
    );
    let proxy_threshold = section.or(
        "proxy_threshold",
        100,
        strikes(),
        "strikes at which a source of kind `proxy` is denied",
    );
    let span = || values::duration(Duration::from_secs(1)..=DAY);
    let half_life = section.or(
        "half_life",
        Duration::from_mins(1),
        span(),
        "the time in which half of a source's strikes are forgotten",
    );
    let ttl = section.or(
        "ttl",
        Duration::from_mins(1),
        span(),
        "how long a source's first deny verdict lasts; each further one lasts twice as long",
    );
    let ttl_max = section.or(
        "ttl_max",
        Duration::from_hours(1),
        span(),
        "the longest that a verdict lasts; not shorter than `verdict.ttl`",
    );
    if let (Some(ttl), Some(ttl_max)) = (ttl, ttl_max)
        && ttl > ttl_max
    {
        let shown = |span| humantime::format_duration(span).to_string();
        let message = format!("{} is shorter than verdict.ttl, {}", shown(ttl_max), shown(ttl));
        section.fault("ttl_max", Fault::new(message, "raise ttl_max, or lower ttl"));
    }
    section.finish();

    Some(Verdicts {
        system_threshold: system_threshold?,
        proxy_threshold: proxy_threshold?,
        half_life: half_life?,
        ttl: ttl?,
        ttl_max: ttl_max?,
    })
}
