//! Following the CRLs: what changes in their files is in force within a second.

use std::sync::Arc;

use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::Agent;
use crate::{audit::Decision, tls::Watch};

/// Reads the CRLs again whenever their files have changed, until `end`.
pub(super) async fn follow(agent: Arc<Agent>, end: CancellationToken) {
    let mut watch = Watch::new();
    // A reload may name other files.
    let mut changes = agent.acceptor.changes();
    loop {
        let sources = agent.acceptor.crl_sources();
        tokio::select! {
            () = end.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
            () = watch.changed(&sources) => read_again(&agent).await,
        }
    }
}

async fn read_again(agent: &Arc<Agent>) {
    let reading = Arc::clone(agent);
    let read = spawn_blocking(move || reading.acceptor.reread_crls()).await;
    match read {
        Ok(reread) => {
            for fault in reread.faults {
                tracing::warn!("a CRL is not taken over: {fault}");
            }
            for news in reread.news {
                tracing::info!("CRL in force: {news}");
                agent.record(Decision::Done, format!("CRL in force: {news}"));
            }
        }
        Err(error) => tracing::error!(%error, "the CRLs could not be read again"),
    }
}
