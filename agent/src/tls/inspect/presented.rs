//! The file in which a client's certificate comes.

use std::{
    fs, io, iter,
    path::{Path, PathBuf},
};

use openssl::x509::X509;

/// A certificate and what was sent with it.
#[derive(Clone, Debug)]
pub struct Presented {
    leaf: X509,
    rest: Vec<X509>,
    holds_key: bool,
}

/// Why a file shows no certificate.
#[derive(Debug, thiserror::Error)]
pub enum PresentedError {
    /// It can't be read.
    #[error("{}: {error}; correct the path, or make the file readable", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It is neither PEM nor DER.
    #[error(
        "{} holds no certificate in PEM or DER; take it out of PKCS #12 with `openssl pkcs12 -nokeys -in FILE`, out of PKCS #7 \
         with `openssl pkcs7 -print_certs -in FILE`",
        path.display()
    )]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// One of its certificates is damaged.
    #[error("{} holds a certificate that can't be read ({error}); copy it again, whole", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What OpenSSL said.
        error: openssl::error::ErrorStack,
    },
}

impl Presented {
    /// Reads a file: one certificate in DER, or PEM in which the leaf comes first. A private key in it is left alone.
    ///
    /// # Errors
    /// There is no certificate, or not every one can be read.
    pub fn read(path: &Path) -> Result<Self, PresentedError> {
        let content = fs::read(path).map_err(|error| PresentedError::File {
            path: path.to_owned(),
            error,
        })?;
        Self::of(&content, path)
    }

    /// The same of what was read from a file.
    ///
    /// # Errors
    /// There is no certificate, or not every one can be read.
    pub fn of(content: &[u8], path: &Path) -> Result<Self, PresentedError> {
        let path = || path.to_owned();
        let holds = |words: &str| {
            content
                .windows(words.len())
                .any(|window| window == words.as_bytes())
        };
        let certificates = if holds("-----BEGIN ") {
            X509::stack_from_pem(content).map_err(|error| PresentedError::Damaged { path: path(), error })?
        } else {
            X509::from_der(content).into_iter().collect()
        };
        let mut certificates = certificates.into_iter();
        match certificates.next() {
            Some(leaf) => Ok(Self {
                leaf,
                rest: certificates.collect(),
                holds_key: holds("PRIVATE KEY-----"),
            }),
            None => Err(PresentedError::NoCertificate { path: path() }),
        }
    }

    /// A certificate, and others that may lead from it to a root.
    #[cfg(test)]
    pub(in crate::tls) const fn new(leaf: X509, rest: Vec<X509>) -> Self {
        Self {
            leaf,
            rest,
            holds_key: false,
        }
    }

    /// Whether the file holds a private key.
    #[must_use]
    pub const fn holds_key(&self) -> bool {
        self.holds_key
    }

    pub(super) const fn leaf(&self) -> &X509 {
        &self.leaf
    }

    pub(super) fn rest(&self) -> &[X509] {
        &self.rest
    }

    pub(super) fn certificates(&self) -> impl Iterator<Item = &X509> {
        iter::once(&self.leaf).chain(&self.rest)
    }
}
