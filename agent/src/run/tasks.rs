//! What the agent does besides serving.

use std::{sync::Arc, time::Duration, time::Instant, time::SystemTime};

use tokio::{
    runtime::Handle,
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{Agent, lock};
use crate::{audit::Decision, control::Guard, log};

const SWEEP: Duration = Duration::from_secs(10);

/// Deletes expired verdicts and faded strikes, until `end`.
pub(super) async fn sweep(agent: Arc<Agent>, end: CancellationToken) {
    let mut ticks = interval(SWEEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if let Err(error) = agent.verdicts.sweep(Instant::now()) {
            tracing::warn!(%error, "expired verdicts could not be deleted");
        }
        agent.drop_ended_sources().await;
        log::tell_left_out();
        agent.try_audit_log().await;
    }
}

impl Agent {
    /// Tries an audit log that took no record: as long as it is known to fail nobody may send requests, whose records would
    /// try it.
    async fn try_audit_log(self: &Arc<Self>) {
        if !self.audit.is_failing() {
            return;
        }
        let record = Self::own_record(Decision::Done, "the audit log takes records again".to_owned());
        // A disk that hangs must not take a thread that serves requests.
        let (log, runtime) = (Arc::clone(&self.audit), Handle::current());
        let trying = tokio::task::spawn_blocking(move || runtime.block_on(log.commit(&record)));
        let tried = match trying.await {
            Ok(tried) => tried,
            Err(error) => return tracing::error!(%error, "the audit log could not be tried"),
        };
        match tried {
            Ok(()) => tracing::info!("the audit log takes records again"),
            Err(error) => tracing::error!(%error, "the audit log still takes no records"),
        }
    }
}

/// Signs the audit log at once and from time to time, until `end`.
pub(super) async fn sign_audit_log(agent: Arc<Agent>, end: CancellationToken) {
    let mut ticks = interval(agent.config.load().audit.checkpoint_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let agent = Arc::clone(&agent);
        // A disk may take its time.
        let signed = tokio::task::spawn_blocking(move || agent.sign_audit_log()).await;
        if let Err(error) = signed {
            tracing::error!(%error, "the audit log could not be signed");
        }
    }
}

/// Goes back to the old configuration when nobody has confirmed the new one in time, until `end`.
pub(super) async fn end_trials(agent: Arc<Agent>, end: CancellationToken) {
    loop {
        let until = lock(&agent.trial).as_ref().map(|trial| trial.until);
        let over = async {
            match until {
                Some(until) => {
                    tokio::time::sleep(until.duration_since(SystemTime::now()).unwrap_or_default()).await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = end.cancelled() => return,
            () = agent.trial_began.notified() => {}
            () = over => agent.end_trial().await,
        }
    }
}

/// Reloads at each SIGHUP, until `end`.
pub(super) async fn reload_on_hangup(agent: Arc<Agent>, end: CancellationToken) {
    let mut hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => hangup,
        Err(error) => {
            tracing::error!(%error, "SIGHUP is not heard; `spinegate reload` still works");
            return;
        }
    };
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            signal = hangup.recv() => if signal.is_none() { return },
        }
        match agent.reload(Guard::default(), None).await {
            Ok(done) => agent.record(Decision::Done, done),
            Err(failure) => {
                tracing::error!("the configuration was not taken over:\n{failure}");
                agent.record(Decision::Refuse, format!("reload: {}", failure.message));
            }
        }
    }
}
