//! The numbers of services and of the allowlist's entries: bits in grants and places of counters. They are kept in a
//! pinned map, so that a number means the same from one policy and from one agent to the next.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, Ipv6Addr},
    path::Path,
};

use aya::maps::{Array, MapData};
use ipnet::IpNet;
use rustc_hash::FxHashMap;
use spinegate_common::{
    policy::service,
    tree::{Page, WORDS},
};

use crate::{
    config::{Service, ServiceProtocol},
    filter::{FilterError, address::key},
};

const NAME: &str = "NUMBERS";
const SERVICE_WORDS: usize = 4;
const ENTRY_WORDS: usize = 3;
const ENTRIES_PER_PAGE: usize = WORDS / ENTRY_WORDS;

/// What has a number among the services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::filter) enum Numbered {
    /// A guarded service, at one address or at all.
    Service(Service, Option<IpAddr>),
    /// A source port from which sources may answer.
    Reply(Service),
}

/// Who has which number.
pub(in crate::filter) struct Numbers {
    services: HashMap<Numbered, u8>,
    /// Numbers that have gone from one service to another, whose counters are still the old one's.
    handed_on: BTreeSet<u8>,
    /// Hashed fast: the keys are the operator's, and there may be a million of them in each policy.
    entries: FxHashMap<IpNet, u32>,
    /// Freed numbers of entries, their counters at zero.
    free: BTreeSet<u32>,
    /// The first number that no entry has had.
    next: u32,
    /// Numbers end before this.
    end: u32,
    changed: BTreeSet<u32>,
    map: Option<Array<MapData, Page>>,
}

/// The services' part of [`Numbers`].
pub(in crate::filter) struct ServiceNumbers {
    services: HashMap<Numbered, u8>,
    handed_on: BTreeSet<u8>,
}

impl Numbers {
    /// Reads the numbers that are pinned in a folder, or begins with none. There will be `entries` of them at the most.
    pub(in crate::filter) fn open(folder: Option<&Path>, entries: u32) -> Result<Self, FilterError> {
        let mut numbers = Self {
            services: HashMap::new(),
            handed_on: BTreeSet::new(),
            entries: FxHashMap::default(),
            free: BTreeSet::new(),
            next: 1,
            end: entries,
            changed: BTreeSet::new(),
            map: None,
        };
        let Some(folder) = folder else {
            return Ok(numbers);
        };
        let pin = folder.join(NAME);
        let map_error = |error| FilterError::map(NAME, error);
        if pin.exists() {
            let map = MapData::from_pin(&pin).map_err(map_error)?;
            let map = Array::try_from(aya::maps::Map::Array(map)).map_err(map_error)?;
            numbers.read(&map)?;
            numbers.map = Some(map);
        } else {
            let pages = 1 + entries.div_ceil(ENTRIES_PER_PAGE as u32);
            let map: Array<MapData, Page> = Array::create(pages, 0).map_err(map_error)?;
            map.pin(&pin).map_err(|error| FilterError::pin(&pin, error))?;
            let map = MapData::from_pin(&pin).map_err(map_error)?;
            numbers.map = Some(Array::try_from(aya::maps::Map::Array(map)).map_err(map_error)?);
        }
        Ok(numbers)
    }

    /// The number of a service: its own if it has one, else one that nobody has had, else one that nobody in `wanted`
    /// has. None if there are more services than numbers.
    pub(super) fn service(&mut self, key: Numbered, wanted: &BTreeSet<Numbered>) -> Option<u8> {
        if let Some(number) = self.services.get(&key) {
            return Some(*number);
        }
        let taken: BTreeSet<u8> = self.services.values().copied().collect();
        let mut all = (service::FIRST..service::END).filter_map(|number| u8::try_from(number).ok());
        let number = match all.find(|number| !taken.contains(number)) {
            Some(number) => number,
            None => {
                let (old, number) = self.services.iter().find(|(old, _)| !wanted.contains(old))?;
                let (old, number) = (*old, *number);
                self.services.remove(&old);
                self.handed_on.insert(number);
                number
            }
        };
        self.services.insert(key, number);
        self.changed.insert(0);
        Some(number)
    }

    /// Numbers that have gone from one service to another since it was asked: their counters must be set to zero.
    pub(super) fn handed_on(&mut self) -> BTreeSet<u8> {
        std::mem::take(&mut self.handed_on)
    }

    /// Who has which number among the services, to go back to with [`Self::restore_services`].
    pub(in crate::filter) fn kept_services(&self) -> ServiceNumbers {
        ServiceNumbers {
            services: self.services.clone(),
            handed_on: self.handed_on.clone(),
        }
    }

    /// Goes back to the services of the policy in force, where another one came to nothing.
    pub(in crate::filter) fn restore_services(&mut self, kept: ServiceNumbers) {
        self.services = kept.services;
        self.handed_on = kept.handed_on;
    }

    /// The number of an entry: its own, or a free one; 0, where nothing is counted, if there is none.
    pub(super) fn entry(&mut self, cidr: IpNet) -> u32 {
        if let Some(number) = self.entries.get(&cidr) {
            return *number;
        }
        let number = match self.free.pop_first() {
            Some(number) => number,
            None if self.next < self.end => {
                self.next += 1;
                self.next - 1
            }
            None => return 0,
        };
        self.entries.insert(cidr, number);
        self.changed.insert(page_of(number).0);
        number
    }

    /// The number that an entry has; 0 if it has none.
    pub(in crate::filter) fn of(&self, cidr: IpNet) -> u32 {
        self.entries.get(&cidr).copied().unwrap_or_default()
    }

    /// The entry that has a number.
    pub(in crate::filter) fn cidr_of(&self, number: u32) -> Option<IpNet> {
        let mut entries = self.entries.iter();
        entries
            .find(|(_, other)| **other == number)
            .map(|(cidr, _)| *cidr)
    }

    /// What has a number among the services, by number.
    pub(in crate::filter) fn services(&self) -> impl Iterator<Item = (u8, Numbered)> {
        self.services.iter().map(|(key, number)| (*number, *key))
    }

    /// How many entries have numbers.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Takes the numbers away from the entries that are not `kept`, and gives these numbers: their counters must be
    /// set to zero, and then be handed to [`Self::reuse`].
    pub(super) fn retire(&mut self, kept: impl Fn(&IpNet) -> bool) -> Vec<u32> {
        let gone: Vec<(IpNet, u32)> = self
            .entries
            .iter()
            .filter(|(cidr, _)| !kept(cidr))
            .map(|(cidr, number)| (*cidr, *number))
            .collect();
        for (cidr, number) in &gone {
            self.entries.remove(cidr);
            self.changed.insert(page_of(*number).0);
        }
        gone.into_iter().map(|(_, number)| number).collect()
    }

    /// Gives numbers out again.
    pub(super) fn reuse(&mut self, numbers: Vec<u32>) {
        self.free.extend(numbers);
    }

    /// Writes what has changed to the map.
    pub(in crate::filter) fn save(&mut self) -> Result<(), FilterError> {
        let changed = std::mem::take(&mut self.changed);
        let Some(map) = &mut self.map else {
            return Ok(());
        };
        let mut pages: HashMap<u32, Page> = changed.into_iter().map(|page| (page, [0; WORDS])).collect();
        let mut put = |page: u32, at: usize, values: &[u64]| {
            if let Some(page) = pages.get_mut(&page) {
                for (place, value) in page.iter_mut().skip(at).zip(values) {
                    *place = *value;
                }
            }
        };
        for (key, number) in &self.services {
            put(0, usize::from(*number) * SERVICE_WORDS, &service_words(*key));
        }
        for (cidr, number) in &self.entries {
            let (page, at) = page_of(*number);
            let [upper, lower] = key(cidr.network()).halves();
            let family = if cidr.addr().is_ipv4() { 96 } else { 0 };
            put(
                page,
                at,
                &[upper, lower, 1 + family + u64::from(cidr.prefix_len())],
            );
        }
        for (number, page) in pages {
            map.set(number, page, 0)
                .map_err(|error| FilterError::map(NAME, error))?;
        }
        Ok(())
    }

    fn read(&mut self, map: &Array<MapData, Page>) -> Result<(), FilterError> {
        let page = |number: u32| map.get(&number, 0).map_err(|error| FilterError::map(NAME, error));
        for (number, chunk) in (0_u8..).zip(page(0)?.chunks_exact(SERVICE_WORDS)) {
            if let Some(key) = service_from(chunk) {
                self.services.insert(key, number);
            }
        }
        self.end = self
            .end
            .min((map.len().saturating_sub(1)).saturating_mul(ENTRIES_PER_PAGE as u32));
        for number in 1..map.len() {
            let first = (number - 1) * ENTRIES_PER_PAGE as u32;
            for (at, chunk) in (first..).zip(page(number)?.chunks_exact(ENTRY_WORDS)) {
                if let Some(cidr) = entry_from(chunk) {
                    self.entries.insert(cidr, at);
                    self.next = self.next.max(at + 1);
                }
            }
        }
        let taken: BTreeSet<u32> = self.entries.values().copied().collect();
        self.free = (1..self.next).filter(|number| !taken.contains(number)).collect();
        Ok(())
    }
}

fn page_of(entry: u32) -> (u32, usize) {
    let per_page = ENTRIES_PER_PAGE as u32;
    (1 + entry / per_page, (entry % per_page) as usize * ENTRY_WORDS)
}

fn from_words(upper: u64, lower: u64) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(upper) << 64 | u128::from(lower))
}

const ANYWHERE: u64 = 1;
const SOMEWHERE: u64 = 2;
const REPLY: u64 = 3;

fn service_words(numbered: Numbered) -> [u64; SERVICE_WORDS] {
    let plain = |service: Service| {
        u64::from(service.protocol == ServiceProtocol::Udp) << 16 | u64::from(service.port)
    };
    match numbered {
        Numbered::Service(service, None) => [ANYWHERE, plain(service), 0, 0],
        Numbered::Service(service, Some(address)) => {
            let [upper, lower] = key(address).halves();
            [SOMEWHERE, plain(service), upper, lower]
        }
        Numbered::Reply(service) => [REPLY, plain(service), 0, 0],
    }
}

fn service_from(words: &[u64]) -> Option<Numbered> {
    let [kind, plain, upper, lower] = words.try_into().ok()?;
    let service = Service {
        protocol: if plain >> 16 == 0 {
            ServiceProtocol::Tcp
        } else {
            ServiceProtocol::Udp
        },
        port: (plain & 0xffff) as u16,
    };
    match kind {
        ANYWHERE => Some(Numbered::Service(service, None)),
        SOMEWHERE => {
            let address = IpAddr::V6(from_words(upper, lower)).to_canonical();
            Some(Numbered::Service(service, Some(address)))
        }
        REPLY => Some(Numbered::Reply(service)),
        _ => None,
    }
}

fn entry_from(words: &[u64]) -> Option<IpNet> {
    let [upper, lower, length]: [u64; 3] = words.try_into().ok()?;
    let length = u8::try_from(length.checked_sub(1)?).ok()?;
    let address = from_words(upper, lower);
    match address.to_ipv4_mapped() {
        Some(address) if length >= 96 => IpNet::new(IpAddr::V4(address), length - 96).ok(),
        _ => IpNet::new(IpAddr::V6(address), length).ok(),
    }
}
