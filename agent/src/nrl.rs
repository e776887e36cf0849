//! The National Record Locator's vocabulary as types that can't hold a wrong value. No I/O.

mod answered;
mod asid;
mod endpoint;
mod entity_tag;
mod fqdn;
mod interaction;
mod json;
mod jwt;
mod media;
mod nhs_number;
mod ods;
mod outcome;
mod parameters;
mod pointer;
mod pointer_id;
mod query;
mod refusal;
mod route;
mod tree;
mod xml;

pub use answered::spine_codes;
pub use asid::{Asid, AsidError};
pub use endpoint::{Endpoint, TraceId};
pub use entity_tag::EntityTag;
pub use fqdn::{Fqdn, FqdnError};
pub use interaction::{Interaction, InteractionId, InteractionIdError};
pub use jwt::{Actor, ClaimRules, Claims, Token, bearer, sample_token, unattended};
pub use media::{Format, answer as answer_format, of_body as body_format};
pub use nhs_number::{NhsNumber, NhsNumberError};
pub use ods::{OdsCode, OdsCodeError};
pub use outcome::{ErrorTable, Outcome};
pub use parameters::check_status_update;
pub use pointer::{Identifier, ORGANISATION_PREFIX, Pointer, PointerError, Status, TargetRef};
pub use pointer_id::{PointerId, PointerIdError};
pub use refusal::Refusal;
pub use route::{Dialect, Route, Search, Selector, allowed_methods};
