//! Noticing that the files of CRLs have changed.

use std::{path::PathBuf, sync::Arc, time::Duration};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode},
};
use tokio::{sync::Notify, task::spawn_blocking, time::sleep};

use super::files::{Stamp, stamps};

/// Several files are often replaced together.
const SETTLE: Duration = Duration::from_millis(100);
/// What the kernel does not tell of, as on a network file system, is looked at so often.
const POLL: Duration = Duration::from_secs(30);

/// Watches files, and folders of them.
pub struct Watch {
    paths: Vec<PathBuf>,
    /// None where the kernel gives none; then there is only [`POLL`].
    watcher: Option<RecommendedWatcher>,
    told: Arc<Notify>,
    seen: Option<Vec<Stamp>>,
}

impl Watch {
    /// Watches nothing yet. The first time that it is asked, everything has changed.
    #[must_use]
    pub fn new() -> Self {
        Self {
            paths: Vec::new(),
            watcher: None,
            told: Arc::default(),
            seen: None,
        }
    }

    /// Waits until a file at one of `paths` is not what it was when this last returned. May be cancelled.
    pub async fn changed(&mut self, paths: &[PathBuf]) {
        if self.paths != paths || self.watcher.is_none() {
            self.follow(paths);
        }
        loop {
            let paths = self.paths.clone();
            if let Ok(now) = spawn_blocking(move || stamps(&paths)).await
                && self.seen.as_ref() != Some(&now)
            {
                self.seen = Some(now);
                return;
            }
            tokio::select! {
                () = self.told.notified() => sleep(SETTLE).await,
                () = sleep(POLL) => {}
            }
        }
    }

    fn follow(&mut self, paths: &[PathBuf]) {
        self.paths = paths.to_vec();
        match watcher(paths, Arc::clone(&self.told)) {
            Ok(watcher) => self.watcher = Some(watcher),
            Err(error) => {
                let every = humantime::format_duration(POLL);
                tracing::warn!(%error, "CRLs can't be watched; they are looked at every {every}");
                self.watcher = None;
            }
        }
    }
}

impl Default for Watch {
    fn default() -> Self {
        Self::new()
    }
}

/// Watches the folders: a file that is replaced by renaming another is seen only there.
fn watcher(paths: &[PathBuf], told: Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        if event.is_ok_and(|event| !is_reading(event.kind)) {
            told.notify_one();
        }
    })?;
    let folder = |path: &PathBuf| {
        if path.is_dir() {
            Some(path.clone())
        } else {
            path.parent().map(PathBuf::from)
        }
    };
    let mut folders: Vec<_> = paths.iter().filter_map(folder).collect();
    folders.sort();
    folders.dedup();
    for folder in folders {
        watcher.watch(&folder, RecursiveMode::NonRecursive)?;
    }
    Ok(watcher)
}

/// Reading changes nothing, and is what this program does itself.
const fn is_reading(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
        EventKind::Access(_) => true,
        _ => false,
    }
}
