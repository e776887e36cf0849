//! The stages between a request's head and its permit. No stage can be made but by the one before it.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Uri, uri::PathAndQuery};

use crate::{
    nrl::{Format, NhsNumber, Pointer, PointerId, Refusal, Route, TargetRef, check_status_update},
    registry::System,
};

use super::{Check, Denial, Subject, checks};

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
}

/// A request that waits for its body.
#[derive(Debug)]
#[must_use]
pub struct AwaitingBody {
    case: Case,
    kind: BodyKind,
    format: Format,
}

/// A request that waits for the pointer that the locator has under an id.
#[derive(Debug)]
#[must_use]
pub struct AwaitingStored {
    case: Case,
    id: PointerId,
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
    StatusUpdate(PointerId),
}

/// What every stage hands to the next.
#[derive(Debug)]
struct Case {
    subject: Subject,
    system: Arc<System>,
    method: Method,
    target: PathAndQuery,
}

pub(super) fn admitted(
    subject: Subject,
    system: Arc<System>,
    (route, format): (Route, Format),
    method: &Method,
    uri: &Uri,
) -> Admitted {
    let target = uri
        .path_and_query()
        .cloned()
        .unwrap_or_else(|| PathAndQuery::from_static("/"));
    let case = Case {
        subject,
        system,
        method: method.clone(),
        target,
    };
    match route {
        Route::Read(_) | Route::Search(_) => Admitted::Permitted(Permit {
            case,
            body: Bytes::new(),
        }),
        Route::CreateOrSupersede => Admitted::NeedsBody(AwaitingBody {
            case,
            kind: BodyKind::NewPointer,
            format,
        }),
        Route::Update(id) => Admitted::NeedsBody(AwaitingBody {
            case,
            kind: BodyKind::StatusUpdate(id),
            format,
        }),
        Route::Delete(id) => Admitted::NeedsStored(AwaitingStored {
            case,
            id,
            body: Bytes::new(),
        }),
    }
}

impl Case {
    /// Notes what a check came to. One that failed ends the case.
    fn make<T>(&mut self, check: Check, result: Result<T, Refusal>) -> Result<T, Denial> {
        let made = self.subject.made(check, result);
        made.map_err(|(check, refusal)| Denial::by(check, refusal, std::mem::take(&mut self.subject)))
    }
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
        let id = match kind {
            BodyKind::NewPointer => return Self::judge_new_pointer(case, format, body),
            BodyKind::StatusUpdate(id) => id,
        };
        case.make(Check::Body, check_status_update(format, &body))?;
        Ok(Judged::NeedsStored(AwaitingStored { case, id, body }))
    }

    fn judge_new_pointer(mut case: Case, format: Format, body: Bytes) -> Result<Judged, Denial> {
        let new = case.make(Check::Body, checks::new_pointer(format, &body))?;
        case.subject.custodian = Some(new.custodian.clone());
        let owner = checks::owner(&case.system, &new.custodian);
        let Some(target) = new.replaces.clone() else {
            case.make(Check::Ownership, owner)?;
            return Ok(Judged::Permitted(Permit { case, body }));
        };
        match owner {
            // Half of the check: the other pointer is still to be seen.
            Ok(()) => Ok(Judged::NeedsTarget(AwaitingTarget {
                case,
                new: Box::new(new),
                target,
                body,
            })),
            Err(refusal) => Err(Denial::by(Check::Ownership, refusal, case.subject)),
        }
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
    pub fn id(&self) -> &PointerId {
        &self.id
    }

    /// Judges the pointer that the locator has (R4, R5); `None` if it has none that is current.
    ///
    /// # Errors
    /// [`Check::Ownership`] failed: the pointer is missing, is another one, belongs to somebody else or is
    /// not current.
    pub fn judge_stored(self, stored: Option<&Pointer>) -> Result<Permit, Denial> {
        let Self { mut case, id, body } = self;
        case.subject.custodian = stored.map(|stored| stored.custodian.clone());
        let owner = checks::stored_pointer(&case.system, &id, stored);
        case.make(Check::Ownership, owner)?;
        Ok(Permit { case, body })
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
    pub fn judge_target(self, candidates: &[Pointer]) -> Result<Permit, Denial> {
        let Self {
            mut case,
            new,
            target,
            body,
        } = self;
        let owner = checks::target(&case.system, &new, &target, candidates);
        case.make(Check::Ownership, owner)?;
        Ok(Permit { case, body })
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

    /// The path and query to forward, as they were judged.
    #[must_use]
    pub fn path_and_query(&self) -> &PathAndQuery {
        &self.case.target
    }

    /// The body to forward, as it was judged; empty for a read, a search and a delete.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The system that is permitted.
    #[must_use]
    pub fn system(&self) -> &Arc<System> {
        &self.case.system
    }

    /// What the audit records.
    #[must_use]
    pub fn subject(&self) -> &Subject {
        &self.case.subject
    }
}
