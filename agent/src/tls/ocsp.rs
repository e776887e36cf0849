//! OCSP (RFC 6960): what is asked about the certificates of a chain, and what an answer is worth. Who asks is elsewhere.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use foreign_types_shared::ForeignTypeRef as _;
use openssl::{
    asn1::{Asn1GeneralizedTimeRef, Asn1TimeRef},
    error::ErrorStack,
    hash::MessageDigest,
    ocsp::{OcspCertId, OcspCertStatus, OcspFlag, OcspRequest, OcspResponse, OcspResponseStatus},
    sha::sha256,
    stack::Stack,
    x509::{
        X509, X509Ref,
        store::{X509Store, X509StoreBuilder},
        verify::{X509VerifyFlags, X509VerifyParam},
    },
};

use spinegate_common::Reason;

use super::{
    client::{Time, serial},
    refusal::Fault,
    revocation::SKEW,
};
use crate::{clock::unix_seconds, config::OcspMode};

/// Answers are asked for anew after this time, whatever they say themselves.
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 3600);
/// An answer that names no end says that newer ones can be had at any time (RFC 6960 section 4.2.2.1).
const ENDLESS_LIFE: Duration = Duration::from_secs(600);
/// Questions that are remembered.
const CAPACITY: usize = 4096;

/// The questions about all clients that were seen lately, with their answers.
#[derive(Default)]
pub struct Questions(Mutex<HashMap<[u8; 32], Arc<Question>>>);

/// Whether a certificate is revoked, as its issuer's responder knows.
pub struct Question {
    /// The certificate's serial number, hexadecimal.
    serial: String,
    depth: usize,
    issuer: X509,
    id: OcspCertId,
    request: Vec<u8>,
    responders: Vec<String>,
    asking: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

struct State {
    answer: Option<Answer>,
    /// When a client last stood behind the question.
    seen: SystemTime,
    /// When it is asked again at the earliest.
    not_before: Option<SystemTime>,
}

/// What a responder said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer {
    revoked: bool,
    made: Time,
    until: Time,
}

/// What is known of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not revoked, for so long.
    Good(Duration),
    /// Revoked; a responder can take that back only by saying so.
    Revoked,
    /// There is no answer, or none that still counts.
    Unknown,
}

/// Why an answer is none.
#[derive(Debug, thiserror::Error)]
pub enum OcspError {
    /// The responder refuses to answer.
    #[error("the responder does not answer the question: {0}")]
    Refused(&'static str),
    /// It speaks of other certificates.
    #[error("the answer is about other certificates")]
    Other,
    /// The responder does not know.
    #[error("the responder does not know the certificate")]
    Unknown,
    /// It is not of this time.
    #[error("the answer is of {made}, and counted until {until}")]
    Stale {
        /// When it was made.
        made: String,
        /// Until when it counts.
        until: String,
    },
    /// A newer one is known.
    #[error("the answer, of {0}, is older than the one that is known")]
    Older(String),
    /// Nobody who may has signed it, or it can't be read.
    #[error("the answer is not one of the issuer or its delegate: {0}")]
    Unsound(String),
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question")
            .field("serial", &self.serial)
            .field("depth", &self.depth)
            .finish_non_exhaustive()
    }
}

impl From<ErrorStack> for OcspError {
    fn from(error: ErrorStack) -> Self {
        Self::Unsound(error.to_string())
    }
}

impl Questions {
    /// The question about a certificate of a chain, the same for all who ask it.
    pub(super) fn about(
        &self,
        certificate: &X509Ref,
        issuer: &X509Ref,
        depth: usize,
        now: SystemTime,
    ) -> Result<Arc<Question>, ErrorStack> {
        let question = Question::new(certificate, issuer, depth, now)?;
        let key = sha256(&question.request);
        let mut questions = self.lock();
        if let Some(known) = questions.get(&key) {
            known.lock().seen = now;
            return Ok(Arc::clone(known));
        }
        if questions.len() >= CAPACITY {
            questions.retain(|_, question| Arc::strong_count(question) > 1);
        }
        let question = Arc::new(question);
        // What does not fit is asked and answered for its client alone.
        if questions.len() < CAPACITY {
            questions.insert(key, Arc::clone(&question));
        }
        Ok(question)
    }

    /// Those that a client stands behind, or stood behind since `since`.
    #[must_use]
    pub fn seen(&self, since: SystemTime) -> Vec<Arc<Question>> {
        let questions = self.lock();
        let seen = questions
            .values()
            .filter(|question| Arc::strong_count(question) > 1 || question.lock().seen >= since);
        seen.cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Arc<Question>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Judges by what is known of a chain's certificates. Before they were `asked` about, only a known revocation refuses.
pub(super) fn judge(
    mode: OcspMode,
    questions: &[Arc<Question>],
    asked: bool,
    now: SystemTime,
) -> Result<(), Fault> {
    if mode == OcspMode::Off {
        return Ok(());
    }
    for question in questions {
        if question.standing(now) == Standing::Revoked {
            let detail = format!(
                "serial {} is revoked, as its OCSP responder says",
                question.serial
            );
            return Err(Fault::new(Reason::CertificateRevoked, detail).at(question.depth));
        }
    }
    if mode == OcspMode::Prefer || !asked {
        return Ok(());
    }
    // A client of a time when nobody asked has no questions at all.
    if questions.is_empty() {
        let detail = "its handshake was before OCSP was required";
        return Err(Fault::new(Reason::OcspUnavailable, detail));
    }
    for question in questions {
        if question.standing(now) == Standing::Unknown {
            let detail = format!(
                "there is no OCSP answer about serial {} that counts",
                question.serial
            );
            return Err(Fault::new(Reason::OcspUnavailable, detail).at(question.depth));
        }
    }
    Ok(())
}

/// How long those that are good all stay so.
pub(super) fn shortest(questions: &[Arc<Question>], now: SystemTime) -> Option<Duration> {
    let left = questions
        .iter()
        .filter_map(|question| match question.standing(now) {
            Standing::Good(left) => Some(left),
            _ => None,
        });
    left.min()
}

impl Question {
    fn new(
        certificate: &X509Ref,
        issuer: &X509Ref,
        depth: usize,
        now: SystemTime,
    ) -> Result<Self, ErrorStack> {
        // The digest names the issuer and proves nothing; SHA-1 is the one that every responder knows (RFC 5019 section 2.1.1).
        let id = || OcspCertId::from_cert(MessageDigest::sha1(), certificate, issuer);
        let mut request = OcspRequest::new()?;
        request.add_id(id()?)?;
        let responders = certificate.ocsp_responders();
        let responders = responders.iter().flatten().map(|url| (**url).to_owned());
        Ok(Self {
            serial: serial(certificate.serial_number())?,
            depth,
            issuer: issuer.to_owned(),
            id: id()?,
            request: request.to_der()?,
            responders: responders.collect(),
            asking: tokio::sync::Mutex::default(),
            state: Mutex::new(State {
                answer: None,
                seen: now,
                not_before: None,
            }),
        })
    }

    /// The request in DER.
    #[must_use]
    pub fn request(&self) -> &[u8] {
        &self.request
    }

    /// The serial number of the certificate that it is about, hexadecimal.
    #[must_use]
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// The URLs of responders in the certificate (RFC 5280 section 4.2.2.1).
    #[must_use]
    pub fn responders(&self) -> &[String] {
        &self.responders
    }

    /// Held by the one who asks it for all.
    #[must_use]
    pub const fn asking(&self) -> &tokio::sync::Mutex<()> {
        &self.asking
    }

    /// What is known at `now`.
    #[must_use]
    pub fn standing(&self, now: SystemTime) -> Standing {
        match self.lock().answer {
            Some(Answer { revoked: true, .. }) => Standing::Revoked,
            Some(answer) => match answer.until.since(now.into()) {
                Duration::ZERO => Standing::Unknown,
                left => Standing::Good(left),
            },
            None => Standing::Unknown,
        }
    }

    /// Whether the time has come to ask, and if so when it comes again unless an answer does.
    #[must_use]
    pub fn take_turn(&self, now: SystemTime, pause: Duration) -> bool {
        let mut state = self.lock();
        let turn = state
            .not_before
            // A clock that was set back would put it off.
            .is_none_or(|from| from <= now || from.duration_since(now).is_ok_and(|left| left > pause));
        if turn {
            state.not_before = Some(now + pause);
        }
        turn
    }

    /// Whether the answer has only a fifth to a half of its life left, by `roll` from 0 to 1.
    #[must_use]
    pub fn is_ageing(&self, now: SystemTime, roll: f64) -> bool {
        self.lock().answer.is_some_and(|answer| {
            let life = answer.until.since(answer.made);
            answer.until.since(now.into()) < life.mul_f64(0.2 + 0.3 * roll)
        })
    }

    /// Takes an answer. Gives whether the certificate is known to be revoked only now.
    ///
    /// # Errors
    /// It is not sound, not about this certificate, not of this time, or older than the one that is known.
    pub fn learn(&self, der: &[u8], now: SystemTime) -> Result<bool, OcspError> {
        let answer = self.read(der, now)?;
        let mut state = self.lock();
        if state.answer.is_some_and(|known| answer.made < known.made) {
            return Err(OcspError::Older(answer.made.to_string()));
        }
        let was_revoked = state.answer.is_some_and(|known| known.revoked);
        state.answer = Some(answer);
        state.not_before = None;
        Ok(answer.revoked && !was_revoked)
    }

    fn read(&self, der: &[u8], now: SystemTime) -> Result<Answer, OcspError> {
        let response = OcspResponse::from_der(der)?;
        match response.status() {
            OcspResponseStatus::SUCCESSFUL => {}
            OcspResponseStatus::TRY_LATER => return Err(OcspError::Refused("try later")),
            OcspResponseStatus::UNAUTHORIZED => return Err(OcspError::Refused("unauthorized")),
            OcspResponseStatus::SIG_REQUIRED => return Err(OcspError::Refused("sign the request")),
            OcspResponseStatus::MALFORMED_REQUEST => return Err(OcspError::Refused("malformed request")),
            _ => return Err(OcspError::Refused("internal error")),
        }
        let basic = response.basic()?;
        let mut signers = Stack::new()?;
        signers.push(self.issuer.clone())?;
        // Without NO_EXPLICIT a responder could be one by a trust setting instead of its issuer's word.
        basic.verify(&signers, &*self.store(now)?, OcspFlag::NO_EXPLICIT)?;
        let found = basic.find_status(&self.id).ok_or(OcspError::Other)?;
        let revoked = match found.status {
            OcspCertStatus::GOOD => false,
            OcspCertStatus::REVOKED => true,
            _ => return Err(OcspError::Unknown),
        };
        let made = moment(found.this_update)?;
        let now = Time::from(now);
        let until = match found.next_update() {
            Some(next) => moment(next)?.min(now.plus(LONGEST_LIFE)),
            None => made.plus(ENDLESS_LIFE),
        };
        if made > now.plus(SKEW) || until <= now {
            return Err(OcspError::Stale {
                made: made.to_string(),
                until: until.to_string(),
            });
        }
        Ok(Answer { revoked, made, until })
    }

    /// Trusts the issuer alone: an answer is its own, or that of a responder whose certificate it has signed.
    fn store(&self, now: SystemTime) -> Result<X509Store, ErrorStack> {
        let mut parameters = X509VerifyParam::new()?;
        parameters.set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
        parameters.set_time(i64::try_from(unix_seconds(now)).unwrap_or(i64::MAX));
        let mut store = X509StoreBuilder::new()?;
        store.set_param(&parameters)?;
        store.add_cert(self.issuer.clone())?;
        Ok(store.build())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn moment(time: &Asn1GeneralizedTimeRef) -> Result<Time, ErrorStack> {
    // SAFETY: a GeneralizedTime is one of the two forms of a Time (RFC 5280 section 4.1.2.5), and OpenSSL has one structure for
    // both, which says itself which it is; the reference lives as long as the one that it is made from.
    let time = unsafe { Asn1TimeRef::from_ptr(time.as_ptr().cast()) };
    Time::of(time)
}

#[cfg(test)]
mod tests;
