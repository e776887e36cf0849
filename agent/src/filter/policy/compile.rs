//! From services and sources to what stands in the maps.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::SystemTime,
};

use bytemuck::allocation::zeroed_box;
use ipnet::IpNet;
use spinegate_common::{
    Budget,
    packet::{Address, protocol},
    policy::{Destination, Failsafe, GROUP_DESTINATIONS, Group, HEAD_PAGES, Head, port_index, service},
    tree::{GRANT_WORDS, MAX_NESTING, Page, Source6, tag},
};

use super::{
    numbers::{Numbered, Numbers},
    tree::{Entry, Tree, pages},
};
use crate::{
    config::{self, FilterMode, GuardedService, Scope, Service, ServiceMode, ServiceProtocol, Source},
    filter::{FilterError, address::key},
};

/// A policy as it stands in the maps.
pub(in crate::filter) struct Compiled {
    pub(in crate::filter) head: Box<Head>,
    /// The pages behind those in the head.
    pub(in crate::filter) pages: Vec<Page>,
    /// IPv6 prefixes with their lengths and leaves.
    pub(in crate::filter) prefixes6: Vec<(Source6, u8, u32)>,
}

/// The two clocks at one moment: configurations speak of the one, the kernel half goes by the other.
#[derive(Clone, Copy, Debug)]
pub(in crate::filter) struct Now {
    pub(in crate::filter) wall: SystemTime,
    /// Nanoseconds since boot, suspended time included.
    pub(in crate::filter) boot: u64,
}

impl Now {
    /// A moment on the boot-time clock; at the earliest 1, as 0 stands for never.
    fn on_boot_clock(self, moment: SystemTime) -> u64 {
        let left = moment.duration_since(self.wall).unwrap_or_default();
        self.boot
            .saturating_add(u64::try_from(left.as_nanos()).unwrap_or(u64::MAX))
            .max(1)
    }
}

impl Compiled {
    /// Compiles the policy. Sources whose time is over are left out.
    pub(in crate::filter) fn new(
        config: &config::Filter,
        sources: &[Source],
        numbers: &mut Numbers,
        now: Now,
    ) -> Result<Self, FilterError> {
        let services = Services::number(config, sources, numbers)?;
        let mut head: Box<Head> = zeroed_box();
        services.write(config, &mut head);
        settings(config, &mut head);

        let mut v4 = Vec::new();
        let mut v6 = Vec::new();
        let mut sorted: Vec<_> = sources
            .iter()
            .filter(|source| source.is_in_force(now.wall))
            .map(|source| (order(source.cidr), source))
            .collect();
        sorted.sort_by_key(|(order, _)| *order);
        let mut grants = Grants::default();
        for (_, source) in sorted {
            let leaf = grants.leaf(source, &services, numbers, now)?;
            match source.cidr.network() {
                IpAddr::V4(address) => v4.push(Entry {
                    start: address.into(),
                    length: source.cidr.prefix_len(),
                    leaf,
                }),
                IpAddr::V6(address) => {
                    v6.push((Address::v6(address.octets()), source.cidr.prefix_len(), leaf))
                }
            }
        }
        let tree = Tree::build(&v4, grants.words);
        head.root.copy_from_slice(tree.root.as_slice());
        let mut pages = pages(&tree.words);
        let behind = pages.split_off(pages.len().min(HEAD_PAGES));
        for (place, page) in head.pages.iter_mut().zip(&pages) {
            *place = *page;
        }
        Ok(Self {
            head,
            pages: behind,
            prefixes6: v6,
        })
    }

    /// A policy that guards everything and allows nothing: what is put where a policy was.
    pub(in crate::filter) fn closed() -> Self {
        let mut head: Box<Head> = zeroed_box();
        head.host = 1;
        Self {
            head,
            pages: Vec::new(),
            prefixes6: Vec::new(),
        }
    }

    /// Memory that the kernel holds for it, in bytes. A trie's node is counted with 64.
    pub(in crate::filter) fn bytes(&self) -> usize {
        size_of::<Head>() + self.pages.len() * size_of::<Page>() + self.prefixes6.len() * 2 * 64
    }
}

/// IPv4 before IPv6, then by address, then wider prefixes first.
fn order(cidr: IpNet) -> (bool, u128, u8) {
    let address = match cidr.network() {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    };
    (cidr.addr().is_ipv6(), address, cidr.prefix_len())
}

/// Budgets and modes.
fn settings(config: &config::Filter, head: &mut Head) {
    head.host = u64::from(config.scope == Scope::Host);
    head.events = Budget::new(config.events_per_second, config.events_per_second);
    head.control = Budget::new(config.control_per_second, config.control_per_second);
    let handshake = &config.handshake;
    head.untrusted = Budget::new(handshake.untrusted_per_second, handshake.untrusted_burst);
    head.trusted = Budget::new(handshake.trusted_per_second, handshake.trusted_burst);
    for (place, entry) in head.failsafe.iter_mut().zip(failsafes(config)) {
        *place = entry;
        head.failsafes += 1;
    }
}

fn failsafes(config: &config::Filter) -> impl Iterator<Item = Failsafe> {
    config.failsafes.iter().flat_map(|failsafe| {
        let entry = |protocol, port| Failsafe {
            network: key(failsafe.cidr.network()).halves(),
            mask: mask(failsafe.cidr),
            protocol,
            port,
            ..Failsafe::NOTHING
        };
        let named = failsafe.services.iter();
        let mut entries: Vec<_> = named
            .map(|service| entry(number_of(service.protocol), service.port))
            .collect();
        if entries.is_empty() {
            entries.push(entry(0, 0));
        }
        entries
    })
}

/// Ones where a prefix is fixed, over the form in which the kernel half has addresses.
fn mask(cidr: IpNet) -> [u64; 2] {
    let family = if cidr.addr().is_ipv4() { 96 } else { 0 };
    let ones = u128::MAX
        .checked_shl(128 - (family + u32::from(cidr.prefix_len())))
        .unwrap_or_default();
    [(ones >> 64) as u64, ones as u64]
}

const fn number_of(protocol: ServiceProtocol) -> u8 {
    match protocol {
        ServiceProtocol::Tcp => protocol::TCP,
        ServiceProtocol::Udp => protocol::UDP,
    }
}

/// The services and the reply ports of a policy, by number.
struct Services {
    numbers: BTreeMap<Numbered, u8>,
}

impl Services {
    fn number(
        config: &config::Filter,
        sources: &[Source],
        numbers: &mut Numbers,
    ) -> Result<Self, FilterError> {
        for guarded in &config.services {
            let sharing =
                |other: &&GuardedService| other.service == guarded.service && other.address.is_some();
            if config.services.iter().filter(sharing).count() > GROUP_DESTINATIONS {
                return Err(FilterError::TooManyAddresses {
                    service: guarded.service,
                    limit: GROUP_DESTINATIONS,
                });
            }
        }
        let guarded = config
            .services
            .iter()
            .map(|guarded| Numbered::Service(guarded.service, guarded.address));
        let ports: BTreeSet<u16> = sources
            .iter()
            .flat_map(|source| source.reply_ports.iter().copied())
            .collect();
        let replies = ports.into_iter().flat_map(|port| {
            [ServiceProtocol::Tcp, ServiceProtocol::Udp]
                .map(|protocol| Numbered::Reply(Service { protocol, port }))
        });
        let wanted: BTreeSet<Numbered> = guarded.chain(replies).collect();
        let numbered = wanted.iter().map(|key| {
            let number = numbers
                .service(*key, &wanted)
                .ok_or(FilterError::TooManyServices {
                    limit: (service::END - service::FIRST) as usize,
                })?;
            Ok((*key, number))
        });
        Ok(Self {
            numbers: numbered.collect::<Result<_, _>>()?,
        })
    }

    /// The bits that a source is granted.
    fn granted(&self, source: &Source) -> u64 {
        if source.reaches_all() {
            return u64::MAX;
        }
        let granted = self.numbers.iter().filter(|(key, _)| match key {
            Numbered::Service(service, _) => source.services.contains(service),
            Numbered::Reply(service) => source.reply_ports.contains(&service.port),
        });
        granted.fold(0, |bits, (_, number)| bits | 1 << number)
    }

    fn write(&self, config: &config::Filter, head: &mut Head) {
        let monitored = |mode: Option<ServiceMode>| match mode {
            Some(mode) => mode == ServiceMode::Monitor,
            None => config.mode == FilterMode::Monitor,
        };
        let whole = u64::from(monitored(None));
        head.monitor = whole << service::NONE | whole << service::HOST;
        // A later fragment may belong to any service: it is only watched if all of them are.
        let all_monitored = config.services.iter().all(|guarded| monitored(guarded.mode));
        head.monitor |= u64::from(all_monitored) << service::FRAGMENT;

        let mut ports: BTreeMap<Service, Vec<(Option<IpAddr>, u8)>> = BTreeMap::new();
        for guarded in &config.services {
            let key = Numbered::Service(guarded.service, guarded.address);
            let Some(number) = self.numbers.get(&key).copied() else {
                continue;
            };
            head.monitor |= u64::from(monitored(guarded.mode)) << number;
            let [tcp, udp] = &mut head.fragments;
            match guarded.service.protocol {
                ServiceProtocol::Tcp => *tcp |= 1 << number,
                ServiceProtocol::Udp => *udp |= 1 << number,
            }
            ports
                .entry(guarded.service)
                .or_default()
                .push((guarded.address, number));
        }
        let mut groups = 0;
        let mut destinations = 0;
        for (service, places) in ports {
            let value = port_value(&places, head, &mut groups, &mut destinations);
            put(&mut head.ports, service, value);
        }
        for (key, number) in &self.numbers {
            if let Numbered::Reply(service) = key {
                put(&mut head.replies, *service, *number);
            }
        }
    }
}

fn put(table: &mut [u8], service: Service, value: u8) {
    if let Some(index) = port_index(number_of(service.protocol), service.port)
        && let Some(place) = table.get_mut(index)
    {
        *place = value;
    }
}

/// What stands in the table of ports: the service, or a group of them by destination address.
fn port_value(
    places: &[(Option<IpAddr>, u8)],
    head: &mut Head,
    groups: &mut usize,
    destinations: &mut usize,
) -> u8 {
    let everywhere = places.iter().find(|(address, _)| address.is_none());
    let otherwise = everywhere.map_or(service::NONE as u8, |(_, number)| *number);
    if places.iter().all(|(address, _)| address.is_none()) {
        return otherwise;
    }
    let first = *destinations;
    for (address, number) in places {
        if let (Some(address), Some(place)) = (address, head.destinations.get_mut(*destinations)) {
            *place = Destination {
                address: key(*address).halves(),
                service: u64::from(*number),
            };
            *destinations += 1;
        }
    }
    let group = *groups;
    if let Some(place) = head.groups.get_mut(group) {
        *place = Group {
            first: first as u8,
            length: (*destinations - first) as u8,
            otherwise,
            padding: 0,
        };
    }
    *groups += 1;
    (service::END as usize + group) as u8
}

/// Grants, and the prefixes that cover the one that comes next.
#[derive(Default)]
struct Grants {
    words: Vec<u64>,
    covering: Vec<Covering>,
}

struct Covering {
    cidr: IpNet,
    leaf: u32,
    /// How many leaves one may have to look through from here, this one included.
    depth: usize,
}

impl Grants {
    /// The leaf of a source. Sources come in the order of their addresses, wider prefixes first.
    fn leaf(
        &mut self,
        source: &Source,
        services: &Services,
        numbers: &mut Numbers,
        now: Now,
    ) -> Result<u32, FilterError> {
        while self
            .covering
            .last()
            .is_some_and(|covering| !covering.cidr.contains(&source.cidr))
        {
            self.covering.pop();
        }
        let number = numbers.entry(source.cidr);
        let (leaf, depth) = if source.reaches_all() && source.expires.is_none() {
            (tag::ALL | number, 1)
        } else {
            let (parent, depth) = self
                .covering
                .last()
                .map_or((tag::NOTHING, 0), |covering| (covering.leaf, covering.depth));
            let index = u32::try_from(self.words.len() / GRANT_WORDS).unwrap_or(tag::INDEX);
            self.words.extend([
                services.granted(source),
                source.expires.map_or(0, |expires| now.on_boot_clock(expires)),
                u64::from(parent) | u64::from(number) << 32,
                0,
            ]);
            (tag::GRANT | index, depth + 1)
        };
        if depth > MAX_NESTING {
            return Err(FilterError::NestedTooDeep {
                cidr: source.cidr,
                limit: MAX_NESTING,
            });
        }
        self.covering.push(Covering {
            cidr: source.cidr,
            leaf,
            depth,
        });
        Ok(leaf)
    }
}
