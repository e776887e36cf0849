//! The systems in the lab's registry, and what each may do.

/// The ASID of the guarded record locator.
pub const GATEWAY_ASID: &str = "200000000370";
/// An ASID of the right form that the registry does not hold.
pub const UNKNOWN_ASID: &str = "200000000999";

/// A system of the registry.
#[derive(Clone, Copy, Debug)]
pub struct System {
    /// Its ASID.
    pub asid: &'static str,
    /// The ODS code of its organisation.
    pub ods: &'static str,
    /// What it may do.
    pub interactions: &'static [Interaction],
    /// What the registry calls it.
    pub name: &'static str,
    /// The FQDN registered for it: only a certificate of that name may use its ASID.
    pub fqdn: Option<&'static str>,
    /// Whether it is switched on.
    pub active: bool,
}

/// An interaction of the NRL API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interaction {
    /// GET by id
    Read,
    /// GET with parameters
    Search,
    /// POST, also with `relatesTo`
    Create,
    /// PATCH
    Update,
    /// DELETE
    Delete,
}

impl Interaction {
    /// Every interaction.
    pub const ALL: &'static [Self] = &[Self::Read, Self::Search, Self::Create, Self::Update, Self::Delete];

    /// The interaction ID in the current family.
    #[must_use]
    pub const fn urn(self) -> &'static str {
        match self {
            Self::Read => "urn:nhs:names:services:nrl:DocumentReference.read",
            Self::Search => "urn:nhs:names:services:nrl:DocumentReference.search",
            Self::Create => "urn:nhs:names:services:nrl:DocumentReference.create",
            Self::Update => "urn:nhs:names:services:nrl:DocumentReference.update",
            Self::Delete => "urn:nhs:names:services:nrl:DocumentReference.delete",
        }
    }
}

/// A provider that owns the pointers of ODS code RR8.
pub const PROVIDER: System = System {
    asid: "200000000101",
    ods: "RR8",
    interactions: Interaction::ALL,
    name: "provider",
    fqdn: None,
    active: true,
};

/// Another provider, of ODS code RGD.
pub const OTHER_PROVIDER: System = System {
    asid: "200000000102",
    ods: "RGD",
    name: "other provider",
    ..PROVIDER
};

/// A consumer: it may read and search.
pub const CONSUMER: System = System {
    asid: "200000000103",
    ods: "A20047",
    interactions: &[Interaction::Read, Interaction::Search],
    name: "consumer",
    ..PROVIDER
};

/// A provider of RR8 that is switched off.
pub const INACTIVE: System = System {
    asid: "200000000104",
    name: "switched off",
    active: false,
    ..PROVIDER
};

/// A provider of RR8 that may only be used with the dedicated system's certificate.
pub const FQDN_BOUND: System = System {
    asid: "200000000105",
    name: "dedicated system",
    fqdn: Some(crate::pki::SYSTEM_FQDN),
    ..PROVIDER
};

/// A provider of RR8 that may create, and nothing else.
pub const WRITER: System = System {
    asid: "200000000106",
    interactions: &[Interaction::Create],
    name: "writer",
    ..PROVIDER
};

impl System {
    /// Every system of the registry.
    pub const ALL: [Self; 6] = [PROVIDER, OTHER_PROVIDER, CONSUMER, INACTIVE, FQDN_BOUND, WRITER];
    /// Those that any client of the lab may speak for.
    pub const OPEN: [Self; 3] = [PROVIDER, OTHER_PROVIDER, CONSUMER];
}
