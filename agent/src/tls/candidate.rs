//! Whether a CRL that was fetched may take the place of the one that is kept.

use std::time::{Duration, SystemTime};

use openssl::{
    bn::BigNum,
    error::ErrorStack,
    x509::{CrlNumber, X509, X509Crl, X509CrlRef},
};
use x509_parser::{oid_registry, prelude::FromDer as _, revocation_list::CertificateRevocationList};

use super::{
    client::{Time, name},
    revocation::{SKEW, check_form},
};

/// A CRL that one of the CAs has signed.
pub struct Candidate {
    crl: X509Crl,
    scope: Option<Vec<u8>>,
    number: Option<BigNum>,
    this_update: Time,
    next_update: Option<Time>,
}

/// Why what was fetched is not kept.
#[derive(Debug, thiserror::Error)]
pub enum CandidateError {
    /// It is something else.
    #[error("it is no CRL, neither in DER nor in PEM")]
    NoCrl,
    /// Nobody vouches for it.
    #[error("no trusted root and no accepted issuer has signed it (its issuer is {0})")]
    NotOurs(String),
    /// It could not be put in force.
    #[error("{0}")]
    Unusable(String),
    /// It is of the future.
    #[error("it is of the future ({0}): compare the clocks")]
    Future(String),
    /// The kept one is newer.
    #[error("it is older than the one that is kept ({fetched}, kept {kept})")]
    Older {
        /// Number and time of the fetched one.
        fetched: String,
        /// Number and time of the kept one.
        kept: String,
    },
    /// It speaks of other certificates.
    #[error(
        "it is another CRL than the one that is kept (its issuer is {0}, or it covers another part of the issuer's certificates)"
    )]
    Other(String),
    /// OpenSSL can't read it.
    #[error("it can't be read: {0}")]
    Unreadable(String),
}

impl From<ErrorStack> for CandidateError {
    fn from(error: ErrorStack) -> Self {
        Self::Unreadable(error.to_string())
    }
}

impl Candidate {
    /// Reads a CRL, in DER or PEM, and has it vouched for by one of the CAs.
    ///
    /// # Errors
    /// It is none, or none of theirs, or not one that can be put in force.
    pub fn read(content: &[u8], authorities: &[X509]) -> Result<Self, CandidateError> {
        let crl = X509Crl::from_der(content)
            .or_else(|_| X509Crl::from_pem(content))
            .map_err(|_| CandidateError::NoCrl)?;
        if !signed_by_any(&crl, authorities)? {
            return Err(CandidateError::NotOurs(name(crl.issuer_name())));
        }
        check_form(&crl).map_err(|error| CandidateError::Unusable(error.to_string()))?;
        let der = crl.to_der()?;
        let (_, parsed) = CertificateRevocationList::from_der(&der)
            .map_err(|error| CandidateError::Unreadable(error.to_string()))?;
        let point = oid_registry::OID_X509_EXT_ISSUER_DISTRIBUTION_POINT;
        let scope = parsed
            .extensions()
            .iter()
            .find(|extension| extension.oid == point);
        let scope = scope.map(|extension| extension.value.to_vec());
        let number = crl.extension::<CrlNumber>()?;
        Ok(Self {
            scope,
            number: number.map(|(_, number)| number.to_bn()).transpose()?,
            this_update: Time::of(crl.last_update())?,
            next_update: crl.next_update().map(Time::of).transpose()?,
            crl,
        })
    }

    /// Whether it may take the place of the kept one. What may not says so: whoever sits on the way to the CA can give old
    /// lists and lists of something else.
    ///
    /// # Errors
    /// It is of the future, older, or another CA's or another part's.
    pub fn may_replace(&self, kept: Option<&Self>, now: SystemTime) -> Result<(), CandidateError> {
        if self.this_update > Time::from(now).plus(SKEW) {
            return Err(CandidateError::Future(self.this_update.to_string()));
        }
        let Some(kept) = kept else { return Ok(()) };
        let issuer = |candidate: &Self| candidate.crl.issuer_name().to_der();
        if issuer(self)? != issuer(kept)? || self.scope != kept.scope {
            return Err(CandidateError::Other(name(self.crl.issuer_name())));
        }
        let older = match (&self.number, &kept.number) {
            (Some(own), Some(others)) if own != others => own < others,
            _ => self.this_update < kept.this_update,
        };
        if older {
            return Err(CandidateError::Older {
                fetched: self.to_string(),
                kept: kept.to_string(),
            });
        }
        Ok(())
    }

    /// In PEM.
    ///
    /// # Errors
    /// OpenSSL refuses.
    pub fn to_pem(&self) -> Result<Vec<u8>, CandidateError> {
        Ok(self.crl.to_pem()?)
    }

    /// How long it is still valid; none if it is overdue or does not say.
    #[must_use]
    pub fn remaining(&self, now: SystemTime) -> Option<Duration> {
        let left = self.next_update?.since(Time::from(now));
        (!left.is_zero()).then_some(left)
    }
}

impl std::fmt::Display for Candidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.number.as_ref().map(|number| number.to_hex_str()) {
            Some(Ok(number)) => write!(
                f,
                "number {} of {}",
                number.to_ascii_lowercase(),
                self.this_update
            ),
            _ => write!(f, "of {}", self.this_update),
        }
    }
}

fn signed_by_any(crl: &X509CrlRef, authorities: &[X509]) -> Result<bool, ErrorStack> {
    let issuer = crl.issuer_name().to_der()?;
    for authority in authorities {
        if authority.subject_name().to_der()? == issuer && crl.verify(&*authority.public_key()?)? {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing::{Ca, DAY, at, extension, time};

    fn numbered(ca: &Ca, number: u8, from: i64) -> Vec<u8> {
        let crl = ca.numbered_crl(number, &[], |crl| {
            crl.set_last_update(&time(from)).unwrap();
        });
        crl.to_der().unwrap()
    }

    fn read(content: &[u8], ca: &Ca) -> Candidate {
        Candidate::read(content, std::slice::from_ref(&ca.certificate)).unwrap()
    }

    #[test]
    fn a_crl_is_read_in_both_forms_and_nothing_else_is_one() {
        let ca = Ca::root("Sub");
        let der = numbered(&ca, 1, -DAY);
        let pem = read(&der, &ca).to_pem().unwrap();
        assert_eq!(read(&pem, &ca).to_string(), read(&der, &ca).to_string());
        let said = [b"# a comment\n".as_slice(), &pem].concat();
        assert_eq!(
            read(&said, &ca).remaining(at(0)),
            Some(Duration::from_secs(86_400))
        );
        assert_eq!(read(&der, &ca).remaining(at(DAY)), None);
        let authorities = [ca.certificate];
        for bad in [&b""[..], b"<html>", &der[..der.len() - 1]] {
            assert!(matches!(
                Candidate::read(bad, &authorities),
                Err(CandidateError::NoCrl)
            ));
        }
    }

    #[test]
    fn a_crl_of_nobody_and_a_delta_are_refused() {
        let (ca, other) = (Ca::root("Sub"), Ca::root("Other"));
        let refused = |der: &[u8]| Candidate::read(der, std::slice::from_ref(&ca.certificate)).err();
        assert!(matches!(
            refused(&numbered(&other, 1, -DAY)),
            Some(CandidateError::NotOurs(name)) if name == "CN=Other"
        ));
        let delta = ca.crl(&[], |crl| {
            crl.append_extension(extension("2.5.29.27", true, &[0x02, 0x01, 0x01]))
                .unwrap();
        });
        assert!(matches!(
            refused(&delta.to_der().unwrap()),
            Some(CandidateError::Unusable(_))
        ));
    }

    #[test]
    fn only_a_newer_crl_of_the_same_issuer_and_part_replaces_the_kept_one() {
        let (ca, other) = (Ca::root("Sub"), Ca::root("Other"));
        let authorities = [ca.certificate.clone(), other.certificate.clone()];
        let read = |der: &[u8]| Candidate::read(der, &authorities).unwrap();
        let kept = read(&numbered(&ca, 5, -DAY));
        let judged = |der: &[u8]| read(der).may_replace(Some(&kept), at(0)).err();

        assert!(judged(&numbered(&ca, 6, -DAY)).is_none());
        assert!(judged(&numbered(&ca, 5, -DAY)).is_none());
        assert!(judged(&numbered(&ca, 5, 0)).is_none());
        // A number counts before a time.
        assert!(judged(&numbered(&ca, 6, -2 * DAY)).is_none());
        for (number, from) in [(4, -DAY), (4, 0), (5, -DAY - 1)] {
            assert!(matches!(
                judged(&numbered(&ca, number, from)),
                Some(CandidateError::Older { .. })
            ));
        }
        assert!(matches!(
            judged(&numbered(&other, 6, 0)),
            Some(CandidateError::Other(_))
        ));
        let part = ca.crl(&[], |crl| {
            let user_certificates = extension("2.5.29.28", true, &[0x30, 0x03, 0x81, 0x01, 0xff]);
            crl.append_extension(user_certificates).unwrap();
        });
        assert!(matches!(
            judged(&part.to_der().unwrap()),
            Some(CandidateError::Other(_))
        ));
        let future = numbered(&ca, 6, 301);
        assert!(matches!(judged(&future), Some(CandidateError::Future(_))));
        assert!(read(&future).may_replace(None, at(0)).is_err());
        assert!(read(&numbered(&ca, 6, 300)).may_replace(None, at(0)).is_ok());
    }
}
