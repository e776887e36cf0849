//! Lines on their way to the disk: one thread syncs, and every sync is for all the lines that were written before it began.

use std::{
    fs::File,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use tokio::sync::watch;

/// The thread that syncs, and what it has done.
#[derive(Debug)]
pub(super) struct Syncing {
    asked: Arc<Asked>,
    done: watch::Receiver<Done>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Asked {
    next: Mutex<Next>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Next {
    /// The file, and the number of its last line.
    line: Option<(Arc<File>, u64)>,
    /// Up to which line all was asked for, once anything was.
    asked: Option<u64>,
    ended: bool,
}

/// Up to which line all is on the disk, but for a range that failed.
#[derive(Clone, Debug, Default)]
struct Done {
    until: u64,
    failed: Option<(u64, u64, Arc<str>)>,
}

impl Syncing {
    pub(super) fn start() -> io::Result<Self> {
        let asked = Arc::new(Asked::default());
        let (tell, done) = watch::channel(Done::default());
        let of_thread = Arc::clone(&asked);
        let thread = thread::Builder::new()
            .name("audit-sync".to_owned())
            .spawn(move || work(&of_thread, &tell))?;
        Ok(Self {
            asked,
            done,
            thread: Some(thread),
        })
    }

    /// Has everything up to a line of a file synced. Lines are asked for in their order.
    pub(super) fn ask(&self, file: &Arc<File>, number: u64) {
        let mut next = self.asked.lock();
        next.line = Some((Arc::clone(file), number));
        next.asked = Some(number);
        drop(next);
        self.asked.changed.notify_one();
    }

    /// Lines that are not on the disk yet, as far as the disk has been asked once.
    pub(super) fn waiting(&self) -> u64 {
        let asked = self.asked.lock().asked.unwrap_or_default();
        match self.done.borrow().until {
            0 => 0,
            until => asked.saturating_sub(until),
        }
    }

    /// Waits until a line is on the disk.
    pub(super) async fn until(&self, number: u64) -> io::Result<()> {
        let mut done = self.done.clone();
        let reached = done
            .wait_for(|done| done.until >= number)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        match &reached.failed {
            Some((from, to, error)) if (*from..=*to).contains(&number) => {
                Err(io::Error::other(error.to_string()))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Syncing {
    fn drop(&mut self) {
        self.asked.lock().ended = true;
        self.asked.changed.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that syncs the audit log has panicked");
        }
    }
}

impl Asked {
    fn lock(&self) -> MutexGuard<'_, Next> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn work(asked: &Asked, tell: &watch::Sender<Done>) {
    let mut next = asked.lock();
    loop {
        if let Some((file, number)) = next.line.take() {
            drop(next);
            let synced = file.sync_data();
            tell.send_modify(|done| done.note(number, synced));
            next = asked.lock();
        } else if next.ended {
            return;
        } else {
            next = asked.changed.wait(next).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Done {
    /// What a failed sync was to bring to the disk may never get there, though later ones succeed: all of it has failed, and
    /// what lies between two failures counts as failed too.
    fn note(&mut self, number: u64, synced: io::Result<()>) {
        if let Err(error) = synced {
            let from = self.failed.as_ref().map_or(self.until + 1, |(from, _, _)| *from);
            self.failed = Some((from, number, error.to_string().into()));
        }
        self.until = self.until.max(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_waits_for_the_sync_that_began_after_it() {
        let syncing = Syncing::start().unwrap();
        let file = Arc::new(tempfile::tempfile().unwrap());
        syncing.ask(&file, 3);
        syncing.until(2).await.unwrap();
        syncing.until(3).await.unwrap();
        assert_eq!(syncing.waiting(), 0);
        let waits = tokio::time::timeout(std::time::Duration::from_millis(20), syncing.until(4)).await;
        assert!(waits.is_err());
    }

    #[tokio::test]
    async fn a_file_that_can_t_be_synced_fails_its_lines() {
        let (_reader, writer) = io::pipe().unwrap();
        let syncing = Syncing::start().unwrap();
        let pipe = Arc::new(File::from(std::os::fd::OwnedFd::from(writer)));
        syncing.ask(&pipe, 1);
        assert!(syncing.until(1).await.is_err());
        let file = Arc::new(tempfile::tempfile().unwrap());
        syncing.ask(&file, 2);
        syncing.until(2).await.unwrap();
        assert!(syncing.until(1).await.is_err());
    }

    #[test]
    fn a_failure_keeps_what_it_has_failed() {
        let mut done = Done::default();
        done.note(5, Ok(()));
        done.note(7, Err(io::ErrorKind::StorageFull.into()));
        done.note(9, Ok(()));
        assert_eq!(done.until, 9);
        assert!(matches!(done.failed, Some((6, 7, _))));
    }
}
