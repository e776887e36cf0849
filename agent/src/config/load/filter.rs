//! `[filter]`

use std::path::{Path, PathBuf};

use crate::config::{
    Filter, FilterMode, Scope, Service, ServiceProtocol, Source, SourceKind, XdpAttach,
    reader::{Example, Section},
    values::{self, Fault},
};

pub(super) fn read(mut section: Section<'_>, folder: &Path) -> Option<Filter> {
    let modes = &[
        ("enforce", FilterMode::Enforce),
        ("monitor", FilterMode::Monitor),
        ("off", FilterMode::Off),
    ];
    let mode = section.or("mode", FilterMode::Enforce, values::choice(modes));
    let interfaces = match mode {
        Some(FilterMode::Off) => section.list("interfaces", values::interface),
        _ => section.required_list("interfaces", Example("[\"eth0\"]"), values::interface),
    };
    let attachments = &[
        ("auto", XdpAttach::Auto),
        ("native", XdpAttach::Native),
        ("generic", XdpAttach::Generic),
    ];
    let attach = section.or("attach", XdpAttach::Auto, values::choice(attachments));
    let scopes = &[("services", Scope::Services), ("host", Scope::Host)];
    let scope = section.or("scope", Scope::Services, values::choice(scopes));
    let pin_dir = section.or(
        "pin_dir",
        PathBuf::from("/sys/fs/bpf/spinegate"),
        values::path(folder),
    );
    let sources_file = section.or(
        "sources_file",
        PathBuf::from("/var/lib/spinegate/sources.json"),
        values::path(folder),
    );
    let events_per_second = section.or("events_per_second", 100, values::integer(0..=1_000_000));
    let services = services(&mut section);
    let sources = sources(&mut section);
    section.finish();

    Some(Filter {
        mode: mode?,
        interfaces: interfaces?,
        attach: attach?,
        scope: scope?,
        pin_dir: pin_dir?,
        sources_file: sources_file?,
        events_per_second: events_per_second?,
        services: services?,
        sources: sources?,
    })
}

fn services(section: &mut Section<'_>) -> Option<Vec<Service>> {
    let protocols = &[("tcp", ServiceProtocol::Tcp), ("udp", ServiceProtocol::Udp)];
    let mut services = Some(Vec::new());
    for mut entry in section.sections("service") {
        let protocol = entry.required("protocol", Example("\"tcp\""), values::choice(protocols));
        let port = entry.required("port", Example("443"), values::integer(1..=u16::MAX));
        services = match (protocol, port, services) {
            (Some(protocol), Some(port), Some(mut services)) => {
                let service = Service { protocol, port };
                if services.contains(&service) {
                    entry.fault(
                        "port",
                        Fault::new(format!("{service} is listed already"), "take this entry out"),
                    );
                }
                services.push(service);
                Some(services)
            }
            _ => None,
        };
        entry.finish();
    }
    services
}

fn sources(section: &mut Section<'_>) -> Option<Vec<Source>> {
    let kinds = &[("proxy", SourceKind::Proxy), ("system", SourceKind::System)];
    let mut sources = Some(Vec::new());
    let mut cidrs = Vec::new();
    for mut entry in section.sections("source") {
        let cidr = entry.required("cidr", Example("\"10.239.14.31/32\""), values::cidr);
        if let Some(cidr) = cidr {
            if let Some((_, first)) = cidrs.iter().find(|(known, _)| *known == cidr) {
                let mend = "keep one of the two entries";
                entry.fault(
                    "cidr",
                    Fault::new(format!("{cidr} is the same as that of {first}"), mend),
                );
            }
            cidrs.push((cidr, entry.key_of("cidr")));
        }
        let name = entry.required("name", Example("\"ssp-int\""), values::source_name);
        let kind = entry.or("kind", SourceKind::System, values::choice(kinds));
        let services = entry.list("services", values::service);
        sources = match (cidr, name, kind, services, sources) {
            (Some(cidr), Some(name), Some(kind), Some(services), Some(mut sources)) => {
                sources.push(Source {
                    cidr: cidr.network(),
                    name: name.into(),
                    kind,
                    services,
                });
                Some(sources)
            }
            _ => None,
        };
        entry.finish();
    }
    sources
}
