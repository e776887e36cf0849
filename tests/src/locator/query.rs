//! The parameters of a search (NRL "Search": the table of parameters).

use super::{
    answer::Refusal,
    naming::Naming,
    pointer::{self, NhsNumber},
};

/// A search that the NRL allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Search {
    pub(super) selection: Selection,
    /// `_format`, which goes before the Accept header.
    pub(super) format: Option<String>,
    /// `_summary=count`: only the number of matches is wanted.
    pub(super) count_only: bool,
}

/// Which pointers are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Selection {
    /// `_id`
    Id(String),
    /// `subject`, narrowed by the parameters that go with it.
    Patient {
        nhs_number: NhsNumber,
        custodian: Option<String>,
        kind: Option<Kind>,
    },
}

/// `type` or `type.coding`: `[system]|[code]`, or a code of any system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) system: Option<String>,
    pub(super) code: String,
}

impl Search {
    pub(super) fn parse(query: &str) -> Result<Self, Refusal> {
        let (mut id, mut subject, mut custodian, mut kind) = (None, None, None, None);
        let (mut format, mut summary) = (None, None);
        for (name, value) in parameters(query)? {
            let slot = match name.as_str() {
                "_id" => &mut id,
                "subject" => &mut subject,
                "custodian" => &mut custodian,
                "type" | "type.coding" => &mut kind,
                "_format" => &mut format,
                "_summary" => &mut summary,
                _ => return Err(invalid(format!("The search parameter is not supported - {name}"))),
            };
            if slot.replace(value).is_some() {
                return Err(invalid(format!(
                    "The search parameter is given more than once - {name}"
                )));
            }
        }
        let count_only = match summary.as_deref() {
            None => false,
            Some("count") => true,
            Some(other) => return Err(invalid(format!("_summary must be 'count' - {other}"))),
        };
        let selection = match (id, subject) {
            (Some(id), None) if custodian.is_none() && kind.is_none() && !count_only => Selection::Id(id),
            (Some(_), _) => return Err(invalid("_id goes with no other parameter than _format")),
            (None, Some(subject)) => Selection::Patient {
                nhs_number: NhsNumber::from_url(&subject)?,
                custodian: custodian.as_deref().map(pointer::ods_from_url).transpose()?,
                kind: kind.as_deref().map(Kind::parse).transpose()?,
            },
            (None, None) => return Err(invalid("A search needs the parameter subject or _id")),
        };
        Ok(Self {
            selection,
            format,
            count_only,
        })
    }
}

impl Kind {
    fn parse(value: &str) -> Result<Self, Refusal> {
        let (system, code) = match value.split_once('|') {
            None => (None, value),
            Some((system, code)) => (Some(system), code),
        };
        if code.is_empty() || system == Some("") {
            return Err(invalid(format!("A type is [system]|[code] - {value}")));
        }
        Ok(Self {
            system: system.map(str::to_owned),
            code: code.to_owned(),
        })
    }
}

/// `_format` of a request that has no other parameter.
pub(super) fn format_only(query: &str) -> Result<Option<String>, Refusal> {
    format_alone(parameters(query)?)
}

/// How an update or a delete names its pointer, by an id in its path or by parameters, and `_format`.
pub(super) fn naming(
    id: Option<&str>,
    query: &str,
    by_id: bool,
) -> Result<(Naming, Option<String>), Refusal> {
    let mut parameters = parameters(query)?;
    let naming = match id {
        Some(id) => Naming::Id(id.to_owned()),
        None => Naming::from_parameters(&mut parameters, by_id)?,
    };
    Ok((naming, format_alone(parameters)?))
}

fn format_alone(parameters: Vec<(String, String)>) -> Result<Option<String>, Refusal> {
    let mut format = None;
    for (name, value) in parameters {
        if name != "_format" || format.replace(value).is_some() {
            return Err(invalid(format!("The parameter is not supported here - {name}")));
        }
    }
    Ok(format)
}

/// Names and values, percent-decoded. A `+` stays what it is: RFC 3986 gives it no other meaning, and
/// `application/fhir+json` is often sent as it stands.
fn parameters(query: &str) -> Result<Vec<(String, String)>, Refusal> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match (decode(name), decode(value)) {
                (Some(name), Some(value)) if !value.is_empty() => Ok((name, value)),
                _ => Err(invalid(format!(
                    "The parameter has no value or is not percent-encoded UTF-8 - {pair}"
                ))),
            }
        })
        .collect()
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let high = char::from(rest.next()?).to_digit(16)?;
                let low = char::from(rest.next()?).to_digit(16)?;
                u8::try_from(high * 16 + low).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

fn invalid(diagnostics: impl Into<String>) -> Refusal {
    Refusal::InvalidParameter(diagnostics.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PATIENT: &str =
        "subject=https%3A%2F%2Fdemographics.spineservices.nhs.uk%2FSTU3%2FPatient%2F9876543210";

    #[test]
    fn a_search_is_by_id_or_by_patient_and_never_by_both() {
        let search = Search::parse(&format!(
            "{PATIENT}&custodian=https://directory.spineservices.nhs.uk/STU3/Organization/RR8\
             &type.coding=http%3A%2F%2Fsnomed.info%2Fsct%7C736253002&_format=application/fhir+json&_summary=count"
        ))
        .unwrap();
        assert!(search.count_only);
        assert_eq!(search.format.as_deref(), Some("application/fhir+json"));
        assert_eq!(
            search.selection,
            Selection::Patient {
                nhs_number: NhsNumber::parse("9876543210").unwrap(),
                custodian: Some("RR8".into()),
                kind: Some(Kind {
                    system: Some("http://snomed.info/sct".into()),
                    code: "736253002".into()
                }),
            }
        );
        assert_eq!(
            Search::parse("_id=a-1").unwrap().selection,
            Selection::Id("a-1".into())
        );
        for bad in [
            "",
            "_id=a&_summary=count",
            &format!("_id=a&{PATIENT}"),
            &format!("{PATIENT}&{PATIENT}"),
            &format!("{PATIENT}&type=a&type.coding=a"),
            &format!("{PATIENT}&_summary=text"),
            &format!("{PATIENT}&author=x"),
            &format!("{PATIENT}&custodian=RR8"),
            "type=736253002",
            "subject=9876543210",
            "subject=%zz",
            "_id",
        ] {
            assert!(
                matches!(Search::parse(bad), Err(Refusal::InvalidParameter(_))),
                "{bad}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_query_makes_the_parser_panic(query in "\\PC*|[%a-f0-9=&|_+]*") {
            let _ = Search::parse(&query);
            let _ = format_only(&query);
        }

        #[test]
        fn what_is_percent_encoded_is_read_back(value in "\\PC+") {
            let encoded: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let search = Search::parse(&format!("_id={encoded}")).unwrap();
            prop_assert_eq!(search.selection, Selection::Id(value));
        }
    }
}
