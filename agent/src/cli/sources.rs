//! `spinegate sources`

use clap::{Args, Subcommand};

use super::{Exit, Failure, Format, Place, guard::Force, output, table::Table, verdicts::seconds};
use crate::{
    config::{Cidr, Service, SourceKind, SourceName},
    control::{Addition, Request, Response, SourceEntry},
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show the allowlist.
    List(Format),
    /// Put a source on the allowlist; it stays there over restarts.
    Add(Add),
    /// Take a source off the allowlist that was put there by `add`.
    Remove {
        /// Its addresses, as `list` shows them.
        cidr: Cidr,
        #[command(flatten)]
        force: Force,
    },
}

#[derive(Debug, Args)]
pub(super) struct Add {
    /// Its addresses, as in 10.239.14.31/32.
    cidr: Cidr,
    /// What to call it.
    #[arg(long)]
    name: SourceName,
    /// Whether many systems stand behind it.
    #[arg(long, value_enum, default_value_t = SourceKind::System)]
    kind: SourceKind,
    /// A service that it may reach, as in tcp/443; may be repeated. None: all.
    #[arg(long = "service", value_name = "SERVICE")]
    services: Vec<Service>,
    /// In scope `host`: a port from which it may answer this host; may be repeated.
    #[arg(long = "reply-port", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    reply_ports: Vec<u16>,
    /// How long the entry lasts, as in 8h [default: for good].
    #[arg(long = "for", value_name = "TIME", value_parser = seconds)]
    ends_in: Option<u64>,
}

pub(super) fn run(place: &Place, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::List(format) => list(place, format),
        Command::Add(Add {
            cidr,
            name,
            kind,
            services,
            reply_ports,
            ends_in,
        }) => place.order(Request::SourcesAdd(Addition {
            cidr,
            name,
            kind,
            services,
            reply_ports,
            ends_in,
        })),
        Command::Remove { cidr, force } => place.order(Request::SourcesRemove {
            cidr,
            guard: force.guard(),
        }),
    }
}

fn list(place: &Place, format: Format) -> Result<Exit, Failure> {
    let Response::Sources(sources) = place.ask(Request::SourcesList)? else {
        return Err(Failure::other_answer());
    };
    if format.json {
        output::json(&sources)
    } else {
        output::text(&render(&sources))
    }
}

pub(super) fn render(sources: &[SourceEntry]) -> String {
    let mut table = Table::titled([
        "SOURCE", "NAME", "KIND", "SERVICES", "UNTIL", "FROM", "PACKETS", "BYTES",
    ]);
    for source in sources {
        let services = match source.services.as_slice() {
            [] if source.reply_ports.is_empty() => "all".to_owned(),
            [] => "replies".to_owned(),
            services => services
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(","),
        };
        table.row([
            source.cidr.to_string(),
            source.name.clone(),
            source.kind.as_str().to_owned(),
            services,
            source.expires.clone().unwrap_or_else(|| "-".to_owned()),
            source.origin.as_str().to_owned(),
            counted(source.passed.map(|passed| passed.packets)),
            counted(source.passed.map(|passed| passed.bytes)),
        ]);
    }
    table.render()
}

fn counted(count: Option<u64>) -> String {
    count.map_or_else(|| "-".to_owned(), |count| count.to_string())
}
