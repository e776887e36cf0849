//! OperationOutcome: how a refusal is answered, in JSON or XML.

use std::fmt::Write as _;

use http::StatusCode;
use serde::Serialize;
use spinegate_common::{Layer, Reason};

use super::Format;

const PROFILE: &str = "https://fhir.nhs.uk/STU3/StructureDefinition/Spine-OperationOutcome-1";
const CODE_SYSTEM: &str = "https://fhir.nhs.uk/STU3/CodeSystem/Spine-ErrorOrWarningCode-1";

/// The answer that a reason for refusal earns (NRL "Guidance for errors" page; Spine Core "Resources error
/// handling" page).
///
/// One profile and one code system serve every answer: the other ones that the NRL's table prints for 415 are
/// marked there as still to be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The HTTP status.
    pub status: StatusCode,
    /// `issue.code`, of FHIR's issue types.
    pub issue: &'static str,
    /// `issue.details.coding.code`, of Spine's codes.
    pub code: &'static str,
    /// `issue.details.coding.display`
    pub display: &'static str,
}

/// `gateway.errors`: whose codes answer, where the sources disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorTable {
    /// The NRL's pages and, where they are silent, its reference implementation.
    Nrl,
    /// Spine Core's, which has one code for whatever is wrong with an ASID.
    SpineCore,
}

impl Outcome {
    /// The answer for a reason, by a table.
    #[must_use]
    pub fn by(table: ErrorTable, reason: Reason) -> Self {
        match (table, reason) {
            (
                ErrorTable::SpineCore,
                Reason::AsidUnknown
                | Reason::AsidInactive
                | Reason::AsidFqdnMismatch
                | Reason::InteractionNotAllowed,
            ) => Self {
                status: StatusCode::FORBIDDEN,
                issue: "forbidden",
                code: "ASID_CHECK_FAILED",
                display: "The sender or receiver's ASID is not authorised for this interaction",
            },
            _ => Self::of(reason),
        }
    }

    /// The answer for a reason by the NRL's table; for those that are not of an ASID it is that of both.
    #[must_use]
    pub fn of(reason: Reason) -> Self {
        let (status, issue, code, display) = match reason {
            Reason::RequestMalformed
            | Reason::FramingAmbiguous
            | Reason::TargetRefused
            | Reason::HostInvalid
            | Reason::HeaderLookalike
            | Reason::UpgradeRefused
            | Reason::BodyMalformed => invalid_message(StatusCode::BAD_REQUEST, "value"),
            Reason::HeadTooLarge | Reason::TooManyHeaders => {
                invalid_message(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "too-long")
            }
            Reason::RequestLineTooLong => invalid_message(StatusCode::URI_TOO_LONG, "too-long"),
            Reason::HeadTooSlow => invalid_message(StatusCode::REQUEST_TIMEOUT, "timeout"),
            Reason::TransferCodingUnknown | Reason::MethodRefused => {
                invalid_message(StatusCode::NOT_IMPLEMENTED, "not-supported")
            }
            Reason::VersionUnsupported => {
                invalid_message(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "not-supported")
            }
            Reason::ExpectationUnknown => invalid_message(StatusCode::EXPECTATION_FAILED, "not-supported"),
            Reason::PathUnknown => (StatusCode::NOT_FOUND, "not-found", "BAD_REQUEST", "Bad request"),
            Reason::MethodUnknown => (
                StatusCode::METHOD_NOT_ALLOWED,
                "not-supported",
                "BAD_REQUEST",
                "Bad request",
            ),
            Reason::ParameterInvalid => (
                StatusCode::BAD_REQUEST,
                "invalid",
                "INVALID_PARAMETER",
                "Invalid parameter",
            ),
            Reason::FromAsidMissing
            | Reason::FromAsidInvalid
            | Reason::ToAsidMissing
            | Reason::ToAsidInvalid
            | Reason::InteractionMissing
            | Reason::InteractionMismatch
            | Reason::TraceIdMissing
            | Reason::TraceIdInvalid
            | Reason::AsidUnknown => header_fault("invalid"),
            Reason::JwtMissing
            | Reason::JwtInvalid
            | Reason::JwtClaimInvalid
            | Reason::JwtAsidMismatch
            | Reason::JwtOdsMismatch => header_fault("structure"),
            Reason::MediaTypeUnsupported => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "invalid",
                "UNSUPPORTED_MEDIA_TYPE",
                "Unsupported Media Type",
            ),
            Reason::BodyTooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "too-long",
                "BAD_REQUEST",
                "Bad request",
            ),
            Reason::BodyTimeout | Reason::BodyIdle | Reason::AnswerStalled => (
                StatusCode::REQUEST_TIMEOUT,
                "timeout",
                "BAD_REQUEST",
                "Bad request",
            ),
            Reason::BodyInvalid => resource_fault("Resource is invalid"),
            Reason::NhsNumberInvalid => (
                StatusCode::BAD_REQUEST,
                "invalid",
                "INVALID_NHS_NUMBER",
                "Invalid NHS number",
            ),
            Reason::OrganisationNotFound => (
                StatusCode::BAD_REQUEST,
                "not-found",
                "ORGANISATION_NOT_FOUND",
                "Organisation not found",
            ),
            Reason::StatusNotCurrent => (StatusCode::BAD_REQUEST, "invalid", "BAD_REQUEST", "Bad request"),
            Reason::NotOwner => resource_fault("Resource is invalid : fromASID"),
            Reason::TargetNotOwner | Reason::TargetPatientMismatch | Reason::TargetNotFound => {
                resource_fault("Resource is invalid : relatesTo.target")
            }
            Reason::PointerNotFound | Reason::PointerNotCurrent => (
                StatusCode::NOT_FOUND,
                "not-found",
                "NO_RECORD_FOUND",
                "No record found",
            ),
            Reason::PointerAmbiguous | Reason::VersionMismatch | Reason::PointerChanged => (
                StatusCode::PRECONDITION_FAILED,
                "conflict",
                "BAD_REQUEST",
                "Bad request",
            ),
            Reason::AsidFqdnMismatch => access_denied(StatusCode::UNAUTHORIZED),
            Reason::AuditFailed => server_fault(StatusCode::INTERNAL_SERVER_ERROR, "exception"),
            Reason::UpstreamTimeout | Reason::UpstreamStalled => {
                server_fault(StatusCode::GATEWAY_TIMEOUT, "timeout")
            }
            Reason::UpstreamUnreachable | Reason::UpstreamReset => {
                server_fault(StatusCode::BAD_GATEWAY, "transient")
            }
            Reason::UpstreamInvalid | Reason::UpstreamTls | Reason::UpstreamFraming => {
                server_fault(StatusCode::BAD_GATEWAY, "exception")
            }
            Reason::ClientOverloaded => server_fault(StatusCode::TOO_MANY_REQUESTS, "throttled"),
            Reason::ConnectionLimit | Reason::Overloaded | Reason::UpstreamOverloaded => {
                server_fault(StatusCode::SERVICE_UNAVAILABLE, "throttled")
            }
            _ if matches!(reason.layer(), Layer::Handshake | Layer::Certificate) => (
                StatusCode::FORBIDDEN,
                "forbidden",
                "ACCESS_DENIED_SSL",
                "SSL Protocol or Cipher requirements not met",
            ),
            // AsidInactive, InteractionNotAllowed, and whatever else is refused without an answer of its own.
            _ => access_denied(StatusCode::FORBIDDEN),
        };
        Self {
            status,
            issue,
            code,
            display,
        }
    }

    /// The resource as text. `id` is the decision's, so that a support call leads to the audit record.
    #[must_use]
    pub fn render(&self, format: Format, id: &str, diagnostics: &str) -> String {
        match format {
            Format::Json => self.json(id, diagnostics),
            Format::Xml => self.xml(id, diagnostics),
        }
    }

    fn json(&self, id: &str, diagnostics: &str) -> String {
        let resource = Resource {
            resource_type: "OperationOutcome",
            id,
            meta: Meta { profile: [PROFILE] },
            issue: [Issue {
                severity: "error",
                code: self.issue,
                details: Details {
                    coding: [Coding {
                        system: CODE_SYSTEM,
                        code: self.code,
                        display: self.display,
                    }],
                },
                diagnostics,
            }],
        };
        // Strings and arrays of them always serialize; an empty body would still be a refusal.
        serde_json::to_string(&resource).unwrap_or_default()
    }

    /// The order of elements is that of FHIR's schema.
    fn xml(&self, id: &str, diagnostics: &str) -> String {
        let mut xml = String::from(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<OperationOutcome xmlns=\"http://hl7.org/fhir\">",
        );
        let mut element = |before: &str, name: &str, value: &str, after: &str| {
            let _ = write!(xml, "{before}<{name} value=\"{}\"/>{after}", escaped(value));
        };
        element("", "id", id, "");
        element("<meta>", "profile", PROFILE, "</meta>");
        element("<issue>", "severity", "error", "");
        element("", "code", self.issue, "");
        element("<details><coding>", "system", CODE_SYSTEM, "");
        element("", "code", self.code, "");
        element("", "display", self.display, "</coding></details>");
        element("", "diagnostics", diagnostics, "</issue>");
        xml.push_str("</OperationOutcome>");
        xml
    }
}

type Parts = (StatusCode, &'static str, &'static str, &'static str);

fn invalid_message(status: StatusCode, issue: &'static str) -> Parts {
    (
        status,
        issue,
        "INVALID_REQUEST_MESSAGE",
        "Invalid Request Message",
    )
}

fn header_fault(issue: &'static str) -> Parts {
    let display = "There is a required header missing or invalid";
    (
        StatusCode::BAD_REQUEST,
        issue,
        "MISSING_OR_INVALID_HEADER",
        display,
    )
}

fn resource_fault(display: &'static str) -> Parts {
    (StatusCode::BAD_REQUEST, "invalid", "INVALID_RESOURCE", display)
}

fn access_denied(status: StatusCode) -> Parts {
    (
        status,
        "forbidden",
        "ACCESS_DENIED",
        "Access has been denied to process this request",
    )
}

fn server_fault(status: StatusCode, issue: &'static str) -> Parts {
    (
        status,
        issue,
        "INTERNAL_SERVER_ERROR",
        "Unexpected internal server error",
    )
}

/// A text as the value of an XML attribute (XML 1.0 sections 2.2 and 2.4): what XML can't hold becomes U+FFFD.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\t' | '\n' | '\r' => {
                let _ = write!(escaped, "&#{};", u32::from(c));
            }
            '\0'..'\u{20}' | '\u{fffe}' | '\u{ffff}' => escaped.push(char::REPLACEMENT_CHARACTER),
            other => escaped.push(other),
        }
    }
    escaped
}

#[derive(Serialize)]
struct Resource<'a> {
    #[serde(rename = "resourceType")]
    resource_type: &'static str,
    id: &'a str,
    meta: Meta,
    issue: [Issue<'a>; 1],
}

#[derive(Serialize)]
struct Meta {
    profile: [&'static str; 1],
}

#[derive(Serialize)]
struct Issue<'a> {
    severity: &'static str,
    code: &'static str,
    details: Details,
    diagnostics: &'a str,
}

#[derive(Serialize)]
struct Details {
    coding: [Coding; 1],
}

#[derive(Serialize)]
struct Coding {
    system: &'static str,
    code: &'static str,
    display: &'static str,
}

#[cfg(test)]
mod tests {
    use super::{ErrorTable, Format, Outcome, escaped};
    use crate::written;
    use proptest::prelude::*;
    use spinegate_common::{Layer, Reason};

    /// The rows of the published table: reason, status, issue code, Spine code, display.
    const TABLE: &[(Reason, u16, &str, &str, &str)] = {
        use Reason::*;
        const HEADER: &str = "There is a required header missing or invalid";
        const DENIED: &str = "Access has been denied to process this request";
        const TARGET: &str = "Resource is invalid : relatesTo.target";
        const MESSAGE: &str = "Invalid Request Message";
        const SERVER: &str = "Unexpected internal server error";
        &[
            (
                RequestMalformed,
                400,
                "value",
                "INVALID_REQUEST_MESSAGE",
                "Invalid Request Message",
            ),
            (FramingAmbiguous, 400, "value", "INVALID_REQUEST_MESSAGE", MESSAGE),
            (TargetRefused, 400, "value", "INVALID_REQUEST_MESSAGE", MESSAGE),
            (HostInvalid, 400, "value", "INVALID_REQUEST_MESSAGE", MESSAGE),
            (HeaderLookalike, 400, "value", "INVALID_REQUEST_MESSAGE", MESSAGE),
            (UpgradeRefused, 400, "value", "INVALID_REQUEST_MESSAGE", MESSAGE),
            (HeadTooLarge, 431, "too-long", "INVALID_REQUEST_MESSAGE", MESSAGE),
            (
                TooManyHeaders,
                431,
                "too-long",
                "INVALID_REQUEST_MESSAGE",
                MESSAGE,
            ),
            (
                RequestLineTooLong,
                414,
                "too-long",
                "INVALID_REQUEST_MESSAGE",
                MESSAGE,
            ),
            (HeadTooSlow, 408, "timeout", "INVALID_REQUEST_MESSAGE", MESSAGE),
            (
                TransferCodingUnknown,
                501,
                "not-supported",
                "INVALID_REQUEST_MESSAGE",
                MESSAGE,
            ),
            (
                MethodRefused,
                501,
                "not-supported",
                "INVALID_REQUEST_MESSAGE",
                MESSAGE,
            ),
            (
                VersionUnsupported,
                505,
                "not-supported",
                "INVALID_REQUEST_MESSAGE",
                MESSAGE,
            ),
            (
                ExpectationUnknown,
                417,
                "not-supported",
                "INVALID_REQUEST_MESSAGE",
                MESSAGE,
            ),
            (PathUnknown, 404, "not-found", "BAD_REQUEST", "Bad request"),
            (MethodUnknown, 405, "not-supported", "BAD_REQUEST", "Bad request"),
            (
                ParameterInvalid,
                400,
                "invalid",
                "INVALID_PARAMETER",
                "Invalid parameter",
            ),
            (
                FromAsidMissing,
                400,
                "invalid",
                "MISSING_OR_INVALID_HEADER",
                HEADER,
            ),
            (
                FromAsidInvalid,
                400,
                "invalid",
                "MISSING_OR_INVALID_HEADER",
                HEADER,
            ),
            (ToAsidMissing, 400, "invalid", "MISSING_OR_INVALID_HEADER", HEADER),
            (ToAsidInvalid, 400, "invalid", "MISSING_OR_INVALID_HEADER", HEADER),
            (
                InteractionMismatch,
                400,
                "invalid",
                "MISSING_OR_INVALID_HEADER",
                HEADER,
            ),
            (
                InteractionMissing,
                400,
                "invalid",
                "MISSING_OR_INVALID_HEADER",
                HEADER,
            ),
            (
                TraceIdMissing,
                400,
                "invalid",
                "MISSING_OR_INVALID_HEADER",
                HEADER,
            ),
            (
                TraceIdInvalid,
                400,
                "invalid",
                "MISSING_OR_INVALID_HEADER",
                HEADER,
            ),
            (JwtMissing, 400, "structure", "MISSING_OR_INVALID_HEADER", HEADER),
            (JwtInvalid, 400, "structure", "MISSING_OR_INVALID_HEADER", HEADER),
            (
                JwtClaimInvalid,
                400,
                "structure",
                "MISSING_OR_INVALID_HEADER",
                HEADER,
            ),
            (
                MediaTypeUnsupported,
                415,
                "invalid",
                "UNSUPPORTED_MEDIA_TYPE",
                "Unsupported Media Type",
            ),
            (BodyTooLarge, 413, "too-long", "BAD_REQUEST", "Bad request"),
            (BodyTimeout, 408, "timeout", "BAD_REQUEST", "Bad request"),
            (
                BodyInvalid,
                400,
                "invalid",
                "INVALID_RESOURCE",
                "Resource is invalid",
            ),
            (BodyMalformed, 400, "value", "INVALID_REQUEST_MESSAGE", MESSAGE),
            (
                NhsNumberInvalid,
                400,
                "invalid",
                "INVALID_NHS_NUMBER",
                "Invalid NHS number",
            ),
            (
                OrganisationNotFound,
                400,
                "not-found",
                "ORGANISATION_NOT_FOUND",
                "Organisation not found",
            ),
            (StatusNotCurrent, 400, "invalid", "BAD_REQUEST", "Bad request"),
            (AsidUnknown, 400, "invalid", "MISSING_OR_INVALID_HEADER", HEADER),
            (AsidInactive, 403, "forbidden", "ACCESS_DENIED", DENIED),
            (AsidFqdnMismatch, 401, "forbidden", "ACCESS_DENIED", DENIED),
            (
                JwtAsidMismatch,
                400,
                "structure",
                "MISSING_OR_INVALID_HEADER",
                HEADER,
            ),
            (
                JwtOdsMismatch,
                400,
                "structure",
                "MISSING_OR_INVALID_HEADER",
                HEADER,
            ),
            (InteractionNotAllowed, 403, "forbidden", "ACCESS_DENIED", DENIED),
            (
                NotOwner,
                400,
                "invalid",
                "INVALID_RESOURCE",
                "Resource is invalid : fromASID",
            ),
            (TargetNotOwner, 400, "invalid", "INVALID_RESOURCE", TARGET),
            (TargetPatientMismatch, 400, "invalid", "INVALID_RESOURCE", TARGET),
            (TargetNotFound, 400, "invalid", "INVALID_RESOURCE", TARGET),
            (
                PointerNotFound,
                404,
                "not-found",
                "NO_RECORD_FOUND",
                "No record found",
            ),
            (
                PointerNotCurrent,
                404,
                "not-found",
                "NO_RECORD_FOUND",
                "No record found",
            ),
            (PointerAmbiguous, 412, "conflict", "BAD_REQUEST", "Bad request"),
            (VersionMismatch, 412, "conflict", "BAD_REQUEST", "Bad request"),
            (PointerChanged, 412, "conflict", "BAD_REQUEST", "Bad request"),
            (
                UpstreamUnreachable,
                502,
                "transient",
                "INTERNAL_SERVER_ERROR",
                SERVER,
            ),
            (UpstreamTimeout, 504, "timeout", "INTERNAL_SERVER_ERROR", SERVER),
            (UpstreamInvalid, 502, "exception", "INTERNAL_SERVER_ERROR", SERVER),
            (UpstreamReset, 502, "transient", "INTERNAL_SERVER_ERROR", SERVER),
            (UpstreamTls, 502, "exception", "INTERNAL_SERVER_ERROR", SERVER),
            (UpstreamFraming, 502, "exception", "INTERNAL_SERVER_ERROR", SERVER),
            (UpstreamStalled, 504, "timeout", "INTERNAL_SERVER_ERROR", SERVER),
            (
                UpstreamOverloaded,
                503,
                "throttled",
                "INTERNAL_SERVER_ERROR",
                SERVER,
            ),
            (Overloaded, 503, "throttled", "INTERNAL_SERVER_ERROR", SERVER),
            (
                ClientOverloaded,
                429,
                "throttled",
                "INTERNAL_SERVER_ERROR",
                SERVER,
            ),
            (BodyIdle, 408, "timeout", "BAD_REQUEST", "Bad request"),
            (AnswerStalled, 408, "timeout", "BAD_REQUEST", "Bad request"),
            (ConnectionLimit, 503, "throttled", "INTERNAL_SERVER_ERROR", SERVER),
        ]
    };

    #[test]
    fn each_reason_has_the_answer_of_the_table() {
        for (reason, status, issue, code, display) in TABLE {
            let outcome = Outcome::of(*reason);
            let found = (
                outcome.status.as_u16(),
                outcome.issue,
                outcome.code,
                outcome.display,
            );
            assert_eq!(found, (*status, *issue, *code, *display), "{}", reason.as_str());
        }
        let answered = |layer| matches!(layer, Layer::Request | Layer::Authorisation | Layer::Upstream);
        for reason in Reason::ALL.iter().filter(|reason| answered(reason.layer())) {
            assert!(
                TABLE.iter().any(|row| row.0 == *reason),
                "{} is not in the table",
                reason.as_str()
            );
        }
    }

    /// `docs/nrl.md` has the table between two markers, written from the code.
    #[test]
    fn the_page_of_answers_says_what_the_code_says() {
        const BEGIN: &str = "<!-- answers: written from agent/src/nrl/outcome.rs -->\n";
        const END: &str = "<!-- end of answers -->";
        let mut rows =
            String::from("| reason | status | issue code | Spine code | display |\n|---|---:|---|---|---|\n");
        for (reason, ..) in TABLE {
            let (nrl, core) = (
                Outcome::by(ErrorTable::Nrl, *reason),
                Outcome::by(ErrorTable::SpineCore, *reason),
            );
            let mut row = |outcome: Outcome, mark: &str| {
                let (status, issue) = (outcome.status.as_u16(), outcome.issue);
                rows += &format!(
                    "| `{}`{mark} | {status} | {issue} | {} | {} |\n",
                    reason.as_str(),
                    outcome.code,
                    outcome.display
                );
            };
            row(nrl, "");
            if core != nrl {
                row(core, " with `spine-core`");
            }
        }
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/nrl.md");
        let page = std::fs::read_to_string(&file).unwrap();
        written::same(&file, &written::with(&page, (BEGIN, END), &rows));
    }

    #[test]
    fn where_the_sources_disagree_spine_core_has_one_code_for_an_asid() {
        for reason in Reason::ALL {
            let (nrl, core) = (
                Outcome::by(ErrorTable::Nrl, *reason),
                Outcome::by(ErrorTable::SpineCore, *reason),
            );
            assert_eq!(nrl, Outcome::of(*reason));
            if core != nrl {
                assert_eq!(
                    (core.status.as_u16(), core.issue, core.code),
                    (403, "forbidden", "ASID_CHECK_FAILED")
                );
                assert_eq!(reason.layer(), Layer::Authorisation);
            }
        }
        assert_ne!(
            Outcome::by(ErrorTable::SpineCore, Reason::InteractionNotAllowed),
            Outcome::of(Reason::InteractionNotAllowed)
        );
    }

    #[test]
    fn a_certificate_that_became_invalid_is_answered_as_spine_answers_tls_faults() {
        for reason in Reason::ALL
            .iter()
            .filter(|reason| reason.layer() == Layer::Certificate)
        {
            let outcome = Outcome::of(*reason);
            assert_eq!(
                (outcome.status.as_u16(), outcome.code),
                (403, "ACCESS_DENIED_SSL")
            );
        }
    }

    #[test]
    fn no_reason_is_answered_with_success() {
        assert!(
            Reason::ALL
                .iter()
                .all(|reason| Outcome::of(*reason).status.as_u16() >= 400)
        );
    }

    #[test]
    fn the_json_is_that_of_the_spine_profile() {
        let text = Outcome::of(Reason::NotOwner).render(
            Format::Json,
            "8f0c6a0e-1d0e-4c57-9a3e-2f6f3f1f7a10",
            "The Custodian ODS code is not affiliated with the sender ASID.",
        );
        assert_eq!(
            text,
            r#"{"resourceType":"OperationOutcome","id":"8f0c6a0e-1d0e-4c57-9a3e-2f6f3f1f7a10","meta":{"profile":["https://fhir.nhs.uk/STU3/StructureDefinition/Spine-OperationOutcome-1"]},"issue":[{"severity":"error","code":"invalid","details":{"coding":[{"system":"https://fhir.nhs.uk/STU3/CodeSystem/Spine-ErrorOrWarningCode-1","code":"INVALID_RESOURCE","display":"Resource is invalid : fromASID"}]},"diagnostics":"The Custodian ODS code is not affiliated with the sender ASID."}]}"#
        );
    }

    #[test]
    fn the_xml_has_the_same_content_in_the_order_of_the_schema() {
        let text = Outcome::of(Reason::PointerNotFound).render(Format::Xml, "1", "a<b>&\"c\"\u{1}\n");
        let (_, body) = text.split_once('\n').unwrap();
        assert_eq!(
            body,
            "<OperationOutcome xmlns=\"http://hl7.org/fhir\"><id value=\"1\"/><meta><profile \
             value=\"https://fhir.nhs.uk/STU3/StructureDefinition/Spine-OperationOutcome-1\"/></meta><issue>\
             <severity value=\"error\"/><code value=\"not-found\"/><details><coding><system \
             value=\"https://fhir.nhs.uk/STU3/CodeSystem/Spine-ErrorOrWarningCode-1\"/><code value=\"NO_RECORD_FOUND\"/>\
             <display value=\"No record found\"/></coding></details>\
             <diagnostics value=\"a&lt;b&gt;&amp;&quot;c&quot;\u{fffd}&#10;\"/></issue></OperationOutcome>"
        );
    }

    proptest! {
        #[test]
        fn no_diagnostics_break_out_of_their_place(text in any::<String>()) {
            let escaped = escaped(&text);
            prop_assert!(!escaped.contains(['<', '>', '"']));
            prop_assert!(!escaped.chars().any(|c| c < ' '));
            let json = Outcome::of(Reason::BodyInvalid).render(Format::Json, "1", &text);
            let read: serde_json::Value = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(read["issue"][0]["diagnostics"].as_str(), Some(text.as_str()));
        }
    }
}
