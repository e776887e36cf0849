//! What operators see of the registry, and have fetched; and the record of what was put in force.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::Agent;
use crate::{
    audit::Decision,
    control::{Failure, FailureKind, Response, SystemEntry, SystemVersion},
    directory::Wish,
    nrl::Asid,
    registry::Source,
};

/// Systems of an answer: some megabytes.
const PAGE: usize = 5_000;
/// The command waits a little longer than this.
const PATIENCE: Duration = Duration::from_secs(30);

/// Records what is put in force, until `end`.
pub(super) async fn record(agent: Arc<Agent>, mut news: mpsc::Receiver<String>, end: CancellationToken) {
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            said = news.recv() => match said {
                Some(said) => agent.record(Decision::Done, said),
                None => return,
            }
        }
    }
}

impl Agent {
    pub(super) fn list_systems(&self, after: Option<&str>, limit: usize) -> Result<Response, Failure> {
        let after = after.map(parse).transpose()?;
        let page = self
            .registry
            .load()
            .page(after.as_ref(), limit.min(PAGE), SystemTime::now());
        let page = page
            .iter()
            .map(|(source, system)| SystemEntry::new(*source, system));
        Ok(Response::Systems(page.collect()))
    }

    pub(super) fn show_system(&self, asid: &str) -> Result<Response, Failure> {
        let asid = parse(asid)?;
        let registry = self.registry.load();
        let now = SystemTime::now();
        let mut decided = false;
        let versions: Vec<_> = registry
            .snapshots()
            .iter()
            .filter_map(|snapshot| {
                let system = snapshot.systems.get(&asid)?;
                let counts = snapshot.counts_at(now);
                let decides = counts && !decided;
                decided |= counts;
                Some(SystemVersion {
                    decides,
                    counts,
                    system: SystemEntry::new(snapshot.source, &system),
                })
            })
            .collect();
        if versions.is_empty() {
            let mend = "`spinegate status` shows the registry's sources, and how old they are";
            return Err(Failure::new(
                FailureKind::NotFound,
                format!("no source of the registry knows the ASID {asid}"),
                mend,
            ));
        }
        Ok(Response::Versions(versions))
    }

    /// Fetches sources, and waits for them as long as the command does.
    pub(super) async fn sync_registry(
        &self,
        source: Option<Source>,
        accept_shrink: bool,
    ) -> Result<String, Failure> {
        self.must_be_in_office()?;
        let fetched = self.directory.sources();
        let wanted: Vec<Source> = match source {
            Some(source) if !fetched.contains(&source) => {
                let mend = format!("name it in `[registry.{source}]`, or say `spinegate reload` for files");
                let message = format!("{source} is not one of the registry's fetched sources");
                return Err(Failure::new(FailureKind::Refused, message, mend));
            }
            Some(source) => vec![source],
            None if fetched.is_empty() => {
                let mend = "`spinegate reload` reads the registry's file again";
                let message = "no source of the registry is fetched";
                return Err(Failure::new(FailureKind::Refused, message, mend));
            }
            None => fetched,
        };
        let mut fetching = JoinSet::new();
        for source in wanted {
            let directory = Arc::clone(&self.directory);
            let wish = Wish {
                whole: true,
                accept_shrink,
            };
            fetching.spawn(async move { (source, directory.fetch(source, wish).await) });
        }
        let mut lines = Vec::new();
        let mut failed = false;
        let all = async {
            while let Some(Ok((source, result))) = fetching.join_next().await {
                failed |= result.is_err();
                lines.push(match result {
                    Ok(said) => format!("{source}: {said}"),
                    Err(fault) => format!("{source}: nothing is put in force: {fault}"),
                });
            }
        };
        if tokio::time::timeout(PATIENCE, all).await.is_err() {
            fetching.detach_all();
            lines.push("it goes on: `spinegate status` shows what comes of it".to_owned());
        }
        lines.sort();
        if failed {
            let mend =
                "the last snapshot stays in force until it is too old; `spinegate status` shows until when";
            return Err(Failure::new(FailureKind::Internal, lines.join("\n"), mend));
        }
        Ok(lines.join("\n"))
    }
}

fn parse(text: &str) -> Result<Asid, Failure> {
    let usage = |error: &dyn std::fmt::Display| {
        Failure::new(FailureKind::Usage, error.to_string(), "give twelve digits")
    };
    Asid::parse(text).map_err(|error| usage(&error))
}
