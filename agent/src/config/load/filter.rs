//! `[filter]`

use std::{
    collections::HashMap,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use spinegate_common::policy::{FAILSAFES, GROUP_DESTINATIONS, service as number};

use super::source_list;
use crate::config::{
    Failsafe, Filter, FilterMode, GuardedService, HandshakeBudgets, Scope, Service, ServiceMode,
    ServiceProtocol, Source, SourceKind, XdpAttach,
    reader::{Absent, Example, Needed, Section},
    values::{self, Fault},
};

pub(super) fn read(mut section: Section<'_>, folder: &Path) -> Option<Filter> {
    let defaults = Filter::default();
    let modes = &[
        ("enforce", FilterMode::Enforce),
        ("monitor", FilterMode::Monitor),
        ("off", FilterMode::Off),
    ];
    let mode = section.or(
        "mode",
        defaults.mode,
        values::choice(modes),
        "drop; only count what would be dropped; don't attach",
    );
    let attached = Needed(mode != Some(FilterMode::Off), "but in mode `off`");
    let interfaces = section.required_list_if(
        attached,
        "interfaces",
        Example("[\"eth0\"]"),
        values::interface(),
        "where the filter is attached",
    );
    let attachments = &[
        ("auto", XdpAttach::Auto),
        ("native", XdpAttach::Native),
        ("generic", XdpAttach::Generic),
    ];
    let attach = section.or(
        "attach",
        defaults.attach,
        values::choice(attachments),
        "in the driver, else in the generic hook; in the driver only; in the generic hook",
    );
    let scopes = &[("services", Scope::Services), ("host", Scope::Host)];
    let scope = section.or(
        "scope",
        defaults.scope,
        values::choice(scopes),
        "guard the listed services and pass the rest; guard every inbound packet",
    );
    let pin_dir = section.or(
        "pin_dir",
        defaults.pin_dir,
        values::path(folder),
        "the folder on bpffs that holds the pinned maps and links",
    );
    let sources_file = section.or(
        "sources_file",
        defaults.sources_file,
        values::path(folder),
        "where `spinegate sources add` keeps what it added",
    );
    let events_per_second = section.or(
        "events_per_second",
        defaults.events_per_second,
        values::integer(0..=1_000_000),
        "drop events that a CPU reports per second; the rest are only counted",
    );
    let control_per_second = section.or(
        "control_per_second",
        defaults.control_per_second,
        values::integer(1..=100_000_000),
        "scope `host`: ARP, neighbour discovery, MLD, DHCP and ICMP errors that a CPU lets through per \
         second, and at once",
    );
    let max_sources = section.or(
        "max_sources",
        defaults.max_sources,
        values::integer(1..=1 << 20),
        "entries of the allowlist that have counters of their own, 16 bytes each for each CPU; entries \
         beyond are enforced but not counted one by one. A pinned filter keeps its number until \
         `spinegate detach` is given while no agent runs",
    );
    let control_plane = section.list(
        "control_plane",
        values::address(),
        "where operators come from: what would cut them off is refused without `--force`",
    );
    let control_plane_ports = section.list_or(
        "control_plane_ports",
        defaults.control_plane_ports,
        Example("[22]"),
        values::integer(1..=u16::MAX),
        "the TCP ports that they must reach",
    );
    let handshake = handshake(section.section("handshake"));
    let services = services(&mut section);
    let failsafes = failsafes(&mut section);
    let (sources, source_lists) = sources(&mut section, folder).unzip();
    section.finish();

    Some(Filter {
        mode: mode?,
        interfaces: interfaces?,
        attach: attach?,
        scope: scope?,
        pin_dir: pin_dir?,
        sources_file: sources_file?,
        events_per_second: events_per_second?,
        control_per_second: control_per_second?,
        max_sources: max_sources?,
        control_plane: control_plane?,
        control_plane_ports: control_plane_ports?,
        handshake: handshake?,
        services: services?,
        failsafes: failsafes?,
        sources: sources?,
        source_lists: source_lists?,
    })
}

fn handshake(mut section: Section<'_>) -> Option<HandshakeBudgets> {
    let defaults = HandshakeBudgets::default();
    let mut rate =
        |name, default, meaning| section.or(name, default, values::integer(1..=1_000_000), meaning);
    let untrusted_per_second = rate(
        "untrusted_per_second",
        defaults.untrusted_per_second,
        "TCP connections per second that a source may ask for before a client behind it has authenticated",
    );
    let untrusted_burst = rate("untrusted_burst", defaults.untrusted_burst, "the same, at once");
    let trusted_per_second = rate(
        "trusted_per_second",
        defaults.trusted_per_second,
        "TCP connections per second that a trusted source may ask for",
    );
    let trusted_burst = rate("trusted_burst", defaults.trusted_burst, "the same, at once");
    let limits = Duration::from_secs(10)..=Duration::from_secs(86_400);
    let trust_ttl = section.or(
        "trust_ttl",
        defaults.trust_ttl,
        values::duration(limits),
        "how long a source is trusted after a handshake with a verified client",
    );
    section.finish();
    Some(HandshakeBudgets {
        untrusted_per_second: untrusted_per_second?,
        untrusted_burst: untrusted_burst?,
        trusted_per_second: trusted_per_second?,
        trusted_burst: trusted_burst?,
        trust_ttl: trust_ttl?,
    })
}

/// Services that a policy has numbers for.
const SERVICES_MAX: usize = (number::END - number::FIRST) as usize;

fn services(section: &mut Section<'_>) -> Option<Vec<GuardedService>> {
    let protocols = &[("tcp", ServiceProtocol::Tcp), ("udp", ServiceProtocol::Udp)];
    let modes = &[
        ("enforce", ServiceMode::Enforce),
        ("monitor", ServiceMode::Monitor),
    ];
    let addresses = format!(
        "its destination address; without it, all of this host's. Up to {GROUP_DESTINATIONS} addresses for one port"
    );
    let mut services = Some(Vec::new());
    for mut entry in section.sections("service") {
        let protocol = entry.required(
            "protocol",
            Example("\"tcp\""),
            values::choice(protocols),
            "protocol of a guarded service",
        );
        let port = entry.required(
            "port",
            Example("443"),
            values::integer(1..=u16::MAX),
            "its destination port",
        );
        let address = entry.optional("address", Absent("none"), values::address(), &addresses);
        let mode = entry.optional(
            "mode",
            Absent("that of the filter"),
            values::choice(modes),
            "drop, or only count what would be dropped, for this service",
        );
        services = match (protocol, port, address, mode, services) {
            (Some(protocol), Some(port), Some(address), Some(mode), Some(mut services)) => {
                let service = Service { protocol, port };
                check_service(&entry, service, address, &services);
                services.push(GuardedService {
                    service,
                    address,
                    mode,
                });
                Some(services)
            }
            _ => None,
        };
        entry.finish();
    }
    services
}

fn check_service(entry: &Section<'_>, service: Service, address: Option<IpAddr>, known: &[GuardedService]) {
    if known
        .iter()
        .any(|other| other.service == service && other.address == address)
    {
        let fault = Fault::new(format!("{service} is listed already"), "take this entry out");
        entry.fault("port", fault);
    }
    let sharing = |other: &&GuardedService| other.service == service && other.address.is_some();
    if address.is_some() && known.iter().filter(sharing).count() == GROUP_DESTINATIONS {
        let message = format!("{service} has more than {GROUP_DESTINATIONS} addresses");
        entry.fault("address", Fault::new(message, "guard the port at all addresses"));
    }
    if known.len() == SERVICES_MAX {
        let message = format!("is one more than the {SERVICES_MAX} services that a filter can guard");
        entry.fault(
            "port",
            Fault::new(message, "guard the whole host with scope `host`"),
        );
    }
}

fn failsafes(section: &mut Section<'_>) -> Option<Vec<Failsafe>> {
    let whose = format!(
        "sources that always pass, whatever else is said of them; up to {FAILSAFES} networks and services together"
    );
    let mut failsafes = Some(Vec::new());
    let mut entries = 0;
    for mut entry in section.sections("failsafe") {
        let cidr = entry.required("cidr", Example("\"192.0.2.0/28\""), values::cidr(), &whose);
        let services = entry.list(
            "services",
            values::service(),
            "the destinations that they always reach; empty: everything",
        );
        failsafes = match (cidr, services, failsafes) {
            (Some(cidr), Some(services), Some(mut failsafes)) => {
                entries += services.len().max(1);
                failsafes.push(Failsafe {
                    cidr: cidr.network(),
                    services,
                });
                Some(failsafes)
            }
            _ => None,
        };
        if entries > FAILSAFES {
            let message = format!("is beyond the {FAILSAFES} networks and services that can be failsafe");
            entry.fault(
                "cidr",
                Fault::new(message, "keep to what an operator needs in an emergency"),
            );
            entries = 0;
        }
        entry.finish();
    }
    failsafes
}

fn sources(section: &mut Section<'_>, folder: &Path) -> Option<(Vec<Source>, Vec<PathBuf>)> {
    let mut sources = Some(Vec::new());
    let mut cidrs = HashMap::new();
    for mut entry in section.sections("source") {
        let cidr = entry.required(
            "cidr",
            Example("\"10.239.14.31/32\""),
            values::cidr(),
            "addresses that may reach the guarded services",
        );
        if let Some(cidr) = cidr {
            if let Some(first) = cidrs.get(&cidr.network()) {
                let mend = "keep one of the two entries";
                entry.fault(
                    "cidr",
                    Fault::new(format!("{cidr} is the same as that of {first}"), mend),
                );
            } else {
                cidrs.insert(cidr.network(), entry.key_of("cidr"));
            }
        }
        let name = entry.required(
            "name",
            Example("\"ssp-int\""),
            values::source_name(),
            "what the operator calls them",
        );
        let kind = entry.or(
            "kind",
            SourceKind::default(),
            values::source_kind(),
            "whether many systems stand behind one address",
        );
        let services = entry.list(
            "services",
            values::service(),
            "the services that it may reach; empty: all, or none if it has `reply_ports`",
        );
        let reply_ports = entry.list(
            "reply_ports",
            values::integer(1..=u16::MAX),
            "scope `host`: ports from which it may answer this host's own requests, over TCP and UDP",
        );
        let expires = entry.optional(
            "expires",
            Absent("none"),
            values::moment(),
            "when the entry ends; the filter itself holds to it, also while the agent is down",
        );
        sources = match (cidr, name, kind, services, reply_ports, expires, sources) {
            (
                Some(cidr),
                Some(name),
                Some(kind),
                Some(services),
                Some(reply_ports),
                Some(expires),
                Some(mut sources),
            ) => {
                sources.push(Source {
                    cidr: cidr.network(),
                    name: name.into(),
                    kind,
                    services,
                    reply_ports,
                    expires,
                });
                Some(sources)
            }
            _ => None,
        };
        entry.finish();
    }
    let mut listed = Vec::new();
    let files = source_list::read(section, folder, &mut cidrs, &mut listed)?;
    sources.map(|mut sources| {
        sources.extend(listed);
        (sources, files)
    })
}
