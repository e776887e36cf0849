//! Loading: from a file to a [`Config`], or to everything that is wrong with the file.

mod authz;
mod filter;
mod gateway;
mod registry;
mod source_list;
mod tls;

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{
    Audit, AuditOutput, Config, Control, Diagnostic, Document, Durability, Filter, FilterMode,
    GuardedService, Listen, Log, LogFormat, Metrics, OnFailure, Problem, Run, Scope, Service,
    ServiceProtocol,
    reader::{Absent, Example, Report, Section},
    values::{self, Fault},
};

/// Where the operator's socket is unless a configuration says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/spinegate/control.sock";
/// The group whose members may look, if there is one of this name.
const DEFAULT_GROUP: &str = "spinegate";

/// A sound configuration and the file that it came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The file, to give a later [`Problem`] its line.
    pub source: Document,
    /// What is allowed, but hardly meant.
    pub warnings: Vec<Diagnostic>,
}

/// Loads a configuration file. Only the file itself is read: whether the files and interfaces that it names exist is for
/// the rooms that use them.
///
/// # Errors
/// Everything that is wrong with the file, in the order of its lines.
pub fn load(path: &Path) -> Result<Loaded, Vec<Diagnostic>> {
    let source = Document::read(path).map_err(|diagnostic| vec![diagnostic])?;
    from_document(source)
}

/// The operator's socket as a file has it, whatever else is wrong with the file: the commands that talk to a running
/// agent must find it while its configuration is being edited. `None` if the file, or its socket, can't be read.
#[must_use]
pub fn control_socket(path: &Path) -> Option<PathBuf> {
    let document = Document::read(path).ok()?;
    let report = Report::new(&document);
    socket(&mut report.root().section("control"), document.folder())
}

fn from_document(source: Document) -> Result<Loaded, Vec<Diagnostic>> {
    let report = Report::new(&source);
    let config = config(&report, source.folder());
    let mut settings = source.settings();
    settings.retain(|key, _| !report.is_usual(key));
    let (problems, warnings) = report.finish();
    match config {
        Some(config) if problems.is_empty() => Ok(Loaded {
            config: Config {
                settings: Arc::new(settings),
                ..config
            },
            source,
            warnings,
        }),
        _ => Err(problems),
    }
}

fn config<'r>(report: &'r Report<'r>, folder: &Path) -> Option<Config> {
    let mut root = report.root();
    let run = run(root.section("run"));
    let filter = filter::read(root.section("filter"), folder);
    let listen = listen(root.section("listen"));
    let tls = tls::read(root.section("tls"), folder);
    let gateway = gateway::read(root.section("gateway"), folder);
    let authz = authz::read(root.section("authz"));
    let registry = registry::read(root.section("registry"), folder);
    let verdict = gateway::verdicts(root.section("verdict"));
    let control = control(root.section("control"), folder);
    let metrics = metrics(root.section("metrics"));
    let log = log(root.section("log"));
    let audit = audit(root.section("audit"), folder);
    root.finish();

    let (mut filter, listen) = (filter?, listen?);
    if filter.services.is_empty() {
        filter.services = services_of(&listen.addresses)
            .into_iter()
            .map(GuardedService::everywhere)
            .collect();
    }
    if filter.mode != FilterMode::Off && filter.scope == Scope::Services {
        warn_of_unguarded(report, &listen.addresses, &filter);
    }
    Some(Config {
        run: run?,
        filter,
        listen,
        tls: tls?,
        gateway: gateway?,
        authz: authz?,
        registry: registry?,
        verdict: verdict?,
        control: control?,
        metrics: metrics?,
        log: log?,
        audit: audit?,
        settings: Arc::default(),
    })
}

fn run(mut section: Section<'_>) -> Option<Run> {
    let user = section.optional(
        "user",
        Absent("the one who starts it"),
        values::user(),
        "whom the part of the agent that serves the network becomes; [what it can't do \
         then](threat-model.md). A change needs a restart",
    );
    let group = section.optional(
        "group",
        Absent("the user's"),
        values::group(),
        "its group. A change needs a restart",
    );
    if matches!((&user, &group), (Some(None), Some(Some(_)))) {
        let fault = Fault::new("has no user that it is the group of", "add `user` to [run]");
        section.fault("group", fault);
    }
    section.finish();
    Some(Run {
        user: user?,
        group: group?,
    })
}

fn listen(mut section: Section<'_>) -> Option<Listen> {
    let addresses = section.required_list(
        "addresses",
        Example("[\"0.0.0.0:443\", \"[::]:443\"]"),
        values::listen_address(),
        "where the gateway accepts connections",
    );
    let reuse_port = section.or(
        "reuse_port",
        false,
        values::flag(),
        "let other processes of the same user listen there too (`SO_REUSEPORT`); [an \
         upgrade](operator.md#upgrade-and-rollback) needs it not",
    );
    section.finish();
    Some(Listen {
        addresses: addresses?,
        reuse_port: reuse_port?,
    })
}

fn control(mut section: Section<'_>, folder: &Path) -> Option<Control> {
    let socket = socket(&mut section, folder);
    let group = section.optional(
        "group",
        Absent("`spinegate`, if there is such a group"),
        values::group(),
        "whose members may [look](control-api.md#roles); the socket is given to it",
    );
    let writers = section.list(
        "writers",
        values::user(),
        "who may give orders, besides root and the agent's own user",
    );
    section.finish();
    Some(Control {
        socket: socket?,
        group: group?.or_else(|| values::group_named(DEFAULT_GROUP).ok().flatten()),
        writers: writers?,
    })
}

fn socket(section: &mut Section<'_>, folder: &Path) -> Option<PathBuf> {
    section.or(
        "socket",
        PathBuf::from(DEFAULT_SOCKET),
        values::socket_path(folder),
        "the operator's socket; the commands find it here",
    )
}

fn metrics(mut section: Section<'_>) -> Option<Metrics> {
    let listen = section.optional(
        "listen",
        Absent("none"),
        values::listen_address(),
        "where [metrics](metrics.md) are served, at `/metrics`, and beside them `/healthz` and `/readyz`",
    );
    section.finish();
    Some(Metrics { listen: listen? })
}

fn log(mut section: Section<'_>) -> Option<Log> {
    let formats = &[
        ("auto", LogFormat::Auto),
        ("human", LogFormat::Human),
        ("json", LogFormat::Json),
        ("journald", LogFormat::Journald),
    ];
    let format = section.or(
        "format",
        LogFormat::Auto,
        values::choice(formats),
        "how the agent [writes what it does](operator.md#the-log): for people on a terminal, to journald \
         if systemd has standard error go there, as JSON otherwise",
    );
    section.finish();
    Some(Log { format: format? })
}

fn audit(mut section: Section<'_>, folder: &Path) -> Option<Audit> {
    let file = section.required(
        "file",
        Example("\"/var/log/spinegate/audit.jsonl\""),
        values::path(folder),
        "what every decision is appended to, a JSON object a line",
    );
    let outputs = &[
        ("file", AuditOutput::File),
        ("journald", AuditOutput::Journald),
        ("both", AuditOutput::Both),
    ];
    let output = section.or(
        "output",
        AuditOutput::File,
        values::choice(outputs),
        "where decisions are recorded; [what the journal can't give](operator.md#in-the-journal)",
    );
    let key = section.optional(
        "key",
        Absent("the log's file with .key"),
        values::path(folder),
        "PEM: the Ed25519 key that signs [checkpoints](operator.md#the-audit-log); made, with its public \
         half beside it (`.pub`), where there is none",
    );
    let interval = values::duration(Duration::from_secs(1)..=Duration::from_hours(24));
    let checkpoint_interval = section.or(
        "checkpoint_interval",
        Duration::from_mins(1),
        interval,
        "how often the chain of lines is signed, if there are new ones",
    );
    let durability = section.or(
        "durability",
        Durability::Buffered,
        values::choice(&[("buffered", Durability::Buffered), ("fsync", Durability::Fsync)]),
        "an answer leaves when its line is with the kernel; when it is on the disk",
    );
    let timeout = values::duration(Duration::from_millis(100)..=Duration::from_mins(1));
    let timeout = section.or(
        "timeout",
        Duration::from_secs(5),
        timeout,
        "with `\"fsync\"`: how long an answer waits for the disk, before its line counts as failed",
    );
    let on_failure = section.or(
        "on_failure",
        OnFailure::Refuse,
        values::choice(&[("refuse", OnFailure::Refuse), ("serve", OnFailure::Serve)]),
        "a request whose line can't be written is answered with 500; is served, and the failure counted",
    );
    let mask = section.or(
        "mask",
        true,
        values::flag(),
        "write `[number]` and `[token]` in place of NHS numbers and tokens that come to stand in paths \
         and details",
    );
    if (output, durability) == (Some(AuditOutput::Journald), Some(Durability::Fsync)) {
        section.fault(
            "durability",
            values::Fault::new(
                "the journal does not say when an entry is on the disk",
                "set `audit.output` to `both` or `file`, or take this out",
            ),
        );
    }
    section.finish();
    let file = file?;
    Some(Audit {
        output: output?,
        key: key?.unwrap_or_else(|| beside(&file, ".key")),
        file,
        checkpoint_interval: checkpoint_interval?,
        durability: durability?,
        timeout: timeout?,
        on_failure: on_failure?,
        mask: mask?,
    })
}

/// A file's name with an ending.
pub(crate) fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Without `[[filter.service]]` the gateway's own ports are guarded.
fn services_of(addresses: &[SocketAddr]) -> Vec<Service> {
    let mut services: Vec<Service> = addresses
        .iter()
        .map(|address| Service {
            protocol: ServiceProtocol::Tcp,
            port: address.port(),
        })
        .collect();
    services.sort();
    services.dedup();
    services
}

fn warn_of_unguarded(report: &Report<'_>, addresses: &[SocketAddr], filter: &Filter) {
    let warn = |key: String, message: String, service: Service| {
        let (protocol, port) = (service.protocol.as_str(), service.port);
        let mend = format!("add a [[filter.service]] with protocol = \"{protocol}\" and port = {port}");
        report.warning(&Problem::new(key, message, mend));
    };
    let guarded = |service: &Service| filter.services.iter().any(|other| other.service == *service);
    for (index, address) in addresses.iter().enumerate() {
        let service = Service {
            protocol: ServiceProtocol::Tcp,
            port: address.port(),
        };
        if !guarded(&service) {
            let message = format!("{address} is not guarded: no [[filter.service]] names {service}");
            warn(format!("listen.addresses[{index}]"), message, service);
        }
    }
    let mut told = BTreeSet::new();
    for (index, source) in filter.sources.iter().enumerate() {
        for service in source.services.iter().filter(|service| !guarded(service)) {
            // A list gives one name to all its sources.
            if told.insert((source.name.as_str(), *service)) {
                let message = format!("{service} is not guarded, so everyone may reach it");
                warn(format!("filter.source[{index}].services"), message, *service);
            }
        }
    }
}

#[cfg(test)]
mod page;
#[cfg(test)]
mod tests;
