//! Interactions, and the IDs under which systems are associated with them.

use std::fmt;

/// What a request does. Supersede is a create whose pointer has `relatesTo`: it has no ID of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Interaction {
    /// Read one pointer by its id.
    Read,
    /// Search for a patient's pointers.
    Search,
    /// Create a pointer, or supersede one.
    Create,
    /// Set a pointer's status.
    Update,
    /// Delete a pointer.
    Delete,
    /// Retrieve the record that a pointer leads to, through the Spine Secure Proxy: asked of providers, never of
    /// a record locator.
    Retrieve,
}

/// An interaction ID: `urn:` and up to 252 further printable ASCII characters, compared exactly.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InteractionId(String);

/// Why a text is not an interaction ID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an interaction ID: an interaction ID begins with \"urn:\" and has no blanks")]
pub struct InteractionIdError(String);

impl Interaction {
    /// Every interaction.
    pub const ALL: [Self; 6] = [
        Self::Read,
        Self::Search,
        Self::Create,
        Self::Update,
        Self::Delete,
        Self::Retrieve,
    ];

    /// Those that a record locator has.
    pub const LOCATOR: [Self; 5] = [Self::Read, Self::Search, Self::Create, Self::Update, Self::Delete];

    /// Its name in logs and tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Search => "search",
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Retrieve => "retrieve",
        }
    }

    /// The IDs that name it: NRL's, then that of NRLS, its predecessor of 2017 and 2018. Of a retrieval, the one
    /// that a request declares, then the one under which endpoints are registered (NRL "Retrieval via the SSP").
    #[must_use]
    pub const fn ids(self) -> [&'static str; 2] {
        match self {
            Self::Read => [
                "urn:nhs:names:services:nrl:DocumentReference.read",
                "urn:nhs:names:services:nrls:fhir:rest:read:documentreference",
            ],
            Self::Search => [
                "urn:nhs:names:services:nrl:DocumentReference.search",
                "urn:nhs:names:services:nrls:fhir:rest:search:documentreference",
            ],
            Self::Create => [
                "urn:nhs:names:services:nrl:DocumentReference.create",
                "urn:nhs:names:services:nrls:fhir:rest:create:documentreference",
            ],
            Self::Update => [
                "urn:nhs:names:services:nrl:DocumentReference.update",
                "urn:nhs:names:services:nrls:fhir:rest:update:documentreference",
            ],
            Self::Delete => [
                "urn:nhs:names:services:nrl:DocumentReference.delete",
                "urn:nhs:names:services:nrls:fhir:rest:delete:documentreference",
            ],
            Self::Retrieve => [
                "urn:nhs:names:services:nrl:DocumentReference.content.read",
                "urn:nhs:names:services:nrl:DocumentReference.content",
            ],
        }
    }

    /// Whether a system that is associated with one of its IDs is so with the other: those of a retrieval are two
    /// spellings of one, while NRL's and NRLS's were granted apart.
    #[must_use]
    pub const fn ids_are_one(self) -> bool {
        matches!(self, Self::Retrieve)
    }

    /// Whether it changes a pointer, so that ownership decides.
    #[must_use]
    pub const fn writes(self) -> bool {
        matches!(self, Self::Create | Self::Update | Self::Delete)
    }
}

impl fmt::Display for Interaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl InteractionId {
    /// Takes an ID as it stands in a file or a header. One that no interaction here has is kept as it is, so
    /// that a system's associations with other services don't have to be taken out of the registry.
    ///
    /// # Errors
    /// If the text does not begin with `urn:`, ends there, is longer than 256, or has a blank or a non-ASCII
    /// character.
    pub fn parse(text: &str) -> Result<Self, InteractionIdError> {
        let sound = text.len() <= 256
            && text.strip_prefix("urn:").is_some_and(|rest| !rest.is_empty())
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        if sound {
            Ok(Self(text.to_owned()))
        } else {
            Err(InteractionIdError(text.to_owned()))
        }
    }

    /// The interaction that it names, if it is one of the NRL's.
    #[must_use]
    pub fn interaction(&self) -> Option<Interaction> {
        Interaction::ALL
            .into_iter()
            .find(|interaction| interaction.ids().contains(&self.as_str()))
    }

    /// The ID.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InteractionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Lets a set of IDs be asked for one of [`Interaction::ids`].
impl std::borrow::Borrow<str> for InteractionId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::{Interaction, InteractionId};

    #[test]
    fn both_families_name_the_same_interaction_and_others_are_kept_as_they_are() {
        for interaction in Interaction::ALL {
            for id in interaction.ids() {
                assert_eq!(
                    InteractionId::parse(id).unwrap().interaction(),
                    Some(interaction),
                    "{id}"
                );
            }
        }
        let search_of_names = "urn:nhs:names:services:gpconnect:fhir:rest:search:patient";
        assert_eq!(InteractionId::parse(search_of_names).unwrap().interaction(), None);
        let other_case = "urn:nhs:names:services:nrl:documentreference.read";
        assert_eq!(InteractionId::parse(other_case).unwrap().interaction(), None);
    }

    #[test]
    fn what_is_no_urn_is_no_interaction_id() {
        for bad in [
            "",
            "urn:",
            "URN:nhs:x",
            "nhs:x",
            "urn:a b",
            "urn:a\n",
            "urn:é",
            " urn:a",
        ] {
            assert!(InteractionId::parse(bad).is_err(), "{bad:?}");
        }
    }
}
