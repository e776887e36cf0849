//! The last answer of a connection: to a head that never reached the HTTP parser.

use std::time::SystemTime;

use http::StatusCode;

use super::screen::Violation;
use crate::nrl::{Format, Outcome};

/// Nothing of a refused head is believed, its wishes for a format neither: this is the API's default.
const FORMAT: Format = Format::Xml;

/// What a refused client is told: the rule, and where it was broken.
pub(super) struct Farewell {
    outcome: Outcome,
    id: String,
    diagnostics: String,
}

impl Farewell {
    pub(super) fn new(violation: Violation, id: &str) -> Self {
        Self {
            outcome: Outcome::of(violation.rule.reason()),
            id: id.to_owned(),
            diagnostics: violation.told(),
        }
    }

    pub(super) const fn status(&self) -> StatusCode {
        self.outcome.status
    }

    /// The answer's bytes. The method is the refused head's, as far as it is known.
    pub(super) fn render(&self, method: &str, now: SystemTime) -> Vec<u8> {
        let body = self.outcome.render(FORMAT, &self.id, &self.diagnostics);
        let status = self.outcome.status;
        let head = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
             X-Request-Id: {}\r\nConnection: close\r\nDate: {}\r\n\r\n",
            status.as_u16(),
            status.canonical_reason().unwrap_or_default(),
            FORMAT.content_type(),
            body.len(),
            self.id,
            httpdate::fmt_http_date(now),
        );
        // RFC 9110 section 9.3.2: no answer to HEAD has a body.
        let body = if method == "HEAD" { String::new() } else { body };
        [head, body].concat().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::screen::{Limits, Screen};

    fn farewell(bytes: &[u8]) -> Farewell {
        let limits = Limits {
            head: 1000,
            headers: 10,
            request_line: 100,
        };
        let violation = Screen::new(limits).feed(bytes, &mut Vec::new()).unwrap_err();
        Farewell::new(violation, "the-id")
    }

    #[test]
    fn the_answer_names_the_rule_and_ends_the_connection() {
        let answer = farewell(b"GET / HTTP/1.0\r\n").render("", SystemTime::UNIX_EPOCH);
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(
            head.starts_with("HTTP/1.1 505 HTTP Version Not Supported\r\n"),
            "{head}"
        );
        for line in [
            "Connection: close",
            "X-Request-Id: the-id",
            "Date: Thu, 01 Jan 1970 00:00:00 GMT",
        ] {
            assert!(head.lines().any(|one| one == line), "{line} is not in {head}");
        }
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
        assert!(body.contains("version at byte 6 of the head"), "{body}");
    }

    #[test]
    fn head_is_answered_without_a_body() {
        let answer = farewell(b"HEAD /.. HTTP/1.1\r\n").render("HEAD", SystemTime::UNIX_EPOCH);
        assert!(answer.ends_with(b"\r\n\r\n"));
        assert!(answer.starts_with(b"HTTP/1.1 400 Bad Request\r\n"));
    }
}
