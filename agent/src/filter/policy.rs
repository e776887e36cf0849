//! The policy: compiled from the configuration into a generation, and put in force by one write.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use aya::{
    Pod,
    maps::{Array, ArrayOfMaps, LpmTrie, MapData, lpm_trie::Key},
};
use ipnet::IpNet;
use spinegate_common::{
    packet::protocol,
    policy::{Control, SCOPE_BITS, SERVICE_SLOTS, Source4, Source6, scope, service_slot},
};

use super::{FilterError, object::Object};
use crate::config::{self, FilterMode, Scope, Service, ServiceProtocol, Source};

const NO_PREALLOC: u32 = 1;
const SOURCES: u32 = 1 << 20;

/// Compiles the policy into the slot that is not in force, and flips the word that names the slot.
pub(super) fn apply(
    object: &mut Object,
    config: &config::Filter,
    sources: &[Source],
) -> Result<u64, FilterError> {
    let policy = Policy::compile(&config.services, sources);
    let current = control(object)?;
    let slot = current.map_or(0, |control| 1 - control.slot);
    let generation = current.map_or(1, |control| control.generation + 1) & ((1 << 40) - 1);

    let services = policy.service_table()?;
    let allow4 = policy.trie4()?;
    let allow6 = policy.trie6()?;
    set_inner(object, "SERVICES", slot, &services)?;
    set_inner(object, "ALLOW4", slot, &allow4)?;
    set_inner(object, "ALLOW6", slot, &allow6)?;

    let word = Control {
        slot,
        monitor: config.mode == FilterMode::Monitor,
        host: config.scope == Scope::Host,
        events_per_second: u16::try_from(config.events_per_second).unwrap_or(u16::MAX),
        generation,
    };
    let mut control: Array<_, u64> = object.map_mut("CONTROL")?;
    control
        .set(0, word.encode(), 0)
        .map_err(|error| FilterError::map("CONTROL", error))?;

    // Writing to a map of maps returns when every program that runs now has ended. So after this, no packet is being
    // judged by the old slot any more, and the next swap may write to it.
    set_inner(object, "SERVICES", slot, &services)?;
    Ok(generation)
}

fn control(object: &Object) -> Result<Option<Control>, FilterError> {
    let control: Array<_, u64> = object.map("CONTROL")?;
    let word = control
        .get(&0, 0)
        .map_err(|error| FilterError::map("CONTROL", error))?;
    Ok(Control::decode(word))
}

fn set_inner<M>(object: &mut Object, name: &'static str, slot: u32, inner: &M) -> Result<(), FilterError>
where
    M: aya::maps::InnerMap,
{
    let mut outer: ArrayOfMaps<&mut MapData, M> = object.map_mut(name)?;
    outer
        .set(slot, inner, 0)
        .map_err(|error| FilterError::map(name, error))
}

/// A compiled policy.
#[derive(Debug, PartialEq, Eq)]
struct Policy {
    services: BTreeMap<Service, u32>,
    entries: BTreeSet<(u32, IpNet)>,
}

impl Policy {
    fn compile(services: &[Service], sources: &[Source]) -> Self {
        let services: BTreeMap<_, _> = services
            .iter()
            .copied()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .zip(scope::FIRST_SERVICE..)
            .collect();
        let mut entries = BTreeSet::new();
        for source in sources {
            entries.insert((scope::FRAGMENT, source.cidr));
            if source.services.is_empty() {
                entries.insert((scope::HOST, source.cidr));
                entries.extend(services.values().map(|scope| (*scope, source.cidr)));
            } else {
                let named = source.services.iter().filter_map(|service| services.get(service));
                entries.extend(named.map(|scope| (*scope, source.cidr)));
            }
        }
        Self { services, entries }
    }

    fn service_table(&self) -> Result<Array<MapData, u32>, FilterError> {
        let map_error = |error| FilterError::map("SERVICES", error);
        let mut table = Array::create(SERVICE_SLOTS, 0).map_err(map_error)?;
        for (service, scope) in &self.services {
            let protocol = match service.protocol {
                ServiceProtocol::Tcp => protocol::TCP,
                ServiceProtocol::Udp => protocol::UDP,
            };
            for (port, scope) in [(service.port, *scope), (0, scope::FRAGMENT)] {
                if let Some(slot) = service_slot(protocol, port) {
                    table.set(slot, scope, 0).map_err(map_error)?;
                }
            }
        }
        Ok(table)
    }

    fn trie4(&self) -> Result<LpmTrie<MapData, Source4, u32>, FilterError> {
        trie("ALLOW4", &self.entries, |scope, address| match address {
            IpAddr::V4(address) => Some(Source4 {
                scope,
                address: address.octets(),
            }),
            IpAddr::V6(_) => None,
        })
    }

    fn trie6(&self) -> Result<LpmTrie<MapData, Source6, u32>, FilterError> {
        trie("ALLOW6", &self.entries, |scope, address| match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(Source6 {
                scope,
                address: address.octets(),
            }),
        })
    }
}

fn trie<K: Pod>(
    name: &'static str,
    entries: &BTreeSet<(u32, IpNet)>,
    key: impl Fn([u8; 4], IpAddr) -> Option<K>,
) -> Result<LpmTrie<MapData, K, u32>, FilterError> {
    let map_error = |error| FilterError::map(name, error);
    let mut trie = LpmTrie::create(SOURCES, NO_PREALLOC).map_err(map_error)?;
    for (scope, cidr) in entries {
        if let Some(data) = key(scope.to_be_bytes(), cidr.network()) {
            let prefix = SCOPE_BITS + u32::from(cidr.prefix_len());
            trie.insert(&Key::new(prefix, data), *scope, 0)
                .map_err(map_error)?;
        }
    }
    Ok(trie)
}

#[cfg(test)]
mod tests {
    use super::{Policy, scope};
    use crate::config::{Service, ServiceProtocol, Source, SourceKind};

    fn source(cidr: &str, services: &[Service]) -> Source {
        Source {
            cidr: cidr.parse().expect("a CIDR"),
            name: cidr.to_owned(),
            kind: SourceKind::System,
            services: services.to_vec(),
        }
    }

    #[test]
    fn a_source_with_services_reaches_these_and_nothing_else() {
        let https = Service {
            protocol: ServiceProtocol::Tcp,
            port: 443,
        };
        let ldaps = Service {
            protocol: ServiceProtocol::Tcp,
            port: 636,
        };
        let policy = Policy::compile(
            &[ldaps, https, https],
            &[source("192.0.2.0/24", &[https]), source("::/0", &[])],
        );
        let scope_of = |service| policy.services.get(&service).copied().expect("a scope");
        let mut scopes: Vec<_> = policy
            .entries
            .iter()
            .map(|(scope, cidr)| (*scope, cidr.to_string()))
            .collect();
        scopes.sort();
        let mut expected = vec![
            (scope::FRAGMENT, "192.0.2.0/24".to_owned()),
            (scope_of(https), "192.0.2.0/24".to_owned()),
            (scope::FRAGMENT, "::/0".to_owned()),
            (scope::HOST, "::/0".to_owned()),
            (scope_of(https), "::/0".to_owned()),
            (scope_of(ldaps), "::/0".to_owned()),
        ];
        expected.sort();
        assert_eq!(scopes, expected);
    }
}
