//! How many connections may be in their handshake at once: in all, and from one source. Asked before TLS sees a byte.
//!
//! The model is OpenSSH's `MaxStartups`, `PerSourceMaxStartups` and `PerSourceNetBlockSize`.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ipnet::IpNet;
use spinegate_common::Reason;

use crate::config::{self, SourceKind};

/// Who is in a handshake.
#[derive(Debug, Default)]
pub(super) struct Unauthenticated(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    total: usize,
    sources: HashMap<IpAddr, usize>,
}

/// A place for one handshake, given back when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    gate: Arc<Unauthenticated>,
    source: IpAddr,
}

impl Unauthenticated {
    /// Gives a place to a source, or says why there is none. `roll` is random, from 0 to 1.
    pub(super) fn admit(
        self: &Arc<Self>,
        limits: &config::Unauthenticated,
        (source, kind): (IpAddr, SourceKind),
        roll: f64,
    ) -> Result<Place, Reason> {
        let own = match kind {
            SourceKind::System => limits.per_source,
            SourceKind::Proxy => limits.per_proxy,
        };
        let mut state = self.lock();
        if state.sources.get(&source).is_some_and(|held| *held >= own) {
            return Err(Reason::SourceUnauthenticatedLimit);
        }
        if roll < refused_share(limits, state.total) {
            return Err(Reason::UnauthenticatedLimit);
        }
        state.total += 1;
        *state.sources.entry(source).or_default() += 1;
        Ok(Place {
            gate: Arc::clone(self),
            source,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The address that stands for the source's network.
    pub(super) const fn source(&self) -> IpAddr {
        self.source
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        state.total = state.total.saturating_sub(1);
        if let Some(held) = state.sources.get_mut(&self.source) {
            *held = held.saturating_sub(1);
            if *held == 0 {
                state.sources.remove(&self.source);
            }
        }
    }
}

/// The share of new connections that is turned away while so many are in their handshake.
fn refused_share(limits: &config::Unauthenticated, total: usize) -> f64 {
    if total < limits.begin {
        return 0.0;
    }
    if total >= limits.full {
        return 1.0;
    }
    let first = f64::from(limits.rate) / 100.0;
    let way = (total - limits.begin) as f64 / (limits.full - limits.begin) as f64;
    first + (1.0 - first) * way
}

/// The address that stands for a source's network.
pub(super) fn source(limits: &config::Unauthenticated, address: IpAddr) -> IpAddr {
    let length = match address {
        IpAddr::V4(_) => limits.ipv4_prefix,
        IpAddr::V6(_) => limits.ipv6_prefix,
    };
    IpNet::new(address, length).map_or(address, |network| network.network())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: config::Unauthenticated = config::Unauthenticated {
        begin: 4,
        rate: 30,
        full: 8,
        per_source: 2,
        per_proxy: 6,
        ipv4_prefix: 32,
        ipv6_prefix: 64,
    };

    fn system(number: u8) -> (IpAddr, SourceKind) {
        (IpAddr::from([192, 0, 2, number]), SourceKind::System)
    }

    #[test]
    fn a_source_has_so_many_places_and_gets_them_back() {
        let gate = Arc::new(Unauthenticated::default());
        let first = gate.admit(&LIMITS, system(1), 0.5).unwrap();
        let _second = gate.admit(&LIMITS, system(1), 0.5).unwrap();
        assert_eq!(
            gate.admit(&LIMITS, system(1), 0.5).err(),
            Some(Reason::SourceUnauthenticatedLimit)
        );
        assert!(gate.admit(&LIMITS, system(2), 0.5).is_ok());
        drop(first);
        assert!(gate.admit(&LIMITS, system(1), 0.5).is_ok());
        let proxy = (IpAddr::from([192, 0, 2, 3]), SourceKind::Proxy);
        let places: Vec<_> = (0..3)
            .map(|_| gate.admit(&LIMITS, proxy, 0.99).unwrap())
            .collect();
        drop(places);
        assert_eq!(
            gate.lock().sources.len(),
            1,
            "only who holds a place is remembered"
        );
    }

    #[test]
    fn from_the_beginning_on_ever_more_are_turned_away_until_all_are() {
        for (total, share) in [(0, 0.0), (3, 0.0), (4, 0.3), (6, 0.65), (8, 1.0), (9, 1.0)] {
            let found = refused_share(&LIMITS, total);
            assert!((found - share).abs() < 1e-9, "{total}: {found}");
        }
        let gate = Arc::new(Unauthenticated::default());
        let held: Vec<_> = (0..4)
            .map(|number| gate.admit(&LIMITS, system(number), 0.0).unwrap())
            .collect();
        assert_eq!(
            gate.admit(&LIMITS, system(9), 0.29).err(),
            Some(Reason::UnauthenticatedLimit)
        );
        assert!(gate.admit(&LIMITS, system(9), 0.31).is_ok());
        drop(held);
    }

    #[test]
    fn neighbours_in_an_ipv6_network_are_one_source() {
        let of = |text: &str| source(&LIMITS, text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
