//! The checks one by one, shared by [`super::admit`], the stages after it and [`super::explain`].

use std::time::SystemTime;

use http::{HeaderMap, HeaderValue};
use spinegate_common::Reason;

use crate::{
    nrl::{
        Asid, Claims, EntityTag, Format, Fqdn, Interaction, InteractionId, OdsCode, Pointer, Refusal,
        Selector, Status, TargetRef,
    },
    registry::{Registered, Registry},
};

/// A check of a request. The first one that fails decides the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Check {
    /// Method, path and query stand for an interaction.
    MethodAndPath,
    /// fromASID, toASID and Authorization are there once and well formed; InteractionID, where sent, agrees
    /// with the route.
    Headers,
    /// toASID is the gateway's.
    Receiver,
    /// The JWT is well formed.
    TokenForm,
    /// The JWT's claims are consistent.
    TokenClaims,
    /// The requester's ASID is registered (R1).
    AsidKnown,
    /// And switched on.
    AsidActive,
    /// The client's certificate is that of the FQDN registered for the ASID, where one is.
    CertificateName,
    /// The JWT's ASID is the requester's.
    TokenAsid,
    /// The JWT's ODS code is the requester's.
    TokenOds,
    /// The interaction is associated with the ASID (R2).
    Interaction,
    /// The body is what the interaction needs.
    Body,
    /// The pointers concerned belong to the requester's organisation (R3, R4, R5, and create likewise).
    Ownership,
}

impl Check {
    /// Every check, in the order in which they are made.
    pub const ALL: [Self; 13] = [
        Self::MethodAndPath,
        Self::Headers,
        Self::Receiver,
        Self::TokenForm,
        Self::TokenClaims,
        Self::AsidKnown,
        Self::AsidActive,
        Self::CertificateName,
        Self::TokenAsid,
        Self::TokenOds,
        Self::Interaction,
        Self::Body,
        Self::Ownership,
    ];

    /// Its name in logs and explanations.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MethodAndPath => "method_and_path",
            Self::Headers => "headers",
            Self::Receiver => "receiver",
            Self::TokenForm => "token_form",
            Self::TokenClaims => "token_claims",
            Self::AsidKnown => "asid_known",
            Self::AsidActive => "asid_active",
            Self::CertificateName => "certificate_name",
            Self::TokenAsid => "token_asid",
            Self::TokenOds => "token_ods",
            Self::Interaction => "interaction",
            Self::Body => "body",
            Self::Ownership => "ownership",
        }
    }
}

/// Some of the checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checks(u32);

impl Checks {
    /// Adds a check.
    pub(super) const fn insert(&mut self, check: Check) {
        self.0 |= 1 << check as u32;
    }

    /// Whether a check is among them.
    #[must_use]
    pub const fn contains(self, check: Check) -> bool {
        self.0 & (1 << check as u32) != 0
    }
}

/// What the headers are called that name the two ends of a request, and what it does.
pub(super) struct Names {
    pub(super) from: &'static str,
    pub(super) to: &'static str,
    pub(super) interaction: &'static str,
}

impl Names {
    /// To a record locator.
    pub(super) const LOCATOR: Self = Self {
        from: "fromASID",
        to: "toASID",
        interaction: "InteractionID",
    };
    /// To a provider, from the Spine Secure Proxy.
    pub(super) const SSP: Self = Self {
        from: "Ssp-From",
        to: "Ssp-To",
        interaction: "Ssp-InteractionID",
    };
}

pub(super) fn from_asid(names: &Names, headers: &HeaderMap) -> Result<Asid, Refusal> {
    let (missing, invalid) = (Reason::FromAsidMissing, Reason::FromAsidInvalid);
    asid(headers, names.from, missing, invalid)
}

pub(super) fn to_asid(names: &Names, headers: &HeaderMap) -> Result<Asid, Refusal> {
    let (missing, invalid) = (Reason::ToAsidMissing, Reason::ToAsidInvalid);
    asid(headers, names.to, missing, invalid)
}

fn asid(headers: &HeaderMap, name: &str, missing: Reason, invalid: Reason) -> Result<Asid, Refusal> {
    let mut values = headers.get_all(name).iter();
    let value = values
        .next()
        .ok_or_else(|| Refusal::new(missing, format!("{name} HTTP Header is missing")))?;
    if values.next().is_some() {
        return Err(Refusal::new(
            missing,
            format!("{name} HTTP Header is sent more than once"),
        ));
    }
    let text = String::from_utf8_lossy(value.as_bytes());
    Asid::parse(&text).map_err(|_| {
        Refusal::new(
            invalid,
            format!("{name} ({text}) HTTP Header is not an ASID of 12 digits"),
        )
    })
}

/// The InteractionID header, where sent: one of the IDs of the interaction that method and path stand for.
pub(super) fn declared_interaction(
    headers: &HeaderMap,
    interaction: Interaction,
) -> Result<Option<InteractionId>, Refusal> {
    let mismatch = |why: String| Refusal::new(Reason::InteractionMismatch, why);
    let mut values = headers.get_all(Names::LOCATOR.interaction).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(mismatch(
            "InteractionID HTTP Header is sent more than once".to_owned(),
        ));
    }
    let text = String::from_utf8_lossy(value.as_bytes());
    match InteractionId::parse(&text) {
        Ok(id) if id.interaction() == Some(interaction) => Ok(Some(id)),
        _ => Err(mismatch(format!(
            "InteractionID ({text}) HTTP Header does not name this request's interaction, {interaction}"
        ))),
    }
}

pub(super) fn receiver(names: &Names, to: &Asid, gateway: &Asid) -> Result<(), Refusal> {
    if to == gateway {
        return Ok(());
    }
    Err(Refusal::new(
        Reason::ToAsidInvalid,
        format!("{} ({to}) HTTP Header is not the ASID of this service", names.to),
    ))
}

pub(super) fn known_system<'r>(
    names: &Names,
    registry: &'r Registry,
    asid: &Asid,
    now: SystemTime,
) -> Result<Registered<'r>, Refusal> {
    registry.system(asid, now).ok_or_else(|| {
        Refusal::new(
            Reason::AsidUnknown,
            format!(
                "The ASID defined in the {} ({asid}) HTTP Header is unknown",
                names.from
            ),
        )
    })
}

pub(super) fn active(system: Registered<'_>) -> Result<(), Refusal> {
    if system.is_active() {
        return Ok(());
    }
    Err(Refusal::new(
        Reason::AsidInactive,
        format!("The ASID {} has no access at present", system.asid()),
    ))
}

/// The registered name is not told: it may be another system's.
pub(super) fn certificate_name(system: Registered<'_>, fqdn: Option<&Fqdn>) -> Result<(), Refusal> {
    let registered = system.fqdn();
    if registered.is_none() || registered == fqdn.map(Fqdn::as_str) {
        return Ok(());
    }
    let why = format!("The client certificate is not that of the ASID {}", system.asid());
    Err(Refusal::new(Reason::AsidFqdnMismatch, why))
}

/// The registry, where it is asked, tells another system's ASID from one that nobody has.
pub(super) fn token_asid(
    names: &Names,
    registry: Option<(&Registry, SystemTime)>,
    claims: &Claims,
    from: &Asid,
) -> Result<(), Refusal> {
    if claims.asid == *from {
        return Ok(());
    }
    let (claimed, header) = (claims.asid, names.from);
    let why = match registry {
        Some((registry, now)) if registry.system(&claimed, now).is_none() => {
            format!("The ASID defined in the requesting_system ({claimed}) is unknown")
        }
        _ => format!("requesting_system ASID ({claimed}) is not that of the {header} ({from}) HTTP Header"),
    };
    Err(Refusal::new(Reason::JwtAsidMismatch, why))
}

pub(super) fn token_ods(claims: &Claims, system: Registered<'_>) -> Result<(), Refusal> {
    if claims.ods == *system.ods() {
        return Ok(());
    }
    let why = format!(
        "requesting_system ASID ({}) is not associated with the requesting_organization ODS code ({})",
        claims.asid, claims.ods
    );
    Err(Refusal::new(Reason::JwtOdsMismatch, why))
}

/// R2. The ID that a client declares must itself be associated, or the other spelling of it; a request that declares
/// none performs its interaction under whichever of its IDs is.
pub(super) fn associated(
    system: Registered<'_>,
    interaction: Interaction,
    declared: Option<&InteractionId>,
) -> Result<InteractionId, Refusal> {
    let found = match declared {
        Some(id) if !interaction.ids_are_one() => system.interaction(id.as_str()),
        _ => interaction
            .ids()
            .into_iter()
            .find_map(|id| system.interaction(id)),
    };
    found.cloned().ok_or_else(|| {
        let [current, _] = interaction.ids();
        let id = declared.map_or(current, InteractionId::as_str);
        let why = format!(
            "The interaction {id} is not associated with the ASID {}",
            system.asid()
        );
        Refusal::new(Reason::InteractionNotAllowed, why)
    })
}

/// R3, R4, R5 and create: the pointer's custodian is the ASID's organisation.
pub(super) fn owner(requester: &OdsCode, custodian: &OdsCode) -> Result<(), Refusal> {
    if custodian == requester {
        return Ok(());
    }
    Err(Refusal::new(
        Reason::NotOwner,
        "The Custodian ODS code is not affiliated with the sender ASID.",
    ))
}

/// The body of a create or supersede.
pub(super) fn new_pointer(format: Format, body: &[u8]) -> Result<Pointer, Refusal> {
    let pointer = Pointer::read(format, body)?;
    if pointer.status != Status::Current {
        return Err(Refusal::new(
            Reason::StatusNotCurrent,
            "DocumentReference status is not 'current'",
        ));
    }
    Ok(pointer)
}

/// The pointer that a request names is not there.
pub(super) fn not_found(selector: &Selector) -> Refusal {
    not_there(Reason::PointerNotFound, selector)
}

/// Or is not current: for the client there is no difference.
pub(super) fn not_current(selector: &Selector) -> Refusal {
    not_there(Reason::PointerNotCurrent, selector)
}

fn not_there(reason: Reason, selector: &Selector) -> Refusal {
    let named = match selector {
        Selector::Id(id) => id.to_string(),
        Selector::Identifier { identifier, .. } => format!("{}|{}", identifier.system, identifier.value),
    };
    let why = format!("No record found for supplied DocumentReference identifier - {named}.");
    Refusal::new(reason, why)
}

/// The one pointer that a request names, among those that the locator answered with.
pub(super) fn stored_pointer<'p>(selector: &Selector, stored: &'p [Pointer]) -> Result<&'p Pointer, Refusal> {
    match selector {
        Selector::Id(id) => {
            let stored = stored.first().ok_or_else(|| not_found(selector))?;
            if stored.id.as_ref() != Some(id) {
                return Err(Refusal::new(
                    Reason::UpstreamInvalid,
                    "The record locator answered with another pointer",
                ));
            }
            Ok(stored)
        }
        Selector::Identifier { subject, identifier } => {
            // A search gives current pointers alone; one that is not is none that could be changed.
            let mut named = stored.iter().filter(|pointer| {
                pointer.subject == *subject
                    && pointer.master_identifier.as_ref() == Some(identifier)
                    && pointer.status == Status::Current
            });
            match (named.next(), named.next()) {
                (Some(pointer), None) if pointer.id.is_some() => Ok(pointer),
                (Some(_), None) => Err(Refusal::new(
                    Reason::UpstreamInvalid,
                    "The record locator answered with a pointer without an id",
                )),
                (None, _) => Err(not_found(selector)),
                (Some(_), Some(_)) => Err(Refusal::new(
                    Reason::PointerAmbiguous,
                    "The subject has more than one DocumentReference with this identifier",
                )),
            }
        }
    }
}

/// What the client's If-Match, where it sent one, says of the version that was judged.
pub(super) fn version(if_match: Option<&HeaderValue>, judged: &EntityTag) -> Result<(), Refusal> {
    if if_match.is_none_or(|if_match| judged.is_taken_by(if_match)) {
        return Ok(());
    }
    let why = format!("If-Match does not name the version of the DocumentReference, {judged}");
    Err(Refusal::new(Reason::VersionMismatch, why))
}

/// The pointer to be superseded is not there.
pub(super) fn target_not_found() -> Refusal {
    Refusal::new(
        Reason::TargetNotFound,
        "Referenced DocumentReference does not exist.",
    )
}

/// It is there, but not to be superseded.
pub(super) fn target_not_current() -> Refusal {
    Refusal::new(
        Reason::TargetNotFound,
        "Referenced DocumentReference is not current.",
    )
}

/// R3, on the pointer to be superseded: exactly one, of the same owner and patient, and current.
pub(super) fn target<'p>(
    requester: &OdsCode,
    new: &Pointer,
    target: &TargetRef,
    candidates: &'p [Pointer],
) -> Result<&'p Pointer, (Refusal, Option<&'p Pointer>)> {
    let mut named = candidates.iter().filter(|candidate| target.names(candidate));
    let (Some(old), None) = (named.next(), named.next()) else {
        return Err((target_not_found(), None));
    };
    let refuse = |reason, why: &str| Err((Refusal::new(reason, why), Some(old)));
    if old.custodian != *requester {
        let why = format!(
            "Resolved DocumentReference is not associated with custodian {}",
            new.custodian
        );
        return refuse(Reason::TargetNotOwner, &why);
    }
    if old.subject != new.subject {
        let why = "Resolved DocumentReference is not associated with the same patient";
        return refuse(Reason::TargetPatientMismatch, why);
    }
    if old.status != Status::Current {
        return Err((target_not_current(), Some(old)));
    }
    Ok(old)
}
