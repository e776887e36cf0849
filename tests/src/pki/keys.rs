//! RSA keys that are made once and used by every lab: making fifteen takes longer than all the rest of a lab.

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use openssl::{
    pkey::{PKey, Private},
    rsa::Rsa,
};
use uuid::Uuid;

/// A folder of keys, by name. They protect nothing: only labs trust them.
#[derive(Clone, Debug)]
pub struct KeyCache {
    folder: PathBuf,
}

impl KeyCache {
    /// The cache in this folder, which is made when the first key is.
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// The key of this name: RSA, 2048 bits.
    ///
    /// # Errors
    /// OpenSSL or the file system refused.
    pub fn get(&self, name: &str) -> Result<PKey<Private>> {
        let path = self.folder.join(format!("{name}.key"));
        if let Ok(pem) = fs::read(&path) {
            return PKey::private_key_from_pem(&pem)
                .with_context(|| format!("{} is no private key: delete it", path.display()));
        }
        fs::create_dir_all(&self.folder).with_context(|| format!("can't make {}", self.folder.display()))?;
        let key = PKey::from_rsa(Rsa::generate(2048)?)?;
        // Suites that run at the same time fill the same cache: the first that renames wins, and all read whole files.
        let draft = self.folder.join(format!("{name}.{}", Uuid::new_v4()));
        write_private(&draft, &key)?;
        fs::rename(&draft, &path).with_context(|| format!("can't write {}", path.display()))?;
        Ok(key)
    }
}

/// Writes a key as PEM that only its owner can read.
pub(super) fn write_private(path: &Path, key: &PKey<Private>) -> Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("can't write {}", path.display()))?;
    file.write_all(&key.private_key_to_pem_pkcs8()?)?;
    Ok(())
}
