//! The policies that are measured.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::Result;
use ipnet::IpNet;
use spinegate::{
    config::{Filter as Settings, GuardedService, HandshakeBudgets, Service, ServiceProtocol, Source},
    filter::Filter,
};

use crate::frames::{NETWORK6, PORT};

/// A small generator of random numbers (xorshift64*), the same in every run.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }
}

/// Guards one port, with room for a million sources and budgets that nothing here uses up.
pub(crate) fn settings(sources: usize) -> Settings {
    Settings {
        max_sources: u32::try_from(sources.max(1024)).unwrap_or(1 << 20),
        services: vec![GuardedService::everywhere(Service {
            protocol: ServiceProtocol::Tcp,
            port: PORT,
        })],
        handshake: HandshakeBudgets {
            untrusted_per_second: 1_000_000,
            untrusted_burst: 1_000_000,
            ..HandshakeBudgets::default()
        },
        ..Settings::default()
    }
}

/// The loaded filter with an allowlist.
pub(crate) fn filter(sources: &[Source]) -> Result<Filter> {
    Ok(Filter::unattached(&settings(sources.len()), sources)?)
}

/// 10.0.0.1, 10.0.1.1, …: host routes, which is all that xdp-filter has.
pub(crate) fn hosts(count: u32) -> Vec<Source> {
    (0..count)
        .map(|number| source(Ipv4Addr::from(0x0a00_0001 + (number << 8)), 32))
        .collect()
}

/// Prefixes all over the address space, of the lengths that allowlists have: mostly networks of /24 and single
/// addresses. The first one is 10.0.0.0/8.
pub(crate) fn spread(count: usize) -> Vec<Source> {
    let mut random = Random::new(42);
    let mut seen = std::collections::HashSet::new();
    let mut sources = vec![source(Ipv4Addr::new(10, 0, 0, 0), 8)];
    while sources.len() < count {
        let length = match random.next() % 10 {
            0 => 20,
            1 => 22,
            2..=5 => 24,
            6 => 28,
            _ => 32,
        };
        let address = random.next() & (u32::MAX << (32 - length));
        // Half of the space stays free for those who are refused.
        if address >> 31 == 0 && address >> 24 != 10 && seen.insert((address, length)) {
            sources.push(source(Ipv4Addr::from(address), length as u8));
        }
    }
    sources
}

/// The same sources as the ends of IPv6 addresses.
pub(crate) fn as_ipv6(sources: &[Source]) -> Vec<Source> {
    let moved = |source: &Source| {
        let IpAddr::V4(address) = source.cidr.network() else {
            return source.clone();
        };
        let address = NETWORK6.to_bits() | u128::from(u32::from(address));
        let cidr = IpNet::new_assert(IpAddr::V6(address.into()), 96 + source.cidr.prefix_len());
        Source::new(cidr, source.name.clone())
    };
    sources.iter().map(moved).collect()
}

fn source(address: Ipv4Addr, length: u8) -> Source {
    let cidr = IpNet::new_assert(IpAddr::V4(address), length);
    Source::new(cidr, cidr.to_string())
}
