//! The rules for client certificates, R8 to R12, in the order in which they decide.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use openssl::{
    error::ErrorStack,
    pkey::Id,
    x509::{
        X509, X509ExtendedKeyUsage, X509KeyUsage, X509Ref, X509VerifyResult,
        store::{X509Store, X509StoreBuilder},
        verify::{X509VerifyFlags, X509VerifyParam},
    },
};
use spinegate_common::Reason;
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

use super::{
    CertificateSummary, CrlStatus, Refusal, VerifiedClient,
    client::{Certificate, Facts, Time, fingerprint},
    name,
    revocation::Revocations,
};
use crate::nrl::Fqdn;

/// Keys shorter than this are refused (security level 2 of OpenSSL: 112 bits).
const RSA_BITS: u32 = 2048;
/// OpenSSL's authentication security level for the chain's keys and signatures.
const AUTH_LEVEL: i32 = 2;

/// A snapshot of who is trusted.
pub struct Trust {
    anchors: Anchors,
    fqdns: Vec<Fqdn>,
    revocations: Revocations,
}

/// The CAs: the roots, and the only issuers of clients' certificates.
pub(super) struct Anchors {
    roots: Vec<X509>,
    issuers: HashMap<[u8; 32], Issuer>,
    root_of: HashMap<[u8; 32], [u8; 32]>,
}

/// An accepted issuer, and what every client of its needs to know of it: read once, not in each handshake.
struct Issuer {
    certificate: X509,
    facts: Arc<Certificate>,
}

type Fault = (Reason, String);

impl Anchors {
    pub(super) fn new(roots: &[X509], issuers: &[X509]) -> Result<Self, ErrorStack> {
        let mut pinned = HashMap::new();
        for issuer in issuers {
            let facts = Arc::new(Certificate::of(issuer)?);
            let certificate = issuer.clone();
            pinned.insert(facts.fingerprint, Issuer { certificate, facts });
        }
        let mut root_of = HashMap::new();
        for (pin, issuer) in &pinned {
            for root in roots {
                if issuer.certificate.verify(&*root.public_key()?)? {
                    root_of.insert(*pin, fingerprint(root)?);
                }
            }
        }
        Ok(Self {
            roots: roots.to_vec(),
            issuers: pinned,
            root_of,
        })
    }

    /// The store that a chain is built from: the roots, which end it, and the issuers, which a client may leave out. Nothing
    /// but a root ends a chain: there is no partial one.
    pub(super) fn store(&self) -> Result<X509Store, ErrorStack> {
        let mut store = X509StoreBuilder::new()?;
        let mut parameters = X509VerifyParam::new()?;
        // Validity is this file's own rule, so that it is judged in its turn and against the time that is passed in.
        parameters.set_flags(X509VerifyFlags::NO_CHECK_TIME)?;
        parameters.set_auth_level(AUTH_LEVEL);
        store.set_param(&parameters)?;
        for authority in self.roots.iter().chain(self.issuers()) {
            store.add_cert(authority.clone())?;
        }
        Ok(store.build())
    }

    pub(super) fn issuers(&self) -> impl Iterator<Item = &X509> {
        self.issuers.values().map(|issuer| &issuer.certificate)
    }
}

impl Trust {
    /// Who is trusted, by which names, and what was revoked since.
    pub(super) const fn new(anchors: Anchors, fqdns: Vec<Fqdn>, revocations: Revocations) -> Self {
        Self {
            anchors,
            fqdns,
            revocations,
        }
    }

    /// Judges a chain that OpenSSL has verified, from the leaf to the root.
    ///
    /// # Errors
    /// The first rule that is broken, in the order chain, issuer, validity, revocation, usage, FQDN.
    pub(super) fn judge(&self, chain: &[&X509Ref], now: SystemTime) -> Result<VerifiedClient, Refusal> {
        self.facts(chain, now)
            .map(VerifiedClient::new)
            .map_err(|fault| Refusal::of(fault, chain.first().copied()))
    }

    /// The refusal of a chain that OpenSSL finds unsound.
    pub(super) fn refuse_chain(error: X509VerifyResult, leaf: Option<&X509Ref>) -> Refusal {
        Refusal::of((reason_of_chain(error), error.error_string().to_owned()), leaf)
    }

    /// Judges a verified client again, by what can have changed since: time, pins, revocation, names.
    ///
    /// # Errors
    /// As when it was judged first.
    pub fn recheck(&self, client: &VerifiedClient, now: SystemTime) -> Result<(), Refusal> {
        let facts = client.facts();
        let judged = || -> Result<(), Fault> {
            if !self.anchors.issuers.contains_key(&facts.issuer.fingerprint) {
                return Err((
                    Reason::IssuerNotPinned,
                    "its issuer is no longer accepted".to_owned(),
                ));
            }
            self.check_dates(&facts.leaf, &facts.issuer, now.into())?;
            if !self.fqdns.contains(&facts.fqdn) {
                return Err((
                    Reason::FqdnMismatch,
                    format!("{} is no longer accepted", facts.fqdn),
                ));
            }
            Ok(())
        };
        judged().map_err(|(reason, detail)| Refusal {
            reason,
            detail,
            certificate: Some(Box::new(facts.summary.clone())),
        })
    }

    /// How long a client that is valid now stays so by its certificates' dates alone.
    #[must_use]
    pub fn validity(&self, client: &VerifiedClient, now: SystemTime) -> Duration {
        let facts = client.facts();
        let end = facts.leaf.not_after.min(facts.issuer.not_after);
        // Its last second counts.
        end.since(now.into()) + Duration::from_secs(1)
    }

    /// Each CRL's state.
    #[must_use]
    pub fn crls(&self) -> Vec<CrlStatus> {
        self.revocations.status()
    }

    fn facts(&self, chain: &[&X509Ref], now: SystemTime) -> Result<Facts, Fault> {
        let (leaf, issuer) = self.check_issuer(chain)?;
        let facts = Certificate::of(leaf).map_err(unreadable)?;
        self.check_dates(&facts, &issuer, now.into())?;
        check_usage(leaf)?;
        Ok(Facts {
            fqdn: self.check_name(leaf)?,
            summary: CertificateSummary::of_known(leaf, &facts),
            leaf: facts,
            issuer,
        })
    }

    /// R8: the chain is leaf, pinned issuer, trusted root, and nothing else.
    fn check_issuer<'c>(&self, chain: &[&'c X509Ref]) -> Result<(&'c X509Ref, Arc<Certificate>), Fault> {
        let [leaf, issuer, _] = chain else {
            let detail = format!(
                "its chain has {} certificates, not leaf, issuer and root",
                chain.len()
            );
            return Err((Reason::IssuerNotPinned, detail));
        };
        match self
            .anchors
            .issuers
            .get(&fingerprint(issuer).map_err(unreadable)?)
        {
            Some(issuer) => Ok((*leaf, Arc::clone(&issuer.facts))),
            None => {
                let detail = format!(
                    "its issuer {} is not one of `tls.client.issuers`",
                    super::client::name(issuer.subject_name())
                );
                Err((Reason::IssuerNotPinned, detail))
            }
        }
    }

    /// R10, then R11, for the leaf and for its issuer.
    fn check_dates(&self, leaf: &Certificate, issuer: &Certificate, now: Time) -> Result<(), Fault> {
        for certificate in [leaf, issuer] {
            if now < certificate.not_before {
                let detail = format!(
                    "serial {} is valid from {}",
                    certificate.serial, certificate.not_before
                );
                return Err((Reason::CertificateNotYetValid, detail));
            }
            if now > certificate.not_after {
                let detail = format!(
                    "serial {} was valid until {}",
                    certificate.serial, certificate.not_after
                );
                return Err((Reason::CertificateExpired, detail));
            }
        }
        self.revocations.check(leaf, &issuer.fingerprint, now)?;
        // An issuer without a root of ours is none of ours: nothing then says that it is not revoked.
        let root = self.anchors.root_of.get(&issuer.fingerprint).unwrap_or(&[0; 32]);
        self.revocations.check(issuer, root, now)
    }

    /// R12: one of the certificate's names is one of ours.
    fn check_name(&self, leaf: &X509Ref) -> Result<Fqdn, Fault> {
        let names = name::fqdns(leaf).map_err(|fault| (Reason::FqdnMismatch, fault))?;
        match names.iter().find(|name| self.fqdns.contains(name)) {
            Some(name) => Ok(name.clone()),
            None => {
                let names: Vec<_> = names.iter().map(Fqdn::as_str).collect();
                Err((Reason::FqdnMismatch, format!("its name is {}", names.join(", "))))
            }
        }
    }
}

/// A client's certificate authenticates clients, and signs no others. Its key is a strong RSA key, as Spine's are.
fn check_usage(leaf: &X509Ref) -> Result<(), Fault> {
    let wrong = |detail: &str| Err((Reason::WrongUsage, detail.to_owned()));
    let der = leaf.to_der().map_err(unreadable)?;
    let (_, parsed) =
        X509Certificate::from_der(&der).map_err(|error| (Reason::ChainInvalid, error.to_string()))?;
    if parsed.is_ca() {
        return wrong("it is a CA's certificate");
    }
    match leaf.extended_key_usage() {
        None => return wrong("it has no extended key usage"),
        Some(usage) if !usage.contains(X509ExtendedKeyUsage::SSL_CLIENT) => {
            return wrong("its extended key usage lacks clientAuth");
        }
        Some(_) => {}
    }
    if leaf
        .key_usage()
        .is_some_and(|usage| !usage.contains(X509KeyUsage::DIGITAL_SIGNATURE))
    {
        return wrong("its key usage lacks digitalSignature");
    }
    let key = leaf.public_key().map_err(unreadable)?;
    if key.id() != Id::RSA || key.bits() < RSA_BITS {
        let detail = format!("its key is not RSA of {RSA_BITS} bits or more");
        return Err((Reason::WeakKeyOrDigest, detail));
    }
    Ok(())
}

/// OpenSSL's verification codes (`x509_vfy.h`): who signed is unknown, or what was signed is unsound.
fn reason_of_chain(error: X509VerifyResult) -> Reason {
    match error.as_raw() {
        // The issuer is not found, the chain ends in a certificate that nobody trusts, or the leaf signed itself.
        2 | 18 | 19 | 20 | 21 | 27 => Reason::ChainUnknownCa,
        // A key or a digest is below the security level.
        66..=68 => Reason::WeakKeyOrDigest,
        _ => Reason::ChainInvalid,
    }
}

fn unreadable(error: ErrorStack) -> Fault {
    (
        Reason::ChainInvalid,
        format!("the certificate can't be read: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use openssl::{
        ec::{EcGroup, EcKey},
        nid::Nid,
        pkey::{PKey, Private},
        stack::Stack,
        x509::{
            X509Crl, X509StoreContext,
            extension::{ExtendedKeyUsage, KeyUsage},
        },
    };

    use super::*;
    use crate::{
        config,
        tls::testing::{self, Ca, DAY, FQDN, Template, at},
    };

    /// RootCA and SubCA, and what is made of them.
    struct Pki {
        root: Ca,
        sub: Ca,
    }

    impl Pki {
        fn new() -> Self {
            let root = Ca::root("Root");
            let sub = root.subordinate(Template::ca("Sub"));
            Self { root, sub }
        }

        /// With a SubCA of this validity.
        fn with_sub_valid(validity: (i64, i64)) -> Self {
            let root = Ca::root("Root");
            let sub = root.subordinate(Template::ca("Sub").with(|sub| sub.validity = validity));
            Self { root, sub }
        }

        fn trust(&self) -> Trust {
            self.trust_with(&[self.root.fresh_crl(&[]), self.sub.fresh_crl(&[])], FQDN)
        }

        fn trust_with(&self, crls: &[X509Crl], fqdn: &str) -> Trust {
            let (roots, issuers) = ([self.root.certificate.clone()], [self.sub.certificate.clone()]);
            trust(&roots, &issuers, crls, fqdn)
        }
    }

    fn trust(roots: &[X509], issuers: &[X509], crls: &[X509Crl], fqdn: &str) -> Trust {
        let mut revocations = Revocations::new(config::Revocation::Require);
        for crl in crls {
            revocations.add(crl, &[roots, issuers].concat()).unwrap();
        }
        let anchors = Anchors::new(roots, issuers).unwrap();
        Trust::new(anchors, vec![Fqdn::parse(fqdn).unwrap()], revocations)
    }

    /// Builds the chain as the handshake's OpenSSL does, and has it judged.
    fn verify(trust: &Trust, leaf: &X509, seconds: i64) -> Result<VerifiedClient, Reason> {
        let (store, none) = (trust.anchors.store().unwrap(), Stack::new().unwrap());
        let mut context = X509StoreContext::new().unwrap();
        let verified = context.init(&store, leaf, &none, |context| {
            if !context.verify_cert()? {
                return Ok(Err(Trust::refuse_chain(context.error(), Some(leaf))));
            }
            let chain: Vec<_> = context.chain().into_iter().flatten().map(AsRef::as_ref).collect();
            Ok(trust.judge(&chain, at(seconds)))
        });
        verified.unwrap().map_err(|refusal| refusal.reason)
    }

    #[test]
    fn r10_a_certificate_counts_from_its_first_second_to_its_last() {
        let pki = Pki::new();
        let trust = pki.trust();
        let leaf = pki
            .sub
            .issue(Template::leaf().with(|leaf| leaf.validity = (0, 10)));
        let reason = |seconds| verify(&trust, &leaf, seconds).err();
        assert_eq!(reason(-1), Some(Reason::CertificateNotYetValid));
        assert_eq!((reason(0), reason(10)), (None, None));
        assert_eq!(reason(11), Some(Reason::CertificateExpired));
    }

    #[test]
    fn r10_a_certificate_counts_no_longer_than_its_issuers() {
        let pki = Pki::with_sub_valid((0, 10));
        let trust = pki.trust();
        let leaf = pki.sub.issue(Template::leaf());
        let reason = |seconds| verify(&trust, &leaf, seconds).err();
        assert_eq!(reason(-1), Some(Reason::CertificateNotYetValid));
        assert_eq!(reason(10), None);
        assert_eq!(reason(11), Some(Reason::CertificateExpired));
    }

    #[test]
    fn r8_to_r12_a_verified_client_is_judged_again_by_what_can_have_changed() {
        let pki = Pki::new();
        let leaf = pki
            .sub
            .issue(Template::leaf().with(|leaf| leaf.validity = (-DAY, 100)));
        let client = verify(&pki.trust(), &leaf, 0).unwrap();
        let again = |trust: &Trust, seconds| {
            let recheck = trust.recheck(&client, at(seconds));
            recheck.err().map(|refusal| refusal.reason)
        };
        let fresh = || [pki.root.fresh_crl(&[]), pki.sub.fresh_crl(&[])];

        assert_eq!(again(&pki.trust(), 100), None);
        assert_eq!(again(&pki.trust(), 101), Some(Reason::CertificateExpired));
        let crls = [pki.root.fresh_crl(&[]), pki.sub.fresh_crl(&[&leaf])];
        assert_eq!(
            again(&pki.trust_with(&crls, FQDN), 0),
            Some(Reason::CertificateRevoked)
        );
        let crls = [
            pki.root.fresh_crl(&[&pki.sub.certificate]),
            pki.sub.fresh_crl(&[]),
        ];
        assert_eq!(
            again(&pki.trust_with(&crls, FQDN), 0),
            Some(Reason::CertificateRevoked)
        );
        let late = pki
            .sub
            .crl(&[], |crl| crl.set_next_update(&testing::time(50)).unwrap());
        assert_eq!(
            again(&pki.trust_with(&[pki.root.fresh_crl(&[]), late], FQDN), 51),
            Some(Reason::CrlStale)
        );
        assert_eq!(
            again(&pki.trust_with(&[pki.root.fresh_crl(&[])], FQDN), 0),
            Some(Reason::CrlMissing)
        );
        assert_eq!(
            again(&pki.trust_with(&fresh(), "other.example.nhs.uk"), 0),
            Some(Reason::FqdnMismatch)
        );
        let successor = Pki {
            sub: pki.root.subordinate(Template::ca("Successor")),
            root: pki.root,
        };
        assert_eq!(again(&successor.trust(), 0), Some(Reason::IssuerNotPinned));
    }

    #[test]
    fn r8_a_chain_is_a_leaf_its_pinned_issuer_and_a_root_even_where_the_root_is_pinned() {
        let root = Ca::root("Root");
        let authorities = [root.certificate.clone()];
        let trust = trust(&authorities, &authorities, &[root.fresh_crl(&[])], FQDN);
        assert_eq!(
            verify(&trust, &root.issue(Template::leaf()), 0).err(),
            Some(Reason::IssuerNotPinned)
        );
    }

    fn elliptic() -> PKey<Private> {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
    }

    #[test]
    fn a_certificate_that_is_not_a_clients_is_refused() {
        let pki = Pki::new();
        let trust = pki.trust();
        let server_auth = || ExtendedKeyUsage::new().server_auth().build().unwrap();
        let encipherment = || KeyUsage::new().key_encipherment().build().unwrap();
        let table: [(&str, Template, Reason); 5] = [
            (
                "a CA's",
                Template::leaf().with(|leaf| leaf.extensions.push(testing::ca())),
                Reason::WrongUsage,
            ),
            (
                "no extended key usage",
                Template::leaf().with(|leaf| leaf.extensions.truncate(1)),
                Reason::WrongUsage,
            ),
            (
                "a server's",
                Template::leaf().with(|leaf| leaf.extensions = vec![server_auth()]),
                Reason::WrongUsage,
            ),
            (
                "not for signatures",
                Template::leaf().with(|leaf| leaf.extensions = vec![encipherment(), testing::client_auth()]),
                Reason::WrongUsage,
            ),
            (
                "not RSA",
                Template::leaf().with(|leaf| leaf.key = elliptic()),
                Reason::WeakKeyOrDigest,
            ),
        ];
        assert_eq!(verify(&trust, &pki.sub.issue(Template::leaf()), 0).err(), None);
        for (what, template, reason) in table {
            assert_eq!(
                verify(&trust, &pki.sub.issue(template), 0).err(),
                Some(reason),
                "{what}"
            );
        }
    }
}
