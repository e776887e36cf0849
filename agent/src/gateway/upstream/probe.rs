//! Asking the upstreams how they are, in between clients' requests.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, header, uri::PathAndQuery};
use tokio::{task::JoinSet, time::Instant};

use super::{Upstream, answer, connection::Connection, member::Member, request};
use crate::tls::Connector;

/// How often kept connections are looked at, and how late a probe may be.
const TICK: Duration = Duration::from_millis(500);

/// When the upstreams are asked next.
#[derive(Debug, Default)]
pub(super) struct Clock(Mutex<Option<Instant>>);

impl Clock {
    fn is_due(&self, interval: Duration) -> bool {
        let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if next.is_some_and(|next| now < next) {
            return false;
        }
        *next = Some(now + interval);
        true
    }
}

impl Upstream {
    /// Closes connections that were kept long enough, and asks the upstreams if it is time. Gives the time to the next call.
    pub(in crate::gateway) async fn tend(&self) -> Duration {
        for member in &self.members {
            member.sweep();
        }
        let Some(path) = &self.health.path else {
            return TICK;
        };
        if self.probes.is_due(self.health.interval) {
            let mut probes = JoinSet::new();
            for member in &self.members {
                let (member, connector) = (Arc::clone(member), self.connector.clone());
                let (path, timeout) = (path.clone(), self.health.timeout);
                probes.spawn(async move { ask(&member, connector.as_ref(), path, timeout).await });
            }
            probes.join_all().await;
        }
        TICK.min(self.health.interval)
    }
}

async fn ask(member: &Member, connector: Option<&Connector>, path: PathAndQuery, timeout: Duration) {
    let answer = question(member, connector, path, timeout).await;
    if member.asked(answer.as_ref().copied().map_err(String::as_str)) {
        match answer {
            Ok(()) => tracing::info!(upstream = %member.address, "the upstream is up again"),
            Err(error) => tracing::warn!(upstream = %member.address, %error, "the upstream is down"),
        }
    }
}

/// Over a connection of its own: what matters is whether a new one can be had.
async fn question(
    member: &Member,
    connector: Option<&Connector>,
    path: PathAndQuery,
    timeout: Duration,
) -> Result<(), String> {
    let deadline = Instant::now() + timeout;
    let mut connection = Connection::open(&member.address, connector, timeout, deadline)
        .await
        .map_err(|error| error.to_string())?;
    let mut request = request(Method::GET, path, Bytes::new());
    let headers = request.headers_mut();
    headers.insert(header::HOST, member.address.field().clone());
    headers.insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    let answer = connection
        .send(request, deadline)
        .await
        .map_err(|unanswered| unanswered.error.to_string())?;
    let (head, _) = answer.into_parts();
    if let Some(fault) = answer::fault(&head) {
        return Err(fault.to_string());
    }
    if head.status.is_success() {
        Ok(())
    } else {
        Err(format!(
            "asked how it is, it answered with status {}",
            head.status.as_u16()
        ))
    }
}
