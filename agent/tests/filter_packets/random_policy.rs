//! Policies from a seed, with everything that a policy can have, and the addresses that matter to them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, SystemTime},
};

use ipnet::IpNet;
use spinegate::{
    config::{
        Failsafe, Filter as Settings, FilterMode, GuardedService, HandshakeBudgets, Scope, Service,
        ServiceMode, Source,
    },
    filter::NewVerdict,
};

use crate::{
    frames::{Pool, Rng},
    packets::*,
};

pub(crate) struct RandomPolicy {
    pub(crate) settings: Settings,
    pub(crate) verdicts: Vec<(IpNet, NewVerdict)>,
    pub(crate) pool: Pool,
}

const DESTINATIONS: [&str; 6] = [
    "203.0.113.1",
    "203.0.113.2",
    "203.0.113.3",
    "2001:db8:1::1",
    "2001:db8:1::2",
    "2001:db8:1::3",
];
const SERVICES: [&str; 8] = [
    "tcp/443",
    "tcp/636",
    "tcp/22",
    "tcp/8443",
    "udp/443",
    "udp/53",
    "udp/161",
    "tcp/65535",
];

impl RandomPolicy {
    /// Every other one guards the whole host, one in five only watches, and one in ten is larger than its head.
    pub(crate) fn new(rng: &mut Rng, number: usize) -> Self {
        let services = services(rng);
        let known: Vec<Service> = services.iter().map(|guarded| guarded.service).collect();
        let mut sources = sources(rng, &known);
        if number % 10 == 6 {
            sources.extend(scattered(rng, &known));
        }
        let nets: Vec<IpNet> = sources.iter().map(|source| source.cidr).collect();
        let settings = Settings {
            max_sources: 32768,
            mode: if number % 5 == 4 {
                FilterMode::Monitor
            } else {
                FilterMode::Enforce
            },
            scope: if number.is_multiple_of(2) {
                Scope::Host
            } else {
                Scope::Services
            },
            // What is a question of time is left to tests of its own.
            control_per_second: 100_000_000,
            handshake: HandshakeBudgets {
                untrusted_per_second: 1_000_000,
                untrusted_burst: 1_000_000,
                trusted_per_second: 1_000_000,
                trusted_burst: 1_000_000,
                ..HandshakeBudgets::default()
            },
            failsafes: failsafes(rng, &nets),
            services,
            sources,
            ..settings()
        };
        let verdicts = verdicts(rng, &nets);
        let pool = pool(rng, &settings, &verdicts);
        Self {
            settings,
            verdicts,
            pool,
        }
    }

    /// Whether a part of it does not fit into the head, and stands in pages behind it.
    pub(crate) fn is_large(&self) -> bool {
        self.settings.sources.len() > 10_000
    }
}

/// An address in each of so many networks that their nodes alone fill the head.
fn scattered(rng: &mut Rng, services: &[Service]) -> Vec<Source> {
    let address = |number: u32| Ipv4Addr::from(100 << 24 | number << 8 | (number & 7));
    let nets = (0..20_000).map(|number| IpNet::from(IpAddr::V4(address(number))));
    nets.map(|cidr| {
        let mut source = Source::new(cidr, "");
        if rng.chance(30) && !services.is_empty() {
            source.services.push(*rng.pick(services));
        }
        source
    })
    .collect()
}

fn services(rng: &mut Rng) -> Vec<GuardedService> {
    let mut services = Vec::new();
    for service in SERVICES {
        if rng.chance(30) {
            continue;
        }
        let mode = |rng: &mut Rng| match rng.below(6) {
            0 => Some(ServiceMode::Monitor),
            1 => Some(ServiceMode::Enforce),
            _ => None,
        };
        let everywhere = rng.chance(70);
        if everywhere {
            services.push(GuardedService {
                mode: mode(rng),
                ..guarded(service)
            });
        }
        if !everywhere || rng.chance(30) {
            for address in DESTINATIONS {
                if rng.chance(50) {
                    services.push(GuardedService {
                        address: Some(address.parse().expect("an address")),
                        mode: mode(rng),
                        ..guarded(service)
                    });
                }
            }
        }
    }
    services
}

/// Hundreds of prefixes, many of them nested, adjacent or single addresses.
fn sources(rng: &mut Rng, services: &[Service]) -> Vec<Source> {
    let mut nets = BTreeSet::new();
    for _ in 0..60 + rng.below(400) {
        nets.insert(prefix(rng));
    }
    let now = SystemTime::now();
    let mut sources = Vec::new();
    for cidr in nets {
        let mut source = Source::new(cidr, cidr.to_string());
        if rng.chance(50) && !services.is_empty() {
            for _ in 0..=rng.below(2) {
                source.services.push(*rng.pick(services));
            }
        }
        if rng.chance(20) {
            source.reply_ports = vec![53, *rng.pick(&[123, 443])];
        }
        if rng.chance(20) {
            let end = *rng.pick(&[0, 100, 3_600_000]);
            source.expires = Some(now + Duration::from_millis(end));
        }
        sources.push(source);
    }
    sources
}

/// Within a few blocks, so that prefixes nest; never in more than nine others, which the filter might refuse.
fn prefix(rng: &mut Rng) -> IpNet {
    if rng.chance(60) {
        let [second, third, fourth] = [rng.byte() & 3, rng.byte() & 7, rng.byte()];
        let address = Ipv4Addr::new(*rng.pick(&[0, 10, 172, 255]), second, third, fourth);
        let length = *rng.pick(&[0, 8, 14, 16, 17, 22, 24, 26, 31, 32, 32, 32]);
        IpNet::new(IpAddr::V4(address), length)
    } else {
        let mut octets = [0; 16];
        octets[..2].copy_from_slice(rng.pick::<[u8; 2]>(&[[0x20, 0x01], [0xfd, 0x00], [0, 0], [0xfe, 0x80]]));
        octets[5] = rng.byte() & 3;
        octets[7] = rng.byte() & 3;
        octets[15] = rng.byte() & 7;
        let length = *rng.pick(&[0, 7, 32, 47, 48, 64, 65, 96, 127, 128, 128, 128]);
        IpNet::new(IpAddr::V6(octets.into()), length)
    }
    .expect("a prefix")
    .trunc()
}

fn failsafes(rng: &mut Rng, nets: &[IpNet]) -> Vec<Failsafe> {
    let mut failsafes = Vec::new();
    for _ in 0..rng.below(5) {
        let services = match rng.below(3) {
            0 => Vec::new(),
            count => (0..count)
                .map(|_| rng.pick(&SERVICES).parse().expect("a service"))
                .collect(),
        };
        let cidr = if rng.chance(50) {
            *rng.pick(nets)
        } else {
            prefix(rng)
        };
        // One that covers everything would leave nothing to the other steps.
        if cidr.prefix_len() >= 24 {
            failsafes.push(Failsafe { cidr, services });
        }
    }
    failsafes
}

fn verdicts(rng: &mut Rng, nets: &[IpNet]) -> Vec<(IpNet, NewVerdict)> {
    let mut verdicts = BTreeMap::new();
    for _ in 0..rng.below(60) {
        let source = if rng.chance(50) {
            *rng.pick(nets)
        } else {
            prefix(rng)
        };
        if source.prefix_len() >= 14 {
            let verdict = if rng.chance(50) { deny(HOUR) } else { trust(HOUR) };
            verdicts.insert(source, verdict);
        }
    }
    verdicts.into_iter().collect()
}

/// First and last addresses of prefixes and their neighbours, some in between, and strangers.
fn pool(rng: &mut Rng, settings: &Settings, verdicts: &[(IpNet, NewVerdict)]) -> Pool {
    let mut pool = Pool::plain();
    pool.jumbo = true;
    let nets = settings.sources.iter().map(|source| source.cidr);
    let nets = nets.chain(verdicts.iter().map(|(net, _)| *net));
    for net in nets.chain(settings.failsafes.iter().map(|failsafe| failsafe.cidr)) {
        match net {
            IpNet::V4(net) => {
                let (first, last) = (u32::from(net.network()), u32::from(net.broadcast()));
                let inside = first + (rng.next() as u32 & (last - first));
                let all = [first, last, inside, first.wrapping_sub(1), last.wrapping_add(1)];
                pool.sources4.extend(all.map(u32::to_be_bytes));
            }
            IpNet::V6(net) => {
                let (first, last) = (u128::from(net.network()), u128::from(net.broadcast()));
                let random = u128::from(rng.next()) << 64 | u128::from(rng.next());
                let inside = first + (random & (last - first));
                let all = [first, last, inside, first.wrapping_sub(1), last.wrapping_add(1)];
                pool.sources6.extend(all.map(u128::to_be_bytes));
            }
        }
    }
    pool.sources6
        .push(Ipv6Addr::to_bits(Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped()).to_be_bytes());
    for address in DESTINATIONS {
        match address.parse().expect("an address") {
            IpAddr::V4(address) => pool.destinations4.push(address.octets()),
            IpAddr::V6(address) => pool.destinations6.push(address.octets()),
        }
    }
    pool.ports
        .extend([22, 53, 53, 53, 123, 161, 443, 443, 443, 636, 8443, 40000, 40000]);
    pool
}
