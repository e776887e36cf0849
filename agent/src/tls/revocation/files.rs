//! Reading the files that `tls.client.crls` names.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use openssl::x509::{X509, X509Crl};

use super::Revocations;
use crate::config;

/// The key of the folder that nobody but the agent itself writes to.
pub(in crate::tls) const FETCHED: &str = "tls.client.fetch.folder";

/// What the files hold: all that is sound in them, and every fault.
pub(in crate::tls) struct Reading {
    pub(in crate::tls) revocations: Revocations,
    pub(in crate::tls) faults: Vec<FileFault>,
}

/// Something wrong with a file.
pub(in crate::tls) struct FileFault {
    /// The key of the configuration that names its path.
    pub(in crate::tls) key: String,
    pub(in crate::tls) message: String,
    pub(in crate::tls) mend: &'static str,
}

/// A file as it lay there, to see whether it has changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stamp {
    file: PathBuf,
    length: u64,
    modified: Option<SystemTime>,
}

/// Where CRLs are read from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sources {
    crls: Vec<PathBuf>,
    /// The folder of those that were fetched, if any are.
    fetched: Option<PathBuf>,
}

impl Sources {
    pub(super) fn of(config: &config::ClientTls) -> Self {
        Self {
            crls: config.crls.clone(),
            fetched: config.fetch.is_on().then(|| config.fetch.folder.clone()),
        }
    }

    /// All of them, the folder last.
    pub(super) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.crls.iter().chain(&self.fetched)
    }
}

/// Reads into `empty` what lies at its sources. Only what one of `authorities` has signed is sound.
pub(super) fn read(empty: Revocations, authorities: &[X509]) -> Reading {
    let sources = Arc::clone(&empty.sources);
    let mut reading = Reading {
        revocations: empty,
        faults: Vec::new(),
    };
    for (position, path) in sources.paths().enumerate() {
        let key = if position < sources.crls.len() {
            format!("tls.client.crls[{position}]")
        } else if path.exists() {
            FETCHED.to_owned()
        } else {
            // Nothing was fetched yet.
            continue;
        };
        let mut fault = |message: String, mend| {
            reading.faults.push(FileFault {
                key: key.clone(),
                message,
                mend,
            });
        };
        let files = match listed(path) {
            Ok(files) => files,
            Err(error) => {
                fault(format!("{}: {error}", path.display()), "make the folder readable");
                continue;
            }
        };
        for file in files {
            let content = match fs::read(&file) {
                Ok(content) => content,
                Err(error) => {
                    let mend = "correct the path, or make the file readable";
                    fault(format!("{}: {error}", file.display()), mend);
                    continue;
                }
            };
            let Some(crls) = crls(&content) else {
                let mend = "give CRLs in PEM or DER, and nothing else";
                fault(format!("{} is no CRL", file.display()), mend);
                continue;
            };
            for crl in crls {
                let source = file.display().to_string();
                if let Err(error) = reading.revocations.add(&crl, authorities, &source) {
                    let mend = "fetch the whole CRL from its issuer again";
                    fault(format!("{}: {error}", file.display()), mend);
                }
            }
        }
    }
    reading
}

/// The files as they lie there now.
pub(super) fn stamps(paths: &[PathBuf]) -> Vec<Stamp> {
    let files = paths.iter().flat_map(|path| listed(path).unwrap_or_default());
    let stamp = |file: PathBuf| {
        let found = fs::metadata(&file).ok();
        Stamp {
            length: found.as_ref().map_or(0, fs::Metadata::len),
            modified: found.and_then(|found| found.modified().ok()),
            file,
        }
    };
    files.map(stamp).collect()
}

/// The file itself, or the files of a folder, in the order of their names. Hidden ones are another program's, on their way
/// to their names.
fn listed(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = fs::read_dir(path)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()?;
    let hidden = |file: &Path| {
        file.file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
    };
    files.retain(|file| file.is_file() && !hidden(file));
    files.sort();
    Ok(files)
}

/// The CRLs of a file: one in DER, or several in PEM. None if there is anything else, or nothing.
fn crls(content: &[u8]) -> Option<Vec<X509Crl>> {
    const BEGIN: &str = "-----BEGIN X509 CRL-----";
    let Ok(text) = std::str::from_utf8(content) else {
        return Some(vec![X509Crl::from_der(content).ok()?]);
    };
    let crls: Option<Vec<_>> = text
        .match_indices(BEGIN)
        .map(|(start, _)| X509Crl::from_pem(text.get(start..)?.as_bytes()).ok())
        .collect();
    crls.filter(|crls| !crls.is_empty())
}
