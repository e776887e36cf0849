//! A certificate judged outside of a handshake, by the handshake's own rules, with all that they look at.

mod facts;
mod presented;

use std::time::SystemTime;

use openssl::{
    error::ErrorStack,
    stack::{Stack, StackRef},
    x509::{X509, X509Ref, X509StoreContext},
};
use serde::Serialize;
use spinegate_common::Reason;

pub use facts::CertificateFacts;
pub use presented::{Presented, PresentedError};

use crate::nrl::Fqdn;

use super::{
    Refusal, Trust, VerifiedClient,
    client::{Certificate, fingerprint, name},
    refusal::Fault,
    trust::check_usage,
};

/// The rules, in the order in which a handshake asks them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// R9: it leads to a trusted root, by sound signatures of sound CAs.
    Chain,
    /// R8: an accepted CA has issued it.
    Issuer,
    /// R10: it and its issuer are in their time.
    Validity,
    /// R11: neither it nor its issuer is revoked, and fresh CRLs say so.
    Revocation,
    /// It is for the authentication of clients.
    Usage,
    /// Its key is strong enough.
    Key,
    /// R12: its name is an accepted one.
    Name,
}

/// What became of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is kept.
    Pass,
    /// It is broken.
    Fail,
    /// Nothing is there to judge it by, and the configuration accepts that.
    NotChecked,
    /// A rule before it is broken, without which it can't be judged.
    NotReached,
}

/// A rule, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Judged {
    /// Which.
    pub rule: Rule,
    /// What became of it.
    pub outcome: Outcome,
    /// The reason's code, if it is broken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// What was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Why a handshake with the certificate is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// The reason's code.
    pub reason: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// What was found.
    pub detail: String,
    /// What to do about it.
    pub mend: &'static str,
}

/// A certificate of the chain that was built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Link {
    /// Its subject.
    pub subject: String,
    /// When it begins (RFC 3339).
    pub not_before: String,
    /// When it ends.
    pub not_after: String,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
    /// Whether the inspected file holds it; else it is one of the accepted CAs.
    pub in_file: bool,
}

/// What a handshake with a certificate would come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// `pass` or `fail`.
    pub outcome: Outcome,
    /// The one reason of a handshake's refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refused>,
    /// All rules, in their order. Beyond the first that is broken, those that need nothing but the certificate itself.
    pub rules: Vec<Judged>,
    /// The certificate.
    pub certificate: CertificateFacts,
    /// From the certificate towards the root, as far as it was built.
    pub chain: Vec<Link>,
    /// The subjects of the CAs that may issue.
    pub accepted_issuers: Vec<String>,
    /// The names of which it must have one.
    pub accepted_names: Vec<String>,
    /// Certificates of the file that no chain needs.
    pub unused: Vec<String>,
    /// The accepted name that it has.
    #[serde(skip)]
    pub fqdn: Option<Fqdn>,
}

/// A chain as the handshake builds it, and what the rules say of it.
pub(super) struct Verified {
    chain: Vec<X509>,
    /// Whether OpenSSL found it sound, so that the rules were asked.
    sound: bool,
    pub(super) judged: Result<VerifiedClient, Refusal>,
}

impl Rule {
    /// All of them, in their order.
    pub const ALL: [Self; 7] = [
        Self::Chain,
        Self::Issuer,
        Self::Validity,
        Self::Revocation,
        Self::Usage,
        Self::Key,
        Self::Name,
    ];

    /// The word that stands for it in JSON and in tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Chain => "chain",
            Self::Issuer => "issuer",
            Self::Validity => "validity",
            Self::Revocation => "revocation",
            Self::Usage => "usage",
            Self::Key => "key",
            Self::Name => "name",
        }
    }

    /// The name of its check in the audit log.
    #[must_use]
    pub const fn check(self) -> &'static str {
        match self {
            Self::Chain => "certificate_chain",
            Self::Issuer => "certificate_issuer",
            Self::Validity => "certificate_validity",
            Self::Revocation => "certificate_revocation",
            Self::Usage => "certificate_usage",
            Self::Key => "certificate_key",
            Self::Name => "certificate_fqdn",
        }
    }

    /// The rule that is broken where the rules refuse a sound chain for a reason.
    const fn of(reason: Reason) -> Self {
        match reason {
            Reason::IssuerNotPinned => Self::Issuer,
            Reason::CertificateNotYetValid | Reason::CertificateExpired => Self::Validity,
            Reason::CertificateRevoked | Reason::CrlMissing | Reason::CrlStale | Reason::OcspUnavailable => {
                Self::Revocation
            }
            Reason::WrongUsage => Self::Usage,
            Reason::WeakKeyOrDigest => Self::Key,
            Reason::FqdnMismatch => Self::Name,
            _ => Self::Chain,
        }
    }
}

impl Outcome {
    /// As a table has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "FAIL",
            Self::NotChecked => "not checked",
            Self::NotReached => "not reached",
        }
    }
}

impl Judged {
    fn of(rule: Rule, result: Result<(), Fault>) -> Self {
        match result {
            Ok(()) => Self::without_fault(rule, Outcome::Pass),
            Err(fault) => Self {
                rule,
                outcome: Outcome::Fail,
                reason: Some(fault.reason.as_str()),
                detail: Some(fault.detail),
            },
        }
    }

    const fn without_fault(rule: Rule, outcome: Outcome) -> Self {
        Self {
            rule,
            outcome,
            reason: None,
            detail: None,
        }
    }
}

/// Judges a certificate as a handshake at this time does.
///
/// # Errors
/// OpenSSL can't read the certificate, or has no memory.
pub fn inspect(trust: &Trust, presented: &Presented, now: SystemTime) -> Result<Inspection, ErrorStack> {
    let Verified { chain, sound, judged } = verify(trust, presented, now)?;
    let refusal = judged.as_ref().err();
    let of_file = |certificate: &X509| presented.certificates().any(|own| same(own, certificate));
    let unused = presented
        .certificates()
        .filter(|own| !chain.iter().any(|link| same(own, link)))
        .map(|own| name(own.subject_name()));
    Ok(Inspection {
        outcome: if refusal.is_none() {
            Outcome::Pass
        } else {
            Outcome::Fail
        },
        refused: refusal.map(|refusal| Refused {
            reason: refusal.reason.as_str(),
            meaning: refusal.reason.meaning(),
            detail: refusal.detail.clone(),
            mend: refusal.reason.mend(),
        }),
        rules: rules(trust, presented.leaf(), &chain, sound, refusal),
        certificate: CertificateFacts::of(presented.leaf(), now.into())?,
        chain: chain
            .iter()
            .map(|certificate| link(certificate, of_file(certificate)))
            .collect::<Result<_, _>>()?,
        accepted_issuers: trust
            .anchors()
            .issuers()
            .map(|issuer| name(issuer.subject_name()))
            .collect(),
        accepted_names: trust
            .fqdns()
            .iter()
            .map(|fqdn| fqdn.as_str().to_owned())
            .collect(),
        unused: unused.collect(),
        fqdn: trust.check_name(presented.leaf()).ok(),
    })
}

/// Builds the chain from the store that the handshake builds it from, and has the rules judge it.
pub(super) fn verify(trust: &Trust, presented: &Presented, now: SystemTime) -> Result<Verified, ErrorStack> {
    let store = trust.anchors().store()?;
    let mut others = Stack::new()?;
    for certificate in presented.rest() {
        others.push(certificate.clone())?;
    }
    let leaf = presented.leaf();
    X509StoreContext::new()?.init(&store, leaf, &others, |context| {
        let sound = context.verify_cert()?;
        let chain: Vec<X509> = context
            .chain()
            .map(StackRef::iter)
            .into_iter()
            .flatten()
            .map(ToOwned::to_owned)
            .collect();
        let judged = if sound {
            let certificates: Vec<&X509Ref> = chain.iter().map(AsRef::as_ref).collect();
            trust.judge(&certificates, now)
        } else {
            Err(Trust::refuse_chain(
                context.error(),
                context.error_depth(),
                Some(leaf),
            ))
        };
        Ok(Verified { chain, sound, judged })
    })
}

/// The first broken rule is the refusal's; those before it are kept. Those after it are asked if the leaf alone decides them.
fn rules(
    trust: &Trust,
    leaf: &X509Ref,
    chain: &[X509],
    sound: bool,
    refusal: Option<&Refusal>,
) -> Vec<Judged> {
    let facts = Certificate::of(leaf);
    let issuer = chain.get(1).map(|issuer| Certificate::of(issuer));
    let knows_revocation = match (&facts, &issuer) {
        (Ok(leaf), Some(Ok(issuer))) => trust.knows_revocation(leaf, issuer),
        _ => false,
    };
    let kept = |rule| match rule {
        Rule::Revocation if !knows_revocation => Judged {
            detail: Some("no CRL is at hand that covers the whole chain".to_owned()),
            ..Judged::without_fault(rule, Outcome::NotChecked)
        },
        rule => Judged::without_fault(rule, Outcome::Pass),
    };
    let Some(refusal) = refusal else {
        return Rule::ALL.map(kept).to_vec();
    };
    let broken = if sound {
        Rule::of(refusal.reason)
    } else {
        Rule::Chain
    };
    let beyond = |rule| match rule {
        Rule::Usage | Rule::Key => match facts.as_ref().map(|facts| check_usage(leaf, facts)) {
            Ok(Ok(())) => Judged::of(rule, Ok(())),
            Ok(Err(fault)) if Rule::of(fault.reason) == rule => Judged::of(rule, Err(fault)),
            // The usage is judged before the key.
            Ok(Err(fault)) if rule < Rule::of(fault.reason) => Judged::of(rule, Ok(())),
            _ => Judged::without_fault(rule, Outcome::NotReached),
        },
        Rule::Name => Judged::of(rule, trust.check_name(leaf).map(drop)),
        _ => Judged::without_fault(rule, Outcome::NotReached),
    };
    let of_refusal = |rule| Judged {
        reason: Some(refusal.reason.as_str()),
        detail: Some(refusal.detail.clone()),
        ..Judged::without_fault(rule, Outcome::Fail)
    };
    let judged = Rule::ALL.map(|rule| match rule.cmp(&broken) {
        std::cmp::Ordering::Less => kept(rule),
        std::cmp::Ordering::Equal => of_refusal(rule),
        std::cmp::Ordering::Greater => beyond(rule),
    });
    judged.to_vec()
}

fn link(certificate: &X509, in_file: bool) -> Result<Link, ErrorStack> {
    let summary = super::CertificateSummary::of(certificate)?;
    Ok(Link {
        subject: summary.subject,
        not_before: summary.not_before,
        not_after: summary.not_after,
        sha256: summary.sha256,
        in_file,
    })
}

fn same(one: &X509, other: &X509) -> bool {
    match (fingerprint(one), fingerprint(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config,
        tls::{
            client::Time,
            revocation::Revocations,
            testing::{Ca, DAY, FQDN, Template, at},
            trust::Anchors,
        },
    };

    fn outcomes(policy: config::Revocation, with_crls: bool, template: Template) -> Vec<Outcome> {
        let root = Ca::root("Root");
        let sub = root.subordinate(Template::ca("Sub"));
        let authorities = [root.certificate.clone(), sub.certificate.clone()];
        let mut revocations = Revocations::new(policy, config::OnStale::Deny);
        if with_crls {
            for ca in [&root, &sub] {
                revocations
                    .add(&ca.fresh_crl(&[]), &authorities, "a file")
                    .unwrap();
            }
        }
        let anchors = Anchors::new(&authorities[..1], &authorities[1..]).unwrap();
        let trust = Trust::new(anchors, vec![Fqdn::parse(FQDN).unwrap()], revocations);
        let presented = Presented::new(sub.issue(template), Vec::new());
        let inspection = inspect(&trust, &presented, at(0)).unwrap();
        inspection.rules.iter().map(|judged| judged.outcome).collect()
    }

    #[test]
    fn every_rule_is_shown_and_what_the_leaf_alone_decides_beyond_the_first_broken_one() {
        use Outcome::{Fail, NotChecked, NotReached, Pass};
        use config::Revocation::{Prefer, Require};
        let expired = |leaf: &mut Template| leaf.validity.1 = -DAY;
        let unnamed = |leaf: &mut Template| leaf.common_names = vec!["other.example.nhs.uk"];
        let useless = |leaf: &mut Template| leaf.extensions.truncate(1);
        let good = Template::leaf;
        for (policy, with_crls, template, wanted) in [
            (Require, true, good(), [Pass; 7]),
            (Prefer, true, good(), [Pass; 7]),
            (
                Prefer,
                false,
                good(),
                [Pass, Pass, Pass, NotChecked, Pass, Pass, Pass],
            ),
            (Require, false, good(), [Pass, Pass, Pass, Fail, Pass, Pass, Pass]),
            (
                Require,
                true,
                good().with(expired),
                [Pass, Pass, Fail, NotReached, Pass, Pass, Pass],
            ),
            (
                Require,
                true,
                good().with(expired).with(unnamed),
                [Pass, Pass, Fail, NotReached, Pass, Pass, Fail],
            ),
            (
                Require,
                true,
                good().with(useless).with(unnamed),
                [Pass, Pass, Pass, Pass, Fail, NotReached, Fail],
            ),
            (
                Require,
                true,
                good().with(unnamed),
                [Pass, Pass, Pass, Pass, Pass, Pass, Fail],
            ),
        ] {
            assert_eq!(
                outcomes(policy, with_crls, template),
                wanted,
                "{policy:?}, CRLs: {with_crls}"
            );
        }
    }

    #[test]
    fn days_are_counted_whole_and_below_zero_when_over() {
        let days = |seconds| Time::from(at(seconds)).days_since(at(0).into());
        assert_eq!(
            [0, DAY - 1, DAY, -1, -DAY, -DAY - 1].map(days),
            [0, 0, 1, -1, -1, -2]
        );
    }
}
