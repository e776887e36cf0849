//! What holds for a whole connection, whatever a client sends: the upstream gets exactly the requests that were authorised,
//! as they were authorised. The fuzzer and a property test of this room check the same.

mod edge;
mod expected;
mod pieces;

use std::{cell::RefCell, str};

use serde_json::Value;

pub use self::pieces::{PIECES, expand, seeds};
use self::{
    edge::{Edge, Heard},
    expected::Expected,
};

/// How often something happened, so that a run can show that it has tried what it was to try.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    /// Requests that were answered.
    pub answered: usize,
    /// Requests that reached the upstream.
    pub forwarded: usize,
}

/// A request that the gateway answered, as its audit log has it.
#[derive(Debug)]
struct Answered {
    allowed: bool,
    method: String,
    path: String,
}

/// Sends a client's bytes to a gateway in memory, in pieces of some length, and panics where something does not hold.
///
/// # Panics
/// A request reached the upstream that was not authorised, or otherwise than it was authorised, or not at all.
pub fn hold(stream: &[u8], piece: usize) -> Tried {
    thread_local! {
        static EDGE: RefCell<Edge> = RefCell::new(Edge::new());
    }
    EDGE.with_borrow_mut(|edge| {
        let heard = edge.exchange(stream, piece);
        let answered = answered(&edge.take_audit());
        let expected = Expected::of(edge, stream);
        let requests = expected.requests();
        assert!(
            answered.len() <= requests.len(),
            "{} requests were answered, but {} were sent",
            answered.len(),
            requests.len()
        );
        if let (Some(last), true) = (answered.last(), answered.len() < requests.len()) {
            let asked = requests.get(answered.len() - 1).is_some_and(|last| last.closes);
            assert!(
                asked || !last.allowed,
                "the connection ended after a request that was served"
            );
        }
        let processed = requests.iter().take(answered.len());
        let wanted: Vec<&Heard> = processed
            .filter_map(|request| request.permitted.as_ref())
            .collect();
        assert_eq!(
            heard.iter().collect::<Vec<_>>(),
            wanted,
            "what the upstream got, and what it should have got"
        );
        let allowed: Vec<_> = answered.iter().filter(|one| one.allowed).collect();
        assert_eq!(
            allowed.len(),
            heard.len(),
            "the audit log says otherwise: {allowed:?}"
        );
        for (allowed, heard) in allowed.iter().zip(&heard) {
            let path = heard.target.split('?').next();
            assert_eq!(
                (allowed.method.as_str(), Some(allowed.path.as_str())),
                (heard.method.as_str(), path)
            );
        }
        Tried {
            answered: answered.len(),
            forwarded: heard.len(),
        }
    })
}

/// The requests in an audit log that became ones: what the screen refuses takes no time.
fn answered(log: &[u8]) -> Vec<Answered> {
    let lines = str::from_utf8(log).expect("a log is text").lines();
    let entries = lines.map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON"));
    entries
        .filter(|entry| entry["event"] == "request" && !entry["duration_ms"].is_null())
        .map(|entry| Answered {
            allowed: entry["decision"] == "allow",
            method: text(&entry["request"]["method"]),
            path: text(&entry["request"]["path"]),
        })
        .collect()
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}

#[cfg(test)]
mod tests;
