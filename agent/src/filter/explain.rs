//! What would become of a packet, said by the loaded program itself.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use spinegate_common::{Judgement, Outcome, packet::Packet};

use super::{FilterError, counters, object::Object, policy::numbers::Numbers, serial};

/// What would become of a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// What would become of it.
    #[serde(with = "serial::outcome")]
    pub outcome: Outcome,
    /// The service that guards its destination, by name.
    pub service: String,
    /// The number of the service.
    pub service_number: u32,
    /// The allowlist's entry that lets it pass; none also where entries with counters of their own have run out.
    pub entry_cidr: Option<IpNet>,
    /// What its headers say, as far as they can be read. It does not go from process to process: both have the frame.
    #[serde(skip)]
    pub packet: Packet,
}

pub(super) fn explain(
    object: &mut Object,
    numbers: &Numbers,
    frame: &[u8],
) -> Result<Explained, FilterError> {
    let [outcome, service, entry, _] = object.explain(frame)?;
    let mut packet = Packet::default();
    // Where the parser stops is the outcome's reason, and what came before it is filled in.
    let _ = spinegate_common::packet::parse(&frame, &mut packet);
    let judgement = Judgement {
        outcome: Outcome::from_number(outcome).ok_or(FilterError::MissingMap { name: "EXPLAINED" })?,
        service,
        entry,
    };
    Ok(describe(numbers, &judgement, packet))
}

/// A judgement with names for its numbers.
pub(super) fn describe(numbers: &Numbers, judgement: &Judgement, packet: Packet) -> Explained {
    Explained {
        outcome: judgement.outcome,
        service: counters::service_name(numbers, judgement.service),
        service_number: judgement.service,
        entry_cidr: numbers.cidr_of(judgement.entry),
        packet,
    }
}
