//! What all contestants stand on: the files, the PKI, the service behind them.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use spinegate_tests::{
    lab::Files,
    pki::{Identity, KeyCache, Pki},
};

use crate::{
    Arguments, agent,
    isolation::Cores,
    load::Client,
    origin::Origin,
    peers,
    process::{Seat, Server},
};

/// RFC 7919's group, which the agent has too.
const FFDHE2048: &str = include_str!("../../../agent/src/tls/groups/ffdhe2048.pem");
/// The one suite of R7.
pub(crate) const SUITE: &str = "DHE-RSA-AES256-SHA256";
/// Longer than idle connections are needed.
pub(crate) const IDLE: Duration = Duration::from_secs(600);

/// Everything that is there before the first contestant starts.
pub(crate) struct Ground {
    pub(crate) files: Files,
    pub(crate) pki: Pki,
    pub(crate) origin: Origin,
    pub(crate) agent: PathBuf,
    agent_system: Option<PathBuf>,
    pub(crate) peers: PathBuf,
    _lock: File,
}

/// How much a server lets in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limits {
    /// Nothing is shed.
    Wide,
    /// As they are by default.
    Default,
}

impl Ground {
    /// Makes the files anew, in a folder that the next run takes over should this one be killed.
    pub(crate) fn lay(arguments: &Arguments) -> Result<Self> {
        let folder = folder()?;
        let lock = File::create(folder.with_extension("lock"))?;
        lock.try_lock()
            .map_err(|_| anyhow::anyhow!("another run is using {}", folder.display()))?;
        Files::in_folder(&folder).remove()?;
        let files = Files::make(&folder)?;
        let pki = Pki::issue(
            &files.pki(),
            &KeyCache::in_folder(folder.with_file_name("lab-keys")),
        )?;
        let ground = Self {
            origin: Origin::open()?,
            agent: arguments.agent.clone(),
            agent_system: arguments.agent_system.clone(),
            peers: arguments.peers.clone(),
            _lock: lock,
            files,
            pki,
        };
        ground.write_joined()?;
        Ok(ground)
    }

    pub(crate) fn agent(&self, limits: Limits, cores: Cores) -> Result<Server> {
        agent::start(self, seat("spinegate", 4431, cores), &self.agent, limits)
    }

    pub(crate) fn agent_with_system_openssl(&self) -> Result<Server> {
        let seat = seat("spinegate-system", 4441, Cores::One);
        agent::start(self, seat, self.agent_system()?, Limits::Wide)
    }

    pub(crate) fn nginx(&self, cores: Cores) -> Result<Server> {
        peers::nginx(self, seat("nginx", 4451, cores))
    }

    pub(crate) fn haproxy(&self, cores: Cores) -> Result<Server> {
        peers::haproxy(self, seat("haproxy", 4461, cores))
    }

    pub(crate) fn stunnel(&self) -> Result<Server> {
        peers::stunnel(self, seat("stunnel", 4471, Cores::One))
    }

    /// The agent with the system's OpenSSL.
    pub(crate) fn agent_system(&self) -> Result<&Path> {
        self.agent_system
            .as_deref()
            .context("--agent-system is not given")
    }

    /// A client with a good certificate.
    pub(crate) fn client(&self) -> Result<Client> {
        Client::new(self.identity()?, &self.pki.server_ca)
    }

    pub(crate) fn identity(&self) -> Result<&Identity> {
        self.pki.leaf("good")
    }

    /// PEM: RootCA and SubCA.
    pub(crate) fn authorities(&self) -> PathBuf {
        self.files.folder().join("authorities.pem")
    }

    /// PEM: the CRLs of both.
    pub(crate) fn revocations(&self) -> PathBuf {
        self.files.folder().join("crls.pem")
    }

    /// PEM: the group.
    pub(crate) fn group(&self) -> PathBuf {
        self.files.folder().join("ffdhe2048.pem")
    }

    /// PEM: the servers' certificate with its chain, key and group, for those that want one file.
    pub(crate) fn everything(&self) -> PathBuf {
        self.files.folder().join("server.pem")
    }

    fn write_joined(&self) -> Result<()> {
        fs::write(self.group(), FFDHE2048)?;
        join(&self.authorities(), &[&self.pki.root, &self.pki.sub])?;
        join(
            &self.revocations(),
            &[&self.pki.crls.join("root.pem"), &self.pki.crls.join("sub.pem")],
        )?;
        let server = &self.pki.server;
        join(&self.everything(), &[&server.cert, &server.key, &self.group()])
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if let Err(error) = self.files.remove() {
            eprintln!("{error:#}");
        }
    }
}

/// The PKI's place, which the flood finds by itself.
pub(crate) fn folder() -> Result<PathBuf> {
    let binary = env::current_exe().context("can't tell where this program is")?;
    let folder = binary.parent().and_then(Path::parent);
    let folder = folder.context("this program is in no build folder")?;
    Ok(folder.join("bench-proxies"))
}

/// A place at a port of its own for each number of cores.
fn seat(name: &'static str, first: u16, cores: Cores) -> Seat {
    let port = match cores {
        Cores::One => first,
        Cores::Two => first + 1,
    };
    Seat { name, port, cores }
}

fn join(to: &Path, from: &[&Path]) -> Result<()> {
    let mut text = String::new();
    for path in from {
        text.push_str(&fs::read_to_string(path).with_context(|| path.display().to_string())?);
    }
    fs::write(to, text).with_context(|| to.display().to_string())
}
