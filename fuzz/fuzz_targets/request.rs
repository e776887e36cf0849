//! Any lines as method, target and headers: what is admitted is what a naive reading finds admissible, and is forwarded as it
//! was judged. Run by `cargo +nightly fuzz run request`.
#![no_main]

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use spinegate::authz::{Admitted, Check, Requester, Rules, Shadow, Subject, admit};
use spinegate::nrl::{
    Asid, ClaimRules, Fqdn, Interaction, InteractionId, OdsCode, Route, Search, Selector, sample_token,
};
use spinegate::registry::{Registry, Snapshot, Source, System};

const ASID: &str = "200000000205";
const READER: &str = "200000000206";
const GATEWAY: &str = "999999999999";
const BASE: &str = "/STU3";

static RULES: LazyLock<Rules> = LazyLock::new(|| Rules {
    gateway_asid: Asid::parse(GATEWAY).expect("an ASID"),
    base_path: BASE.to_owned(),
    claims: ClaimRules::default(),
    provider: None,
    double_encoded: false,
    hide_existence: false,
    shadow: Shadow::default(),
});

/// One may do everything, the other read, with a certificate of its own.
static REGISTRY: LazyLock<Registry> = LazyLock::new(|| {
    let ids = |interactions: &[Interaction]| {
        let ids = interactions.iter().flat_map(|interaction| interaction.ids());
        ids.map(|id| InteractionId::parse(id).expect("an ID")).collect()
    };
    let system = |asid: &str, interactions, fqdn: Option<&str>| System {
        asid: Asid::parse(asid).expect("an ASID"),
        ods: OdsCode::parse("RR8").expect("a code"),
        interactions,
        name: None,
        fqdn: fqdn.map(|fqdn| Fqdn::parse(fqdn).expect("a name")),
        active: true,
        shadow: false,
    };
    let systems = [
        system(ASID, ids(&Interaction::ALL), None),
        system(READER, ids(&[Interaction::Read]), Some("reader.example.nhs.uk")),
    ];
    let snapshot = Snapshot::lasting(Source::File, systems.into_iter().collect());
    Registry::new(vec![Arc::new(snapshot)])
});

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

// Lines: the method, the target, then headers. `Authorization: *read` and `*write` stand for tokens that pass.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let (Some(method), Some(target)) = (lines.next(), lines.next()) else {
        return;
    };
    let (Ok(method), Ok(uri)) = (Method::from_bytes(method), Uri::try_from(target)) else {
        return;
    };
    let mut headers = HeaderMap::new();
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let value = match value {
            b"*read" => token(Interaction::Read),
            b"*write" => token(Interaction::Create),
            value => HeaderValue::from_bytes(value).ok(),
        };
        if let (Ok(name), Some(value)) = (HeaderName::from_bytes(name), value) {
            headers.append(name, value);
        }
    }
    let requester = Requester::with_fqdn(Fqdn::parse("ssp.example.nhs.uk").expect("a name"));
    let admitted = admit(&RULES, &REGISTRY, &requester, &method, &uri, &headers, now());
    let route = Route::classify(RULES.dialect(), &method, uri.path(), uri.query());
    match admitted {
        Ok(admitted) => {
            let route = route.expect("what is admitted is classified");
            if let Admitted::Permitted(permit) = &admitted {
                assert_eq!(permit.method(), method);
                assert_eq!(Some(permit.path_and_query()), uri.path_and_query());
            }
            let subject = match &admitted {
                Admitted::Permitted(permit) => permit.subject(),
                Admitted::NeedsBody(awaiting) => awaiting.subject(),
                Admitted::NeedsStored(awaiting) => awaiting.subject(),
            };
            agree(&route, &uri, &headers, subject);
        }
        Err(denial) => {
            let check = denial.check().expect("a check denies");
            for other in Check::ALL {
                let passed = denial.subject().passed.contains(other);
                assert!(
                    passed == (other < check) || (other == Check::Body && !passed),
                    "{other:?} {check:?}"
                );
            }
        }
    }
});

fn token(interaction: Interaction) -> Option<HeaderValue> {
    let token = sample_token(interaction, ASID, "RR8", now());
    HeaderValue::from_str(&format!("Bearer {token}")).ok()
}

fn agree(route: &Route, uri: &Uri, headers: &HeaderMap, subject: &Subject) {
    let one = |name: &str| {
        let mut values = headers.get_all(name).iter();
        let value = values.next().expect(name);
        assert!(values.next().is_none(), "{name} is there twice");
        value.to_str().expect(name)
    };
    // The other one has a certificate of another name.
    assert_eq!(one("fromasid"), ASID);
    assert_eq!(one("toasid"), GATEWAY);
    assert!(one("authorization")[..7].eq_ignore_ascii_case("bearer "));
    assert_eq!(subject.interaction, Some(route.interaction()));
    assert!(uri.path().starts_with("/STU3/DocumentReference"));
    let query = uri.query().unwrap_or_default();
    let pairs: HashMap<String, String> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    assert_eq!(
        pairs.len(),
        query.split('&').filter(|pair| !pair.is_empty()).count(),
        "a parameter is there twice"
    );
    if let Route::Update(Selector::Identifier { subject, identifier })
    | Route::Delete(Selector::Identifier { subject, identifier }) = route
    {
        assert!(pairs["subject"].ends_with(&format!("/{}", subject.as_str())));
        assert_eq!(
            pairs["identifier"],
            format!("{}|{}", identifier.system, identifier.value)
        );
    }
    if let Some(id) = route.pointer() {
        let named = pairs.get("_id").cloned();
        let named = named.or_else(|| Some(uri.path().rsplit('/').next()?.to_owned()));
        assert_eq!(named, Some(id.to_string()));
    }
    if let Route::Search(Search::BySubject {
        subject, custodian, ..
    }) = route
    {
        let last = |name: &str| Some(pairs.get(name)?.rsplit('/').next()?.to_owned());
        assert_eq!(last("subject").as_deref(), Some(subject.as_str()));
        let code = last("custodian").map(|code| code.to_uppercase());
        assert_eq!(code, custodian.as_ref().map(ToString::to_string));
    }
}
