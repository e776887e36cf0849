//! Whether a log is as it was written: every line follows from the line before, and the checkpoints are the key's.

use std::{
    fmt,
    io::{self, BufRead},
};

use serde::{Deserialize, Serialize};

use super::{Checkpoint, Link, Previous, VerifyingKey};

/// What was found.
#[derive(Debug, Default, Serialize)]
pub struct Verification {
    /// Lines that were read.
    pub lines: u64,
    /// Lines before the chain begins: of an agent that made none.
    pub before_chain: u64,
    /// The number of the chain's first line here.
    pub first: Option<u64>,
    /// That of its last.
    pub last: Option<u64>,
    /// Checkpoints whose signature is the key's; those without a key to check by are not among them.
    pub checkpoints: u64,
    /// The last line that such a checkpoint vouches for.
    pub signed_until: Option<u64>,
    /// What is wrong.
    pub faults: Vec<Fault>,
}

/// Something wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The file.
    pub file: String,
    /// Its line, from 1; 0 for the file as a whole.
    pub line: u64,
    /// What is wrong.
    #[serde(flatten)]
    pub kind: FaultKind,
}

/// What can be wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum FaultKind {
    /// It does not follow from the line before.
    Changed {
        /// The line's number in the chain.
        seq: u64,
    },
    /// Lines before it are gone.
    Missing {
        /// The first of them.
        from: u64,
        /// The last.
        to: u64,
    },
    /// It stands after lines that came later.
    OutOfOrder {
        /// The line's number in the chain.
        seq: u64,
    },
    /// It is the first of the chain here, but neither its first of all nor the opening of a file.
    NoBeginning {
        /// The line's number in the chain.
        seq: u64,
    },
    /// It is not of the chain: it was put in, or its end was changed.
    Foreign,
    /// It has no end: a crash or a full disk cut it short, or somebody did.
    Torn,
    /// The log ends before the line that it had got to.
    Truncated {
        /// The last line here.
        last: u64,
        /// The line that was noted.
        noted: u64,
    },
    /// The checkpoint's signature is not that of the chain so far.
    BadSignature {
        /// The line that it claims to sign.
        seq: u64,
    },
    /// The checkpoint is another key's.
    OtherKey {
        /// That key's id.
        key: String,
    },
    /// There is a key to check by, and no checkpoint.
    Unsigned,
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed { seq } => write!(
                f,
                "line {seq} of the chain does not follow from the one before: one of the two was changed"
            ),
            Self::Missing { from, to } if from == to => {
                write!(f, "line {from} of the chain is missing before it")
            }
            Self::Missing { from, to } => {
                write!(f, "lines {from} to {to} of the chain are missing before it")
            }
            Self::OutOfOrder { seq } => write!(
                f,
                "line {seq} of the chain is not in its place, or is there twice"
            ),
            Self::NoBeginning { seq } => write!(
                f,
                "line {seq} of the chain has nothing before it: the beginning of the file is missing or was changed"
            ),
            Self::Foreign => f.write_str("is not of the chain: it was put in, or its end was changed"),
            Self::Torn => f.write_str("is cut short: by a crash, by a full disk, or by somebody"),
            Self::Truncated { last, noted } => write!(
                f,
                "the log ends at line {last} of the chain, but had got to line {noted}: its end was cut off"
            ),
            Self::BadSignature { seq } => write!(
                f,
                "the checkpoint does not sign the chain up to line {seq}: the chain was written anew"
            ),
            Self::OtherKey { key } => write!(f, "the checkpoint is of another key, {key}"),
            Self::Unsigned => f.write_str("no checkpoint of the key is in the log"),
        }
    }
}

/// Reads the files of a log, the oldest first.
#[derive(Default)]
pub struct Verifier {
    key: Option<VerifyingKey>,
    link: Option<Link>,
    file: String,
    found: Verification,
}

/// The parts of a line that verification looks at.
#[derive(Deserialize)]
struct Parts {
    previous: Option<Previous>,
    checkpoint: Option<Checkpoint>,
}

impl Verifier {
    /// A verifier; without a key signatures are not checked.
    #[must_use]
    pub fn new(key: Option<VerifyingKey>) -> Self {
        Self {
            key,
            ..Self::default()
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn read(&mut self, name: &str, mut file: impl BufRead) -> io::Result<()> {
        name.clone_into(&mut self.file);
        let mut text = Vec::new();
        for line in 1.. {
            text.clear();
            if file.read_until(b'\n', &mut text)? == 0 {
                break;
            }
            self.found.lines += 1;
            match text.strip_suffix(b"\n") {
                Some(text) => self.line(line, text),
                None => self.fault(line, FaultKind::Torn),
            }
        }
        Ok(())
    }

    /// What was found; `noted` is how far the log had got as far as is known otherwise.
    #[must_use]
    pub fn finish(mut self, noted: Option<Link>) -> Verification {
        let last = self.link.map_or(0, |link| link.number);
        if let Some(noted) = noted.map(|noted| noted.number).filter(|noted| *noted > last) {
            self.fault(0, FaultKind::Truncated { last, noted });
        }
        if self.key.is_some() && self.found.checkpoints == 0 {
            self.fault(0, FaultKind::Unsigned);
        }
        self.found
    }

    fn line(&mut self, line: u64, text: &[u8]) {
        let Some((link, body)) = Link::of_line(text) else {
            match self.link {
                Some(_) if serde_json::from_slice::<serde::de::IgnoredAny>(text).is_err() => {
                    self.fault(line, FaultKind::Torn);
                }
                Some(_) => self.fault(line, FaultKind::Foreign),
                None => self.found.before_chain += 1,
            }
            return;
        };
        let parts = serde_json::from_slice::<Parts>(text).unwrap_or(Parts {
            previous: None,
            checkpoint: None,
        });
        let before = match (self.link, &parts.previous) {
            (Some(before), _) => Some(before),
            (None, Some(previous)) => Link::parse(previous.seq, &previous.chain),
            (None, None) if link.number == 1 => Some(Link::START),
            (None, None) => None,
        };
        if before.is_none() {
            self.fault(line, FaultKind::NoBeginning { seq: link.number });
        }
        self.found.first.get_or_insert(link.number);
        if let Some(before) = before {
            let next = before.number.saturating_add(1);
            if link.number < next {
                self.fault(line, FaultKind::OutOfOrder { seq: link.number });
                return;
            }
            if link.number > next {
                let (from, to) = (next, link.number - 1);
                self.fault(line, FaultKind::Missing { from, to });
            } else if before.followed_by(link.number, body) != link {
                self.fault(line, FaultKind::Changed { seq: link.number });
            }
            if let Some(checkpoint) = &parts.checkpoint {
                self.checkpoint(line, checkpoint, &before, link.number == next);
            }
        }
        self.found.last = Some(link.number);
        self.link = Some(link);
    }

    /// A checkpoint after a gap signs a line that is not here: the gap is the fault.
    fn checkpoint(&mut self, line: u64, checkpoint: &Checkpoint, before: &Link, adjoins: bool) {
        let Some(key) = &self.key else { return };
        if !key.made(checkpoint) {
            let key = checkpoint.key.clone();
            self.fault(line, FaultKind::OtherKey { key });
        } else if adjoins && key.verifies(checkpoint, before) {
            self.found.checkpoints += 1;
            self.found.signed_until = Some(before.number);
        } else if adjoins {
            self.fault(line, FaultKind::BadSignature { seq: before.number });
        }
    }

    fn fault(&mut self, line: u64, kind: FaultKind) {
        self.found.faults.push(Fault {
            file: self.file.clone(),
            line,
            kind,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, time::SystemTime};

    use proptest::prelude::*;

    use super::{
        super::{Decision, Event, Log, Record, log::tests::config_of, public_half},
        *,
    };

    fn record(detail: &str) -> Record {
        let mut record = Record::new(SystemTime::now(), Event::Request, Decision::Allow);
        record.detail = Some(detail.to_owned());
        record
    }

    /// Lines 1 (the opening) to `details` + 1, and a checkpoint.
    fn written(path: &Path, details: usize) -> Vec<String> {
        let log = Log::open(&config_of(path)).unwrap();
        for detail in 0..details {
            log.write(&record(&detail.to_string())).unwrap();
        }
        log.checkpoint().unwrap();
        fs::read_to_string(path)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    fn verified(path: &Path, files: &[&[String]], noted: Option<Link>) -> Verification {
        let key = VerifyingKey::load(&public_half(&config_of(path).key)).unwrap();
        let mut verifier = Verifier::new(Some(key));
        for (index, lines) in files.iter().enumerate() {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            verifier.read(&index.to_string(), text.as_bytes()).unwrap();
        }
        verifier.finish(noted)
    }

    fn faults(found: &Verification) -> Vec<(u64, FaultKind)> {
        found
            .faults
            .iter()
            .map(|fault| (fault.line, fault.kind.clone()))
            .collect()
    }

    #[test]
    fn a_log_as_it_was_written_is_sound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let lines = written(&path, 3);
        let found = verified(&path, &[&lines], super::super::head(&path));
        assert_eq!(faults(&found), []);
        assert_eq!((found.lines, found.first, found.last), (5, Some(1), Some(5)));
        assert_eq!((found.checkpoints, found.signed_until), (1, Some(4)));
    }

    #[test]
    fn each_way_to_tamper_is_found_and_its_line_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let lines = written(&path, 4);
        let head = super::super::head(&path);
        type Tamper = fn(&mut Vec<String>);
        let cases: &[(Tamper, &[(u64, FaultKind)])] = &[
            (
                |lines| lines[2] = lines[2].replace("\"1\"", "\"9\""),
                &[(3, FaultKind::Changed { seq: 3 })],
            ),
            (
                |lines| drop(lines.remove(2)),
                &[(3, FaultKind::Missing { from: 3, to: 3 })],
            ),
            (
                |lines| lines.swap(2, 3),
                &[
                    (3, FaultKind::Missing { from: 3, to: 3 }),
                    (4, FaultKind::OutOfOrder { seq: 3 }),
                ],
            ),
            (
                |lines| lines.insert(2, lines[1].clone()),
                &[(3, FaultKind::OutOfOrder { seq: 2 })],
            ),
            (
                |lines| lines.insert(2, "{\"event\":\"request\"}".to_owned()),
                &[(3, FaultKind::Foreign)],
            ),
            (
                |lines| lines.insert(2, "{\"event\":\"requ".to_owned()),
                &[(3, FaultKind::Torn)],
            ),
            (
                |lines| drop(lines.remove(0)),
                &[(1, FaultKind::NoBeginning { seq: 2 })],
            ),
            (
                |lines| lines.truncate(3),
                &[
                    (0, FaultKind::Truncated { last: 3, noted: 6 }),
                    (0, FaultKind::Unsigned),
                ],
            ),
        ];
        for (index, (tamper, expected)) in cases.iter().enumerate() {
            let mut lines = lines.clone();
            tamper(&mut lines);
            assert_eq!(
                faults(&verified(&path, &[&lines], head)),
                *expected,
                "case {index}"
            );
        }
    }

    #[test]
    fn a_chain_that_was_written_anew_without_the_key_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let lines = written(&path, 2);
        let mut link = Link::START;
        let forged: Vec<String> = lines
            .iter()
            .map(|line| {
                let changed = line.replace("\"detail\":\"1\"", "\"detail\":\"2\"");
                let (_, body) = Link::of_line(changed.as_bytes()).unwrap();
                let end = body.len() - ",\"seq\":1".len();
                let mut line = [&body[..end], b"}"].concat();
                assert!(link.seal(&mut line));
                String::from_utf8(line).unwrap()
            })
            .collect();
        let found = faults(&verified(&path, &[&forged], None));
        assert_eq!(
            found,
            [(4, FaultKind::BadSignature { seq: 3 }), (0, FaultKind::Unsigned)]
        );
    }

    #[test]
    fn rotation_and_a_restart_keep_the_chain() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("a.jsonl"), folder.path().join("a.jsonl.1"));
        let first = written(&path, 2);
        {
            let log = Log::open(&config_of(&path)).unwrap();
            fs::rename(&path, &old).unwrap();
            log.write(&record("still to the old file")).unwrap();
            log.reopen().unwrap();
            log.write(&record("to the new file")).unwrap();
            log.checkpoint().unwrap();
        }
        // And one more rotation while no agent runs.
        let middle = folder.path().join("a.jsonl.0");
        fs::rename(&path, &middle).unwrap();
        let last = written(&path, 1);
        let read = |path: &Path| -> Vec<String> {
            fs::read_to_string(path)
                .unwrap()
                .lines()
                .map(str::to_owned)
                .collect()
        };
        let files = [&read(&old)[..], &read(&middle)[..], &last[..]];
        assert_eq!(files[0].len(), first.len() + 1);
        let head = super::super::head(&path);
        assert_eq!(faults(&verified(&path, &files, head)), []);
        // A file that is left out is missed, and a file by itself is sound.
        let gap = faults(&verified(&path, &[files[0], files[2]], head));
        assert!(matches!(gap[..], [(1, FaultKind::Missing { .. })]), "{gap:?}");
        assert_eq!(faults(&verified(&path, &files[1..], head)), []);
    }

    #[test]
    fn two_writers_of_one_file_make_one_chain() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let logs = [(); 2].map(|()| Log::open(&config_of(&path)).unwrap());
        std::thread::scope(|scope| {
            for log in &logs {
                scope.spawn(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    for detail in (0..50).step_by(2) {
                        let (one, two) = (record(&detail.to_string()), record(&format!("{detail} and one")));
                        let both = async { tokio::join!(log.commit(&one), log.commit(&two)) };
                        let (one, two) = runtime.block_on(both);
                        one.and(two).unwrap();
                    }
                });
            }
        });
        logs[0].checkpoint().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 102);
        assert_eq!(faults(&verified(&path, &[&lines], None)), []);
    }

    #[test]
    fn lines_of_an_agent_without_a_chain_stand_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        fs::write(&path, "{\"event\":\"request\"}\n{\"event\":\"request\"}\n").unwrap();
        let lines = written(&path, 1);
        let found = verified(&path, &[&lines], None);
        assert_eq!((faults(&found), found.before_chain), (vec![], 2));
    }

    #[test]
    fn an_agent_that_finds_lines_missing_says_so_in_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let lines = written(&path, 3);
        fs::write(&path, format!("{}\n{}\n", lines[0], lines[1])).unwrap();
        drop(Log::open(&config_of(&path)).unwrap());
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("ends at line 2, but had got to line 5"), "{text}");
    }

    #[test]
    fn an_emptied_file_goes_on_with_its_chain() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let log = Log::open(&config_of(&path)).unwrap();
        log.write(&record("1")).unwrap();
        let copied: Vec<String> = fs::read_to_string(&path)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect();
        fs::write(&path, "").unwrap();
        log.write(&record("2")).unwrap();
        log.checkpoint().unwrap();
        let lines: Vec<String> = fs::read_to_string(&path)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect();
        assert_eq!(faults(&verified(&path, &[&copied, &lines], None)), []);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn no_flipped_bit_goes_unnoticed(at in any::<prop::sample::Index>(), bit in 0..8u8) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a.jsonl");
            written(&path, 3);
            let mut bytes = fs::read(&path).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let key = VerifyingKey::load(&public_half(&config_of(&path).key)).unwrap();
            let mut verifier = Verifier::new(Some(key));
            verifier.read("a.jsonl", bytes.as_slice()).unwrap();
            let found = verifier.finish(super::super::head(&path));
            prop_assert!(!found.faults.is_empty(), "byte {} of {}", at, bytes.len());
        }
    }
}
