//! Media types: which one a body has, and which one the answer should have.

use http::{HeaderMap, header};
use spinegate_common::Reason;

use super::Refusal;

/// A representation of FHIR resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// JSON
    Json,
    /// XML
    Xml,
}

impl Format {
    /// The format that a media type without parameters stands for (NRL "Development overview" page, "MIME
    /// types").
    #[must_use]
    pub fn of_media_type(media_type: &str) -> Option<Self> {
        match media_type.trim().to_ascii_lowercase().as_str() {
            "application/fhir+json" | "application/json+fhir" | "application/json" | "text/json" => {
                Some(Self::Json)
            }
            "application/fhir+xml" | "application/xml+fhir" | "application/xml" => Some(Self::Xml),
            _ => None,
        }
    }

    /// The `Content-Type` of an answer.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/fhir+json; charset=utf-8",
            Self::Xml => "application/fhir+xml; charset=utf-8",
        }
    }
}

/// The format for an answer of the gateway's own: `_format` over `Accept`, XML where neither asks for
/// anything known.
///
/// It never fails, since refusals need a format too; a malformed `_format` is the route's to refuse.
#[must_use]
pub fn answer(query: Option<&str>, headers: &HeaderMap) -> Format {
    format_parameter(query)
        .or_else(|| accepted(headers))
        .unwrap_or(Format::Xml)
}

/// The format of a body, by its `Content-Type`: JSON or XML in UTF-8, not encoded any further.
///
/// # Errors
/// [`Reason::MediaTypeUnsupported`] for every other, and for a body without exactly one `Content-Type`.
pub fn of_body(headers: &HeaderMap) -> Result<Format, Refusal> {
    let refuse = |why: String| Err(Refusal::new(Reason::MediaTypeUnsupported, why));
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING) {
        return refuse(format!("Content-Encoding {encoding:?} is not supported"));
    }
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return refuse("The Content-Type HTTP Header is missing or sent more than once".to_owned());
    };
    let mut parts = value.to_str().unwrap_or_default().split(';');
    let Some(format) = parts.next().and_then(Format::of_media_type) else {
        return refuse(format!(
            "Content-Type {value:?} is not supported: send the body as application/fhir+json or application/fhir+xml"
        ));
    };
    let mut names = Vec::new();
    for part in parts.filter(|part| !part.trim().is_empty()) {
        let sound = parameter(part).filter(|(name, value)| {
            !names.contains(name) && (name != "charset" || matches!(value.as_str(), "utf-8" | "utf8"))
        });
        let Some((name, _)) = sound else {
            return refuse(format!(
                "Content-Type {value:?} is not supported: send the body in UTF-8, and say so at most once"
            ));
        };
        names.push(name);
    }
    Ok(format)
}

/// Name and value of a media type's parameter, both in lower case. A quoted value that is no token could hold the end
/// of a parameter, so it is none here.
fn parameter(text: &str) -> Option<(String, String)> {
    let token = |text: &str| {
        let sound = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        (!text.is_empty() && text.bytes().all(sound)).then(|| text.to_ascii_lowercase())
    };
    let (name, value) = text.trim_matches([' ', '\t']).split_once('=')?;
    let value = value
        .strip_prefix('"')
        .map_or(Some(value), |rest| rest.strip_suffix('"'))?;
    Some((token(name)?, token(value)?))
}

fn format_parameter(query: Option<&str>) -> Option<Format> {
    let value = query?.split('&').find_map(|pair| pair.strip_prefix("_format="))?;
    Format::of_media_type(&super::query::decoded(value)?)
}

/// The format with the highest weight; of equal ones the first (RFC 9110 section 12.5.1). Types that are no
/// FHIR representation, and those with weight 0, are passed over.
fn accepted(headers: &HeaderMap) -> Option<Format> {
    let mut best: Option<(u16, Format)> = None;
    for value in headers.get_all(header::ACCEPT) {
        for range in value.to_str().unwrap_or_default().split(',') {
            let mut parts = range.split(';');
            let Some(format) = parts.next().and_then(Format::of_media_type) else {
                continue;
            };
            let weight = parts
                .find_map(|part| part.trim().strip_prefix("q="))
                .map_or(1000, weight);
            if weight > best.map_or(0, |(weight, _)| weight) {
                best = Some((weight, format));
            }
        }
    }
    best.map(|(_, format)| format)
}

/// A weight in thousandths; 0 for what is none.
fn weight(text: &str) -> u16 {
    let (whole, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
    let sound = fraction.len() <= 3 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    match (whole, sound) {
        ("1", true) => 1000,
        ("0", true) => format!("{fraction:0<3}").parse().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::{Format, answer, of_body};
    use http::{HeaderMap, HeaderName};
    use spinegate_common::Reason;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(n, v)| (n.parse::<HeaderName>().unwrap(), v.parse().unwrap()))
            .collect()
    }

    #[test]
    fn the_answer_follows_format_then_accept_then_the_specs_default() {
        let cases = [
            (None, "", Format::Xml),
            (None, "application/fhir+json", Format::Json),
            (None, "*/*", Format::Xml),
            (None, "text/html, application/json;q=0.5", Format::Json),
            (
                None,
                "application/xml;q=0.4, application/json;q=0.5",
                Format::Json,
            ),
            (None, "application/fhir+xml, application/fhir+json", Format::Xml),
            (
                None,
                "application/fhir+xml;q=0, application/fhir+json;q=0.001",
                Format::Json,
            ),
            (
                Some("_format=application/fhir%2Bjson"),
                "application/fhir+xml",
                Format::Json,
            ),
            (
                Some("_id=1&_format=application/fhir+xml"),
                "application/fhir+json",
                Format::Xml,
            ),
            (Some("_format=nonsense"), "application/fhir+json", Format::Json),
            (Some("_format=%ff%"), "", Format::Xml),
        ];
        for (query, accept, format) in cases {
            let headers = if accept.is_empty() {
                HeaderMap::new()
            } else {
                headers(&[("accept", accept)])
            };
            assert_eq!(answer(query, &headers), format, "{query:?} {accept}");
        }
    }

    #[test]
    fn a_bodys_format_is_one_of_the_seven_media_types_in_utf_8() {
        for (good, format) in [
            ("application/fhir+json", Format::Json),
            ("application/json+fhir", Format::Json),
            ("Application/JSON", Format::Json),
            ("text/json;charset=UTF-8", Format::Json),
            (
                "application/fhir+json; fhirVersion=3.0; charset=\"utf-8\"",
                Format::Json,
            ),
            ("application/fhir+xml", Format::Xml),
            ("application/xml+fhir;charset=utf8", Format::Xml),
            ("application/xml ; charset=UTF-8 ;", Format::Xml),
        ] {
            assert_eq!(of_body(&headers(&[("content-type", good)])), Ok(format), "{good}");
        }
        for bad in [
            &[][..],
            &[("content-type", "text/xml")],
            &[("content-type", "application/xhtml+xml")],
            &[("content-type", "text/html")],
            &[("content-type", "*/*")],
            &[("content-type", "")],
            &[("content-type", "application/json;charset=utf-16")],
            &[("content-type", "application/fhir+xml;charset=utf-7")],
            &[("content-type", "application/json;charset=utf-8;charset=utf-8")],
            &[(
                "content-type",
                "application/json;a=\";charset=utf-16;b=\";charset=utf-8",
            )],
            &[("content-type", "application/json;charset")],
            &[("content-type", "application/json;charset = utf-8")],
            &[
                ("content-type", "application/json"),
                ("content-type", "application/json"),
            ],
            &[
                ("content-type", "application/fhir+xml"),
                ("content-type", "application/fhir+json"),
            ],
            &[("content-type", "application/json"), ("content-encoding", "gzip")],
            &[("content-type", "application/json, application/xml")],
        ] {
            let refusal = of_body(&headers(bad)).unwrap_err();
            assert_eq!(refusal.reason(), Reason::MediaTypeUnsupported, "{bad:?}");
        }
    }
}
