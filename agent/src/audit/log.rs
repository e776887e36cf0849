//! The file that records are appended to.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::Record;
use crate::config::{self, Problem};

/// An open audit log. A write returns when the line has been handed to the kernel.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    open: Mutex<Open>,
    failures: AtomicU64,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// The file's last line has no end: a write was cut short, by this agent or by a crash of the one before.
    torn: bool,
}

/// Why the log can't be opened or written. Whoever meets it refuses what it was about to allow.
#[derive(Debug, thiserror::Error)]
#[error("the audit log {path} {action}: {error}; free space, or mend `audit.file`")]
pub struct AuditError {
    path: PathBuf,
    action: &'static str,
    error: io::Error,
}

impl Log {
    /// Opens the file for appending; makes it, for owner and group only, and its folder where they are missing.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn open(path: &Path) -> Result<Self, AuditError> {
        let open = Mutex::new(open(path)?);
        Ok(Self {
            path: path.to_owned(),
            open,
            failures: AtomicU64::new(0),
        })
    }

    /// Appends one line, in one write, so that no other writer's line can come between its parts.
    ///
    /// # Errors
    /// If the line was not written whole. The failure is counted.
    pub fn write(&self, record: &Record) -> Result<(), AuditError> {
        self.append(record).map_err(|error| {
            self.failures.fetch_add(1, Ordering::Relaxed);
            AuditError {
                path: self.path.clone(),
                action: "can't be written",
                error,
            }
        })
    }

    /// Opens the file anew, after it was renamed for rotation. On failure the old one stays in use.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn reopen(&self) -> Result<(), AuditError> {
        let new = open(&self.path)?;
        *self.lock() = new;
        Ok(())
    }

    /// How many records could not be written.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    fn append(&self, record: &Record) -> io::Result<()> {
        // JSON escapes every control character, so that nothing a client sends can end the line.
        let mut line = vec![b'\n'];
        serde_json::to_writer(&mut line, record)?;
        line.push(b'\n');

        let mut open = self.lock();
        let bytes = if open.torn {
            line.as_slice()
        } else {
            line.get(1..).unwrap_or_default()
        };
        let written = loop {
            match open.file.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                written => break written?,
            }
        };
        if written > 0 {
            open.torn = written < bytes.len();
        }
        if written < bytes.len() {
            return Err(io::Error::new(
                io::ErrorKind::WriteZero,
                "only a part of the line was written",
            ));
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // Nothing that holds the lock leaves it half changed.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open(path: &Path) -> Result<Open, AuditError> {
    let failed = |error| AuditError {
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
    let mut file = File::options()
        .append(true)
        .read(true)
        .create(true)
        .mode(0o640)
        .open(path)
        .map_err(failed)?;
    let torn = is_torn(&mut file).map_err(failed)?;
    Ok(Open { file, torn })
}

fn is_torn(file: &mut File) -> io::Result<bool> {
    // A pipe or a device has no end to look at.
    let about = file.metadata()?;
    if !about.is_file() || about.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
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
        Ok(_) => Vec::new(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => problem(
            format!("{} can't be reached: {error}", config.file.display()),
            "name a file in a folder that exists or can be made",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::SystemTime};

    use proptest::prelude::*;

    use super::{
        super::{Decision, Event, Request},
        *,
    };

    fn record(detail: &str) -> Record {
        let mut record = Record::new(SystemTime::now(), Event::Request, Decision::Refuse);
        record.detail = Some(detail.to_owned());
        record
    }

    fn details(path: &Path) -> Vec<String> {
        let text = fs::read_to_string(path).unwrap();
        let parse = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        text.lines()
            .map(|line| parse(line)["detail"].as_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn records_are_appended_to_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/folder/audit.jsonl");
        Log::open(&path).unwrap().write(&record("1")).unwrap();
        Log::open(&path).unwrap().write(&record("2")).unwrap();
        assert_eq!(details(&path), ["1", "2"]);
    }

    #[test]
    fn after_rotation_records_go_to_the_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("a.jsonl"), folder.path().join("a.jsonl.1"));
        let log = Log::open(&path).unwrap();
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
        Log::open(&path).unwrap().write(&record("2")).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines.len(), lines[0]), (2, "{\"detail\":\"who"));
        assert!(lines[1].contains("\"detail\":\"2\""));
    }

    #[test]
    fn a_full_disk_is_an_error_and_is_counted() {
        let log = Log::open(Path::new("/dev/full")).unwrap();
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
        let log = Arc::new(Log::open(&path).unwrap());
        let writers: Vec<_> = (0..4)
            .map(|_| {
                let log = Arc::clone(&log);
                std::thread::spawn(move || {
                    (0..50).for_each(|_| log.write(&record(&"x".repeat(5000))).unwrap())
                })
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        assert_eq!(details(&path).len(), 200);
    }

    #[test]
    fn a_folder_in_the_files_place_is_a_problem_and_a_missing_file_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let about = |file: PathBuf| problems(&config::Audit { file });
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
            record.request = Some(Request::new(text.clone(), text.clone(), &text));
            Log::open(&path).unwrap().write(&record).unwrap();
            let written = fs::read(&path).unwrap();
            prop_assert_eq!(written.iter().filter(|byte| **byte == b'\n').count(), 1);
            prop_assert!(written.iter().all(|byte| *byte >= b' ' || *byte == b'\n'));
            prop_assert_eq!(details(&path), [text]);
        }
    }
}
