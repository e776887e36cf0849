//! The dry run behind `spinegate explain`: a request goes through [`super::admit`] and the stages after it as one off the
//! wire does, and each check is told. After a failure it goes on with what would have passed in the fault's place, so that
//! all faults are seen at once.

mod stand_in;
mod trial;

use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri};

use crate::{
    nrl::{Fqdn, OdsCode, Pointer},
    registry::Registry,
};

use super::{Check, Denial, Rules, Subject};
use trial::Trial;

/// How often a request is judged: its headers alone can be wrong in four ways.
const ROUNDS: usize = 2 * Check::ALL.len();

/// A request as an operator describes it.
#[derive(Clone, Debug)]
pub struct Described {
    /// Its method.
    pub method: Method,
    /// Its target.
    pub uri: Uri,
    /// Its headers.
    pub headers: HeaderMap,
    /// Whether headers and body are all that the client sends. If not, what they lack is what would pass.
    pub whole: bool,
    /// Its body.
    pub body: Option<Bytes>,
    /// The name in the client's certificate.
    pub fqdn: Option<Fqdn>,
    /// The owner of the pointer concerned, where no pointer says it.
    pub custodian: Option<OdsCode>,
    /// What the locator has of the pointers concerned.
    pub stored: Option<Vec<Pointer>>,
}

/// What each check says to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The denial by the first check that fails.
    pub denial: Option<Denial>,
    /// Whether it goes on all the same, since it is in shadow.
    pub in_shadow: bool,
    /// What is known of the request.
    pub subject: Subject,
    /// Every check, in the order in which they are made.
    pub checks: Vec<(Check, Verdict)>,
}

/// What a check says to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passes.
    Passed {
        /// What it found.
        found: String,
    },
    /// It fails.
    Failed {
        /// What the client would be told.
        denial: Denial,
        /// What would pass.
        hint: Option<String>,
    },
    /// A check before it fails, without which there is nothing to look at.
    NotReached,
    /// The description does not say what it looks at.
    NotGiven {
        /// What would have to be given.
        missing: &'static str,
    },
    /// The interaction does not need it.
    NotNeeded {
        /// Why.
        why: &'static str,
    },
}

/// Explains a request.
#[must_use]
pub fn explain(rules: &Rules, registry: &Registry, described: &Described, now: SystemTime) -> Explanation {
    let mut trial = Trial::of(rules, registry, described, now);
    let mut failed: Vec<(Check, Denial)> = Vec::new();
    let mut found: Vec<(Check, String)> = Vec::new();
    let mut known = Subject::default();
    for _ in 0..ROUNDS {
        let (subject, denial) = match trial.judge() {
            Ok(subject) => (subject, None),
            Err(denial) => (denial.subject().clone(), Some(denial)),
        };
        for check in Check::ALL {
            if subject.passed.contains(check) && found.iter().all(|(one, _)| *one != check) {
                found.push((check, what_passed(check, &subject, &trial)));
            }
        }
        known = subject;
        let Some((check, denial)) = denial.and_then(|denial| Some((denial.check()?, denial))) else {
            break;
        };
        let mended = trial.mend(check, &denial);
        if failed.iter().all(|(one, _)| *one != check) {
            failed.push((check, denial));
        }
        if !mended {
            break;
        }
    }
    let (assumed, replaced) = (trial.assumed(), trial.replaced());
    let verdict = |check: Check| {
        let found = found.iter().find(|(one, _)| *one == check);
        match (failed.iter().find(|(one, _)| *one == check), found) {
            (Some((_, denial)), _) => Verdict::Failed {
                denial: denial.clone(),
                hint: trial.hint(check, denial),
            },
            (None, Some(_)) if replaced.contains(check) => Verdict::NotReached,
            (None, Some(_)) if assumed.contains(check) => Verdict::NotGiven {
                missing: missing(check),
            },
            (None, Some((_, found))) => Verdict::Passed { found: found.clone() },
            (None, None) => match trial.unneeded(check, known.interaction) {
                Some(why) => Verdict::NotNeeded { why },
                None => Verdict::NotReached,
            },
        }
    };
    Explanation {
        checks: Check::ALL
            .into_iter()
            .map(|check| (check, verdict(check)))
            .collect(),
        in_shadow: failed
            .first()
            .is_some_and(|(_, denial)| rules.shadow.covers((registry, now), denial)),
        denial: failed.into_iter().next().map(|(_, denial)| denial),
        subject: known,
    }
}

/// What would have to be given for a check.
const fn missing(check: Check) -> &'static str {
    match check {
        Check::Headers => "not all of the request's headers are given",
        Check::Receiver => "the header that names the receiver is not given",
        Check::TokenForm | Check::TokenClaims | Check::TokenAsid | Check::TokenOds => "no JWT is given",
        Check::CertificateName => "neither the client's certificate nor its FQDN is given",
        Check::Body => "no body is given",
        Check::Ownership => "neither the pointer concerned nor its custodian is given",
        _ => "not all of the request is given",
    }
}

/// What a check found where it passed.
fn what_passed(check: Check, subject: &Subject, trial: &Trial<'_>) -> String {
    let system = subject.asid.and_then(|asid| trial.system(&asid));
    match check {
        Check::MethodAndPath => match subject.interaction {
            Some(interaction) => format!("a request that performs {interaction}"),
            None => "a request of the API".to_owned(),
        },
        Check::Headers => "those that are needed are there once, and well formed".to_owned(),
        Check::Receiver => "the receiver's ASID is the gateway's".to_owned(),
        Check::TokenForm => "the JWT is well formed".to_owned(),
        Check::TokenClaims => "the claims are consistent".to_owned(),
        Check::AsidKnown => system.map_or_else(String::new, |system| {
            let name = system.name().unwrap_or("no name");
            format!("{} is registered for {} ({name})", system.asid(), system.ods())
        }),
        Check::AsidActive => "it is active".to_owned(),
        Check::CertificateName => match system.and_then(|system| system.fqdn()) {
            None => "no FQDN is registered for the ASID".to_owned(),
            Some(fqdn) => format!("{fqdn} is the registered FQDN"),
        },
        Check::TokenAsid | Check::TokenOds => "it is the requester's".to_owned(),
        Check::Interaction => match &subject.interaction_id {
            Some(id) => format!("{id} is associated with the ASID"),
            None => "it is associated with the ASID".to_owned(),
        },
        Check::Body => "it is what the interaction needs".to_owned(),
        Check::Ownership => match &subject.custodian {
            Some(custodian) => format!("the custodian {custodian} is the ASID's organisation"),
            None => "the custodian is the ASID's organisation".to_owned(),
        },
    }
}
