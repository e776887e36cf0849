//! What a record locator's own OperationOutcome says, as far as the gateway acts on it.

use super::{
    Format,
    tree::{Document, Element, Fault},
};

/// Spine's codes in an OperationOutcome: each `issue.details.coding.code`. None in what is no such resource.
#[must_use]
pub fn spine_codes(format: Format, text: &[u8]) -> Vec<String> {
    let read = || -> Result<Vec<String>, Fault> {
        let document = Document::read(format, text)?;
        let outcome = document.root();
        if outcome.required_string("resourceType")? != "OperationOutcome" {
            return Ok(Vec::new());
        }
        let mut codes = Vec::new();
        for issue in outcome.objects("issue")? {
            let codings = issue.object("details")?.map(|details| details.objects("coding"));
            for coding in codings.transpose()?.unwrap_or_default() {
                codes.extend(code(&coding)?);
            }
        }
        Ok(codes)
    };
    read().unwrap_or_default()
}

fn code(coding: &Element<'_>) -> Result<Option<String>, Fault> {
    Ok(coding.string("code")?.map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::spine_codes;
    use crate::nrl::{Format, Outcome};
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn the_codes_are_those_of_an_operation_outcome_and_of_nothing_else() {
        let outcome = json!({"resourceType": "OperationOutcome", "issue": [
            {"severity": "error", "details": {"coding": [{"code": "BAD_REQUEST"}, {"display": "x"}]}},
            {"severity": "error"},
            {"severity": "error", "details": {"coding": [{"code": "NO_RECORD_FOUND"}]}},
        ]});
        assert_eq!(
            spine_codes(Format::Json, outcome.to_string().as_bytes()),
            ["BAD_REQUEST", "NO_RECORD_FOUND"]
        );
        let denied = Outcome::of(spinegate_common::Reason::PointerNotFound).render(Format::Xml, "1", "gone");
        assert_eq!(spine_codes(Format::Xml, denied.as_bytes()), ["NO_RECORD_FOUND"]);
        let mut other = outcome.clone();
        other["resourceType"] = "Bundle".into();
        let mut broken = outcome;
        broken["issue"][0]["details"]["coding"][0]["code"] = 1.into();
        for text in [
            other.to_string(),
            broken.to_string(),
            String::new(),
            "[]".into(),
            "<html/>".into(),
        ] {
            assert_eq!(
                spine_codes(Format::Json, text.as_bytes()),
                Vec::<String>::new(),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for format in [Format::Json, Format::Xml] {
                let _ = spine_codes(format, &bytes);
            }
        }
    }
}
