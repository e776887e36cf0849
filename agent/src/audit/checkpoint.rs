//! Signed checkpoints: who can write the log, but has no key, can't write another past.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use openssl::{
    hash::{MessageDigest, hash},
    pkey::{Id, PKey, PKeyRef, Private, Public},
    sign::{Signer, Verifier},
};
use serde::{Deserialize, Serialize};

use super::Link;
use crate::config::beside;

/// What is signed begins so, and is nothing else.
const CONTEXT: &[u8] = b"spinegate audit checkpoint 1\n";

/// A signature over the chain up to the line before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The key's id: the first 16 hexadecimal digits of its SHA-256 (SubjectPublicKeyInfo).
    pub key: String,
    /// Ed25519 (RFC 8032), in base64.
    pub signature: String,
}

/// The key that signs.
pub struct SigningKey {
    key: PKey<Private>,
    id: String,
}

/// The key that verifies.
pub struct VerifyingKey {
    key: PKey<Public>,
    id: String,
}

/// Why a key can't be had.
#[derive(Debug, thiserror::Error)]
#[error("the audit log's key {path} {what}; mend `audit.key`, or move the file away for a new one")]
pub struct KeyError {
    path: PathBuf,
    what: String,
}

impl KeyError {
    fn new(path: &Path, what: String) -> Self {
        Self {
            path: path.to_owned(),
            what,
        }
    }
}

impl SigningKey {
    /// Reads a key; makes one, for its owner only, and beside it the public half (`.pub`), where there is none.
    ///
    /// # Errors
    /// If the file can't be read or made, or holds no Ed25519 key.
    pub fn load_or_make(path: &Path) -> Result<Self, KeyError> {
        if let Some(key) = Self::load(path)? {
            return Ok(key);
        }
        let pem = make(path).map_err(|error| KeyError::new(path, format!("can't be made: {error}")))?;
        Self::parse(path, &pem)
    }

    /// Reads a key; `None` where there is no such file.
    ///
    /// # Errors
    /// If the file can't be read or holds no Ed25519 key.
    pub fn load(path: &Path) -> Result<Option<Self>, KeyError> {
        match fs::read(path) {
            Ok(pem) => Self::parse(path, &pem).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(KeyError::new(path, format!("can't be read: {error}"))),
        }
    }

    fn parse(path: &Path, pem: &[u8]) -> Result<Self, KeyError> {
        let key = PKey::private_key_from_pem(pem)
            .ok()
            .filter(|key| key.id() == Id::ED25519)
            .ok_or_else(|| KeyError::new(path, "holds no Ed25519 private key in PEM".to_owned()))?;
        let id = id_of(&key).map_err(|error| KeyError::new(path, error.to_string()))?;
        Ok(Self { key, id })
    }

    /// Signs the chain up to a link.
    ///
    /// # Errors
    /// If OpenSSL can't.
    pub fn sign(&self, link: &Link) -> io::Result<Checkpoint> {
        let mut signer = Signer::new_without_digest(&self.key)?;
        let signature = signer.sign_oneshot_to_vec(&signed(link))?;
        Ok(Checkpoint {
            key: self.id.clone(),
            signature: STANDARD.encode(signature),
        })
    }
}

impl VerifyingKey {
    /// Reads a public key.
    ///
    /// # Errors
    /// If the file can't be read or holds no Ed25519 key.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let failed = |what: String| KeyError::new(path, what);
        let pem = fs::read(path).map_err(|error| failed(format!("can't be read: {error}")))?;
        let key = PKey::public_key_from_pem(&pem)
            .ok()
            .filter(|key| key.id() == Id::ED25519)
            .ok_or_else(|| failed("holds no Ed25519 public key in PEM".to_owned()))?;
        let id = id_of(&key).map_err(|error| failed(error.to_string()))?;
        Ok(Self { key, id })
    }

    /// Whether a checkpoint is this key's.
    #[must_use]
    pub fn made(&self, checkpoint: &Checkpoint) -> bool {
        checkpoint.key == self.id
    }

    /// Whether a checkpoint signs the chain up to a link.
    #[must_use]
    pub fn verifies(&self, checkpoint: &Checkpoint, link: &Link) -> bool {
        let Ok(signature) = STANDARD.decode(&checkpoint.signature) else {
            return false;
        };
        Verifier::new_without_digest(&self.key)
            .and_then(|mut verifier| verifier.verify_oneshot(&signature, &signed(link)))
            .unwrap_or(false)
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Where the public half of a key is.
#[must_use]
pub fn public_half(path: &Path) -> PathBuf {
    beside(path, ".pub")
}

/// The private half comes last and by a link: whoever finds it finds the public one too, and two that start at once make
/// one key.
fn make(path: &Path) -> io::Result<Vec<u8>> {
    let key = PKey::generate_ed25519()?;
    let pem = key.private_key_to_pem_pkcs8()?;
    let draft = beside(path, &format!(".{}", std::process::id()));
    let written = write(&draft, 0o600, &pem).and_then(|()| match fs::hard_link(&draft, path) {
        Ok(()) => {
            write(&public_half(path), 0o644, &key.public_key_to_pem()?)?;
            Ok(pem)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => fs::read(path),
        Err(error) => Err(error),
    });
    let removed = fs::remove_file(&draft);
    let pem = written?;
    removed?;
    Ok(pem)
}

fn write(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn signed(link: &Link) -> Vec<u8> {
    [CONTEXT, &link.number.to_be_bytes(), &link.hash].concat()
}

fn id_of<T: openssl::pkey::HasPublic>(key: &PKeyRef<T>) -> Result<String, openssl::error::ErrorStack> {
    let digest = hash(MessageDigest::sha256(), &key.public_key_to_der()?)?;
    Ok(digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_its_public_half_verifies() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.key");
        let made = SigningKey::load_or_make(&path).unwrap();
        let read = SigningKey::load_or_make(&path).unwrap();
        assert_eq!(made.id, read.id);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&public_half(&path))), (0o600, 0o644));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);

        let link = Link::START.followed_by(1, b"x");
        let checkpoint = read.sign(&link).unwrap();
        let public = VerifyingKey::load(&public_half(&path)).unwrap();
        assert!(public.made(&checkpoint) && public.verifies(&checkpoint, &link));
        assert!(!public.verifies(&checkpoint, &Link::START.followed_by(1, b"y")));
        assert!(!public.verifies(&checkpoint, &Link { number: 2, ..link }));
        let other = SigningKey::load_or_make(&folder.path().join("other.key")).unwrap();
        let forged = Checkpoint {
            key: checkpoint.key,
            ..other.sign(&link).unwrap()
        };
        assert!(!public.verifies(&forged, &link));
    }

    #[test]
    fn another_kind_of_key_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.key");
        fs::write(&path, "no key").unwrap();
        let error = SigningKey::load_or_make(&path).unwrap_err().to_string();
        assert!(error.contains("holds no Ed25519 private key"), "{error}");
    }
}
