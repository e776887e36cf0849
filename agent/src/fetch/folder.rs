//! The folder of fetched CRLs: one file for each URL, in PEM, whose first line says where it comes from.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
};

use openssl::sha::sha256;

use crate::{config::HttpUrl, replace::replace};

const EXTENSION: &str = "crl";
/// What stands before the PEM is for readers (RFC 7468 section 2): no parser takes it for a part of the CRL.
const FROM: &str = "# fetched from ";
/// No URL is longer.
const LONGEST_LINE: u64 = 2048;

/// The folder.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// The folder of a path, whether or not it is there.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Makes it, unless it is there.
    ///
    /// # Errors
    /// The system refuses.
    pub fn make(&self) -> io::Result<()> {
        fs::create_dir_all(&self.0)
    }

    /// The file of a URL. Its name is a digest, so that no URL names a file of its own choice.
    #[must_use]
    pub fn file(&self, url: &HttpUrl) -> PathBuf {
        let digest = sha256(url.as_str().as_bytes());
        let name: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        self.0.join(name).with_extension(EXTENSION)
    }

    /// The URL that a file of the folder was fetched from.
    #[must_use]
    pub fn url_of(&self, file: &Path) -> Option<HttpUrl> {
        if file.parent() != Some(self.0.as_path()) {
            return None;
        }
        let mut line = String::new();
        let beginning = File::open(file).ok()?.take(LONGEST_LINE);
        BufReader::new(beginning).read_line(&mut line).ok()?;
        let url = line.trim_end().strip_prefix(FROM)?.parse().ok()?;
        // Else someone has put it there under another name, and it is not kept up to date.
        (self.file(&url) == file).then_some(url)
    }

    /// The URLs of all files.
    #[must_use]
    pub fn urls(&self) -> Vec<HttpUrl> {
        let Ok(entries) = fs::read_dir(&self.0) else {
            return Vec::new();
        };
        let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
        files.filter_map(|file| self.url_of(&file)).collect()
    }

    /// What is kept of a URL.
    pub(super) fn read(&self, url: &HttpUrl) -> Option<Vec<u8>> {
        fs::read(self.file(url)).ok()
    }

    /// Puts a CRL in PEM in the place of the one that is kept.
    pub(super) fn replace(&self, url: &HttpUrl, pem: &[u8]) -> io::Result<()> {
        let file = self.file(url);
        // Hidden: not yet one of the folder's CRLs.
        let mut draft = std::ffi::OsString::from(".");
        draft.push(file.file_name().unwrap_or_default());
        let draft = self.0.join(draft);
        replace(&file, &draft, |writing| {
            writing.write_all(format!("{FROM}{url}\n").as_bytes())?;
            writing.write_all(pem)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_knows_where_it_was_fetched_from() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::new(place.path().join("crl"));
        assert!(folder.urls().is_empty());
        folder.make().unwrap();
        folder.make().unwrap();
        let url: HttpUrl = "http://crl.example.nhs.uk/../../etc/passwd".parse().unwrap();
        folder.replace(&url, b"one").unwrap();
        folder.replace(&url, b"two").unwrap();
        let file = folder.file(&url);
        assert_eq!(file.parent(), Some(place.path().join("crl").as_path()));
        assert_eq!(folder.url_of(&file), Some(url.clone()));
        assert_eq!(folder.urls(), std::slice::from_ref(&url));
        assert!(folder.read(&url).unwrap().ends_with(b"\ntwo"));

        let other = file.with_file_name("renamed.crl");
        fs::rename(&file, &other).unwrap();
        fs::write(folder.0.join("own.crl"), "-----BEGIN X509 CRL-----\n").unwrap();
        assert_eq!(folder.url_of(&other), None);
        assert_eq!(folder.url_of(Path::new("/etc/passwd")), None);
        assert!(folder.urls().is_empty());
        let files: Vec<_> = fs::read_dir(&folder.0).unwrap().collect();
        assert_eq!(files.len(), 2, "a draft is left: {files:?}");
    }
}
