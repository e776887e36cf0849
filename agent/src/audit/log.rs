//! The file that records are appended to.

use std::{
    borrow::Cow,
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::{Deserialize, Serialize};

use super::{
    Decision, Event, KeyError, Link, Previous, Record, SigningKey,
    batch::{Place, Waiting},
    journald::Journal,
    sync::Syncing,
};
use crate::{
    clock::unix_seconds,
    config::{self, AuditOutput, Durability, OnFailure, Problem, beside},
    metrics::AuditObserved,
    replace::replace,
};

/// The longest line that is looked for at the end of a file.
const LONGEST_LINE: u64 = 1 << 20;
/// What a line takes at the most in general, number and hash with it, in bytes.
const USUAL_LINE: usize = 1024;

/// An open audit log. A write returns when the line has been handed to the kernel; a commit, when it is as safe as was asked for.
///
/// Two agents append to one file while one takes over from the other: each line is written under a lock on the file, after
/// what the other has written meanwhile was looked at.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    open: Mutex<Open>,
    waiting: Waiting,
    /// Whether lines may wait for one another. Into a pipe, more at once could be torn; and what is copied to the journal must not
    /// be given up in between.
    together: bool,
    key: Option<SigningKey>,
    mask: bool,
    timeout: Duration,
    on_failure: OnFailure,
    syncing: Option<Syncing>,
    output: AuditOutput,
    journal: Option<Journal>,
    lines: AtomicU64,
    failures: AtomicU64,
    /// When the chain was last signed, in seconds since 1970; 0 before that.
    signed: AtomicU64,
    /// Whether the latest line was not taken.
    failing: AtomicBool,
}

/// A line that has its place. However the wait for it ends, it is written.
struct Ticket<'l> {
    log: &'l Log,
    place: Place,
}

#[derive(Debug)]
struct Open {
    file: Arc<File>,
    /// Whether it has an end that can be looked at; a pipe or a device has none.
    regular: bool,
    tail: Tail,
    /// The last line that a checkpoint has signed.
    signed: u64,
}

/// How a file ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tail {
    length: u64,
    /// The last line has no end: a write was cut short, by this agent or by a crash of one before.
    torn: bool,
    link: Link,
}

/// Why the log can't be opened or written. Whoever meets it refuses what it was about to allow.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The file.
    #[error("the audit log {path} {action}: {error}; free space, or mend `audit.file`")]
    File {
        /// Which.
        path: PathBuf,
        /// What can't be done.
        action: &'static str,
        /// Why.
        error: io::Error,
    },
    /// The journal.
    #[error(
        "the audit log can't go to journald: {error}; see that systemd-journald runs, or set `audit.output` to `file`"
    )]
    Journald {
        /// Why.
        error: io::Error,
    },
    /// The key.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// What `audit.jsonl.head` holds: how far the log had got, when that was last noted.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    seq: u64,
    chain: String,
}

impl Log {
    /// Opens the file for appending, and goes on with its chain; makes it, for owner and group only, and its folder and its
    /// key where they are missing.
    ///
    /// # Errors
    /// If the system refuses, or the key is none.
    pub fn open(config: &config::Audit) -> Result<Self, AuditError> {
        let journal = match config.output {
            AuditOutput::File => None,
            AuditOutput::Journald | AuditOutput::Both => {
                Some(Journal::open().map_err(|error| AuditError::Journald { error })?)
            }
        };
        let mut open = match config.output {
            AuditOutput::Journald => nowhere().map_err(|error| AuditError::Journald { error })?,
            AuditOutput::File | AuditOutput::Both => open(&config.file)?,
        };
        let noted = if open.regular { head(&config.file) } else { None };
        let key = if open.regular {
            Some(SigningKey::load_or_make(&config.key)?)
        } else {
            None
        };
        let missing = noted.filter(|noted| noted.number > open.tail.link.number && open.tail.length > 0);
        if let Some(noted) = noted
            && open.tail.length == 0
        {
            open.tail.link = noted;
        }
        let syncing = match config.durability {
            Durability::Buffered => None,
            Durability::Fsync => Some(Syncing::start().map_err(|error| AuditError::File {
                path: config.file.clone(),
                action: "can't be synced",
                error,
            })?),
        };
        let log = Self {
            path: config.file.clone(),
            together: open.regular && journal.is_none(),
            open: Mutex::new(open),
            waiting: Waiting::default(),
            key,
            mask: config.mask,
            timeout: config.timeout,
            on_failure: config.on_failure,
            syncing,
            output: config.output,
            journal,
            lines: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            signed: AtomicU64::new(0),
            failing: AtomicBool::new(false),
        };
        if let Some(noted) = missing {
            let mut record = Record::new(SystemTime::now(), Event::Agent, Decision::Refuse);
            let last = log.lock().tail.link.number;
            record.detail = Some(format!(
                "the audit log ends at line {last}, but had got to line {}: lines are missing",
                noted.number
            ));
            tracing::error!(file = %log.path.display(), last, noted = noted.number, "lines of the audit log are missing");
            log.write(&record)?;
        }
        Ok(log)
    }

    /// Appends one line, with those that wait already, in one write, so that no other writer's line can come between its parts.
    ///
    /// # Errors
    /// If the line was not written whole. The failure is counted.
    pub fn write(&self, record: &Record) -> Result<(), AuditError> {
        self.write_at_once(record).map(drop)
    }

    /// Appends one line with those of all who ask for the same meanwhile: under load, many go to the kernel in one write. Returns
    /// when it is as safe as `audit.durability` asks.
    ///
    /// # Errors
    /// If the line was not written whole, is not on the disk, or not in time. The failure is counted.
    pub async fn commit(&self, record: &Record) -> Result<(), AuditError> {
        let number = if self.together {
            let ticket = self.append(self.line_of(&self.shown(record))?);
            // Whoever is ready to run by now adds a line before this goes on.
            tokio::task::yield_now().await;
            ticket.settle().map_err(|error| self.unwritten(error))?
        } else {
            self.write_at_once(record)?
        };
        self.durable(number).await
    }

    /// Gives the line's number in the file; 0 where there is none.
    fn write_at_once(&self, record: &Record) -> Result<u64, AuditError> {
        let shown = self.shown(record);
        let line = self.line_of(&shown)?;
        let Some(journal) = &self.journal else {
            return self.append_at_once(line);
        };
        if self.output == AuditOutput::Journald {
            journal
                .write(&shown, &line, None)
                .map_err(|error| self.untaken(error))?;
            self.lines.fetch_add(1, Ordering::Relaxed);
            self.took();
            return Ok(0);
        }
        let number = self.append_at_once(line.clone())?;
        self.copy(journal, &shown, &line, number);
        Ok(number)
    }

    fn shown<'r>(&self, record: &'r Record) -> Cow<'r, Record> {
        if self.mask {
            record.masked()
        } else {
            Cow::Borrowed(record)
        }
    }

    /// JSON escapes every control character, so that nothing a client sends can end the line.
    fn line_of(&self, record: &Record) -> Result<Vec<u8>, AuditError> {
        let mut line = Vec::with_capacity(USUAL_LINE);
        match serde_json::to_writer(&mut line, record) {
            Ok(()) => Ok(line),
            Err(error) => Err(self.failed("can't be written", error.into())),
        }
    }

    /// The file has it, and decides: what the journal does not take is counted, and holds nobody up.
    fn copy(&self, journal: &Journal, record: &Record, line: &[u8], number: u64) {
        if let Err(error) = journal.write(record, line, Some(number)) {
            self.failures.fetch_add(1, Ordering::Relaxed);
            tracing::error!(%error, "the journal did not take a copy of a line of the audit log");
        }
    }

    fn untaken(&self, error: io::Error) -> AuditError {
        self.note_failures(1);
        AuditError::Journald { error }
    }

    /// Waits until a line has what `audit.durability` asks for.
    async fn durable(&self, number: u64) -> Result<(), AuditError> {
        let Some(syncing) = &self.syncing else {
            return Ok(());
        };
        let synced = match tokio::time::timeout(self.timeout, syncing.until(number)).await {
            Ok(synced) => synced,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        synced
            .inspect(|()| self.took())
            .map_err(|error| self.failed("can't be synced", error))
    }

    /// Opens the file anew, after it was renamed for rotation. On failure the old one stays in use.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn reopen(&self) -> Result<(), AuditError> {
        if self.output == AuditOutput::Journald {
            return Ok(());
        }
        let mut new = open(&self.path)?;
        let mut old = self.lock();
        self.flush(&mut old);
        // The new file goes on from where the old one ends, whoever has written there last.
        if let Err(error) = old.look_again() {
            tracing::error!(%error, "the end of the audit log that was renamed can't be looked at");
        }
        if new.tail.length == 0 {
            new.tail.link = old.tail.link;
        }
        new.signed = old.signed;
        if self.syncing.is_some() {
            old.file
                .sync_data()
                .map_err(|error| self.failed("can't be synced", error))?;
        }
        *old = new;
        Ok(())
    }

    /// Signs the chain if there are new lines, and notes how far it has got.
    ///
    /// # Errors
    /// If the system refuses. A failure to write is counted.
    pub fn checkpoint(&self) -> Result<(), AuditError> {
        let Some(key) = &self.key else { return Ok(()) };
        let sign = |link: &Link| {
            let mut record = Record::new(SystemTime::now(), Event::Checkpoint, Decision::Done);
            record.checkpoint = Some(key.sign(link)?);
            Ok(vec![serde_json::to_vec(&record)?])
        };
        let mut open = self.lock();
        self.flush(&mut open);
        if open.signed == open.tail.link.number {
            return Ok(());
        }
        let signed = Self::append_to(&mut open, sign).inspect(|link| open.signed = link.number);
        // Whoever has a line to write need not wait for the disk.
        drop(open);
        if signed.is_ok() {
            self.lines.fetch_add(1, Ordering::Relaxed);
            self.signed
                .store(unix_seconds(SystemTime::now()), Ordering::Relaxed);
        }
        signed
            .and_then(|link| note_head(&self.path, &link))
            .map_err(|error| self.failed("can't be written", error))
    }

    /// What becomes of a request that can't be recorded.
    #[must_use]
    pub const fn on_failure(&self) -> OnFailure {
        self.on_failure
    }

    /// How it goes, in numbers.
    #[must_use]
    pub fn observe(&self) -> AuditObserved {
        let signed = self.signed.load(Ordering::Relaxed);
        AuditObserved {
            lines: self.lines.load(Ordering::Relaxed),
            failures: self.failures(),
            unsynced: self.syncing.as_ref().map_or(0, Syncing::waiting),
            checkpoint_timestamp: (signed > 0).then_some(signed),
        }
    }

    /// How many records could not be written.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Whether the latest line was not taken as `audit.durability` asks for it.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    fn took(&self) {
        // Reading is cheap to share between threads, and writing is not.
        if self.is_failing() {
            self.failing.store(false, Ordering::Relaxed);
        }
    }

    fn failed(&self, action: &'static str, error: io::Error) -> AuditError {
        self.note_failures(1);
        self.file_error(action, error)
    }

    /// A line that is not written, which was counted when that was found.
    fn unwritten(&self, error: io::Error) -> AuditError {
        self.file_error("can't be written", error)
    }

    fn file_error(&self, action: &'static str, error: io::Error) -> AuditError {
        AuditError::File {
            path: self.path.clone(),
            action,
            error,
        }
    }

    fn note_failures(&self, count: u64) {
        self.failures.fetch_add(count, Ordering::Relaxed);
        self.failing.store(true, Ordering::Relaxed);
    }

    /// Writes a line behind those that wait, without letting any come between; none wait where lines may not.
    fn append_at_once(&self, line: Vec<u8>) -> Result<u64, AuditError> {
        let mut open = self.lock();
        let place = self.waiting.add(line);
        self.flush(&mut open);
        place.number().map_err(|error| self.unwritten(error))
    }

    /// Gives a line its place among those that are written next.
    fn append(&self, line: Vec<u8>) -> Ticket<'_> {
        Ticket {
            log: self,
            place: self.waiting.add(line),
        }
    }

    /// Writes the lines that wait.
    fn flush(&self, open: &mut Open) {
        let mut batch = self.waiting.take();
        let lines = batch.take_lines();
        let count = lines.len() as u64;
        if count == 0 {
            return;
        }
        let written = Self::append_to(open, |_| Ok(lines));
        // Counted here: whoever waits may be gone by now.
        match &written {
            Ok(link) => {
                self.lines.fetch_add(count, Ordering::Relaxed);
                match &self.syncing {
                    Some(syncing) => syncing.ask(&open.file, link.number),
                    None => self.took(),
                }
            }
            Err(_) => self.note_failures(count),
        }
        batch.settle(written.map(|link| link.number.saturating_sub(count - 1)));
    }

    /// Appends the lines that `make` makes after a link: all of them, or none.
    fn append_to(open: &mut Open, make: impl FnOnce(&Link) -> io::Result<Vec<Vec<u8>>>) -> io::Result<Link> {
        let file = Arc::clone(&open.file);
        let _lock = if open.regular {
            Some(Locked::lock(&file)?)
        } else {
            None
        };
        if open.regular {
            open.tail.refresh(&file)?;
        }
        let mut link = open.tail.link;
        let mut bytes = Vec::new();
        if open.tail.torn {
            bytes.push(b'\n');
        }
        if open.regular && open.tail.length == 0 {
            let mut opening = Record::new(SystemTime::now(), Event::Chain, Decision::Done);
            opening.previous = Some(Previous {
                seq: link.number,
                chain: link.hash_text(),
            });
            seal(&mut link, serde_json::to_vec(&opening)?, &mut bytes)?;
        }
        let lines = make(&link)?;
        bytes.reserve(lines.len() * USUAL_LINE);
        for line in lines {
            seal(&mut link, line, &mut bytes)?;
        }

        let written = loop {
            match (&*file).write(&bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                written => break written?,
            }
        };
        if written < bytes.len() {
            // What a full disk took of the lines is given back, if it can be.
            if !open.regular || file.set_len(open.tail.length).is_err() {
                // Some of the lines may be there whole: the end is looked at before the next one.
                open.tail.length = u64::MAX;
                open.tail.torn |= written > 0;
            }
            return Err(io::Error::new(
                io::ErrorKind::WriteZero,
                "only a part was written",
            ));
        }
        open.tail = Tail {
            length: open.tail.length.saturating_add(written as u64),
            torn: false,
            link,
        };
        Ok(link)
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // Nothing that holds the lock leaves it half changed.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket<'_> {
    /// The line's number. It is written by now, or never.
    fn settle(self) -> io::Result<u64> {
        self.see_to_it();
        self.place.number()
    }

    fn see_to_it(&self) {
        if !self.place.is_settled() {
            // Whoever holds the log may have the line, and has told what came of it when the log is free.
            let mut open = self.log.lock();
            self.log.flush(&mut open);
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.see_to_it();
    }
}

fn seal(link: &mut Link, mut line: Vec<u8>, bytes: &mut Vec<u8>) -> io::Result<()> {
    if !link.seal(&mut line) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the record is no JSON object",
        ));
    }
    bytes.append(&mut line);
    bytes.push(b'\n');
    Ok(())
}

impl Open {
    /// Looks at the file's end, if another has written there.
    fn look_again(&mut self) -> io::Result<()> {
        if !self.regular {
            return Ok(());
        }
        let _lock = Locked::lock(&self.file)?;
        self.tail.refresh(&self.file)
    }
}

/// A lock on a file that ends with its scope.
struct Locked<'f>(&'f File);

impl<'f> Locked<'f> {
    fn lock(file: &'f File) -> io::Result<Self> {
        file.lock()?;
        Ok(Self(file))
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::error!(%error, "the lock on the audit log can't be given back");
        }
    }
}

impl Tail {
    /// Looks at the file's end again if it is not where it was left: another agent has written, or somebody has cut the file.
    fn refresh(&mut self, file: &File) -> io::Result<()> {
        let length = file.metadata()?.len();
        if length == self.length {
            return Ok(());
        }
        let found = Self::of(file, length)?;
        if length == 0 || found.link == Link::START {
            // An emptied file goes on with the chain that it had.
            *self = Self {
                link: self.link,
                ..found
            };
        } else {
            *self = found;
        }
        Ok(())
    }

    /// A file's end. The chain begins anew in a file whose last whole line is not of it.
    fn of(mut file: &File, length: u64) -> io::Result<Self> {
        let begin = length.saturating_sub(LONGEST_LINE);
        let mut text = Vec::new();
        file.seek(SeekFrom::Start(begin))?;
        file.take(length - begin).read_to_end(&mut text)?;
        let torn = text.last().is_some_and(|last| *last != b'\n');
        let link = text
            .split(|byte| *byte == b'\n')
            .rev()
            .find_map(|line| Link::of_line(line).map(|(link, _)| link));
        Ok(Self {
            length,
            torn,
            link: link.unwrap_or(Link::START),
        })
    }
}

fn open(path: &Path) -> Result<Open, AuditError> {
    let failed = |error| AuditError::File {
        path: path.to_owned(),
        action: "can't be opened",
        error,
    };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(folder)
            .map_err(failed)?;
    }
    let file = File::options()
        .append(true)
        .read(true)
        .create(true)
        .mode(0o640)
        .open(path)
        .map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    let regular = about.is_file();
    let length = if regular { about.len() } else { 0 };
    let tail = Tail::of(&file, length).map_err(failed)?;
    Ok(Open {
        file: Arc::new(file),
        regular,
        tail,
        signed: 0,
    })
}

/// In place of a file where the journal alone has the record. Nothing is written there: `/dev/null` would do, if an agent that
/// Landlock restricts could open it.
fn nowhere() -> io::Result<Open> {
    let file = memfd_create(c"spinegate-audit", MFdFlags::MFD_CLOEXEC)?;
    Ok(Open {
        file: Arc::new(File::from(file)),
        regular: false,
        tail: Tail {
            length: 0,
            torn: false,
            link: Link::START,
        },
        signed: 0,
    })
}

/// How far a log had got when that was last noted.
#[must_use]
pub fn head(path: &Path) -> Option<Link> {
    let text = fs::read(beside(path, ".head")).ok()?;
    let head: Head = serde_json::from_slice(&text).ok()?;
    Link::parse(head.seq, &head.chain)
}

fn note_head(path: &Path, link: &Link) -> io::Result<()> {
    let head = Head {
        seq: link.number,
        chain: link.hash_text(),
    };
    let draft = beside(path, &format!(".head.{}", std::process::id()));
    let text = serde_json::to_vec(&head)?;
    replace(&beside(path, ".head"), &draft, |file| file.write_all(&text))
}

/// A log with what rotation has made of it (`audit.jsonl.1` and so on), the oldest first.
///
/// # Errors
/// If the folder can't be read.
pub fn with_rotated(path: &Path) -> io::Result<Vec<PathBuf>> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut rotated = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number = path
            .file_name()
            .and_then(|file| name.to_str()?.strip_prefix(file.to_str()?)?.strip_prefix('.'))
            .and_then(|number| number.parse::<u32>().ok());
        if let Some(number) = number {
            rotated.push((number, folder.join(&name)));
        }
    }
    rotated.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    let mut files: Vec<PathBuf> = rotated.into_iter().map(|(_, path)| path).collect();
    files.push(path.to_owned());
    Ok(files)
}

/// What can be said of `[audit]` without making the file.
#[must_use]
pub fn problems(config: &config::Audit) -> Vec<Problem> {
    let problem = |message: String, mend: &str| vec![Problem::new("audit.file", message, mend)];
    match fs::metadata(&config.file) {
        Ok(about) if about.is_dir() => problem(
            format!("{} is a folder", config.file.display()),
            "name a file in it, as in audit.jsonl",
        ),
        Ok(_) => of_key(config),
        Err(error) if error.kind() == io::ErrorKind::NotFound => of_key(config),
        Err(error) => problem(
            format!("{} can't be reached: {error}", config.file.display()),
            "name a file in a folder that exists or can be made",
        ),
    }
}

/// A key that is there must be one.
fn of_key(config: &config::Audit) -> Vec<Problem> {
    match SigningKey::load(&config.key) {
        Ok(_) => Vec::new(),
        Err(error) => {
            let mend = "name a key of `openssl genpkey -algorithm ed25519`, or a file that is not there";
            vec![Problem::new("audit.key", error.to_string(), mend)]
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::{
        os::fd::AsRawFd as _,
        pin::Pin,
        task::{Context, Poll, Waker},
    };

    use nix::fcntl::{FcntlArg, SealFlag, fcntl};
    use proptest::prelude::*;

    use super::{super::Request, *};
    use crate::mask::masked;

    pub(in crate::audit) fn config_of(file: &Path) -> config::Audit {
        config::Audit {
            file: file.to_owned(),
            output: AuditOutput::File,
            key: beside(file, ".key"),
            checkpoint_interval: Duration::from_mins(1),
            durability: Durability::Buffered,
            timeout: Duration::from_secs(5),
            on_failure: OnFailure::Refuse,
            mask: true,
        }
    }

    fn record(detail: &str) -> Record {
        let mut record = Record::new(SystemTime::now(), Event::Request, Decision::Refuse);
        record.detail = Some(detail.to_owned());
        record
    }

    fn details(path: &Path) -> Vec<String> {
        let text = fs::read_to_string(path).unwrap();
        let parse = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        text.lines()
            .filter_map(|line| parse(line)["detail"].as_str().map(str::to_owned))
            .collect()
    }

    #[test]
    fn records_are_appended_to_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/folder/audit.jsonl");
        Log::open(&config_of(&path)).unwrap().write(&record("1")).unwrap();
        Log::open(&config_of(&path)).unwrap().write(&record("2")).unwrap();
        assert_eq!(details(&path), ["1", "2"]);
    }

    #[test]
    fn after_rotation_records_go_to_the_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("a.jsonl"), folder.path().join("a.jsonl.1"));
        let log = Log::open(&config_of(&path)).unwrap();
        log.write(&record("1")).unwrap();
        fs::rename(&path, &old).unwrap();
        log.write(&record("2")).unwrap();
        log.reopen().unwrap();
        log.write(&record("3")).unwrap();
        assert_eq!(
            (details(&old), details(&path)),
            (vec!["1".to_owned(), "2".to_owned()], vec!["3".to_owned()])
        );
    }

    #[test]
    fn a_line_that_a_crash_cut_short_does_not_swallow_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        fs::write(&path, "{\"detail\":\"who").unwrap();
        Log::open(&config_of(&path)).unwrap().write(&record("2")).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines.len(), lines[0]), (2, "{\"detail\":\"who"));
        assert!(lines[1].contains("\"detail\":\"2\""));
    }

    #[test]
    fn a_full_disk_is_an_error_and_is_counted() {
        let log = Log::open(&config_of(Path::new("/dev/full"))).unwrap();
        let error = log.write(&record("1")).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("the audit log /dev/full can't be written: No space left"),
            "{error}"
        );
        assert_eq!(log.failures(), 1);
    }

    #[test]
    fn writers_at_once_never_mix_their_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let log = Arc::new(Log::open(&config_of(&path)).unwrap());
        let writers: Vec<_> = (0..4)
            .map(|_| {
                let log = Arc::clone(&log);
                std::thread::spawn(move || {
                    for _ in 0..50 {
                        log.write(&record(&"x".repeat(5000))).unwrap();
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        assert_eq!(details(&path).len(), 200);
    }

    /// Takes a wait one step further.
    fn poll<F: Future>(waiting: Pin<&mut F>) -> Poll<F::Output> {
        waiting.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn lines_of_one_moment_are_written_together_and_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let log = Log::open(&config_of(&path)).unwrap();
        let records = ["1", "2", "3"].map(record);
        let [first, second, third] = &records;
        let (mut one, mut two) = (Box::pin(log.commit(first)), Box::pin(log.commit(second)));
        assert!(poll(one.as_mut()).is_pending() && poll(two.as_mut()).is_pending());
        assert!(details(&path).is_empty());
        log.write(third).unwrap();
        assert_eq!(details(&path), ["1", "2", "3"]);
        assert!(matches!(poll(one.as_mut()), Poll::Ready(Ok(()))));
        assert!(matches!(poll(two.as_mut()), Poll::Ready(Ok(()))));
        assert_eq!((details(&path).len(), log.observe().lines), (3, 3));
    }

    #[test]
    fn a_line_that_nobody_waits_for_any_more_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let log = Log::open(&config_of(&path)).unwrap();
        let record = record("1");
        let mut given_up = Box::pin(log.commit(&record));
        assert!(poll(given_up.as_mut()).is_pending());
        drop(given_up);
        assert_eq!(details(&path), ["1"]);
    }

    #[test]
    fn lines_that_were_not_written_together_are_missing_to_each_who_waits() {
        // A file that can't grow.
        let sealed = memfd_create(c"sealed", MFdFlags::MFD_ALLOW_SEALING).unwrap();
        fcntl(&sealed, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_GROW)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = PathBuf::from(format!("/proc/self/fd/{}", sealed.as_raw_fd()));
        let log = Log::open(&config::Audit {
            key: folder.path().join("key"),
            ..config_of(&file)
        })
        .unwrap();
        let records = ["1", "2"].map(record);
        let mut waiting = records.each_ref().map(|record| Box::pin(log.commit(record)));
        for waiting in &mut waiting {
            assert!(poll(waiting.as_mut()).is_pending());
        }
        for waiting in &mut waiting {
            let Poll::Ready(Err(error)) = poll(waiting.as_mut()) else {
                panic!("no line was written");
            };
            assert!(error.to_string().contains("not permitted"), "{error}");
        }
        assert!(log.is_failing());
        assert_eq!((log.failures(), log.observe().lines), (2, 0));
        // Who has given up is counted as well.
        let mut given_up = Box::pin(log.commit(&records[0]));
        assert!(poll(given_up.as_mut()).is_pending());
        drop(given_up);
        assert_eq!(log.failures(), 3);
    }

    #[test]
    fn lines_for_a_pipe_do_not_wait_for_one_another() {
        let log = Log::open(&config_of(Path::new("/dev/full"))).unwrap();
        let record = record("1");
        let mut at_once = Box::pin(log.commit(&record));
        assert!(matches!(poll(at_once.as_mut()), Poll::Ready(Err(_))));
    }

    #[test]
    fn what_waits_is_in_the_file_that_it_was_meant_for_and_is_signed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("a.jsonl"), folder.path().join("a.jsonl.1"));
        let log = Log::open(&config_of(&path)).unwrap();
        let records = ["1", "2"].map(record);
        let mut first = Box::pin(log.commit(&records[0]));
        assert!(poll(first.as_mut()).is_pending());
        fs::rename(&path, &old).unwrap();
        log.reopen().unwrap();
        assert_eq!((details(&old), details(&path)), (vec!["1".to_owned()], vec![]));
        let mut second = Box::pin(log.commit(&records[1]));
        assert!(poll(second.as_mut()).is_pending());
        log.checkpoint().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.lines().next_back().unwrap().contains("\"checkpoint\""),
            "{text}"
        );
        assert_eq!(details(&path), ["2"]);
        assert!(matches!(poll(first.as_mut()), Poll::Ready(Ok(()))));
        assert!(matches!(poll(second.as_mut()), Poll::Ready(Ok(()))));
    }

    #[test]
    fn a_folder_in_the_files_place_is_a_problem_and_a_missing_file_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let about = |file: PathBuf| problems(&config_of(&file));
        assert_eq!(about(folder.path().to_owned())[0].key, "audit.file");
        assert!(about(folder.path().join("not/yet/there")).is_empty());
        fs::write(folder.path().join("file"), "").unwrap();
        assert_eq!(
            about(folder.path().join("file/a.jsonl"))[0].mend,
            "name a file in a folder that exists or can be made"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn nothing_that_a_client_sends_can_forge_a_line(text in "(\\PC|[\\x00-\\x1f\\x7f\u{85}\u{2028}\u{2029}\"\\\\]){0,60}") {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a.jsonl");
            let mut record = record(&text);
            record.request = Some(Arc::new(Request::new(text.clone(), text.clone(), &text)));
            Log::open(&config_of(&path)).unwrap().write(&record).unwrap();
            let written = fs::read(&path).unwrap();
            // The opening of the file, and the line.
            prop_assert_eq!(written.iter().filter(|byte| **byte == b'\n').count(), 2);
            prop_assert!(written.iter().all(|byte| *byte >= b' ' || *byte == b'\n'));
            prop_assert_eq!(details(&path), [masked(&text)]);
        }
    }
}
