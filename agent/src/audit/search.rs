//! Lines of the log that somebody looks for.

use std::{
    io::{self, BufRead},
    time::SystemTime,
};

use serde_json::Value;

/// What is looked for: all of what is given.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// `decision_id`, or the beginning of it.
    pub decision: Option<String>,
    /// `request.asid`
    pub asid: Option<String>,
    /// `request.id`
    pub trace: Option<String>,
    /// `reason`
    pub reason: Option<String>,
    /// Not before.
    pub since: Option<SystemTime>,
    /// Not after.
    pub until: Option<SystemTime>,
}

impl Query {
    /// Whether a line has all that is looked for.
    #[must_use]
    pub fn wants(&self, line: &Value) -> bool {
        let text = |pointer: &str| line.pointer(pointer).and_then(Value::as_str);
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
        };
        let begins = |wanted: &Option<String>, found: Option<&str>| {
            wanted
                .as_deref()
                .is_none_or(|wanted| found.is_some_and(|found| found.starts_with(wanted)))
        };
        let time = || text("/ts").and_then(|time| humantime::parse_rfc3339(time).ok());
        begins(&self.decision, text("/decision_id"))
            && is(&self.asid, text("/request/asid"))
            && is(&self.trace, text("/request/id"))
            && is(&self.reason, text("/reason"))
            && self
                .since
                .is_none_or(|since| time().is_some_and(|time| time >= since))
            && self
                .until
                .is_none_or(|until| time().is_some_and(|time| time <= until))
    }
}

/// Hands each line of a file that is wanted to `found`, until that says to stop. Lines that are not JSON are passed over:
/// finding those is for verification.
///
/// # Errors
/// If the file can't be read, or `found` fails.
pub fn search<E: From<io::Error>>(
    mut file: impl BufRead,
    query: &Query,
    mut found: impl FnMut(&Value) -> Result<std::ops::ControlFlow<()>, E>,
) -> Result<std::ops::ControlFlow<()>, E> {
    let mut text = Vec::new();
    loop {
        text.clear();
        if file.read_until(b'\n', &mut text)? == 0 {
            return Ok(std::ops::ControlFlow::Continue(()));
        }
        let Ok(line) = serde_json::from_slice::<Value>(&text) else {
            continue;
        };
        if query.wants(&line) && found(&line)?.is_break() {
            return Ok(std::ops::ControlFlow::Break(()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io, ops::ControlFlow, time::Duration};

    use super::*;

    const LINES: &str = r#"{"ts":"2026-01-01T00:00:00.000Z","decision_id":"aa-1","reason":"not_owner","request":{"id":"t1","asid":"200000000001"}}
{"ts":"2026-01-02T00:00:00.000Z","decision_id":"ab-2","request":{"id":"t2","asid":"200000000001"}}
torn
{"ts":"2026-01-03T00:00:00.000Z","decision_id":"b-3","request":{"id":"t2","asid":"200000000002"}}
{"decision_id":"c"}
"#;

    fn ids(query: &Query) -> Vec<String> {
        let mut ids = Vec::new();
        let end = search::<io::Error>(LINES.as_bytes(), query, |line| {
            ids.push(line["decision_id"].as_str().unwrap().to_owned());
            Ok(ControlFlow::Continue(()))
        });
        assert_eq!(end.unwrap(), ControlFlow::Continue(()));
        ids
    }

    #[test]
    fn a_line_has_all_that_is_looked_for() {
        let time = |day: u64| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600 + 86400 * day));
        let cases = [
            (Query::default(), vec!["aa-1", "ab-2", "b-3", "c"]),
            (
                Query {
                    decision: Some("a".to_owned()),
                    ..Query::default()
                },
                vec!["aa-1", "ab-2"],
            ),
            (
                Query {
                    asid: Some("200000000001".to_owned()),
                    trace: Some("t2".to_owned()),
                    ..Query::default()
                },
                vec!["ab-2"],
            ),
            (
                Query {
                    reason: Some("not_owner".to_owned()),
                    ..Query::default()
                },
                vec!["aa-1"],
            ),
            (
                Query {
                    since: time(1),
                    until: time(2),
                    ..Query::default()
                },
                vec!["ab-2", "b-3"],
            ),
        ];
        for (query, expected) in cases {
            assert_eq!(ids(&query), expected, "{query:?}");
        }
    }
}
