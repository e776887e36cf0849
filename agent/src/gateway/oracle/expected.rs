//! What the upstream has to get of a client's bytes, found without a connection: another parser takes them apart, and each
//! request goes through the checks by itself.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use super::{
    edge::{Edge, Heard, now},
    pieces::stored,
};
use crate::{
    authz::{self, Admitted, AwaitingStored, AwaitingTarget, Judged, Permit, Stored},
    nrl::{Format, Pointer, Selector},
};

/// The requests of a stream.
pub(super) struct Expected(Vec<Request>);

/// A request.
pub(super) struct Request {
    /// As the upstream has to get it, if it may get it.
    pub(super) permitted: Option<Heard>,
    /// Whether the client wants the connection to end with it.
    pub(super) closes: bool,
}

/// A request taken apart, with its body if that is whole.
struct Parsed {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Option<Vec<u8>>,
}

impl Expected {
    pub(super) fn of(edge: &Edge, stream: &[u8]) -> Self {
        let (_, mut screen, _) = edge.gateway.screening();
        let mut released = Vec::new();
        // Whatever rule was broken: what was released before it counts.
        let _ = screen.feed(stream, &mut released);
        let mut requests = Vec::new();
        let mut rest = released.as_slice();
        while let Some((parsed, behind)) = parse(rest) {
            requests.push(Request {
                permitted: judge(edge, &parsed).map(|permit| heard(&permit)),
                closes: parsed.headers.get_all("connection").iter().any(|value| {
                    let options = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
                    options.split(',').any(|option| option.trim() == "close")
                }),
            });
            rest = behind;
        }
        Self(requests)
    }

    pub(super) fn requests(&self) -> &[Request] {
        &self.0
    }
}

fn heard(permit: &Permit) -> Heard {
    let asid = permit.subject().asid.map(|asid| asid.to_string());
    Heard {
        method: permit.method().to_string(),
        target: permit.path_and_query().to_string(),
        asid: asid.unwrap_or_default(),
        body: permit.body().to_vec(),
    }
}

fn judge(edge: &Edge, parsed: &Parsed) -> Option<Permit> {
    let (policy, registry) = (edge.gateway.policy(), edge.gateway.registry.load());
    let admitted = authz::admit(
        policy.rules(),
        &registry,
        &(&edge.client).into(),
        &parsed.method,
        &parsed.uri,
        &parsed.headers,
        now(),
    );
    match admitted.ok()? {
        Admitted::Permitted(permit) => Some(permit),
        Admitted::NeedsStored(waiting) => judge_stored(waiting),
        Admitted::NeedsBody(waiting) => {
            let body = parsed.body.clone()?;
            if body.len() > policy.settings.max_body {
                return None;
            }
            match waiting.judge_body(Bytes::from(body)).ok()? {
                Judged::Permitted(permit) => Some(permit),
                Judged::NeedsStored(waiting) => judge_stored(waiting),
                Judged::NeedsTarget(waiting) => judge_target(waiting),
            }
        }
    }
}

fn judge_stored(waiting: AwaitingStored) -> Option<Permit> {
    let found = match waiting.selector() {
        Selector::Id(id) => pointer(id.as_str()),
        Selector::Identifier { .. } => pointers_of_patient(),
    };
    waiting.judge_stored(&found).ok()
}

fn judge_target(waiting: AwaitingTarget) -> Option<Permit> {
    let found = match waiting.target().id() {
        Some(id) => pointer(id.as_str()),
        None => pointers_of_patient(),
    };
    waiting.judge_target(&found).ok()
}

fn pointers_of_patient() -> Stored {
    let body = stored("/STU3/DocumentReference?subject=").expect("a patient's pointers");
    let pointers = Pointer::read_searchset(Format::Json, body.as_bytes()).expect("sound pointers");
    Stored::Pointers(pointers)
}

fn pointer(id: &str) -> Stored {
    let body = stored(&format!("/STU3/DocumentReference/{id}"));
    let pointer = body.map(|body| Pointer::read(Format::Json, body.as_bytes()).expect("a sound pointer"));
    Stored::Pointers(pointer.into_iter().collect())
}

/// The first request of bytes that the screen has released, and what is behind it.
fn parse(bytes: &[u8]) -> Option<(Parsed, &[u8])> {
    let mut headers = [httparse::EMPTY_HEADER; 256];
    let mut request = httparse::Request::new(&mut headers);
    let head = match request.parse(bytes) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) if bytes.is_empty() => return None,
        other => panic!("the screen has released {other:?}"),
    };
    let mut map = HeaderMap::new();
    for header in request.headers.iter() {
        map.append(
            header.name.parse::<HeaderName>().expect("a name"),
            HeaderValue::from_bytes(header.value).expect("a value"),
        );
    }
    let rest = bytes.get(head..).unwrap_or_default();
    let length = map.get("content-length").map(|value| {
        let digits = value.to_str().expect("digits");
        digits.parse::<usize>().expect("a length")
    });
    let (body, behind) = match length {
        _ if map.contains_key("transfer-encoding") => chunked(rest),
        Some(length) => match (rest.get(..length), rest.get(length..)) {
            (Some(body), Some(behind)) => (Some(body.to_vec()), behind),
            _ => (None, &[][..]),
        },
        None => (Some(Vec::new()), rest),
    };
    let parsed = Parsed {
        method: request.method?.parse().expect("a method"),
        uri: request.path?.parse().expect("a target"),
        headers: map,
        body,
    };
    Some((parsed, behind))
}

/// A body in chunks, if it is whole, and what is behind it.
fn chunked(bytes: &[u8]) -> (Option<Vec<u8>>, &[u8]) {
    let (mut body, mut rest) = (Vec::new(), bytes);
    loop {
        let Ok(httparse::Status::Complete((line, size))) = httparse::parse_chunk_size(rest) else {
            return (None, &[]);
        };
        let size = usize::try_from(size).expect("a size");
        let (Some(data), Some(end)) = (
            rest.get(line..line + size),
            rest.get(line + size..line + size + 2),
        ) else {
            return (None, &[]);
        };
        assert_eq!(end, b"\r\n");
        body.extend_from_slice(data);
        rest = rest.get(line + size + 2..).unwrap_or_default();
        if size == 0 {
            return (Some(body), rest);
        }
    }
}
