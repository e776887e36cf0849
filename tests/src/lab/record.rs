//! `lab.json`: where everything of a lab is, for suites, scripts and people.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Files, GATEWAY_ASID, Lab, PORT, System, UPSTREAM};
use crate::netns::{Host, INTERFACE, Network};

/// Writes `lab.json`. Its keys are a contract.
pub(super) fn write(lab: &Lab) -> Result<()> {
    let namespaces: Map<_, _> = Host::ALL
        .into_iter()
        .map(|host| (host.to_string(), lab.network.namespace(host).into()))
        .collect();
    let addresses: Map<_, _> = [Host::Ssp, Host::System, Host::Stranger]
        .into_iter()
        .map(|host| (host.to_string(), json!({ "v4": host.v4(), "v6": host.v6() })))
        .collect();
    let systems = System::OPEN.map(|system| {
        let interactions: Vec<_> = system.interactions.iter().map(|one| one.urn()).collect();
        json!({ "asid": system.asid, "ods": system.ods, "interactions": interactions })
    });
    let record = json!({
        "namespaces": namespaces,
        "edge": {
            "address": Host::Edge.v4(),
            "address6": Host::Edge.v6(),
            "port": PORT,
            "interface": INTERFACE,
        },
        "addresses": addresses,
        "pki": pki(lab),
        "systems": systems,
        "gateway_asid": GATEWAY_ASID,
        "upstream": { "url": format!("http://{UPSTREAM}"), "database": lab.files.database() },
        "binary": std::path::absolute(lab.binary())?,
        "config": lab.files.config(),
        "socket": lab.files.socket(),
        "audit": lab.files.audit(),
    });
    let path = lab.files.record();
    let mut text = serde_json::to_string_pretty(&record)?;
    text.push('\n');
    fs::write(&path, text).with_context(|| format!("can't write {}", path.display()))
}

fn pki(lab: &Lab) -> Value {
    let authorities = [
        ("root", &lab.pki.root),
        ("sub", &lab.pki.sub),
        ("server_ca", &lab.pki.server_ca),
    ];
    let authorities = authorities
        .into_iter()
        .map(|(name, path)| (name.to_owned(), json!(path)));
    let leaves = lab.pki.leaves.iter().map(|(name, identity)| {
        (
            (*name).to_owned(),
            json!({ "cert": identity.cert, "key": identity.key }),
        )
    });
    Value::Object(authorities.chain(leaves).collect())
}

/// What there is of a lab.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Whether all of it is there.
    pub up: bool,
    /// The namespaces that are there.
    pub namespaces: Vec<String>,
    /// How many processes run in them.
    pub processes: usize,
    /// Whether the agent's pins are there.
    pub pinned: bool,
    /// `lab.json`, if it is there.
    pub record: Option<PathBuf>,
}

/// The agent, its keeper, the record locator.
const PROCESSES: usize = 3;

/// Looks at what there is of the lab of a name.
///
/// # Errors
/// The namespaces can't be listed.
pub fn status(name: &str, folder: &Path) -> Result<Status> {
    let network = Network::named(name);
    let namespaces = network.present();
    let processes = network.processes()?.len();
    let pinned = super::settings::pins(name).exists();
    let record = Some(Files::in_folder(std::path::absolute(folder)?).record()).filter(|path| path.exists());
    let up = namespaces.len() > Host::ALL.len() && processes >= PROCESSES && pinned && record.is_some();
    Ok(Status {
        up,
        namespaces,
        processes,
        pinned,
        record,
    })
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |list: &[String]| {
            if list.is_empty() {
                "none".to_owned()
            } else {
                list.join(", ")
            }
        };
        writeln!(f, "{}", if self.up { "up" } else { "not (wholly) up" })?;
        writeln!(f, "namespaces  {}", list(&self.namespaces))?;
        writeln!(f, "processes   {}", self.processes)?;
        writeln!(f, "pins        {}", if self.pinned { "present" } else { "none" })?;
        let record = self
            .record
            .as_ref()
            .map_or("none".into(), |path| path.display().to_string());
        write!(f, "lab.json    {record}")
    }
}
