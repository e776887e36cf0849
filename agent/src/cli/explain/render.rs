//! Explanations for people.

use std::fmt::Write as _;

use serde_json::Value;

use super::super::{
    output::printable,
    table::{Table, Tone},
};
use crate::control::{Check, Explanation, PastDecision, Told};

/// What stands in a past decision's record, and what it is called.
const FACTS: [(&str, &str); 14] = [
    ("time", "/ts"),
    ("source", "/peer/ip"),
    ("certificate", "/certificate/fqdn"),
    ("subject", "/certificate/subject"),
    ("issuer", "/certificate/issuer"),
    ("serial", "/certificate/serial"),
    ("method", "/request/method"),
    ("path", "/request/path"),
    ("ASID", "/request/asid"),
    ("ODS code", "/request/ods"),
    ("interaction", "/request/interaction"),
    ("custodian", "/request/custodian"),
    ("status", "/request/status"),
    ("detail", "/detail"),
];

pub(super) fn explanation(explanation: &Explanation) -> String {
    format!("{}\n{}", checks(&explanation.checks), decision(explanation))
}

pub(super) fn past(past: &PastDecision) -> String {
    let mut facts = Table::untitled();
    let record = Value::Object(past.record.clone());
    for (name, pointer) in FACTS {
        let shown = match record.pointer(pointer) {
            Some(Value::String(text)) if !text.is_empty() => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            _ => continue,
        };
        facts.row([name, &shown]);
    }
    facts.row(["found in", &past.found_in]);
    let now = format!("{}: {}", past.now, past.now_because);
    let checks = match past.explanation.checks.as_slice() {
        [] => String::new(),
        made => format!("\n{}", checks(made)),
    };
    format!(
        "{}{checks}\n{}the same now  {}\n",
        facts.render(),
        decision(&past.explanation),
        printable(&now)
    )
}

fn checks(checks: &[Check]) -> String {
    let mut table = Table::titled(["CHECK", "OUTCOME", "REASON", "DETAIL"]).toned(1, tone);
    for check in checks {
        let outcome = check.outcome.as_str();
        table.row([
            check.check.as_str(),
            // What matters is to be seen at once.
            if outcome == "fail" { "FAIL" } else { outcome },
            check.reason.as_deref().unwrap_or("-"),
            check.detail.as_deref().unwrap_or_default(),
        ]);
    }
    table.render()
}

fn tone(outcome: &str) -> Tone {
    match outcome {
        "pass" => Tone::Good,
        "FAIL" => Tone::Bad,
        _ => Tone::Plain,
    }
}

fn decision(explanation: &Explanation) -> String {
    let mut text = explanation.decision.as_str().to_owned();
    if let Some(reason) = &explanation.reason {
        let _ = write!(text, ": {}", printable(reason));
    }
    if let Some(check) = &explanation.decided_by {
        let _ = write!(text, ", by the check {}", printable(check));
    }
    text.push('\n');
    let mut more = Table::untitled();
    let told = explanation.told.as_ref().map(answer);
    for (name, value) in [
        ("  meaning", &explanation.meaning),
        ("  mend", &explanation.mend),
        ("  the client is told", &told),
    ] {
        if let Some(value) = value {
            more.row([name, value]);
        }
    }
    text.push_str(&more.render());
    for note in &explanation.notes {
        let _ = writeln!(text, "note: {}", printable(note));
    }
    text
}

fn answer(told: &Told) -> String {
    let Some(status) = told.status else {
        return "a TLS alert, and no more".to_owned();
    };
    let parts = [told.code.as_deref(), told.diagnostics.as_deref()];
    let parts: Vec<&str> = parts.into_iter().flatten().collect();
    format!("{status} {}", parts.join(": "))
}
