//! A request out of a file, taken in as one off a connection is: by the screen, then by the HTTP parser.

use std::{
    convert::Infallible,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use http::{Request, Response, request::Parts};
use http_body_util::{BodyExt as _, Empty};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use spinegate_common::Reason;

use super::{
    connection::parser,
    limits, new_screen,
    screen::{Limits, Place, Rule, Screen, Violation},
};
use crate::config;

/// A request as it came.
#[derive(Debug)]
pub struct Dissected {
    /// Its head.
    pub head: Parts,
    /// Its body, without chunks; or why there is none when everything before it is in order.
    pub body: Result<Bytes, Breach>,
    /// Bytes behind it, which are the next request's.
    pub further: usize,
}

/// Why bytes are no request, or no body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// The reason.
    pub reason: Reason,
    /// The rule, and where it is broken.
    pub detail: String,
    /// What the client is told.
    pub told: String,
    /// The offending byte, counted from 0 in the file.
    pub offset: Option<usize>,
}

/// Reads the first request.
///
/// # Errors
/// Its head is refused before anything is authorised.
pub async fn dissect(bytes: &[u8], settings: &config::Gateway) -> Result<Dissected, Breach> {
    let limits = limits(settings);
    let Screened {
        released,
        further,
        fault,
    } = screened(bytes, new_screen(settings))?;
    let (head, body) = parsed(&released, limits)
        .await
        .map_err(|fault| Breach::of(Reason::RequestMalformed, fault))?;
    let body = match (fault, body) {
        (Some(breach), _) => Err(breach),
        (None, Ok(body)) => Breach::too_large(body.len(), settings).map_or(Ok(body), Err),
        (None, Err(fault)) => Err(Breach::of(Reason::RequestMalformed, fault)),
    };
    Ok(Dissected { head, body, further })
}

impl Breach {
    /// A body that is too large, if it is.
    #[must_use]
    pub fn too_large(length: usize, settings: &config::Gateway) -> Option<Self> {
        let limit = settings.max_body;
        (length > limit).then(|| {
            Self::of(
                Reason::BodyTooLarge,
                format!("The body is larger than {limit} bytes"),
            )
        })
    }

    fn of(reason: Reason, told: String) -> Self {
        Self {
            reason,
            detail: told.clone(),
            told,
            offset: None,
        }
    }

    /// A rule that the byte at `at` shows to be broken, in a head or a chunk's line that begins at `begin`.
    fn by(violation: Violation, begin: usize, at: usize) -> Self {
        let offset = match violation.place {
            Place::Head | Place::ChunkLine => begin + violation.position,
            Place::ChunkEnd => at,
        };
        Self {
            reason: violation.rule.reason(),
            detail: format!("{violation}, which is byte {offset} of the file"),
            told: violation.told(),
            offset: Some(offset),
        }
    }

    /// The file ends where the gateway would wait for more, in vain.
    fn unfinished(screen: &Screen, length: usize) -> Self {
        let (reason, told, what) = if screen.is_within_body() {
            let reason = Reason::BodyIdle;
            (reason, reason.meaning(), "its head announces a longer body")
        } else {
            (
                Reason::HeadTooSlow,
                Rule::HeadTime.meaning(),
                "its head has no end: that is an empty line",
            )
        };
        Self {
            reason,
            detail: format!("the file ends at byte {length}, within the request: {what}"),
            told: told.to_owned(),
            offset: Some(length),
        }
    }
}

/// What the screen makes of the first request.
struct Screened {
    released: Vec<u8>,
    further: usize,
    /// What is wrong with its body.
    fault: Option<Breach>,
}

fn screened(bytes: &[u8], mut screen: Screen) -> Result<Screened, Breach> {
    let mut released = Vec::new();
    // Where the head begins.
    let mut begin = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if screen.head_length() == 0 {
            begin = at;
        }
        if let Err(violation) = screen.feed(std::slice::from_ref(byte), &mut released) {
            let begin = match violation.place {
                Place::ChunkLine => at.saturating_sub(violation.position),
                Place::Head | Place::ChunkEnd => begin,
            };
            return Screened::faulty(Breach::by(violation, begin, at), &screen, released);
        }
        if screen.heads() > 0 && !screen.is_within_body() {
            return Ok(Screened {
                released,
                further: bytes.len() - at - 1,
                fault: None,
            });
        }
    }
    Screened::faulty(Breach::unfinished(&screen, bytes.len()), &screen, released)
}

impl Screened {
    /// A fault in a body is told once the head was judged.
    fn faulty(breach: Breach, screen: &Screen, released: Vec<u8>) -> Result<Self, Breach> {
        if screen.heads() == 0 {
            return Err(breach);
        }
        Ok(Self {
            released,
            further: 0,
            fault: Some(breach),
        })
    }
}

/// What the connection's HTTP parser makes of it.
async fn parsed(released: &[u8], limits: Limits) -> Result<(Parts, Result<Bytes, String>), String> {
    let parsed = Mutex::new(None);
    let service = service_fn(|request: Request<Incoming>| {
        let parsed = &parsed;
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await;
            let body = body
                .map(http_body_util::Collected::to_bytes)
                .map_err(|error| format!("The body broke off: {error}"));
            *parsed.lock().unwrap_or_else(PoisonError::into_inner) = Some((head, body));
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let stream = tokio::io::join(released, tokio::io::sink());
    let ended = parser(limits)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    let fault = || match ended {
        Ok(()) => "no request was found".to_owned(),
        Err(error) => error.to_string(),
    };
    parsed
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .ok_or_else(fault)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::upstream::testing::settings;

    async fn breach(text: &str) -> Breach {
        match dissect(text.as_bytes(), &settings(&[])).await {
            Err(breach) => breach,
            Ok(Dissected { body, .. }) => body.expect_err(text),
        }
    }

    #[tokio::test]
    async fn a_request_is_taken_in_as_the_gateway_does_and_the_next_one_is_left() {
        let text = "\r\nPOST /a?b=c HTTP/1.1\r\nHost: a\r\nFromASID: 1\r\nTransfer-Encoding: chunked\r\n\r\n\
                    3\r\nabc\r\n2\r\nde\r\n0\r\n\r\nGET";
        let Dissected { head, body, further } = dissect(text.as_bytes(), &settings(&[])).await.unwrap();
        assert_eq!(
            (head.method.as_str(), head.uri.to_string().as_str()),
            ("POST", "/a?b=c")
        );
        assert_eq!(head.headers.get("fromasid").unwrap(), "1");
        assert_eq!((body.unwrap().as_ref(), further), (&b"abcde"[..], 3));
    }

    #[tokio::test]
    async fn a_broken_rule_is_found_at_its_byte_in_the_file() {
        for (text, rule, offset) in [
            ("GET / HTTP/1.1\nHost: a\n\n", "bare_lf", 14),
            ("\r\nGET / HTTP/1.0\r\nHost: a\r\n\r\n", "version", 8),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1;x\r\n",
                "chunk_extension",
                65,
            ),
        ] {
            let breach = breach(text).await;
            assert_eq!(breach.offset, Some(offset), "{breach:?}");
            assert!(breach.detail.starts_with(rule), "{breach:?}");
            assert!(breach.told.contains(rule), "{breach:?}");
        }
    }

    #[tokio::test]
    async fn a_file_that_ends_too_early_says_what_the_gateway_would_wait_for() {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n";
        assert_eq!(breach(head).await.reason, Reason::HeadTooSlow);
        assert_eq!(breach("").await.reason, Reason::HeadTooSlow);
        let short = breach(&format!("{head}\r\nabc")).await;
        assert_eq!(
            (short.reason, short.offset),
            (Reason::BodyIdle, Some(head.len() + 5))
        );
    }
}
