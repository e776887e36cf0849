//! The last good snapshot of a source on disk: JSON, a record a line, with its version, its time and a checksum.
//!
//! A file that is not whole, not of this version or not of the configured server counts as none.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, BufWriter, Read as _, Write},
    path::PathBuf,
    time::{Duration, SystemTime},
};

use openssl::sha::Sha256;
use serde::{Deserialize, Serialize};

use super::records::{Accredited, Aside, Joiner, Numbered, Records};
use crate::{
    clock::unix_seconds,
    config::Fqdns,
    nrl::{Asid, Fqdn, InteractionId, OdsCode},
    registry::{Interactions, Source, Systems},
    replace::replace,
};

const FORMAT: &str = "spinegate-registry";
const VERSION: u32 = 2;
/// The end of the year 9999: no later time can be written down.
const LAST: u64 = 253_402_300_799;
/// No line that is written is longer: an `nhsAs` has some hundred interactions.
const LONGEST_LINE: u64 = 4 << 20;

/// What stands before the records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    format: String,
    version: u32,
    source: Source,
    /// What was asked: a snapshot of another server, or of another part of it, is no snapshot of this one.
    origin: String,
    /// When it was fetched, in seconds since 1970.
    fetched: u64,
    /// When everything was fetched, not only the changes.
    full: u64,
    /// The latest change that the directory tells.
    mark: Option<String>,
    sets: usize,
    parties: usize,
    systems: usize,
}

/// The last line: of all bytes before it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Trailer {
    sha256: String,
}

/// A system's line: ASID, ODS code, the number of its set of interactions and that of its party.
type SystemLine<'l> = (&'l str, &'l str, usize, Option<usize>);

/// What a snapshot was fetched from, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) origin: String,
    pub(crate) fetched: SystemTime,
    pub(crate) full: SystemTime,
    pub(crate) mark: Option<String>,
}

/// Why there is no snapshot to be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("none is kept")]
    Absent,
    #[error("{}: {error}", path.display())]
    File { path: PathBuf, error: io::Error },
    #[error("{} is not taken: {fault}", path.display())]
    Unsound { path: PathBuf, fault: String },
}

/// The folder of snapshots.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    folder: PathBuf,
}

impl Store {
    pub(crate) fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// The file of a source.
    pub(crate) fn file(&self, source: Source) -> PathBuf {
        self.folder.join(source.as_str()).with_extension("jsonl")
    }

    /// Puts a snapshot in the place of the one that is kept.
    pub(crate) fn write(&self, source: Source, stamp: &Stamp, records: &Records) -> Result<(), StoreError> {
        let path = self.file(source);
        let draft = self.folder.join(format!(".{source}.draft"));
        let writing = || -> io::Result<()> {
            fs::create_dir_all(&self.folder)?;
            replace(&path, &draft, |file| {
                let mut file = Hashing::new(BufWriter::new(file));
                write_lines(&mut file, source, stamp, records)?;
                let sha256 = file.digest();
                let mut inner = file.inner;
                line(&mut inner, &Trailer { sha256 })?;
                inner.flush()
            })
        };
        writing().map_err(|error| StoreError::File { path, error })
    }

    /// The systems of what is kept, without holding the records.
    pub(crate) fn systems(
        &self,
        source: Source,
        origin: &str,
        rule: Fqdns,
    ) -> Result<(Stamp, Systems, Aside), StoreError> {
        let mut joiner = Joiner::new(rule);
        let stamp = self.read(source, origin, |record| {
            match record {
                Record::Set(set) => joiner.set(set),
                Record::Party(party, fqdns) => joiner.party(party, fqdns),
                Record::System(asid, ods, set, party) => joiner.system(&asid, ods, set, party),
            }
            Ok(())
        })?;
        let (systems, aside) = joiner.finish();
        Ok((stamp, systems, aside))
    }

    /// The records of what is kept, to be changed.
    pub(crate) fn records(&self, source: Source, origin: &str) -> Result<(Stamp, Records), StoreError> {
        let mut records = Records::default();
        let (mut sets, mut parties) = (Vec::new(), Vec::new());
        let stamp = self.read(source, origin, |record| {
            match record {
                Record::Set(set) => sets.push(set),
                Record::Party(party, fqdns) => {
                    parties.push(records.put_fqdns(party, fqdns.iter().cloned().collect())?);
                }
                Record::System(asid, ods, set, party) => {
                    let set = sets.get(set).cloned().ok_or("a set of interactions is missing")?;
                    let party = party.map(|party| parties.get(party).cloned().ok_or("a party is missing"));
                    records.put(&asid, Accredited::new(ods, set, party.transpose()?));
                }
            }
            Ok(())
        })?;
        Ok((stamp, records))
    }

    fn read(
        &self,
        source: Source,
        origin: &str,
        each: impl FnMut(Record<'_>) -> Result<(), String>,
    ) -> Result<Stamp, StoreError> {
        let path = self.file(source);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(StoreError::Absent),
            Err(error) => return Err(StoreError::File { path, error }),
        };
        read_lines(BufReader::with_capacity(1 << 20, file), (source, origin), each)
            .map_err(|fault| StoreError::Unsound { path, fault })
    }
}

fn write_lines(out: &mut impl Write, source: Source, stamp: &Stamp, records: &Records) -> io::Result<()> {
    let Numbered {
        sets,
        parties,
        systems,
    } = records.numbered();
    line(
        out,
        &Header {
            format: FORMAT.to_owned(),
            version: VERSION,
            source,
            origin: stamp.origin.clone(),
            fetched: unix_seconds(stamp.fetched),
            full: unix_seconds(stamp.full),
            mark: stamp.mark.clone(),
            sets: sets.len(),
            parties: parties.len(),
            systems: systems.len(),
        },
    )?;
    for set in sets {
        let ids: Vec<&str> = set.iter().map(InteractionId::as_str).collect();
        line(out, &ids)?;
    }
    for (party, fqdns) in parties {
        let fqdns: Vec<&str> = fqdns.into_iter().flatten().map(Fqdn::as_str).collect();
        line(out, &(party, fqdns))?;
    }
    for (asid, ods, set, party) in &systems {
        let written: SystemLine<'_> = (asid.as_str(), ods.as_str(), *set, *party);
        line(out, &written)?;
    }
    Ok(())
}

enum Record<'r> {
    Set(Interactions),
    Party(&'r str, &'r [Fqdn]),
    /// With the number of its set and that of its party.
    System(Asid, OdsCode, usize, Option<usize>),
}

fn read_lines(
    file: impl BufRead,
    (source, origin): (Source, &str),
    mut each: impl FnMut(Record<'_>) -> Result<(), String>,
) -> Result<Stamp, String> {
    let mut lines = Lines::new(file);
    let header: Header = json(lines.next()?)?;
    if header.format != FORMAT || header.version != VERSION {
        return Err(format!("it is of format {} {}", header.format, header.version));
    }
    if header.source != source || header.origin != origin {
        return Err(format!(
            "it was fetched from {}, not from {origin}",
            header.origin
        ));
    }
    for _ in 0..header.sets {
        let ids: Vec<String> = json(lines.next()?)?;
        let set: Result<Interactions, _> = ids.iter().map(|id| InteractionId::parse(id)).collect();
        each(Record::Set(set.map_err(|error| error.to_string())?))?;
    }
    for _ in 0..header.parties {
        let (party, fqdns): (&str, Vec<&str>) = json(lines.next()?)?;
        let fqdns: Result<Vec<_>, _> = fqdns.into_iter().map(Fqdn::parse).collect();
        each(Record::Party(party, &fqdns.map_err(|error| error.to_string())?))?;
    }
    let mut before = None;
    for _ in 0..header.systems {
        let (asid, ods, set, party): SystemLine<'_> = json(lines.next()?)?;
        let asid = Asid::parse(asid).map_err(|error| error.to_string())?;
        if before.replace(asid) >= Some(asid) {
            return Err(format!("ASID {asid} is out of order"));
        }
        let ods = OdsCode::parse(ods).map_err(|error| error.to_string())?;
        if set >= header.sets || party.is_some_and(|party| party >= header.parties) {
            return Err(format!("ASID {asid} names what is not there"));
        }
        each(Record::System(asid, ods, set, party))?;
    }
    lines.end()?;
    Ok(Stamp {
        origin: header.origin,
        fetched: time(header.fetched)?,
        full: time(header.full)?,
        mark: header.mark,
    })
}

/// The lines of a file, each counted into the checksum.
struct Lines<R> {
    file: R,
    hash: Sha256,
    text: String,
}

impl<R: BufRead> Lines<R> {
    fn new(file: R) -> Self {
        Self {
            file,
            hash: Sha256::new(),
            text: String::new(),
        }
    }

    fn next(&mut self) -> Result<&str, String> {
        self.fill()?;
        self.hash.update(self.text.as_bytes());
        Ok(&self.text)
    }

    fn end(mut self) -> Result<(), String> {
        self.fill()?;
        let trailer: Trailer = json(&self.text)?;
        if trailer.sha256 != hex(&self.hash.finish()) {
            return Err("its checksum is wrong".to_owned());
        }
        let mut more = [0];
        match self.file.read(&mut more) {
            Ok(0) => Ok(()),
            _ => Err("there is something after its end".to_owned()),
        }
    }

    fn fill(&mut self) -> Result<(), String> {
        self.text.clear();
        let read = self.file.by_ref().take(LONGEST_LINE).read_line(&mut self.text);
        read.map_err(|error| error.to_string())?;
        if self.text.ends_with('\n') {
            Ok(())
        } else {
            Err("it is not whole".to_owned())
        }
    }
}

/// Writes on, and counts what passes into the checksum.
struct Hashing<W> {
    inner: W,
    hash: Sha256,
}

impl<W> Hashing<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
        }
    }

    fn digest(&self) -> String {
        hex(&self.hash.clone().finish())
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write_all(bytes)?;
        self.hash.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn line(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec(value)?;
    text.push(b'\n');
    out.write_all(&text)
}

fn json<'t, T: Deserialize<'t>>(text: &'t str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn time(seconds: u64) -> Result<SystemTime, String> {
    if seconds > LAST {
        return Err(format!("{seconds} is no time"));
    }
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::records::SystemRecord;

    const ORIGIN: &str = "ldaps://a ou=services,o=nhs";

    fn records() -> Records {
        let mut records = Records::default();
        let ids = ["urn:a".to_owned(), "urn:b".to_owned()];
        for (asid, party) in [
            ("200000000002", "p"),
            ("200000000001", "q"),
            ("200000000003", "p"),
        ] {
            records.take_system(&SystemRecord {
                asid,
                ods: "RR8",
                party: Some(party),
                interactions: &ids,
            });
        }
        records.take_fqdn("p", "p.nhs.uk");
        records
    }

    fn stamp() -> Stamp {
        let fetched = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        Stamp {
            origin: ORIGIN.to_owned(),
            fetched,
            full: fetched - Duration::from_secs(60),
            mark: Some("20260101000000Z".to_owned()),
        }
    }

    #[test]
    fn what_was_kept_comes_back_with_its_time() {
        let place = tempfile::tempdir().unwrap();
        let store = Store::new(place.path().join("new"));
        assert!(matches!(
            store.records(Source::Ldap, ORIGIN),
            Err(StoreError::Absent)
        ));
        store.write(Source::Ldap, &stamp(), &records()).unwrap();
        let (found, again) = store.records(Source::Ldap, ORIGIN).unwrap();
        assert_eq!(found, stamp());
        assert_eq!(again.systems(), records().systems());
        let (_, systems, aside) = store.systems(Source::Ldap, ORIGIN, Fqdns::Require).unwrap();
        assert_eq!((systems.len(), aside.count), (2, 1));
        let (_, systems, _) = store.systems(Source::Ldap, ORIGIN, Fqdns::Ignore).unwrap();
        assert_eq!(systems.len(), 3);
        let left: Vec<_> = fs::read_dir(place.path().join("new")).unwrap().collect();
        assert_eq!(left.len(), 1, "a draft is left: {left:?}");
    }

    #[test]
    fn a_snapshot_of_another_server_or_source_is_none() {
        let place = tempfile::tempdir().unwrap();
        let store = Store::new(place.path());
        store.write(Source::Ldap, &stamp(), &records()).unwrap();
        let fault = store.records(Source::Ldap, "ldaps://b o=nhs").unwrap_err();
        assert!(fault.to_string().contains("fetched from"), "{fault}");
        fs::rename(store.file(Source::Ldap), store.file(Source::Sds)).unwrap();
        assert!(store.records(Source::Sds, ORIGIN).is_err());
    }

    #[test]
    fn no_cut_and_no_changed_byte_is_taken() {
        let place = tempfile::tempdir().unwrap();
        let store = Store::new(place.path());
        store.write(Source::Ldap, &stamp(), &records()).unwrap();
        let file = store.file(Source::Ldap);
        let whole = fs::read(&file).unwrap();
        for at in 0..whole.len() {
            fs::write(&file, &whole[..at]).unwrap();
            assert!(store.records(Source::Ldap, ORIGIN).is_err(), "cut at {at}");
            let mut changed = whole.clone();
            changed[at] ^= 0x01;
            fs::write(&file, &changed).unwrap();
            assert!(store.records(Source::Ldap, ORIGIN).is_err(), "changed at {at}");
        }
        fs::write(&file, [whole.as_slice(), b"\n"].concat()).unwrap();
        assert!(store.records(Source::Ldap, ORIGIN).is_err());
        fs::write(&file, &whole).unwrap();
        assert!(store.records(Source::Ldap, ORIGIN).is_ok());
    }
}
