//! The interfaces while the agent runs: attached to when they come back, taken off and put back by an operator, and named
//! with whatever holds them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{Agent, reload::refused};
use crate::{
    audit::Decision,
    control::{Failure, FailureKind, InterfaceStatus},
    filter::{Owner, titled},
    keeper::Interfaces,
    verdict::OrderError,
};

const LOOK: Duration = Duration::from_secs(1);

/// Attaches to interfaces that went away and came back, and records what becomes of each, until `end`.
pub(super) async fn keep_attached(agent: Arc<Agent>, end: CancellationToken) {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = Seen::new();
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let looking = Arc::clone(&agent);
        let looked = tokio::task::spawn_blocking(move || {
            looking.look_after_interfaces(&mut seen);
            seen
        });
        seen = looked.await.unwrap_or_default();
    }
}

/// What was last said of an interface that is not as it should be.
type Seen = BTreeMap<String, String>;

impl Agent {
    fn look_after_interfaces(&self, seen: &mut Seen) {
        let Some(filter) = &self.filter else { return };
        let look = || filter.interfaces().ok().filter(|found| !found.detached);
        let Some(Interfaces {
            owners: mut found, ..
        }) = look()
        else {
            return;
        };
        let bare: Vec<_> = names_of(&found, &Owner::Nobody);
        let mut failure = None;
        if !bare.is_empty() {
            // Not if an operator has taken it off since the look.
            failure = filter.reattach().err();
            match look() {
                Some(again) => found = again.owners,
                None => return,
            }
        }
        for (name, owner) in found {
            let trouble = match owner {
                Owner::Spinegate => {
                    if bare.contains(&name) || seen.remove(&name).is_some() {
                        self.tell(Decision::Done, format!("the filter is attached to {name} again"));
                    }
                    continue;
                }
                Owner::Gone => format!("interface {name} is gone: the filter attaches to it when it is back"),
                Owner::Other { program, name: title } => format!(
                    "interface {name} is not guarded: {} holds its XDP slot; take it away with `ip link set dev {name} xdp \
                     off`, then the filter attaches by itself",
                    titled(program, &title)
                ),
                Owner::Nobody => match &failure {
                    Some(error) => format!("interface {name} is not guarded: {error}"),
                    None => format!("interface {name} is not guarded"),
                },
            };
            // Once, not every second.
            if seen.get(&name) != Some(&trouble) {
                self.tell(Decision::Refuse, trouble.clone());
                seen.insert(name, trouble);
            }
        }
    }

    fn tell(&self, decision: Decision, what: String) {
        tracing::warn!("{what}");
        self.record(decision, what);
    }

    /// Puts the filter on its interfaces again.
    pub(super) fn attach(&self) -> Result<String, Failure> {
        let config = self.config.load();
        let filter = self.filter.as_ref().ok_or_else(off)?;
        let attachments = filter.attach().map_err(|error| {
            Failure::new(
                FailureKind::Refused,
                error.to_string(),
                "where the filter was attached, it still is",
            )
        })?;
        let named = |name: &String| {
            let attached = attachments.iter().find(|attachment| attachment.name == *name);
            match attached {
                Some(attachment) if attachment.native => format!("{name} (native)"),
                Some(_) => format!("{name} (generic)"),
                None => format!("{name} (when it is back: it is gone for now)"),
            }
        };
        let names: Vec<_> = config.filter.interfaces.iter().map(named).collect();
        Ok(format!("the filter is attached to {}", names.join(", ")))
    }

    /// Takes the filter off its interfaces until an operator puts it back, or the agent starts again.
    pub(super) fn detach(&self) -> Result<String, Failure> {
        let filter = self.filter.as_ref().ok_or_else(off)?;
        let names = filter.detach().map_err(|error| refused(&error))?;
        if names.is_empty() {
            return Err(Failure::new(
                FailureKind::NotFound,
                "the filter is attached to no interface",
                "`spinegate status` shows what holds each of them",
            ));
        }
        Ok(format!(
            "the filter is off {}: nothing is guarded there until `spinegate attach`, or until the agent starts again",
            names.join(", ")
        ))
    }
}

fn off() -> Failure {
    Failure::new(
        FailureKind::Refused,
        OrderError::FilterOff.to_string(),
        "nothing was changed",
    )
}

fn names_of(found: &[(String, Owner)], wanted: &Owner) -> Vec<String> {
    let fit = found.iter().filter(|(_, owner)| owner == wanted);
    fit.map(|(name, _)| name.clone()).collect()
}

/// Each interface of the configuration: how the filter is attached to it, and what holds it.
pub(super) fn status(found: &Interfaces) -> Vec<InterfaceStatus> {
    let owners = found.owners.iter();
    owners
        .map(|(name, owner)| {
            // What was attached to an interface that has gone is gone with it.
            let attached = found
                .attachments
                .iter()
                .find(|attachment| attachment.name == *name && *owner == Owner::Spinegate);
            InterfaceStatus {
                name: name.clone(),
                index: attached.map_or(0, |attachment| attachment.index),
                attach: match attached {
                    Some(attachment) if attachment.native => "native",
                    Some(_) => "generic",
                    None => "none",
                }
                .to_owned(),
                program_id: attached.map_or(0, |attachment| attachment.program),
                owner: match owner {
                    Owner::Spinegate => "spinegate".to_owned(),
                    Owner::Other { program, name } => titled(*program, name),
                    Owner::Nobody => "nothing".to_owned(),
                    Owner::Gone => "gone".to_owned(),
                },
            }
        })
        .collect()
}
