//! What whoever may only look does not get to see: what may hold a patient's data or a credential.

use serde_json::Value;

use super::Response;
use crate::mask::masked;

/// Takes it out of an answer.
///
/// The first bytes of a dropped frame may be those of a request that somebody has sent in the clear. Records of decisions
/// are masked when they are written, but `audit.mask` can be switched off.
pub(super) fn redact(response: &mut Response) {
    match response {
        Response::Event(report) => report.frame.clear(),
        Response::PastDecision(past) => {
            past.record.values_mut().for_each(mask);
            let explanation = &mut past.explanation;
            let checks = explanation
                .checks
                .iter_mut()
                .filter_map(|check| check.detail.as_mut());
            let told = explanation
                .told
                .as_mut()
                .and_then(|told| told.diagnostics.as_mut());
            for text in checks.chain(told).chain([&mut past.now_because]) {
                *text = masked(text);
            }
        }
        _ => {}
    }
}

fn mask(value: &mut Value) {
    match value {
        Value::String(text) => *text = masked(text),
        Value::Array(values) => values.iter_mut().for_each(mask),
        Value::Object(object) => object.values_mut().for_each(mask),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::control::{Check, DropReport, Explanation, Outcome, PastDecision, Told};

    #[test]
    fn frames_are_left_out_and_records_masked() {
        let mut event = Response::Event(DropReport {
            time: String::new(),
            reason: "verdict_deny".to_owned(),
            monitored: false,
            service: String::new(),
            interface: 1,
            interface_name: None,
            length: 60,
            source: None,
            packet: "tcp 192.0.2.1".to_owned(),
            frame: "AAAA".to_owned(),
        });
        redact(&mut event);
        assert!(
            matches!(event, Response::Event(report) if report.frame.is_empty() && !report.packet.is_empty())
        );

        let number = "patient 9876543210";
        let record = json!({ "detail": number, "request": { "path": "/x", "claims": ["Bearer eyJx.y.z"] } });
        let mut past = Response::PastDecision(Box::new(PastDecision {
            record: record.as_object().unwrap().clone(),
            explanation: Explanation {
                checks: vec![Check {
                    check: "c".to_owned(),
                    outcome: Outcome::Fail,
                    reason: None,
                    detail: Some(number.to_owned()),
                }],
                told: Some(Told {
                    diagnostics: Some(number.to_owned()),
                    ..Told::default()
                }),
                ..Explanation::default()
            },
            now_because: number.to_owned(),
            ..PastDecision::default()
        }));
        redact(&mut past);
        let text = serde_json::to_string(&past).unwrap();
        assert!(!text.contains("9876543210") && !text.contains("eyJ"), "{text}");
        assert_eq!(text.matches("[number]").count(), 4, "{text}");
    }
}
