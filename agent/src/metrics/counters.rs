//! Counters that every room increments without a lock.

use std::{
    array,
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use spinegate_common::{Layer, Reason, Side};

use crate::{
    authz::Action,
    control::{Decided, FilterStats, Handshakes, Rebuff, Requests, Stats},
    tls::Session,
};

/// What a connection is closed for in order.
const RETIREMENTS: [Reason; 2] = [Reason::ConnectionAge, Reason::ConnectionRequests];

/// Since the agent's start. What the kernel counts is not here: it is read from the kernel when asked for.
#[derive(Debug)]
pub struct Counters {
    refusals: [AtomicU64; Reason::SLOTS as usize],
    handshakes_accepted: AtomicU64,
    with_ems: AtomicU64,
    with_etm: AtomicU64,
    resumed: AtomicU64,
    invalidated: AtomicU64,
    retired: [AtomicU64; RETIREMENTS.len()],
    handshakes_refused: [AtomicU64; Reason::SLOTS as usize],
    requests_allowed: AtomicU64,
    requests_refused: AtomicU64,
    /// Allowed and refused, in the order of [`Action::ALL`].
    actions: [[AtomicU64; 2]; Action::ALL.len()],
    requests_shadowed: AtomicU64,
    shadowed: [AtomicU64; Reason::SLOTS as usize],
    answers_broken: AtomicU64,
    verdicts_issued: AtomicU64,
    /// In the order of [`Rebuff::REASONS`].
    rebuffs: [AtomicU64; Rebuff::REASONS.len()],
    /// Done and refused.
    reloads: [AtomicU64; 2],
}

impl Counters {
    /// All at zero.
    #[must_use]
    pub fn new() -> Self {
        Self {
            refusals: array::from_fn(|_| AtomicU64::new(0)),
            handshakes_accepted: AtomicU64::new(0),
            with_ems: AtomicU64::new(0),
            with_etm: AtomicU64::new(0),
            resumed: AtomicU64::new(0),
            invalidated: AtomicU64::new(0),
            retired: RETIREMENTS.map(|_| AtomicU64::new(0)),
            handshakes_refused: array::from_fn(|_| AtomicU64::new(0)),
            requests_allowed: AtomicU64::new(0),
            requests_refused: AtomicU64::new(0),
            actions: array::from_fn(|_| array::from_fn(|_| AtomicU64::new(0))),
            requests_shadowed: AtomicU64::new(0),
            shadowed: array::from_fn(|_| AtomicU64::new(0)),
            answers_broken: AtomicU64::new(0),
            verdicts_issued: AtomicU64::new(0),
            rebuffs: Rebuff::REASONS.map(|_| AtomicU64::new(0)),
            reloads: array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// A handshake ended with a verified client.
    pub fn handshake_accepted(&self, session: &Session) {
        add(&self.handshakes_accepted);
        for (negotiated, counter) in [
            (session.extended_master_secret, &self.with_ems),
            (session.encrypt_then_mac, &self.with_etm),
            (session.resumed, &self.resumed),
        ] {
            if negotiated {
                add(counter);
            }
        }
    }

    /// An open connection was cut off because its client's certificate no longer passes.
    pub fn connection_invalidated(&self, reason: Reason) {
        add(&self.invalidated);
        self.refused(reason);
    }

    /// A connection was closed in order because it had served for long enough.
    pub fn connection_retired(&self, reason: Reason) {
        let found = RETIREMENTS.iter().zip(&self.retired);
        if let Some((_, counter)) = found.into_iter().find(|(one, _)| **one == reason) {
            add(counter);
        }
    }

    /// An open connection ended with a record that the protocol forbids.
    pub fn connection_broken(&self, reason: Reason) {
        self.refused(reason);
    }

    /// A connection was refused before its first request.
    pub fn handshake_refused(&self, reason: Reason) {
        if let Some(counter) = self.handshakes_refused.get(usize::from(reason as u8)) {
            add(counter);
        }
        self.refused(reason);
    }

    /// A request was passed on.
    pub fn request_allowed(&self) {
        add(&self.requests_allowed);
    }

    /// A request was refused.
    pub fn request_refused(&self, reason: Reason) {
        add(&self.requests_refused);
        self.refused(reason);
    }

    /// A request was passed on that would have been refused.
    pub fn request_shadowed(&self, reason: Reason) {
        add(&self.requests_shadowed);
        if let Some(counter) = self.shadowed.get(usize::from(reason as u8)) {
            add(counter);
        }
    }

    /// And this is what the request was to do, whether it was refused or not.
    pub fn action_decided(&self, action: Action, refused: bool) {
        let place = Action::ALL.iter().position(|known| *known == action);
        let counters = place.and_then(|place| self.actions.get(place));
        if let Some(counter) = counters.and_then(|decisions| decisions.get(usize::from(refused))) {
            add(counter);
        }
    }

    /// The answer to a request that was passed on broke off.
    pub fn answer_broke_off(&self, reason: Reason) {
        add(&self.answers_broken);
        self.refused(reason);
    }

    /// Failures led to a deny verdict.
    pub fn verdict_issued(&self) {
        add(&self.verdicts_issued);
    }

    /// A caller of the control socket got nothing.
    pub fn operator_rebuffed(&self, rebuff: &Rebuff) {
        let place = Rebuff::REASONS
            .iter()
            .position(|reason| *reason == rebuff.reason());
        if let Some(counter) = place.and_then(|place| self.rebuffs.get(place)) {
            add(counter);
        }
    }

    pub(super) fn operators_rebuffed(&self) -> impl Iterator<Item = (Reason, u64)> {
        Rebuff::REASONS.into_iter().zip(self.rebuffs.iter().map(get))
    }

    /// Another configuration was taken over, or refused.
    pub fn reloaded(&self, done: bool) {
        let [taken, refused] = &self.reloads;
        add(if done { taken } else { refused });
    }

    /// All counters as `spinegate stats` shows them, beside the kernel's. Every reason that the agent can refuse for is
    /// there, also at zero.
    #[must_use]
    pub fn stats(&self, filter: FilterStats) -> Stats {
        Stats {
            filter,
            handshakes: Handshakes {
                accepted: self.accepted_handshakes(),
                refused: self.refused_handshakes().map(|(_, count)| count).sum(),
            },
            requests: Requests {
                allowed: get(&self.requests_allowed),
                refused: get(&self.requests_refused),
                shadowed: get(&self.requests_shadowed),
            },
            actions: self
                .decided_actions()
                .map(|(action, allowed, refused)| (action.as_str().to_owned(), Decided { allowed, refused }))
                .collect(),
            refusals: self
                .refusals()
                .map(|(reason, count)| (reason.as_str().to_owned(), count))
                .collect::<BTreeMap<_, _>>(),
            verdicts_issued: self.issued_verdicts(),
        }
    }

    /// Refusals by whose doing they were.
    #[must_use]
    pub fn refusals_by_side(&self) -> BTreeMap<String, u64> {
        let mut sides: BTreeMap<_, _> = Side::ALL.map(|side| (side.as_str().to_owned(), 0)).into();
        for (reason, count) in self.refusals() {
            *sides.entry(reason.side().as_str().to_owned()).or_default() += count;
        }
        sides
    }

    /// Refusals by each reason that the agent, and not the filter, can refuse for.
    pub(super) fn refusals(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL
            .iter()
            .filter(|reason| !matches!(reason.layer(), Layer::Filter | Layer::Operator))
            .filter_map(|reason| Some((*reason, get(self.refusals.get(usize::from(*reason as u8))?))))
    }

    /// Requests that were passed on though refused, by each reason of a check that can be in shadow.
    pub(super) fn shadowed(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL
            .iter()
            .filter(|reason| matches!(reason.layer(), Layer::Authorisation | Layer::Upstream))
            .filter_map(|reason| Some((*reason, get(self.shadowed.get(usize::from(*reason as u8))?))))
    }

    pub(super) fn shadowed_requests(&self) -> u64 {
        get(&self.requests_shadowed)
    }

    pub(super) fn accepted_handshakes(&self) -> u64 {
        get(&self.handshakes_accepted)
    }

    /// Accepted handshakes with the extended master secret, with encrypt-then-MAC, and of sessions taken up again.
    pub(super) fn handshake_features(&self) -> [(&'static str, u64); 3] {
        [
            ("extended_master_secret", get(&self.with_ems)),
            ("encrypt_then_mac", get(&self.with_etm)),
            ("resumed", get(&self.resumed)),
        ]
    }

    pub(super) fn invalidated_connections(&self) -> u64 {
        get(&self.invalidated)
    }

    pub(super) fn retired_connections(&self) -> impl Iterator<Item = (Reason, u64)> {
        RETIREMENTS.into_iter().zip(self.retired.iter().map(get))
    }

    /// Refused handshakes by each reason that there can be for that.
    pub(super) fn refused_handshakes(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL
            .iter()
            .filter(|reason| matches!(reason.layer(), Layer::Handshake | Layer::Certificate))
            .filter_map(|reason| {
                let counter = self.handshakes_refused.get(usize::from(*reason as u8))?;
                Some((*reason, get(counter)))
            })
    }

    /// Reloads that were taken over, and those that were not.
    pub(super) fn reloads(&self) -> (u64, u64) {
        let [done, refused] = &self.reloads;
        (get(done), get(refused))
    }

    pub(super) fn decided_requests(&self) -> (u64, u64) {
        (get(&self.requests_allowed), get(&self.requests_refused))
    }

    /// Each action, how often it was allowed and how often refused.
    pub(super) fn decided_actions(&self) -> impl Iterator<Item = (Action, u64, u64)> {
        Action::ALL
            .into_iter()
            .zip(&self.actions)
            .map(|(action, [allowed, refused])| (action, get(allowed), get(refused)))
    }

    pub(super) fn broken_answers(&self) -> u64 {
        get(&self.answers_broken)
    }

    pub(super) fn issued_verdicts(&self) -> u64 {
        get(&self.verdicts_issued)
    }

    fn refused(&self, reason: Reason) {
        if let Some(counter) = self.refusals.get(usize::from(reason as u8)) {
            add(counter);
        }
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self::new()
    }
}

// Each counter stands alone: nothing is read on the strength of another.
fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_counts_once_by_its_reason_and_once_in_its_sum() {
        let counters = Counters::new();
        counters.handshake_accepted(&Session {
            extended_master_secret: true,
            ..Session::default()
        });
        counters.handshake_refused(Reason::CertificateMissing);
        counters.request_allowed();
        counters.request_refused(Reason::NotOwner);
        counters.request_refused(Reason::NotOwner);
        counters.verdict_issued();
        let stats = counters.stats(FilterStats::default());
        assert_eq!(stats.handshakes.accepted, 1);
        let refused: Vec<_> = counters
            .refused_handshakes()
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(refused, [(Reason::CertificateMissing, 1)]);
        let features = counters.handshake_features().map(|(_, count)| count);
        assert_eq!(features, [1, 0, 0]);
        assert_eq!((stats.requests.allowed, stats.requests.refused), (1, 2));
        assert_eq!(stats.refusals["certificate_missing"], 1);
        assert_eq!(stats.refusals["not_owner"], 2);
        assert_eq!(stats.refusals["asid_unknown"], 0);
        assert_eq!(stats.verdicts_issued, 1);
        counters.answer_broke_off(Reason::UpstreamReset);
        counters.request_refused(Reason::AuditFailed);
        let sides: Vec<_> = counters.refusals_by_side().into_iter().collect();
        assert_eq!(
            sides,
            [("client", 3), ("gateway", 1), ("upstream", 1)].map(|(side, count)| (side.to_owned(), count))
        );
    }

    #[test]
    fn what_is_in_shadow_is_no_refusal() {
        let counters = Counters::new();
        counters.request_shadowed(Reason::NotOwner);
        let stats = counters.stats(FilterStats::default());
        assert_eq!(
            (
                stats.requests.allowed,
                stats.requests.refused,
                stats.requests.shadowed
            ),
            (0, 0, 1)
        );
        assert_eq!(stats.refusals["not_owner"], 0);
        let counted: Vec<_> = counters.shadowed().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [(Reason::NotOwner, 1)]);
    }

    #[test]
    fn every_reason_of_the_agent_has_a_counter_of_its_own() {
        let counters = Counters::new();
        for reason in Reason::ALL {
            counters.request_refused(*reason);
        }
        assert!(counters.refusals().all(|(_, count)| count == 1));
        assert!(
            !counters
                .stats(FilterStats::default())
                .refusals
                .contains_key("source_not_allowlisted")
        );
    }
}
