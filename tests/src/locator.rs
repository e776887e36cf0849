//! A record locator after the NRL STU3 API, with SQLite storage: what stands behind the gateway in the lab.
//!
//! It asks nobody who they are and checks no ownership, so whatever is blocked in a test was blocked by the gateway.
//! All else follows the NRL pages: status codes, `OperationOutcome` answers, versions, statuses, unique master identifiers.
//! Left out, because it has no directory of organisations: the check that an ODS code exists. It takes and gives
//! JSON and XML; where nobody asks for one of them, JSON.
//!
//! | request | interaction |
//! |---|---|
//! | `GET /STU3/DocumentReference/{id}` | read |
//! | `GET /STU3/DocumentReference?…` | search |
//! | `POST /STU3/DocumentReference` | create; with `relatesTo`, supersede |
//! | `PATCH /STU3/DocumentReference/{id}`, `PATCH …?subject=…&identifier=…` | update |
//! | `DELETE /STU3/DocumentReference/{id}`, `DELETE …?_id=…`, `DELETE …?subject=…&identifier=…` | delete |
//!
//! A read has an ETag, which is the pointer's version, and updates and deletes obey If-Match.
//!
//! The database can be read while the locator runs; [`Store`] documents its tables.

mod answer;
mod interaction;
mod naming;
mod pointer;
mod query;
mod server;
mod store;
mod xml;

pub use answer::Refusal;
pub use naming::{Condition, Naming};
pub use pointer::{Identifier, NewPointer, NhsNumber, Target};
pub use server::{Locator, serve};
pub use store::{Change, Status, Store, StoreError, StoredPointer};

/// What stands before `/DocumentReference` in every path.
pub const BASE_PATH: &str = "/STU3";

#[cfg(test)]
mod tests;
