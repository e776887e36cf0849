//! The stages between a request's head and its permit. No stage can be made but by the one before it.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header, uri::PathAndQuery};
use spinegate_common::Reason;

use crate::nrl::{
    EntityTag, Format, NhsNumber, OdsCode, Pointer, PointerId, Refusal, Route, Selector, Status, TargetRef,
    check_status_update,
};

use super::{Action, Check, Denial, Head, Rules, Subject, checks, path_and_query};

/// A request whose head is in order, and what is needed to judge the rest.
#[derive(Debug)]
pub enum Admitted {
    /// Nothing: a read or a search.
    Permitted(Permit),
    /// The body: a create, a supersede or an update.
    NeedsBody(AwaitingBody),
    /// The stored pointer: a delete.
    NeedsStored(AwaitingStored),
}

/// A request whose body is in order, and what is needed to judge the rest.
#[derive(Debug)]
pub enum Judged {
    /// Nothing: a create.
    Permitted(Permit),
    /// The stored pointer: an update.
    NeedsStored(AwaitingStored),
    /// The pointer to be replaced: a supersede.
    NeedsTarget(AwaitingTarget),
}

/// Leave to forward one request, exactly as it was judged: its line and its body are inside. The forwarder
/// takes nothing else.
#[derive(Debug)]
#[must_use = "a permit is there to be forwarded"]
pub struct Permit {
    case: Case,
    body: Bytes,
    /// The version of the stored pointer on which the permit rests.
    judged: Option<EntityTag>,
}

/// What the locator answers about the pointers that a request names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// These: none, the one with the id, or all of the patient's.
    Pointers(Vec<Pointer>),
    /// There is one, but it is not current, and so it is not shown.
    NotCurrent,
}

/// What the owner of a pointer alone decides.
#[derive(Debug)]
pub enum ByOwner {
    /// It is the requester's.
    Permitted(Permit),
    /// Nothing: the stored pointer itself is needed.
    NeedsStored(AwaitingStored),
}

/// A request that waits for its body.
#[derive(Debug)]
#[must_use]
pub struct AwaitingBody {
    case: Case,
    kind: BodyKind,
    format: Format,
}

/// A request that waits for the stored pointer that it names.
#[derive(Debug)]
#[must_use]
pub struct AwaitingStored {
    case: Case,
    named: Named,
    body: Bytes,
}

/// A request that waits for the pointer that it is to replace.
#[derive(Debug)]
#[must_use]
pub struct AwaitingTarget {
    case: Case,
    new: Box<Pointer>,
    target: TargetRef,
    body: Bytes,
}

#[derive(Debug)]
enum BodyKind {
    NewPointer,
    StatusUpdate(Named),
}

/// A stored pointer, as a request names it.
#[derive(Debug)]
struct Named {
    selector: Selector,
    /// The path of all pointers.
    pointers: String,
}

/// What every stage hands to the next.
#[derive(Debug)]
struct Case {
    subject: Subject,
    /// The requester's organisation.
    ods: OdsCode,
    method: Method,
    target: PathAndQuery,
    /// The client's own.
    if_match: Option<HeaderValue>,
    hide_existence: bool,
}

impl Case {
    fn permit(self, body: Bytes) -> Permit {
        Permit {
            case: self,
            body,
            judged: None,
        }
    }

    /// A permit for a change, after all that it touches has proven to be the requester's.
    fn permit_owner(mut self, body: Bytes) -> Permit {
        self.subject.passed.insert(Check::Ownership);
        self.permit(body)
    }

    /// Notes what a check came to. One that failed ends the case.
    fn make<T>(&mut self, check: Check, result: Result<T, Refusal>) -> Result<T, Denial> {
        let made = self.subject.made(check, result);
        made.map_err(|(check, refusal)| Denial::by(check, refusal, std::mem::take(&mut self.subject)))
    }

    fn deny(self, refusal: Refusal) -> Denial {
        Denial::by(Check::Ownership, refusal, self.subject)
    }

    /// A denial that would tell of a pointer which is not the requester's: it is shown as one of a pointer that does
    /// not exist.
    fn deny_stranger(self, refusal: Refusal, not_found: Refusal) -> Denial {
        let hidden = self.hide_existence;
        let denial = self.deny(refusal);
        if hidden {
            denial.shown_as(not_found)
        } else {
            denial
        }
    }

    /// Names the pointer by its id, whatever the request named it by: between the check and the use no other pointer
    /// can come to be the one that is meant. Of the query its `_format` is kept, as the client sent it.
    fn resolve(&mut self, pointers: &str, id: &PointerId) -> Result<(), Refusal> {
        let mut parameters = self.target.query().unwrap_or_default().split('&');
        let query = match parameters.find(|parameter| parameter.starts_with("_format=")) {
            Some(format) => format!("?{format}"),
            None => String::new(),
        };
        let line = format!("{pointers}/{id}{query}");
        self.target = PathAndQuery::try_from(line)
            .map_err(|error| Refusal::new(Reason::UpstreamInvalid, error.to_string()))?;
        Ok(())
    }
}

pub(super) fn admitted(
    rules: &Rules,
    subject: Subject,
    ods: OdsCode,
    (route, format): (Route, Format),
    (method, uri, headers): Head<'_>,
) -> Admitted {
    let case = Case {
        subject,
        ods,
        method: method.clone(),
        target: path_and_query(uri),
        if_match: if_match(headers),
        hide_existence: rules.hide_existence,
    };
    let named = |selector| Named {
        selector,
        pointers: rules.pointers_path(),
    };
    match route {
        Route::Read(_) | Route::Search(_) => Admitted::Permitted(case.permit(Bytes::new())),
        Route::CreateOrSupersede => Admitted::NeedsBody(AwaitingBody {
            case,
            kind: BodyKind::NewPointer,
            format,
        }),
        Route::Update(selector) => Admitted::NeedsBody(AwaitingBody {
            case,
            kind: BodyKind::StatusUpdate(named(selector)),
            format,
        }),
        Route::Delete(selector) => Admitted::NeedsStored(AwaitingStored {
            case,
            named: named(selector),
            body: Bytes::new(),
        }),
    }
}

/// If-Match as one field: several lines of it are one list (RFC 9110 section 5.3).
pub(super) fn if_match(headers: &HeaderMap) -> Option<HeaderValue> {
    let lines: Vec<&[u8]> = headers
        .get_all(header::IF_MATCH)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if lines.is_empty() {
        return None;
    }
    // An empty field takes no version.
    Some(HeaderValue::from_bytes(&lines.join(&b", "[..])).unwrap_or_else(|_| HeaderValue::from_static("")))
}

impl AwaitingBody {
    /// Judges the whole body, and for a new pointer its custodian (R3).
    ///
    /// # Errors
    /// [`Check::Body`] or [`Check::Ownership`] failed.
    pub fn judge_body(self, body: Bytes) -> Result<Judged, Denial> {
        let Self {
            mut case,
            kind,
            format,
        } = self;
        let named = match kind {
            BodyKind::NewPointer => return Self::judge_new_pointer(case, format, body),
            BodyKind::StatusUpdate(named) => named,
        };
        case.make(Check::Body, check_status_update(format, &body))?;
        Ok(Judged::NeedsStored(AwaitingStored { case, named, body }))
    }

    fn judge_new_pointer(mut case: Case, format: Format, body: Bytes) -> Result<Judged, Denial> {
        let new = case.make(Check::Body, checks::new_pointer(format, &body))?;
        case.subject.custodian = Some(new.custodian.clone());
        if let Some(target) = &new.replaces {
            case.subject.action = Some(Action::Supersede);
            case.subject.pointer = target.id().cloned();
        }
        if let Err(refusal) = checks::owner(&case.ods, &new.custodian) {
            return Err(case.deny(refusal));
        }
        Ok(match new.replaces.clone() {
            None => Judged::Permitted(case.permit_owner(body)),
            // Half of the check: the other pointer is still to be seen.
            Some(target) => Judged::NeedsTarget(AwaitingTarget {
                case,
                new: Box::new(new),
                target,
                body,
            }),
        })
    }

    /// What is known of the request, for a denial when the body does not arrive.
    #[must_use]
    pub fn subject(&self) -> &Subject {
        &self.case.subject
    }
}

impl AwaitingStored {
    /// The pointer to fetch.
    #[must_use]
    pub fn selector(&self) -> &Selector {
        &self.named.selector
    }

    /// Judges by the owner alone, as it was fetched before: a pointer's custodian never changes. Whether the pointer
    /// is still there and current is then the locator's to say, and to its owner alone.
    ///
    /// # Errors
    /// [`Check::Ownership`] failed: the pointer belongs to somebody else. Where existence is hidden that is for
    /// [`Self::judge_stored`] to say, which takes as long as it does for a pointer that does not exist.
    pub fn judge_owner(mut self, custodian: &OdsCode) -> Result<ByOwner, Denial> {
        let Selector::Id(id) = &self.named.selector else {
            return Ok(ByOwner::NeedsStored(self));
        };
        let resolved = self.case.resolve(&self.named.pointers, id);
        match (resolved, checks::owner(&self.case.ods, custodian)) {
            (Ok(()), Ok(())) => {
                self.case.subject.custodian = Some(custodian.clone());
                Ok(ByOwner::Permitted(self.case.permit_owner(self.body)))
            }
            (Ok(()), Err(refusal)) if !self.case.hide_existence => {
                self.case.subject.custodian = Some(custodian.clone());
                Err(self.case.deny(refusal))
            }
            _ => Ok(ByOwner::NeedsStored(self)),
        }
    }

    /// Judges the pointer that the locator has (R4, R5), among those that it answered with.
    ///
    /// # Errors
    /// [`Check::Ownership`] failed: the pointer is missing, is another one, belongs to somebody else, is not
    /// current, or is of another version than the client takes.
    pub fn judge_stored(self, stored: &Stored) -> Result<Permit, Denial> {
        let Self {
            mut case,
            named: Named { selector, pointers },
            body,
        } = self;
        let stored = match stored {
            Stored::Pointers(stored) => stored,
            Stored::NotCurrent => return Err(case.deny(checks::not_current(&selector))),
        };
        let pointer = match checks::stored_pointer(&selector, stored) {
            Ok(pointer) => pointer,
            Err(refusal) if refusal.reason() == Reason::PointerAmbiguous => {
                let not_found = checks::not_found(&selector);
                return Err(case.deny_stranger(refusal, not_found));
            }
            Err(refusal) => return Err(case.deny(refusal)),
        };
        case.subject.custodian = Some(pointer.custodian.clone());
        case.subject.pointer = pointer.id.clone();
        // Ownership comes before status: a stranger learns no status.
        if let Err(refusal) = checks::owner(&case.ods, &pointer.custodian) {
            return Err(case.deny_stranger(refusal, checks::not_found(&selector)));
        }
        if pointer.status != Status::Current {
            return Err(case.deny(checks::not_current(&selector)));
        }
        if let Some(version) = &pointer.version
            && let Err(refusal) = checks::version(case.if_match.as_ref(), version)
        {
            return Err(case.deny(refusal));
        }
        if let Some(id) = &pointer.id
            && let Err(refusal) = case.resolve(&pointers, id)
        {
            return Err(case.deny(refusal));
        }
        Ok(Permit {
            judged: pointer.version.clone(),
            ..case.permit_owner(body)
        })
    }

    /// What is known of the request, for a denial when the locator does not answer.
    #[must_use]
    pub fn subject(&self) -> &Subject {
        &self.case.subject
    }
}

impl AwaitingTarget {
    /// How the pointer to be replaced is named. One that is named by id is read; one that is named by
    /// identifier alone is among the pointers of [`Self::patient`].
    #[must_use]
    pub fn target(&self) -> &TargetRef {
        &self.target
    }

    /// The new pointer's patient.
    #[must_use]
    pub fn patient(&self) -> &NhsNumber {
        &self.new.subject
    }

    /// Judges the pointer to be replaced (R3). The candidates are what the locator has: the pointer with the
    /// id, or all of the patient's; those that the target does not name are passed over.
    ///
    /// # Errors
    /// [`Check::Ownership`] failed: not exactly one candidate is named, or it belongs to another owner or
    /// patient, or is not current.
    pub fn judge_target(self, candidates: &Stored) -> Result<Permit, Denial> {
        let Self {
            mut case,
            new,
            target,
            body,
        } = self;
        let candidates = match candidates {
            Stored::Pointers(candidates) => candidates,
            Stored::NotCurrent => {
                return Err(case.deny_stranger(checks::target_not_current(), checks::target_not_found()));
            }
        };
        let (refusal, found) = match checks::target(&case.ods, &new, &target, candidates) {
            Ok(old) => {
                case.subject.pointer = old.id.clone();
                return Ok(case.permit_owner(body));
            }
            Err(refused) => refused,
        };
        if let Some(old) = found {
            case.subject.pointer = old.id.clone();
            case.subject.custodian = Some(old.custodian.clone());
        }
        if refusal.reason() == Reason::TargetNotOwner {
            return Err(case.deny_stranger(refusal, checks::target_not_found()));
        }
        Err(case.deny(refusal))
    }

    /// What is known of the request, for a denial when the locator does not answer.
    #[must_use]
    pub fn subject(&self) -> &Subject {
        &self.case.subject
    }
}

impl Permit {
    /// The method to forward.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.case.method
    }

    /// The path and query to forward, as they were judged: of an update or a delete with the pointer's id in the
    /// path, whatever the client named it by.
    #[must_use]
    pub fn path_and_query(&self) -> &PathAndQuery {
        &self.case.target
    }

    /// The If-Match to forward: the version that was judged, or where the locator has no versions what the client
    /// sent.
    #[must_use]
    pub fn if_match(&self) -> Option<HeaderValue> {
        let judged = self.judged.as_ref();
        judged
            .and_then(|version| HeaderValue::try_from(version.to_string()).ok())
            .or_else(|| self.case.if_match.clone())
    }

    /// Whether the If-Match to forward is none that the client asked for.
    #[must_use]
    pub const fn adds_if_match(&self) -> bool {
        self.judged.is_some() && self.case.if_match.is_none()
    }

    /// The body to forward, as it was judged; empty for a read, a search and a delete.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// What the audit records.
    #[must_use]
    pub fn subject(&self) -> &Subject {
        &self.case.subject
    }

    pub(super) fn into_subject(self) -> Subject {
        self.case.subject
    }
}
