//! From one agent to the next while both run: the old one goes on until the new one serves, and then drains.

use std::time::SystemTime;

use super::{Agent, lock};
use crate::{
    audit::{Decision, Event, Operator, Record},
    control::{Estate, Failure, FailureKind, Peer, Response},
};

impl Agent {
    /// The listening sockets, with the lock on the allowlist and the configuration: what the successor reads now is what
    /// is in force when it takes over.
    pub(super) async fn bequeath(&self) -> Result<Estate<'_>, Failure> {
        let still = self.sources.lock().await;
        self.must_be_in_office()?;
        if lock(&self.trial).is_some() {
            return Err(Failure::new(
                FailureKind::Refused,
                "a configuration is on trial",
                "confirm it with `spinegate reload --confirm`, or wait until it has gone back",
            ));
        }
        let spare = lock(&self.spare_sockets);
        let sockets = spare
            .iter()
            .map(std::os::fd::OwnedFd::try_clone)
            .collect::<Result<_, _>>();
        drop(spare);
        Ok(Estate {
            sockets: sockets.map_err(|error| super::reload::internal(&error))?,
            still: Box::new(still),
        })
    }

    /// Leaves the filter, the operator's socket and new connections to the successor. Returns when nothing of this agent
    /// touches them any more.
    pub(super) async fn leave_office(&self, peer: Peer, estate: Estate<'_>) -> Response {
        self.successor.cancel();
        // Whoever has waited for the lock finds that this agent is no longer in office.
        drop(estate);
        self.duties.close();
        self.duties.wait().await;
        let mut record = Record::new(SystemTime::now(), Event::Operator, Decision::Done);
        record.operator = Some(Operator {
            uid: peer.uid,
            pid: peer.pid,
        });
        record.detail = Some("another agent has taken over".to_owned());
        if let Err(error) = self.audit.write(&record) {
            tracing::error!(%error, "the succession could not be recorded");
        }
        Response::Done(format!("agent {} finishes what is under way", std::process::id()))
    }

    /// Refuses a change once a successor has taken over: it would be undone by that one's next change, or undo it.
    pub(super) fn must_be_in_office(&self) -> Result<(), Failure> {
        if !self.successor.is_cancelled() {
            return Ok(());
        }
        Err(Failure::new(
            FailureKind::Refused,
            "another agent has taken over",
            "give the command again: that one answers now",
        ))
    }
}
