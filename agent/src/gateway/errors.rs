//! A refusal as `spinegate errors` tells it.

use std::net::SocketAddr;

use crate::{
    audit::{Decision, Event, Record},
    control::ErrorReport,
};

/// What a record says of a refusal; none if it is of something else.
pub(super) fn report(record: &Record) -> Option<ErrorReport> {
    let event = match (record.event, record.decision) {
        (Event::Connection, Decision::Refuse) => "connection",
        (Event::Request, Decision::Refuse) => "request",
        _ => return None,
    };
    let reason = record.reason?;
    let request = record.request.as_ref();
    Some(ErrorReport {
        time: humantime::format_rfc3339_millis(record.time).to_string(),
        event: event.to_owned(),
        reason: reason.as_str().to_owned(),
        side: reason.side().as_str().to_owned(),
        check: record.check.map(str::to_owned),
        source: record
            .peer
            .map(|peer| SocketAddr::new(peer.ip().to_canonical(), peer.port())),
        fqdn: record
            .certificate
            .as_ref()
            .and_then(|certificate| certificate.fqdn.clone()),
        asid: request.and_then(|request| request.asid.clone()),
        ods: request.and_then(|request| request.ods.clone()),
        interaction: request.and_then(|request| request.interaction.clone()),
        custodian: request.and_then(|request| request.custodian.clone()),
        status: request.and_then(|request| request.status),
        request: request.map(ToString::to_string),
        detail: record.detail.clone(),
        position: record.position,
        decision_id: record.decision_id.to_string(),
    })
}
