//! Frames and policies for the tables, and what a table says of a frame.

use std::{net::IpAddr, time::Duration};

use etherparse::{IpFragOffset, IpNumber, Ipv4Extensions, Ipv4Header, PacketBuilder};
use ipnet::IpNet;
use spinegate::{
    config::{Filter as Settings, GuardedService, Source},
    filter::{Filter, NewVerdict},
};
use spinegate_common::{Outcome, Pass, Reason, VerdictKind, VerdictOrigin};

pub(crate) const LISTED4: &str = "192.0.2.7";
pub(crate) const STRANGER4: &str = "198.51.100.9";
pub(crate) const EDGE4: &str = "203.0.113.1";
pub(crate) const LISTED6: &str = "2001:db8::7";
pub(crate) const STRANGER6: &str = "2001:db8:ff00::9";
pub(crate) const EDGE6: &str = "2001:db8:1::1";

/// Two services; a few sources of all services, and one of the second alone.
pub(crate) fn settings() -> Settings {
    Settings {
        max_sources: 1024,
        // `apply` keeps its links below this folder: there are none, and nobody else's may be touched.
        pin_dir: std::env::temp_dir().join("spinegate-filter-tables"),
        services: vec![guarded("tcp/443"), guarded("tcp/636")],
        sources: vec![
            source("192.0.2.0/28", &[]),
            source("2001:db8::/64", &[]),
            source("192.0.2.64/32", &["tcp/636"]),
        ],
        ..Settings::default()
    }
}

pub(crate) fn guarded(service: &str) -> GuardedService {
    GuardedService::everywhere(service.parse().expect("a service"))
}

/// An entry of the allowlist for these services; for all if there are none.
pub(crate) fn source(cidr: &str, services: &[&str]) -> Source {
    let services = services.iter().map(|service| service.parse().expect("a service"));
    Source {
        services: services.collect(),
        ..Source::new(net(cidr), cidr)
    }
}

pub(crate) fn net(cidr: &str) -> IpNet {
    match cidr.parse() {
        Ok(net) => net,
        Err(_) => IpNet::from(cidr.parse::<IpAddr>().expect("an address or a CIDR")),
    }
}

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

pub(crate) fn deny(ttl: Duration) -> NewVerdict {
    NewVerdict {
        kind: VerdictKind::Deny,
        reason: Reason::FqdnMismatch,
        origin: VerdictOrigin::Agent,
        ttl,
    }
}

pub(crate) fn trust(ttl: Duration) -> NewVerdict {
    NewVerdict {
        kind: VerdictKind::Trust,
        reason: Reason::OperatorOrder,
        origin: VerdictOrigin::Operator,
        ttl,
    }
}

/// Loads the program with a policy; on a machine where that is impossible, ends the test as skipped.
macro_rules! filter {
    ($settings:expr) => {{
        crate::packets::needs_root!();
        crate::packets::load($settings)
    }};
}
pub(crate) use filter;

/// Ends the test as skipped where no program can be loaded.
macro_rules! needs_root {
    () => {{
        fn here() {}
        if !crate::packets::is_root(std::any::type_name_of_val(&here)) {
            return;
        }
    }};
}
pub(crate) use needs_root;

pub(crate) fn is_root(here: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        // `filter_packets::module::test::here`
        let test = here.split_once("::").map_or(here, |(_, rest)| rest);
        let test = test.rsplit_once("::").map_or(test, |(test, _)| test);
        println!("SKIPPED {test}: loading an XDP program needs root");
    }
    root
}

pub(crate) fn load(settings: &Settings) -> Filter {
    Filter::unattached(settings, &settings.sources).expect("the kernel takes the program")
}

/// A packet to this host that has not been given its transport header yet.
#[derive(Clone, Copy)]
pub(crate) struct From {
    source: IpAddr,
    destination: Option<IpAddr>,
    hops: u8,
}

pub(crate) fn from(source: &str) -> From {
    From {
        source: source.parse().expect("an address"),
        destination: None,
        hops: 64,
    }
}

pub(crate) fn syn(source: &str, port: u16) -> Vec<u8> {
    from(source).tcp(40000, port, 0x02)
}

pub(crate) fn ack(source: &str, port: u16) -> Vec<u8> {
    from(source).tcp(40000, port, 0x10)
}

pub(crate) fn udp(source: &str, port: u16) -> Vec<u8> {
    from(source).udp(40000, port, &[1])
}

impl From {
    pub(crate) fn to(mut self, destination: &str) -> Self {
        self.destination = Some(destination.parse().expect("an address"));
        self
    }

    pub(crate) fn hops(mut self, hops: u8) -> Self {
        self.hops = hops;
        self
    }

    fn ip(self) -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
        let link = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let edge = if self.source.is_ipv4() { EDGE4 } else { EDGE6 };
        let edge = edge.parse().expect("an address");
        match (self.source, self.destination.unwrap_or(edge)) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                link.ipv4(source.octets(), destination.octets(), self.hops)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                link.ipv6(source.octets(), destination.octets(), self.hops)
            }
            _ => panic!("source and destination of one family"),
        }
    }

    pub(crate) fn tcp(self, source_port: u16, port: u16, flags: u8) -> Vec<u8> {
        self.tcp_with(source_port, port, flags, &[])
    }

    pub(crate) fn tcp_with(self, source_port: u16, port: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        self.ip()
            .tcp(source_port, port, 1, 1024)
            .write(&mut frame, payload)
            .expect("a frame");
        let flags_at = frame.len() - payload.len() - 7;
        frame[flags_at] = flags;
        frame
    }

    pub(crate) fn udp(self, source_port: u16, port: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        let step = self.ip().udp(source_port, port);
        step.write(&mut frame, payload).expect("a frame");
        frame
    }

    /// ICMP of the source's family.
    pub(crate) fn icmp(self, kind: u8) -> Vec<u8> {
        let mut frame = Vec::new();
        if self.source.is_ipv4() {
            let step = self.ip().icmpv4_raw(kind, 0, [0; 4]);
            step.write(&mut frame, &[0; 28])
        } else {
            let step = self.ip().icmpv6_raw(kind, 0, [0; 4]);
            step.write(&mut frame, &[0; 28])
        }
        .expect("a frame");
        frame
    }

    /// A fragment over IPv4. The offset is in units of eight bytes.
    pub(crate) fn fragment4(self, protocol: IpNumber, offset: u16, more: bool, payload: &[u8]) -> Vec<u8> {
        let IpAddr::V4(source) = self.source else {
            panic!("an IPv4 source");
        };
        let length = u16::try_from(payload.len()).expect("a short payload");
        let destination = EDGE4.parse::<std::net::Ipv4Addr>().expect("an address");
        let mut header =
            Ipv4Header::new(length, 64, protocol, source.octets(), destination.octets()).expect("a header");
        header.fragment_offset = IpFragOffset::try_new(offset).expect("an offset");
        header.more_fragments = more;
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ip(etherparse::IpHeaders::Ipv4(header, Ipv4Extensions::default()))
            .write(&mut frame, protocol, payload)
            .expect("a frame");
        frame
    }
}

/// A later fragment of a TCP packet.
pub(crate) fn later(source: &str) -> Vec<u8> {
    if source.contains(':') {
        with_extensions(&syn(source, 443), &[(44, fragment_header(185, false))])
    } else {
        from(source).fragment4(IpNumber::TCP, 185, false, &[0xbb; 24])
    }
}

pub(crate) fn vlans(frame: &[u8], tags: usize) -> Vec<u8> {
    let mut tagged = frame[..12].to_vec();
    for tag in 0..tags {
        // IEEE 802.1ad's tag outside, 802.1Q's inside.
        tagged.extend(if tag + 1 < tags {
            [0x88, 0xa8]
        } else {
            [0x81, 0x00]
        });
        tagged.extend([0, 5]);
    }
    tagged.extend(&frame[12..]);
    tagged
}

/// A frame that is neither IPv4 nor IPv6.
pub(crate) fn ethertype(number: u16) -> Vec<u8> {
    [&[0xff; 6][..], &[2; 6], &number.to_be_bytes(), &[0; 28]].concat()
}

/// The IPv6 frame with extension headers (number, bytes) put in front of its transport header.
pub(crate) fn with_extensions(frame: &[u8], extensions: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut built = frame[..54].to_vec();
    let transport = frame[20];
    let mut next_at = 20;
    for (number, bytes) in extensions {
        built[next_at] = *number;
        next_at = built.len();
        built.extend(bytes);
        built[next_at] = transport;
    }
    built.extend(&frame[54..]);
    let length = u16::try_from(built.len() - 54)
        .expect("a short frame")
        .to_be_bytes();
    built[18..20].copy_from_slice(&length);
    built
}

pub(crate) fn options8() -> Vec<u8> {
    vec![0, 0, 1, 4, 0, 0, 0, 0]
}

pub(crate) fn fragment_header(offset: u16, more: bool) -> Vec<u8> {
    let piece = (offset << 3 | u16::from(more)).to_be_bytes();
    vec![0, 0, piece[0], piece[1], 0, 0, 0, 1]
}

/// How many packets had this outcome so far.
pub(crate) fn counted(filter: &Filter, outcome: Outcome) -> u64 {
    let all = filter.counters().expect("counters").all;
    let (tallies, name) = match outcome {
        Outcome::Dropped(reason) => (all.drops, reason.as_str()),
        Outcome::WouldDrop(reason) => (all.would_drops, reason.as_str()),
        Outcome::Passed(pass) => (all.passes, pass.as_str()),
    };
    tallies.get(name).map_or(0, |tally| tally.packets)
}

/// The frame has this outcome: done and counted. (What is said of it is compared elsewhere, on many more frames: the
/// kernel takes as long to verify the program that explains as it takes for the other.)
#[track_caller]
pub(crate) fn has_outcome(filter: &Filter, what: &str, frame: &[u8], outcome: Outcome) {
    let before = counted(filter, outcome);
    let (passed, _) = filter.test(frame, 1).expect("a test run");
    assert_eq!(passed, outcome.passes(), "{what}: {outcome:?}, passed: {passed}");
    assert_eq!(
        counted(filter, outcome),
        before + 1,
        "{what}: counted as {outcome:?}"
    );
}

#[track_caller]
pub(crate) fn passes(filter: &Filter, what: &str, frame: &[u8]) {
    passes_as(filter, what, frame, Pass::Allowlisted);
}

#[track_caller]
pub(crate) fn passes_as(filter: &Filter, what: &str, frame: &[u8], pass: Pass) {
    has_outcome(filter, what, frame, Outcome::Passed(pass));
}

#[track_caller]
pub(crate) fn is_dropped(filter: &Filter, what: &str, frame: &[u8], reason: Reason) {
    has_outcome(filter, what, frame, Outcome::Dropped(reason));
}
