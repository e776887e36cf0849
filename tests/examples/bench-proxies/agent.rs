//! The agent as in service: verdicts, audit log, CRLs. Its filter is off, since all the load comes from one host.

use std::{fs, net::Ipv4Addr, path::Path};

use anyhow::Result;
use spinegate_tests::lab::{base_configuration, registry};
use toml::{Table, Value, toml};

use crate::{
    ground::{Ground, IDLE, Limits},
    process::{Seat, Server},
};

pub(crate) fn start(ground: &Ground, seat: Seat, binary: &Path, limits: Limits) -> Result<Server> {
    let (folder, name) = (ground.files.folder(), seat.file());
    let mut table = base_configuration(&ground.pki, &ground.files, "lo", &name);
    let seconds = format!("{}s", IDLE.as_secs());
    set(&mut table, "filter", "mode", "off");
    set(&mut table, "gateway", "max_connections", 12_000);
    set(&mut table, "gateway", "idle_timeout", seconds);
    // Connections are kept from round to round.
    set(&mut table, "gateway", "requests_per_connection", 1_000_000_000);
    set(
        &mut table,
        "gateway",
        "upstream",
        format!("http://{}", ground.origin.address),
    );
    set(
        &mut table,
        "listen",
        "addresses",
        vec![format!("{}:{}", Ipv4Addr::LOCALHOST, seat.port)],
    );
    if limits == Limits::Wide {
        set(&mut table, "tls", "handshake_queue", 4096);
        let wide = toml! {
            begin = 4000
            full = 8000
            per_source = 4000
            per_proxy = 4000
        };
        set(&mut table, "tls", "unauthenticated", wide);
    }
    for (section, key, file) in [
        ("control", "socket", "sock"),
        ("audit", "file", "jsonl"),
        ("registry", "file", "registry.toml"),
    ] {
        let path = folder.join(format!("{name}.{file}"));
        set(&mut table, section, key, path.to_string_lossy().into_owned());
    }
    fs::write(folder.join(format!("{name}.registry.toml")), registry()?)?;
    let config = folder.join(format!("{name}.toml"));
    fs::write(&config, toml::to_string(&table)?)?;
    let run = seat.run(binary).arg("--config").arg(config).arg("run");
    Server::start(seat, &ground.files, &run)
}

fn set(table: &mut Table, section: &str, key: &str, value: impl Into<Value>) {
    let section = table.entry(section).or_insert_with(|| Table::new().into());
    if let Value::Table(section) = section {
        section.insert(key.to_owned(), value.into());
    }
}
