//! The JWT of a request: unsigned, so a statement for the audit that must be consistent, and never a proof of
//! anything.

mod claims;
mod sample;
mod unattended;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, header};
use spinegate_common::Reason;

pub use claims::{Actor, ClaimRules, Claims};
pub use sample::sample_token;
pub use unattended::unattended;

use super::{
    Refusal,
    tree::{Document, Fault},
};

/// An unsecured JWT that is well formed (RFC 7519 section 6; Spine Core "Security JWT" page). Its claims are
/// not checked yet.
#[derive(Clone, Debug)]
pub struct Token {
    payload: Document,
}

impl Token {
    /// The longest token that is read, in bytes. The NRL's examples have about 700.
    pub const MAX_BYTES: usize = 8192;

    /// Takes a token in compact form: a header with `alg` `none`, a payload, and an empty signature after the
    /// second dot.
    ///
    /// # Errors
    /// [`Reason::JwtInvalid`] for anything else, such as padding, a signature or a member named twice.
    pub fn parse(token: &str) -> Result<Self, Refusal> {
        if token.len() > Self::MAX_BYTES {
            return Err(invalid(format!("is longer than {} bytes", Self::MAX_BYTES)));
        }
        let mut sections = token.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (sections.next(), sections.next(), sections.next(), sections.next())
        else {
            return Err(invalid("must have the 3 sections"));
        };
        check_header(&section(header, "header")?).map_err(|why| {
            invalid(format!(
                "has a header that is not that of an unsecured JWT: {why}"
            ))
        })?;
        let payload = section(payload, "payload")?;
        if !signature.is_empty() {
            return Err(invalid("must have an empty signature, as its alg is none"));
        }
        Ok(Self { payload })
    }
}

/// A token with these claims in compact form.
fn unsecured(claims: &serde_json::Value) -> String {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
    format!("{header}.{}.", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

/// The token in the Authorization header (RFC 6750 section 2.1).
///
/// # Errors
/// [`Reason::JwtMissing`] if the header is missing, sent more than once, or not of the scheme `Bearer`.
pub fn bearer(headers: &HeaderMap) -> Result<&str, Refusal> {
    let missing = |why: &str| Refusal::new(Reason::JwtMissing, why);
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values
        .next()
        .ok_or_else(|| missing("The Authorisation header must be supplied"))?;
    if values.next().is_some() {
        return Err(missing("The Authorisation header must be supplied once"));
    }
    value
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, token)| scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
        .map(|(_, token)| token)
        .ok_or_else(|| missing("The Authorisation header must be Bearer and a JWT"))
}

fn invalid(fault: impl AsRef<str>) -> Refusal {
    let fault = fault.as_ref();
    Refusal::new(
        Reason::JwtInvalid,
        format!("The JWT associated with the Authorisation header {fault}"),
    )
}

fn section(text: &str, name: &str) -> Result<Document, Refusal> {
    let bytes = URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| invalid(format!("has a {name} that is not base64url without padding")))?;
    Document::from_json(&bytes).map_err(|fault| invalid(format!("has a {name} that is {fault}")))
}

fn check_header(header: &Document) -> Result<(), String> {
    let text = |fault: Fault| fault.to_string();
    let header = header.root();
    if header.required_string("alg").map_err(text)? != "none" {
        return Err("alg must be none".to_owned());
    }
    if header
        .string("typ")
        .map_err(text)?
        .is_some_and(|typ| !typ.eq_ignore_ascii_case("JWT"))
    {
        return Err("typ must be JWT".to_owned());
    }
    // RFC 7515 section 4.1.11: who does not understand a critical extension must refuse the token.
    if header.has("crit") {
        return Err("crit is not supported".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
