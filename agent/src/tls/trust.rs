//! The rules for client certificates, R8 to R12, in the order in which they decide.

use std::{
    collections::HashMap,
    fmt::Display,
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

use super::{
    CertificateSummary, Question, Questions, Refusal, VerifiedClient,
    client::{Certificate, Facts, Time, fingerprint},
    known::{Known, Leaf},
    name, ocsp,
    refusal::Fault,
    revocation::{Holder, Revocations},
    wanted::distribution_points,
};
use crate::{config::OcspMode, control::CrlStatus, nrl::Fqdn};

/// Keys shorter than this are refused (security level 2 of OpenSSL: 112 bits).
const RSA_BITS: u32 = 2048;
/// OpenSSL's authentication security level for the chain's keys and signatures.
const AUTH_LEVEL: i32 = 2;

/// A snapshot of who is trusted.
#[derive(Clone)]
pub struct Trust {
    anchors: Arc<Anchors>,
    fqdns: Arc<[Fqdn]>,
    revocations: Revocations,
    /// What was wrong with the CRLs when they were last read.
    crl_faults: Vec<String>,
    ocsp: OcspMode,
    questions: Arc<Questions>,
}

/// The CAs: the roots, and the only issuers of clients' certificates.
pub(super) struct Anchors {
    roots: Vec<X509>,
    issuers: HashMap<[u8; 32], Issuer>,
    root_of: HashMap<[u8; 32], [u8; 32]>,
    /// Leaves that one of the issuers has signed, and that have passed.
    known: Known,
}

/// Who may sign CRLs, for who fetches them.
#[derive(Clone, Debug)]
pub struct Authorities {
    /// The roots and the accepted issuers.
    pub certificates: Vec<X509>,
    /// Where the CRLs are that list the issuers themselves, as their certificates say.
    pub distribution_points: Vec<String>,
}

/// An accepted issuer, and what each of its clients is judged by: read once, not in every handshake.
struct Issuer {
    certificate: X509,
    /// Or what can't be read in it.
    facts: Result<Arc<Certificate>, String>,
}

impl Anchors {
    pub(super) fn new(roots: &[X509], issuers: &[X509]) -> Result<Self, ErrorStack> {
        let mut pinned = HashMap::new();
        for issuer in issuers {
            let (certificate, facts) = (issuer.clone(), Certificate::of(issuer).map(Arc::new));
            pinned.insert(fingerprint(issuer)?, Issuer { certificate, facts });
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
            known: Known::default(),
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

    pub(super) fn roots(&self) -> &[X509] {
        &self.roots
    }

    /// Every CA whose CRLs count.
    pub(super) fn authorities(&self) -> Vec<X509> {
        self.roots.iter().chain(self.issuers()).cloned().collect()
    }

    /// Their fingerprints.
    fn prints(&self) -> impl Iterator<Item = [u8; 32]> {
        self.root_of.iter().flat_map(|(issuer, root)| [*issuer, *root])
    }
}

impl Trust {
    /// Who is trusted, by which names, and what was revoked since.
    pub(super) fn new(anchors: Anchors, fqdns: Vec<Fqdn>, revocations: Revocations) -> Self {
        Self {
            anchors: Arc::new(anchors),
            fqdns: fqdns.into(),
            revocations,
            crl_faults: Vec::new(),
            ocsp: OcspMode::Off,
            questions: Arc::default(),
        }
    }

    /// The same where OCSP responders are asked.
    pub(super) fn asking(self, ocsp: OcspMode) -> Self {
        Self { ocsp, ..self }
    }

    /// The same with what was read of CRLs since, and nothing forgotten of what was known before.
    pub(super) fn with_crls(&self, mut revocations: Revocations, crl_faults: Vec<String>) -> Self {
        revocations.succeed(&self.revocations, self.anchors.prints());
        Self {
            anchors: Arc::clone(&self.anchors),
            fqdns: Arc::clone(&self.fqdns),
            revocations,
            crl_faults,
            ocsp: self.ocsp,
            questions: Arc::clone(&self.questions),
        }
    }

    /// The same, with all that another snapshot knows of revocation by the same CAs.
    pub(super) fn after(mut self, before: &Self) -> Self {
        self.revocations
            .succeed(&before.revocations, self.anchors.prints());
        self.questions = Arc::clone(&before.questions);
        self
    }

    pub(super) fn anchors(&self) -> &Arc<Anchors> {
        &self.anchors
    }

    /// Judges a chain that OpenSSL has verified, from the leaf to the root.
    ///
    /// # Errors
    /// The first rule that is broken, in the order chain, issuer, validity, revocation, usage, FQDN.
    pub(super) fn judge(&self, chain: &[&X509Ref], now: SystemTime) -> Result<VerifiedClient, Refusal> {
        self.facts(chain, now)
            .map(VerifiedClient::new)
            .map_err(|fault| refuse(fault, chain.first().copied()))
    }

    /// Keeps a leaf that was judged, and whose chain OpenSSL has then verified to the end. Where responders are asked none is
    /// kept: what to ask them is found in the chain.
    pub(super) fn keep(&self, leaf: &X509Ref, client: &VerifiedClient) {
        if self.ocsp == OcspMode::Off {
            self.anchors.known.keep(Leaf {
                client: client.clone(),
                distribution_points: distribution_points(leaf),
            });
        }
    }

    /// A leaf whose chain was verified before, under these anchors, if every rule that can have changed its mind since lets it
    /// pass. Of any other one the chain is to be verified, and judged: the reason of a refusal is found there.
    pub(super) fn known(&self, leaf: &X509Ref, now: SystemTime) -> Option<Arc<Leaf>> {
        let known = self.anchors.known.find(&fingerprint(leaf).ok()?)?;
        self.recheck(&known.client, now).ok()?;
        Some(known)
    }

    /// The refusal of a chain that OpenSSL finds unsound at `depth`.
    pub(super) fn refuse_chain(error: X509VerifyResult, depth: u32, leaf: Option<&X509Ref>) -> Refusal {
        let fault = Fault::new(reason_of_chain(error), error.error_string());
        refuse(fault.at(depth as usize), leaf)
    }

    /// Judges a verified client again, by what can have changed since: time, pins, revocation, names.
    ///
    /// # Errors
    /// As when it was judged first.
    pub fn recheck(&self, client: &VerifiedClient, now: SystemTime) -> Result<(), Refusal> {
        let facts = client.facts();
        let judged = || -> Result<(), Fault> {
            if !self.anchors.issuers.contains_key(&facts.issuer.fingerprint) {
                let detail = "its issuer is no longer accepted";
                return Err(Fault::new(Reason::IssuerNotPinned, detail).at(1));
            }
            self.check_dates(&facts.leaf, &facts.issuer, now.into())?;
            ocsp::judge(self.ocsp, &facts.questions, true, now)?;
            if !self.fqdns.contains(&facts.fqdn) {
                let detail = format!("{} is no longer accepted", facts.fqdn);
                return Err(Fault::new(Reason::FqdnMismatch, detail));
            }
            Ok(())
        };
        judged().map_err(|fault| fault.into_refusal(Some(facts.summary.clone())))
    }

    /// How long a client that is valid now stays so by the dates of its certificates, and of the OCSP answers that it needs.
    #[must_use]
    pub fn validity(&self, client: &VerifiedClient, now: SystemTime) -> Duration {
        let facts = client.facts();
        let end = facts.leaf.not_after.min(facts.issuer.not_after);
        // Its last second counts.
        let by_dates = end.since(now.into()) + Duration::from_secs(1);
        let by_answers = match self.ocsp {
            OcspMode::Require => ocsp::shortest(&facts.questions, now),
            OcspMode::Off | OcspMode::Prefer => None,
        };
        by_answers.map_or(by_dates, |answers| answers.min(by_dates))
    }

    /// R12: the names of which a client's certificate must have one.
    #[must_use]
    pub fn fqdns(&self) -> &[Fqdn] {
        &self.fqdns
    }

    pub(super) const fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// Whether there are CRLs that speak for a leaf and for its issuer.
    pub(super) fn knows_revocation(&self, leaf: &Certificate, issuer: &Certificate) -> bool {
        let root = self.anchors.root_of.get(&issuer.fingerprint).unwrap_or(&[0; 32]);
        self.revocations
            .speaks_for(leaf, Holder::User, &issuer.fingerprint)
            && self.revocations.speaks_for(issuer, Holder::Authority, root)
    }

    /// The CAs that may sign CRLs.
    #[must_use]
    pub fn authorities(&self) -> Authorities {
        Authorities {
            certificates: self.anchors.authorities(),
            distribution_points: self
                .anchors
                .issuers()
                .flat_map(|issuer| distribution_points(issuer))
                .collect(),
        }
    }

    /// Each CRL's state at `now`.
    #[must_use]
    pub fn crls(&self, now: SystemTime) -> Vec<CrlStatus> {
        self.revocations.status(now.into())
    }

    /// The CRLs that are not in force in `before`.
    pub(super) fn crl_news(&self, before: &Self) -> Vec<String> {
        self.revocations.news(&before.revocations)
    }

    /// What was wrong with the files of CRLs when they were last read.
    #[must_use]
    pub fn crl_faults(&self) -> &[String] {
        &self.crl_faults
    }

    /// What OCSP responders are asked, and what they have answered.
    #[must_use]
    pub fn questions(&self) -> &Questions {
        &self.questions
    }

    /// What is to be asked about a chain. A certificate that nothing can be asked about is refused where an answer is needed.
    fn questions_about(&self, chain: &[&X509Ref], now: SystemTime) -> Result<Vec<Arc<Question>>, Fault> {
        if self.ocsp == OcspMode::Off {
            return Ok(Vec::new());
        }
        let pairs = chain.iter().zip(chain.iter().skip(1)).enumerate();
        pairs
            .map(|(depth, (certificate, issuer))| {
                let question = self.questions.about(certificate, issuer, depth, now);
                question.map_err(|error| {
                    Fault::new(Reason::ChainInvalid, format!("it can't be asked about: {error}")).at(depth)
                })
            })
            .collect()
    }

    fn facts(&self, chain: &[&X509Ref], now: SystemTime) -> Result<Facts, Fault> {
        let (leaf, issuer) = self.check_issuer(chain)?;
        let leaf_facts = Certificate::of(leaf).map_err(unreadable)?;
        let issuer_facts = issuer.facts.clone().map_err(|error| unreadable(error).at(1))?;
        self.check_dates(&leaf_facts, &issuer_facts, now.into())?;
        let questions = self.questions_about(chain, now)?;
        ocsp::judge(self.ocsp, &questions, false, now)?;
        check_usage(leaf, &leaf_facts)?;
        let fqdn = self.check_name(leaf)?;
        let summary = CertificateSummary::of(leaf).map_err(unreadable)?;
        Ok(Facts {
            fqdn,
            leaf: leaf_facts,
            issuer: issuer_facts,
            summary,
            questions,
        })
    }

    /// R8: the chain is leaf, pinned issuer, trusted root, and nothing else.
    fn check_issuer<'c>(&self, chain: &[&'c X509Ref]) -> Result<(&'c X509Ref, &Issuer), Fault> {
        let [leaf, issuer, _] = chain else {
            let detail = format!(
                "its chain has {} certificates, not leaf, issuer and root",
                chain.len()
            );
            return Err(Fault::new(Reason::IssuerNotPinned, detail));
        };
        let pin = fingerprint(issuer).map_err(unreadable)?;
        let Some(accepted) = self.anchors.issuers.get(&pin) else {
            let detail = format!(
                "its issuer {} is not one of `tls.client.issuers`",
                super::client::name(issuer.subject_name())
            );
            return Err(Fault::new(Reason::IssuerNotPinned, detail).at(1));
        };
        Ok((*leaf, accepted))
    }

    /// R10, then R11, for the leaf and for its issuer.
    fn check_dates(&self, leaf: &Certificate, issuer: &Certificate, now: Time) -> Result<(), Fault> {
        for (depth, certificate) in [leaf, issuer].into_iter().enumerate() {
            if now < certificate.not_before {
                let detail = format!(
                    "serial {} is valid from {}",
                    certificate.serial, certificate.not_before
                );
                return Err(Fault::new(Reason::CertificateNotYetValid, detail).at(depth));
            }
            if now > certificate.not_after {
                let detail = format!(
                    "serial {} was valid until {}",
                    certificate.serial, certificate.not_after
                );
                return Err(Fault::new(Reason::CertificateExpired, detail).at(depth));
            }
        }
        self.revocations
            .check(leaf, Holder::User, &issuer.fingerprint, now)?;
        // An issuer without a root of ours is none of ours: nothing then says that it is not revoked.
        let root = self.anchors.root_of.get(&issuer.fingerprint).unwrap_or(&[0; 32]);
        self.revocations.check(issuer, Holder::Authority, root, now)
    }

    /// R12: one of the certificate's names is one of ours.
    pub(super) fn check_name(&self, leaf: &X509Ref) -> Result<Fqdn, Fault> {
        let names = name::fqdns(leaf).map_err(|fault| Fault::new(Reason::FqdnMismatch, fault))?;
        match names.iter().find(|name| self.fqdns.contains(name)) {
            Some(name) => Ok(name.clone()),
            None => {
                let names: Vec<_> = names.iter().map(Fqdn::as_str).collect();
                let detail = format!("its name is {}", names.join(", "));
                Err(Fault::new(Reason::FqdnMismatch, detail))
            }
        }
    }
}

/// A client's certificate authenticates clients, and signs no others. Its key is a strong RSA key, as Spine's are.
pub(super) fn check_usage(leaf: &X509Ref, facts: &Certificate) -> Result<(), Fault> {
    let wrong = |detail: &str| Err(Fault::new(Reason::WrongUsage, detail));
    if facts.is_ca {
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
        return Err(Fault::new(Reason::WeakKeyOrDigest, detail));
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

fn unreadable(error: impl Display) -> Fault {
    Fault::new(Reason::ChainInvalid, format!("it can't be read: {error}"))
}

fn refuse(fault: Fault, leaf: Option<&X509Ref>) -> Refusal {
    fault.into_refusal(leaf.and_then(|leaf| CertificateSummary::of(leaf).ok()))
}

#[cfg(test)]
mod tests {
    use openssl::{
        ec::{EcGroup, EcKey},
        nid::Nid,
        pkey::{PKey, Private},
        x509::{
            X509Crl,
            extension::{ExtendedKeyUsage, KeyUsage},
        },
    };

    use super::*;
    use crate::{
        config,
        tls::{
            Presented, inspect,
            testing::{self, Ca, DAY, FQDN, Template, at},
        },
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
        let mut revocations = Revocations::new(config::Revocation::Require, config::OnStale::Deny);
        for crl in crls {
            revocations
                .add(crl, &[roots, issuers].concat(), "a file")
                .unwrap();
        }
        let anchors = Anchors::new(roots, issuers).unwrap();
        Trust::new(anchors, vec![Fqdn::parse(fqdn).unwrap()], revocations)
    }

    fn verify(trust: &Trust, leaf: &X509, seconds: i64) -> Result<VerifiedClient, Reason> {
        let presented = Presented::new(leaf.clone(), Vec::new());
        let verified = inspect::verify(trust, &presented, at(seconds)).unwrap();
        verified.judged.map_err(|refusal| refusal.reason)
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
    fn a_leaf_is_known_once_it_has_passed_and_only_while_it_would_pass_again() {
        let pki = Pki::new();
        let trust = pki.trust();
        let leaf = pki
            .sub
            .issue(Template::leaf().with(|leaf| leaf.validity = (-DAY, 100)));
        let of_same_key = pki.sub.issue(Template::leaf());
        let knows = |trust: &Trust, leaf: &X509, seconds| trust.known(leaf, at(seconds)).is_some();

        assert!(!knows(&trust, &leaf, 0));
        let client = verify(&trust, &leaf, 0).unwrap();
        assert!(!knows(&trust, &leaf, 0));
        trust.keep(&leaf, &client);
        assert!(knows(&trust, &leaf, 100));
        assert!(!knows(&trust, &leaf, 101));
        assert!(!knows(&trust, &of_same_key, 0));
        // What is learnt of revocation counts at once, and what has passed is not forgotten for it.
        let read = |revoked: &[&X509Ref]| {
            let crls = [pki.root.fresh_crl(&[]), pki.sub.fresh_crl(revoked)];
            trust.with_crls(pki.trust_with(&crls, FQDN).revocations, Vec::new())
        };
        assert!(knows(&read(&[]), &leaf, 0));
        assert!(!knows(&read(&[&leaf]), &leaf, 0));
        // Other anchors know nobody, and neither do those that ask responders of each chain.
        assert!(!knows(&pki.trust(), &leaf, 0));
        let asking = pki.trust().asking(OcspMode::Prefer);
        asking.keep(&leaf, &verify(&asking, &leaf, 0).unwrap());
        assert!(!knows(&asking, &leaf, 0));
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
