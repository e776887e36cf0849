//! What became of a stream.

use spinegate_tests::recorder::Heard;

/// What the upstream got of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// No whole request.
    Refused,
    /// One request, in other words than the client's.
    Rewritten,
    /// One request, as the client wrote it.
    Unchanged,
    /// More than one request, or one whose end the upstream can't tell.
    Ambiguous,
}

/// Fields that are between a client and its proxy, and that every proxy writes itself.
const OF_ONE_HOP: [&str; 2] = ["connection", "host"];

impl Outcome {
    pub(crate) fn of(stream: &str, heard: &[&Heard], faults: &[String]) -> Self {
        // What a proxy has cut off itself is no request for a sound server.
        if faults.iter().any(|fault| !fault.starts_with("a request in part")) {
            return Self::Ambiguous;
        }
        match heard {
            [] => Self::Refused,
            [one] if is_unchanged(stream, one) => Self::Unchanged,
            [_] => Self::Rewritten,
            _ => Self::Ambiguous,
        }
    }
}

/// Whether every line of the client's is in what was heard, and the body is the same. The case of names does not count.
fn is_unchanged(stream: &str, heard: &Heard) -> bool {
    let Some((head, body)) = stream.trim_start_matches("\r\n").split_once("\r\n\r\n") else {
        return false;
    };
    let passed: Vec<String> = heard.head.split("\r\n").map(folded).collect();
    let mut lines = head.split("\r\n").map(folded).filter(|line| {
        let name = line.split(':').next().unwrap_or_default();
        !OF_ONE_HOP.contains(&name)
    });
    lines.all(|line| passed.contains(&line)) && body.as_bytes() == heard.body
}

/// A line with the name of its field in lower case.
fn folded(line: &str) -> String {
    match line.split_once(':') {
        Some((name, value)) if !name.contains(' ') => format!("{}:{value}", name.to_ascii_lowercase()),
        _ => line.to_owned(),
    }
}
