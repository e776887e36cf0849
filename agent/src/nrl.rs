//! The National Record Locator's vocabulary as types that can't hold a wrong value. No I/O.

mod asid;
mod fqdn;

pub use asid::{Asid, AsidError};
pub use fqdn::{Fqdn, FqdnError};
