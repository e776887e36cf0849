//! From one agent to the next while both run: the old one goes on until the new one serves, and then drains.

use serde_json::Map;
use uuid::Uuid;

use super::{Agent, lock};
use crate::{
    audit::Order,
    control::{Estate, Failure, FailureKind, Peer},
};

fn hand_over() -> Order {
    Order {
        verb: "hand over",
        arguments: Map::new(),
    }
}

impl Agent {
    /// The listening sockets, with the lock on the allowlist and the configuration: what the successor reads now is what
    /// is in force when it takes over.
    pub(super) async fn bequeath(&self, peer: Peer) -> Result<Estate<'_>, Failure> {
        let order = hand_over();
        let id = self.take_up(peer, &order).await?;
        let estate = self.estate().await;
        let outcome = match &estate {
            Ok(_) => Ok("the sockets are given to another agent"),
            Err(failure) => Err(failure),
        };
        self.record_outcome(peer, (id, &order), outcome);
        estate
    }

    async fn estate(&self) -> Result<Estate<'_>, Failure> {
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
    pub(super) async fn leave_office(&self, peer: Peer, estate: Estate<'_>) -> String {
        self.successor.cancel();
        // Whoever has waited for the lock finds that this agent is no longer in office.
        drop(estate);
        self.duties.close();
        self.duties.wait().await;
        let done = "another agent has taken over";
        self.record_outcome(peer, (Uuid::new_v4(), &hand_over()), Ok(done));
        format!("agent {} finishes what is under way", std::process::id())
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
