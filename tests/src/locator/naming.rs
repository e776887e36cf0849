//! Which stored pointer an update or a delete is of, and in which version (NRL "Update", "Delete"; FHIR "http", If-Match).

use hyper::{HeaderMap, header::IF_MATCH};

use super::{
    answer::Refusal,
    pointer::{Identifier, NhsNumber},
};

/// How an update or a delete names its pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Naming {
    /// By its logical id.
    Id(String),
    /// By its patient and its master identifier.
    Identifier(NhsNumber, Identifier),
}

/// Which versions of it a request wants changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Whichever there is.
    Any,
    /// One of these tags.
    OneOf(Vec<String>),
}

impl Naming {
    /// From the parameters of a request whose path has no id; `by_id`: whether `_id` is one of them.
    pub(super) fn from_parameters(
        parameters: &mut Vec<(String, String)>,
        by_id: bool,
    ) -> Result<Self, Refusal> {
        let mut take = |wanted: &str| {
            let place = parameters.iter().position(|(name, _)| name == wanted)?;
            Some(parameters.swap_remove(place).1)
        };
        let invalid = |why: &str| Err(Refusal::InvalidParameter(why.to_owned()));
        if by_id && let Some(id) = take("_id") {
            return Ok(Self::Id(id));
        }
        let (Some(subject), Some(identifier)) = (take("subject"), take("identifier")) else {
            return invalid("The request needs an id in its path, or the parameters subject and identifier");
        };
        match identifier.split_once('|') {
            Some((system, value)) if !system.is_empty() && !value.is_empty() => Ok(Self::Identifier(
                NhsNumber::from_url(&subject)?,
                Identifier {
                    system: system.to_owned(),
                    value: value.to_owned(),
                },
            )),
            _ => invalid("An identifier is [system]|[value]"),
        }
    }
}

impl Condition {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let lines = headers.get_all(IF_MATCH);
        let tags: Vec<String> = lines
            .iter()
            .flat_map(|line| line.to_str().unwrap_or_default().split(','))
            .map(|tag| tag.trim().trim_start_matches("W/").to_owned())
            .collect();
        if tags.is_empty() || tags.iter().any(|tag| tag == "*") {
            Self::Any
        } else {
            Self::OneOf(tags)
        }
    }

    pub(super) fn takes(&self, version: i64) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(tags) => tags.iter().any(|tag| *tag == format!("\"{version}\"")),
        }
    }
}
