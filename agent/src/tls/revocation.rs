//! Revocation (R11): each issuer's CRLs, verified under its key, as sets of serial numbers.

mod files;
mod list;
mod scope;
mod watch;

use std::{
    collections::{HashMap, hash_map::Entry},
    path::PathBuf,
    sync::Arc,
};

use openssl::x509::{X509, X509CrlRef};
use spinegate_common::Reason;

pub use self::watch::Watch;
use self::{
    files::Sources,
    list::{Freshness, List},
};
pub(super) use self::{
    files::{FETCHED, Reading},
    list::{CrlError, SKEW},
    scope::{Holder, Point},
};
use super::{
    client::{Certificate, Time, fingerprint, name},
    refusal::Fault,
};
use crate::{
    config::{self, OnStale},
    control::CrlStatus,
};

/// The CRLs in force, by the SHA-256 of the CA certificate whose key verifies them; of each CA one for each scope.
#[derive(Clone)]
pub(super) struct Revocations {
    policy: config::Revocation,
    on_stale: OnStale,
    /// Kept with the rest, so that what is read again is read as it was configured.
    sources: Arc<Sources>,
    lists: HashMap<[u8; 32], Vec<Held>>,
}

#[derive(Clone)]
struct Held {
    list: Arc<List>,
    /// Why it is still in force although its file says something else.
    kept: Option<String>,
}

/// Whether a CRL is one that can be put in force, whoever has signed it.
pub(super) fn check_form(crl: &X509CrlRef) -> Result<(), CrlError> {
    List::of(crl, "").map(drop)
}

impl Revocations {
    pub(super) fn new(policy: config::Revocation, on_stale: OnStale) -> Self {
        Self {
            policy,
            on_stale,
            sources: Arc::default(),
            lists: HashMap::new(),
        }
    }

    /// Reads what the configuration names.
    pub(super) fn read(config: &config::ClientTls, authorities: &[X509]) -> Reading {
        let empty = Self {
            sources: Arc::new(Sources::of(config)),
            ..Self::new(config.revocation, config.on_stale)
        };
        files::read(empty, authorities)
    }

    /// Reads the same again.
    pub(super) fn read_again(&self, authorities: &[X509]) -> Reading {
        let empty = Self {
            sources: Arc::clone(&self.sources),
            ..Self::new(self.policy, self.on_stale)
        };
        files::read(empty, authorities)
    }

    /// Where they are read from.
    pub(super) fn sources(&self) -> Vec<PathBuf> {
        self.sources.paths().cloned().collect()
    }

    /// Takes a CRL that one of the CAs has signed. Of several CRLs of one CA and scope the newest says how fresh they are,
    /// and a serial number on any of them counts as revoked.
    pub(super) fn add(
        &mut self,
        crl: &X509CrlRef,
        authorities: &[X509],
        source: &str,
    ) -> Result<(), CrlError> {
        let list = List::of(crl, source)?;
        let issuer_name = crl.issuer_name().to_der()?;
        let mut signers = Vec::new();
        for authority in authorities {
            if authority.subject_name().to_der()? == issuer_name && crl.verify(&*authority.public_key()?)? {
                signers.push(fingerprint(authority)?);
            }
        }
        if signers.is_empty() {
            return Err(CrlError::NotOurs(name(crl.issuer_name())));
        }
        let list = Arc::new(list);
        signers.sort_unstable();
        signers.dedup();
        for signer in signers {
            let held = self.lists.entry(signer).or_default();
            match held.iter_mut().find(|held| held.list.scope == list.scope) {
                Some(held) => held.list = Arc::new(held.list.join(&list)),
                None => held.push(Held {
                    list: Arc::clone(&list),
                    kept: None,
                }),
            }
        }
        Ok(())
    }

    /// Keeps of `before`, for these CAs, what is newer than what is here, or is not here at all: what was known of
    /// revocation is not forgotten because a file was lost or an old one came back.
    pub(super) fn succeed(&mut self, before: &Self, authorities: impl Iterator<Item = [u8; 32]>) {
        for authority in authorities {
            let Some(earlier) = before.lists.get(&authority) else {
                continue;
            };
            let lists = match self.lists.entry(authority) {
                Entry::Occupied(lists) => lists.into_mut(),
                Entry::Vacant(place) => place.insert(Vec::new()),
            };
            for old in earlier {
                let keep = |why: String| Held {
                    list: Arc::clone(&old.list),
                    kept: Some(why),
                };
                match lists.iter_mut().find(|new| new.list.scope == old.list.scope) {
                    None => lists.push(keep(format!("{} no longer holds it", old.list.source))),
                    Some(new) if old.list.is_newer_than(&new.list) => {
                        *new = keep(format!("{} holds an older one", new.list.source));
                    }
                    Some(_) => {}
                }
            }
        }
    }

    /// Whether there is any CRL of a CA.
    pub(super) fn covers(&self, authority: &[u8; 32]) -> bool {
        self.of(authority).next().is_some()
    }

    /// What is wrong with the age of a CA's CRLs at `now`.
    pub(super) fn stale(&self, authority: &[u8; 32], now: Time) -> impl Iterator<Item = String> {
        self.of(authority).filter_map(move |held| held.list.fault(now))
    }

    /// Judges a certificate issued by `authority`. A serial number that is listed is refused however old the list is, and
    /// for whatever certificates it speaks.
    pub(super) fn check(
        &self,
        certificate: &Certificate,
        holder: Holder,
        authority: &[u8; 32],
        now: Time,
    ) -> Result<(), Fault> {
        let serial = &certificate.serial;
        let fault = |reason, detail, held: Option<&Held>| Fault {
            reason,
            detail,
            depth: holder.depth(),
            crl: held.map(|held| Box::new(held.list.facts(now))),
        };
        if let Some(held) = self.of(authority).find(|held| held.list.serials.contains(serial)) {
            let detail = format!("serial {serial} is on its issuer's CRL");
            return Err(fault(Reason::CertificateRevoked, detail, Some(held)));
        }
        if self.policy == config::Revocation::Prefer {
            return Ok(());
        }
        let speaking = || {
            self.of(authority)
                .filter(|held| held.list.scope.covers(&certificate.points, holder))
        };
        if speaking().any(|held| held.list.freshness(self.on_stale, now) != Freshness::Stale) {
            return Ok(());
        }
        match speaking().next() {
            Some(held) => {
                let detail = held.list.fault(now).unwrap_or_default();
                Err(fault(Reason::CrlStale, detail, Some(held)))
            }
            None if self.covers(authority) => {
                let points: Vec<_> = certificate.points.iter().map(Point::to_string).collect();
                let points = if points.is_empty() {
                    "none".to_owned()
                } else {
                    points.join(", ")
                };
                let detail = format!(
                    "no CRL of its issuer speaks for serial {serial} (its distribution points: {points})"
                );
                Err(fault(Reason::CrlMissing, detail, None))
            }
            None => {
                let detail = format!("no CRL of the issuer of serial {serial} is loaded");
                Err(fault(Reason::CrlMissing, detail, None))
            }
        }
    }

    /// Each CRL's issuer, and when the next one is due, as far as they say so.
    pub(super) fn next_updates(&self) -> impl Iterator<Item = (&str, Time)> {
        self.lists
            .values()
            .flatten()
            .filter_map(|held| Some((held.list.issuer.as_str(), held.list.next_update?)))
    }

    /// Whether any CRL, however old, speaks for a certificate issued by `authority`.
    pub(super) fn speaks_for(&self, certificate: &Certificate, holder: Holder, authority: &[u8; 32]) -> bool {
        self.of(authority)
            .any(|held| held.list.scope.covers(&certificate.points, holder))
    }

    /// Each CRL's state.
    pub(super) fn status(&self, now: Time) -> Vec<CrlStatus> {
        let mut status: Vec<_> = self
            .lists
            .values()
            .flatten()
            .map(|held| CrlStatus {
                issuer: held.list.issuer.clone(),
                scope: held.list.scope.to_string(),
                number: held.list.number.as_ref().map(ToString::to_string),
                this_update: held.list.this_update.to_string(),
                age_seconds: now.since(held.list.this_update).as_secs(),
                next_update: held.list.next_update.map(|next| next.to_string()),
                state: held.list.freshness(self.on_stale, now).as_str().to_owned(),
                entries: held.list.serials.len(),
                source: held.list.source.clone(),
                kept: held.kept.clone(),
            })
            .collect();
        status.sort_by(|a, b| (&a.issuer, &a.scope).cmp(&(&b.issuer, &b.scope)));
        status
    }

    /// Describes each list that is not in force in `before`.
    pub(super) fn news(&self, before: &Self) -> Vec<String> {
        let mut news = Vec::new();
        for (authority, lists) in &self.lists {
            let old = |new: &Held| before.of(authority).any(|old| old.list.is_same_as(&new.list));
            news.extend(
                lists
                    .iter()
                    .filter(|new| !old(new))
                    .map(|new| new.list.describe()),
            );
        }
        news.sort();
        news
    }

    fn of(&self, authority: &[u8; 32]) -> impl Iterator<Item = &Held> {
        self.lists.get(authority).into_iter().flatten()
    }
}

#[cfg(test)]
mod tests;
