//! Requests by `curl`.

use std::fmt;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{Client, LIMIT, Message};
use crate::{command::Run, fhir, json::at, lab::PORT, netns::Family, pki::EDGE_FQDN};

/// What came of a request.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The gateway answered.
    Answered(Answer),
    /// `curl` got no answer.
    Unanswered {
        /// Its exit code. 7: refused; 28: too late; 35: no handshake; 56: broken off.
        code: i32,
        /// The last line that it said.
        words: String,
    },
}

/// An HTTP answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The fields, in order, with their names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Client<'_> {
    /// Sends a request over a connection of its own.
    ///
    /// # Errors
    /// `curl` can't be started, or printed something that is no answer.
    pub fn send(&self, message: &Message) -> Result<Outcome> {
        let finished = self
            .curl(message)
            .args(["--include", "--globoff"])
            .arg(message.url())
            .output()?;
        match finished.code {
            Some(0) => Ok(Outcome::Answered(Answer::parse(&finished.stdout)?)),
            code => {
                let words = finished
                    .stderr
                    .lines()
                    .last()
                    .unwrap_or("killed for taking too long");
                Ok(Outcome::Unanswered {
                    code: code.unwrap_or(28),
                    words: words.trim().to_owned(),
                })
            }
        }
    }

    /// Sends a request that has to be answered.
    ///
    /// # Errors
    /// It was not.
    pub fn answer(&self, message: &Message) -> Result<Answer> {
        match self.send(message)? {
            Outcome::Answered(answer) => Ok(answer),
            Outcome::Unanswered { code, words } => bail!("{message} was not answered (curl {code}): {words}"),
        }
    }

    /// Sends one request many times over one connection, and gives the answers' status codes and how many connections that
    /// took.
    ///
    /// # Errors
    /// As [`Client::send`], or not every request was answered.
    pub fn repeat(&self, message: &Message, times: usize) -> Result<(Vec<u16>, usize)> {
        let finished = self
            .curl(message)
            .args(["--output", "/dev/null", "--write-out", "%{http_code} %{num_connects}\n"])
            // A fragment is not sent: the addresses differ for curl alone.
            .arg(format!("{}#[1-{times}]", message.url()))
            .within(LIMIT * 3)
            .output()?;
        if finished.code != Some(0) {
            bail!("{message}, {times} times: {}", finished.stderr.trim());
        }
        let mut connections = 0;
        let mut codes = Vec::new();
        for line in finished.stdout.lines() {
            let (code, connects) = line
                .split_once(' ')
                .with_context(|| format!("curl printed {line:?}"))?;
            codes.push(code.parse()?);
            connections += connects.parse::<usize>()?;
        }
        Ok((codes, connections))
    }

    /// The command line that sends a request without a body, for a shell.
    #[must_use]
    pub fn curl_line(&self, message: &Message) -> String {
        self.curl(message).arg("--include").arg(message.url()).to_string()
    }

    fn curl(&self, message: &Message) -> Run {
        let address = match self.family {
            Family::V4 => self.gateway().ip().to_string(),
            Family::V6 => format!("[{}]", self.gateway().ip()),
        };
        let mut run = Run::inside(&self.namespace(), "curl")
            .args([
                "--silent",
                "--show-error",
                "--http1.1",
                "--noproxy",
                "*",
                "--path-as-is",
            ])
            .args([
                "--tlsv1.2",
                "--tls-max",
                "1.2",
                "--ciphers",
                "DHE-RSA-AES256-SHA256",
                "--cacert",
            ])
            .arg(&self.lab.pki().server_ca)
            .args(["--connect-to", &format!("{EDGE_FQDN}:{PORT}:{address}:{PORT}")])
            // It bounds the handshake, too.
            .args(["--connect-timeout", &format!("{:.3}", self.patience.as_secs_f32())])
            .args([
                "--max-time",
                &LIMIT.as_secs().to_string(),
                "--request",
                message.method(),
            ])
            .within(LIMIT * 2);
        if let Some(identity) = &self.identity {
            run = run
                .arg("--cert")
                .arg(&identity.cert)
                .arg("--key")
                .arg(&identity.key);
        }
        for (name, value) in message.headers() {
            run = run.arg("--header").arg(format!("{name}: {value}"));
        }
        if let Some(body) = message.body() {
            run = run
                .args(["--header", "Expect:", "--data-binary", "@-"])
                .stdin(body);
        }
        run
    }
}

impl Outcome {
    /// The answer's status code, if there is an answer.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Answered(answer) => Some(answer.status),
            Self::Unanswered { .. } => None,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(answer) => write!(f, "{answer}"),
            Self::Unanswered { code, words } => write!(f, "no answer (curl {code}: {words})"),
        }
    }
}

impl Answer {
    /// A field by its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(one, _)| one == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// It is none.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body).with_context(|| format!("the body is not JSON: {:?}", self.body))
    }

    /// The Spine code of an `OperationOutcome`; empty, if the body is none.
    #[must_use]
    pub fn spine_code(&self) -> String {
        self.issue("/details/coding/0/code")
    }

    /// The diagnostics of an `OperationOutcome`; empty, if the body is none.
    #[must_use]
    pub fn diagnostics(&self) -> String {
        self.issue("/diagnostics")
    }

    fn issue(&self, pointer: &str) -> String {
        let body = if self.body.starts_with('<') {
            fhir::from_xml(&self.body).unwrap_or_default()
        } else {
            serde_json::from_str(&self.body).unwrap_or_default()
        };
        at(&body, &format!("/issue/0{pointer}"))
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    fn parse(printed: &str) -> Result<Self> {
        let (head, body) = printed
            .split_once("\r\n\r\n")
            .context("curl printed no HTTP answer")?;
        let mut lines = head.lines();
        let status_line = lines.next().unwrap_or_default();
        let status = status_line
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .with_context(|| format!("no status code in {status_line:?}"))?;
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Ok(Self {
            status,
            headers,
            body: body.to_owned(),
        })
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.spine_code();
        if code.is_empty() {
            write!(f, "{}", self.status)
        } else {
            write!(f, "{} {code}", self.status)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_with_its_outcome() {
        let body =
            r#"{"issue":[{"details":{"coding":[{"code":"INVALID_RESOURCE"}]},"diagnostics":"Not yours."}]}"#;
        let answer = Answer::parse(&format!(
            "HTTP/1.1 400 Bad Request\r\nContent-Type: a/b\r\n\r\n{body}"
        ))
        .unwrap();
        assert_eq!(answer.to_string(), "400 INVALID_RESOURCE");
        assert_eq!(answer.header("content-type"), Some("a/b"));
        assert_eq!(answer.diagnostics(), "Not yours.");
        assert!(Answer::parse("curl: nothing").is_err());
    }
}
