//! The record of what operators had the agent do: of each order before it is carried out, and of what came of it.

use std::time::{Instant, SystemTime};

use spinegate_common::Reason;
use uuid::Uuid;

use super::Agent;
use crate::{
    audit::{Decision, Event, Operator, Order, Record},
    burst::Burst,
    config::OnFailure,
    control::{Failure, FailureKind, Peer, Rebuff},
};

/// Of what was not even tried not each need have a line.
pub(super) type Rebuffs = Burst<Reason>;

impl Agent {
    /// Records that an order is taken up. Where that must be recorded and can't be, the order is not to be carried out.
    pub(super) async fn take_up(&self, peer: Peer, order: &Order) -> Result<Uuid, Failure> {
        let record = about(peer, Decision::Allow, Some(order));
        let id = record.decision_id;
        match self.audit.commit(&record).await {
            Ok(()) => Ok(id),
            Err(error) if self.audit.on_failure() == OnFailure::Serve => {
                tracing::error!(%error, "an operator's order could not be recorded: it is carried out all the same");
                Ok(id)
            }
            Err(error) => {
                tracing::error!(%error, "an operator's order could not be recorded: it is not carried out");
                Err(Failure::new(
                    FailureKind::Internal,
                    format!("the order can't be recorded: {error}"),
                    "nothing was done: give the order again when the audit log can be written",
                ))
            }
        }
    }

    /// Records what came of it.
    pub(super) fn record_outcome(
        &self,
        peer: Peer,
        (id, order): (Uuid, &Order),
        outcome: Result<&str, &Failure>,
    ) {
        let (decision, detail) = match outcome {
            Ok(done) => (Decision::Done, done),
            Err(failure) => (Decision::Refuse, failure.message.as_str()),
        };
        let mut record = about(peer, decision, Some(order));
        record.decision_id = id;
        record.detail = Some(detail.to_owned());
        self.write_order(&record);
    }

    /// Records what was not even tried.
    pub(super) fn record_rebuff(&self, peer: Peer, rebuff: &Rebuff) {
        self.counters.operator_rebuffed(rebuff);
        let Some(unwritten) = self.rebuffs.line(rebuff.reason(), Instant::now()) else {
            return;
        };
        let (verb, why) = match rebuff {
            Rebuff::Stranger => (None, "a user without a role called the control socket".to_owned()),
            Rebuff::ReadOnly(verb) => (Some(*verb), "the user may look, but not give orders".to_owned()),
            Rebuff::TakeOver => (None, "the user may not take over".to_owned()),
            Rebuff::Crowded => (
                None,
                "as many callers as are served at once were connected".to_owned(),
            ),
            Rebuff::Malformed(verb, failure) => (Some(*verb), failure.message.clone()),
        };
        let order = verb.map(|verb| Order {
            verb,
            arguments: serde_json::Map::new(),
        });
        let mut record = about(peer, Decision::Refuse, order.as_ref());
        record.refuse(rebuff.reason());
        record.detail = Some(match unwritten {
            0 => why,
            more => format!("{why}, and {more} more like it since the last line"),
        });
        self.write_order(&record);
    }

    fn write_order(&self, record: &Record) {
        if let Err(error) = self.audit.write(record) {
            tracing::error!(%error, "an operator's order could not be recorded");
        }
    }
}

fn about(peer: Peer, decision: Decision, order: Option<&Order>) -> Record {
    let mut record = Record::new(SystemTime::now(), Event::Operator, decision);
    record.operator = Some(Operator {
        uid: peer.uid,
        gid: peer.gid,
        pid: peer.pid,
    });
    record.order = order.cloned();
    record
}
