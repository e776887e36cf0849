//! Revocation (R11): each issuer's CRL, verified under its key, as a set of serial numbers.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use openssl::{
    error::ErrorStack,
    x509::{CrlNumber, X509, X509CrlRef},
};
use spinegate_common::Reason;
use x509_parser::{oid_registry, prelude::FromDer as _, revocation_list::CertificateRevocationList};

use super::client::{Certificate, Time, fingerprint, name, serial};
use crate::config;

/// How far a CRL's issuer's clock may run ahead of ours.
pub(super) const SKEW: Duration = Duration::from_secs(300);

/// The CRLs in force, by the SHA-256 of the CA certificate whose key verifies them.
pub(super) struct Revocations {
    policy: config::Revocation,
    lists: HashMap<[u8; 32], List>,
}

/// The state of a CRL, for `status`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct CrlStatus {
    /// The issuer's name.
    pub issuer: String,
    /// The CRL number (RFC 5280 section 5.2.3), hexadecimal.
    pub number: Option<String>,
    /// When it was issued (RFC 3339).
    pub this_update: String,
    /// When the next one is due.
    pub next_update: Option<String>,
    /// Revoked certificates.
    pub entries: usize,
}

struct List {
    status: CrlStatus,
    this_update: Time,
    next_update: Option<Time>,
    serials: HashSet<String>,
}

/// Why a CRL can't be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum CrlError {
    #[error("no trusted root and no accepted issuer has signed it (its issuer is {0})")]
    NotOurs(String),
    #[error("it is a delta CRL, which says nothing without its base")]
    Delta,
    #[error(
        "it covers only a part of its issuer's certificates (issuing distribution point), so that the others would count as not revoked"
    )]
    Partial,
    #[error("it has a critical extension that is not understood ({0})")]
    Critical(String),
    #[error("it can't be read: {0}")]
    Unreadable(String),
}

impl From<ErrorStack> for CrlError {
    fn from(error: ErrorStack) -> Self {
        Self::Unreadable(error.to_string())
    }
}

impl Revocations {
    pub(super) fn new(policy: config::Revocation) -> Self {
        Self {
            policy,
            lists: HashMap::new(),
        }
    }

    /// Takes a CRL that one of the CAs has signed. Of several CRLs of one CA the newest says how fresh they are, and a
    /// serial number on any of them counts as revoked.
    pub(super) fn add(&mut self, crl: &X509CrlRef, authorities: &[X509]) -> Result<(), CrlError> {
        check_extensions(crl)?;
        let issuer_name = crl.issuer_name().to_der()?;
        let mut ours = false;
        for authority in authorities {
            if authority.subject_name().to_der()? == issuer_name && crl.verify(&*authority.public_key()?)? {
                ours = true;
                let list = List::of(crl)?;
                match self.lists.entry(fingerprint(authority)?) {
                    std::collections::hash_map::Entry::Vacant(entry) => {
                        entry.insert(list);
                    }
                    std::collections::hash_map::Entry::Occupied(mut entry) => entry.get_mut().join(list),
                }
            }
        }
        if ours {
            Ok(())
        } else {
            Err(CrlError::NotOurs(name(crl.issuer_name())))
        }
    }

    /// Whether there is a CRL of a CA.
    pub(super) fn covers(&self, authority: &[u8; 32]) -> bool {
        self.lists.contains_key(authority)
    }

    /// The CRL's problem with its age at `now`, if it has one.
    pub(super) fn stale(&self, authority: &[u8; 32], now: Time) -> Option<String> {
        self.lists.get(authority).and_then(|list| list.stale(now))
    }

    /// Judges a certificate issued by `authority`. A serial number that is listed is refused however old the list is.
    pub(super) fn check(
        &self,
        certificate: &Certificate,
        authority: &[u8; 32],
        now: Time,
    ) -> Result<(), (Reason, String)> {
        let list = self.lists.get(authority);
        if list.is_some_and(|list| list.serials.contains(&certificate.serial)) {
            let detail = format!("serial {} is on its issuer's CRL", certificate.serial);
            return Err((Reason::CertificateRevoked, detail));
        }
        if self.policy == config::Revocation::Prefer {
            return Ok(());
        }
        let Some(list) = list else {
            let detail = format!("no CRL of the issuer of serial {} is loaded", certificate.serial);
            return Err((Reason::CrlMissing, detail));
        };
        match list.stale(now) {
            Some(detail) => Err((Reason::CrlStale, detail)),
            None => Ok(()),
        }
    }

    /// Each CRL's state.
    pub(super) fn status(&self) -> Vec<CrlStatus> {
        let mut status: Vec<_> = self.lists.values().map(|list| list.status.clone()).collect();
        status.sort_by(|a, b| a.issuer.cmp(&b.issuer));
        status
    }
}

impl List {
    fn of(crl: &X509CrlRef) -> Result<Self, CrlError> {
        let serials = crl
            .get_revoked()
            .into_iter()
            .flatten()
            .map(|revoked| serial(revoked.serial_number()))
            .collect::<Result<HashSet<_>, _>>()?;
        let number = match crl.extension::<CrlNumber>()? {
            Some((_, number)) => Some(serial(&number)?),
            None => None,
        };
        let this_update = Time::of(crl.last_update())?;
        let next_update = crl.next_update().map(Time::of).transpose()?;
        let status = CrlStatus {
            issuer: name(crl.issuer_name()),
            number,
            this_update: this_update.to_string(),
            next_update: next_update.map(|next| next.to_string()),
            entries: serials.len(),
        };
        Ok(Self {
            status,
            this_update,
            next_update,
            serials,
        })
    }

    fn join(&mut self, mut other: Self) {
        if other.this_update > self.this_update {
            std::mem::swap(self, &mut other);
        }
        self.serials.extend(other.serials);
        self.status.entries = self.serials.len();
    }

    fn stale(&self, now: Time) -> Option<String> {
        let issuer = &self.status.issuer;
        match self.next_update {
            None => Some(format!(
                "the CRL of {issuer} does not say when the next one is due"
            )),
            Some(next) if next < now => Some(format!("the CRL of {issuer} was to be replaced by {next}")),
            Some(_) if self.this_update > now.plus(SKEW) => Some(format!(
                "the CRL of {issuer} is of the future ({})",
                self.this_update
            )),
            Some(_) => None,
        }
    }
}

/// RFC 5280 section 5.2: what makes a CRL something other than the whole list of its issuer.
fn check_extensions(crl: &X509CrlRef) -> Result<(), CrlError> {
    let der = crl.to_der()?;
    let (_, parsed) =
        CertificateRevocationList::from_der(&der).map_err(|error| CrlError::Unreadable(error.to_string()))?;
    for extension in parsed.extensions() {
        if extension.oid == oid_registry::OID_X509_EXT_DELTA_CRL_INDICATOR {
            return Err(CrlError::Delta);
        }
        if extension.oid == oid_registry::OID_X509_EXT_ISSUER_DISTRIBUTION_POINT {
            return Err(CrlError::Partial);
        }
        if extension.critical && extension.oid != oid_registry::OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER {
            return Err(CrlError::Critical(extension.oid.to_id_string()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use openssl::x509::X509Crl;

    use super::*;
    use crate::tls::testing::{Ca, DAY, Template, at, extension, time};

    fn issuer() -> Ca {
        Ca::root("Sub")
    }

    fn added(issuer: &Ca, crl: &X509Crl) -> Result<Revocations, CrlError> {
        let mut revocations = Revocations::new(config::Revocation::Require);
        revocations.add(crl, std::slice::from_ref(&issuer.certificate))?;
        Ok(revocations)
    }

    fn reason(revocations: &Revocations, issuer: &Ca, leaf: &X509) -> Option<Reason> {
        let leaf = Certificate::of(leaf).unwrap();
        let authority = fingerprint(&issuer.certificate).unwrap();
        let checked = revocations.check(&leaf, &authority, at(0).into());
        checked.err().map(|(reason, _)| reason)
    }

    #[test]
    fn a_crl_that_is_not_its_issuers_whole_list_is_refused() {
        let issuer = issuer();
        let with = |oid, critical, der: &[u8]| {
            let crl = issuer.crl(&[], |crl| {
                crl.append_extension(extension(oid, critical, der)).unwrap();
            });
            added(&issuer, &crl).map(drop)
        };
        assert!(matches!(
            with("2.5.29.27", true, &[0x02, 0x01, 0x01]),
            Err(CrlError::Delta)
        ));
        // onlyContainsUserCerts
        assert!(matches!(
            with("2.5.29.28", true, &[0x30, 0x03, 0x81, 0x01, 0xff]),
            Err(CrlError::Partial)
        ));
        assert!(matches!(
            with("1.2.3.4", true, &[0x05, 0x00]),
            Err(CrlError::Critical(_))
        ));
        assert!(with("1.2.3.4", false, &[0x05, 0x00]).is_ok());
    }

    #[test]
    fn a_crl_of_another_signer_or_name_is_refused() {
        let issuer = issuer();
        let other = Ca::root("Other").fresh_crl(&[]);
        assert!(matches!(added(&issuer, &other), Err(CrlError::NotOurs(name)) if name == "CN=Other"));
    }

    #[test]
    fn of_several_crls_the_newest_says_how_fresh_they_are_and_all_say_who_is_revoked() {
        let issuer = issuer();
        let [early, late, good] = [(); 3].map(|()| issuer.issue(Template::leaf()));
        let old = issuer.crl(&[&early], |crl| {
            crl.set_last_update(&time(-3 * DAY)).unwrap();
            crl.set_next_update(&time(-2 * DAY)).unwrap();
        });
        let new = issuer.fresh_crl(&[&late]);
        for crls in [[&old, &new], [&new, &old]] {
            let mut revocations = Revocations::new(config::Revocation::Require);
            for crl in crls {
                revocations
                    .add(crl, std::slice::from_ref(&issuer.certificate))
                    .unwrap();
            }
            for revoked in [&early, &late] {
                assert_eq!(
                    reason(&revocations, &issuer, revoked),
                    Some(Reason::CertificateRevoked)
                );
            }
            assert_eq!(reason(&revocations, &issuer, &good), None);
        }
    }

    #[test]
    fn a_crl_that_is_late_early_or_without_a_next_one_is_stale() {
        let issuer = issuer();
        let [leaf, revoked] = [(); 2].map(|()| issuer.issue(Template::leaf()));
        let skew = i64::try_from(SKEW.as_secs()).unwrap();
        for (from, to, wanted) in [
            (-DAY, Some(0), None),
            (-DAY, Some(-1), Some(Reason::CrlStale)),
            (-DAY, None, Some(Reason::CrlStale)),
            (skew, Some(DAY), None),
            (skew + 1, Some(DAY), Some(Reason::CrlStale)),
        ] {
            let crl = issuer.crl(&[&revoked], |crl| {
                crl.set_last_update(&time(from)).unwrap();
                crl.set_next_update(&time(to.unwrap_or(DAY))).unwrap();
            });
            let mut revocations = added(&issuer, &crl).unwrap();
            if to.is_none() {
                revocations
                    .lists
                    .values_mut()
                    .for_each(|list| list.next_update = None);
            }
            assert_eq!(reason(&revocations, &issuer, &leaf), wanted, "{from} to {to:?}");
            assert_eq!(
                reason(&revocations, &issuer, &revoked),
                Some(Reason::CertificateRevoked),
                "{from} to {to:?}"
            );
        }
    }
}
