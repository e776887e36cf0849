//! The screen: a client's bytes, judged before any HTTP parser sees them.
//!
//! A head goes on to hyper only when it is whole and keeps every [`Rule`]; the end of each request is found here, and in one
//! way, so that nothing behind it can pass for another request. A broken rule is final for the connection. docs/http.md
//! lists the rules.

mod chunk;
mod field;
mod hosts;
mod line;
mod machine;
#[cfg(test)]
mod oracle;
mod rule;
mod stream;
mod target;
#[cfg(test)]
mod tests;
mod token;

pub(super) use self::{
    hosts::Hosts,
    machine::{Limits, Screen},
    rule::{Place, Rule, Violation},
    stream::{Fault, Rest, Screened, Times},
};
