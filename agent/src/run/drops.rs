//! The kernel's sampled drops: read, recorded, and told to those who follow them.

use std::{sync::Arc, time::Duration, time::SystemTime};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use spinegate_common::{
    event::Captured,
    packet::{self, Packet},
};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{Agent, packets::line};
use crate::{
    audit::{Decision, Event, Record},
    control::DropReport,
    filter::Drop,
    keeper::Dropped,
};

const POLL: Duration = Duration::from_millis(200);
/// Answers with drops in one go: the ring buffer holds no more, and others have calls to make, too.
const ROUNDS: usize = 32;
/// How often those who follow are told of what the kernel only counted.
const LOSSES: Duration = Duration::from_secs(1);

/// Reports the sampled drops, until `end`.
pub(super) async fn report(agent: Arc<Agent>, end: CancellationToken) {
    if agent.filter.is_none() {
        return;
    }
    let (mut ticks, mut losses) = (interval(POLL), interval(LOSSES));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    losses.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            _ = losses.tick() => {
                agent.tell_losses();
                continue;
            }
            _ = ticks.tick() => {}
        }
        agent.report_drops();
    }
}

impl Agent {
    fn report_drops(&self) {
        let Some(filter) = &self.filter else { return };
        for _ in 0..ROUNDS {
            // That the keeper has gone is said elsewhere.
            let Ok((drops, more)) = filter.drops() else { return };
            for dropped in drops {
                if let Err(error) = self.audit.write(&record(&dropped.event)) {
                    tracing::error!(%error, "a drop could not be recorded");
                }
                self.journal.publish(describe(dropped));
            }
            if !more {
                return;
            }
        }
    }

    fn tell_losses(&self) {
        match self.filter.as_ref().map(|filter| filter.lost_events()) {
            Some(Ok(lost)) => self.journal.set_lost(lost),
            Some(Err(error)) => tracing::warn!(%error, "lost drop events can't be counted"),
            None => {}
        }
    }
}

fn describe(dropped: Dropped) -> DropReport {
    let event = &dropped.event;
    DropReport {
        time: humantime::format_rfc3339_nanos(event.time).to_string(),
        reason: event.reason.as_str().to_owned(),
        monitored: event.monitored,
        service: dropped.service,
        interface: event.interface,
        interface_name: dropped.interface,
        length: event.length,
        source: Some(event.source).filter(|source| !source.is_unspecified()),
        packet: line(&headers(event)),
        frame: STANDARD.encode(&event.frame),
    }
}

/// What the captured beginning of its frame says.
fn headers(event: &Drop) -> Packet {
    let captured = Captured {
        bytes: &event.frame,
        length: usize::try_from(event.length).unwrap_or(usize::MAX),
    };
    let mut packet = Packet::default();
    // What the parser stumbles over is the event's reason, and what comes before it is filled in.
    let _ = packet::parse(&captured, &mut packet);
    packet
}

fn record(event: &Drop) -> Record {
    let decision = if event.monitored {
        Decision::WouldDrop
    } else {
        Decision::Drop
    };
    let mut record = Record::new(SystemTime::now(), Event::Drop, decision);
    record.reason = Some(event.reason);
    record.source = Some(event.source);
    record.detail = Some(format!(
        "protocol {} port {} to {} port {}, {} bytes, TCP flags 0x{:02x}, interface {}",
        event.protocol,
        event.source_port,
        event.destination,
        event.destination_port,
        event.length,
        event.tcp_flags,
        event.interface
    ));
    record
}
