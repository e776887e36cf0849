//! The sign of life that systemd gets: not that the process is there, but that what it consists of works.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::{AbortHandle, JoinHandle},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use super::Agent;
use crate::service;

/// How long the agent may take to say how it is.
const PATIENCE: Duration = Duration::from_secs(10);

/// A task without which the agent is none.
pub(super) struct Vital {
    what: &'static str,
    task: AbortHandle,
}

impl Vital {
    pub(super) fn new<T>(what: &'static str, task: &JoinHandle<T>) -> Self {
        Self {
            what,
            task: task.abort_handle(),
        }
    }
}

/// Tells systemd that the agent works, as long as it does, until `end`.
///
/// It works if the runtime still wakes this task, if no vital task has ended, and if the agent answers what an operator asks
/// first: for that its locks, the filter and a thread that may wait must be to be had.
pub(super) async fn watch(agent: Arc<Agent>, vital: Vec<Vital>, end: CancellationToken) {
    let mut ticks = interval(service::pulse());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ailing = false;
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let found = tokio::select! {
            () = end.cancelled() => return,
            found = fault(&agent, &vital) => found,
        };
        match &found {
            None => service::alive(),
            // Said once: it goes on until systemd ends the agent.
            Some(fault) if !ailing => {
                tracing::error!("{fault}; systemd is not told any more that the agent works");
                service::ailing(fault);
            }
            Some(_) => {}
        }
        ailing = found.is_some();
    }
}

async fn fault(agent: &Arc<Agent>, vital: &[Vital]) -> Option<String> {
    if let Some(ended) = vital.iter().find(|vital| vital.task.is_finished()) {
        return Some(format!("the task that {} has ended", ended.what));
    }
    let agent = Arc::clone(agent);
    let asked = tokio::task::spawn_blocking(move || agent.status().is_ok());
    match timeout(PATIENCE, asked).await {
        // That it can't tell something is no reason to end it.
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(format!("the agent can't tell how it is: {error}")),
        Err(_) => Some(format!(
            "the agent has not told for {} s how it is",
            PATIENCE.as_secs()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_vital_task_that_panics_has_ended() {
        let task = tokio::spawn(async { panic!("as a defect would") });
        let vital = Vital::new("serves", &task);
        assert!(task.await.is_err());
        assert!(vital.task.is_finished());
    }
}
