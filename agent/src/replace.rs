//! Files that are replaced whole: readers see the old content or the new, also after a power cut.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

/// Has `write` write a draft, and puts it in the file's place. Both are in the same folder.
///
/// # Errors
/// If the system refuses; the old file is then still there.
pub fn replace(path: &Path, draft: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let mut file = File::create(draft)?;
    write(&mut file)?;
    file.sync_all()?;
    fs::rename(draft, path)?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_can_not_be_written_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let [path, draft] = ["file", ".file"].map(|name| folder.path().join(name));
        replace(&path, &draft, |file| file.write_all(b"old")).unwrap();
        let failed = replace(&path, &draft, |file| {
            file.write_all(b"ne")?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert!(failed.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        replace(&path, &draft, |file| file.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(!draft.exists());
    }
}
