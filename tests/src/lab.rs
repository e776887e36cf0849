//! A whole lab: network, PKI, record locator and agent, brought up together and gone without a trace.

mod agent;
mod background;
mod claim;
mod files;
mod ground;
mod record;
mod settings;
mod sweep;
mod systems;

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use toml::Table;

pub use agent::Agent;
pub use background::Background;
pub use files::Files;
pub use ground::obstacle;
pub use record::{Status, status};
pub use settings::{
    allow, base_configuration, filter, folder_for, guard, open_limits, open_metrics, open_verdicts, registry,
    section,
};
pub use sweep::down;
pub use systems::{
    CONSUMER, FQDN_BOUND, GATEWAY_ASID, INACTIVE, Interaction, OTHER_PROVIDER, PROVIDER, System,
    UNKNOWN_ASID, WRITER,
};

use crate::{
    client::Client,
    command::{Finished, Run},
    json::at,
    netns::{Family, Host, INTERFACE, Network},
    observe::{Audit, Database, Tap},
    pki::{EDGE_FQDN, KeyCache, Pki},
    wait::wait_for,
};

/// The port that the gateway listens on.
pub const PORT: u16 = 443;
/// Where the record locator listens, in the edge's namespace.
pub const UPSTREAM: &str = "127.0.0.1:8080";

/// An emulated guest takes its time.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a lab is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its name: the beginning of its namespaces' names. Two labs may be up at once if their names differ.
    pub name: String,
    /// The folder that holds all its files, and that goes when it goes.
    pub folder: PathBuf,
    /// The agent's binary.
    pub agent: PathBuf,
    /// The record locator's binary.
    pub locator: PathBuf,
    /// Where keys are kept from lab to lab.
    pub keys: PathBuf,
    /// What to change in the agent's configuration before it starts.
    pub edit: fn(&mut Table),
}

impl Plan {
    /// A lab of a suite: the binaries beside the running one, the files in a temporary folder. Name and folder depend on the
    /// suite and on the build folder alone, so that a run cleans up after one that was killed, and leaves those of other
    /// build folders alone.
    ///
    /// # Errors
    /// The running binary's path is unknown, or the agent or the record locator is not built.
    pub fn of_suite(suite: &str) -> Result<Self> {
        let binary = env::current_exe().context("can't tell where this binary is")?;
        let built = binary
            .ancestors()
            .skip(1)
            .find(|folder| !folder.ends_with("deps"))
            .context("this binary is in no folder")?;
        let tag: u64 = built
            .as_os_str()
            .as_encoded_bytes()
            .iter()
            .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
            });
        let name = format!("sg-{suite}-{:04x}", tag & 0xffff);
        let plan = Self {
            folder: env::temp_dir().join(format!("spinegate-lab-{name}")),
            agent: env::var_os("SPINEGATE_AGENT").map_or_else(|| built.join("spinegate"), PathBuf::from),
            locator: env::var_os("SPINEGATE_LOCATOR")
                .map_or_else(|| built.join("record-locator"), PathBuf::from),
            keys: built.join("lab-keys"),
            edit: |_| {},
            name,
        };
        plan.require_binaries()?;
        Ok(plan)
    }

    /// Fails unless agent and record locator are built.
    ///
    /// # Errors
    /// One of them is missing; the message says how to build it.
    pub fn require_binaries(&self) -> Result<()> {
        for (path, package) in [(&self.agent, "spinegate"), (&self.locator, "spinegate-tests")] {
            if !path.is_file() {
                bail!(
                    "{} is not there: build it with `cargo build -p {package}`",
                    path.display()
                );
            }
        }
        Ok(())
    }
}

/// A lab that is up. It goes down when dropped, unless it was [left](Lab::leave).
#[derive(Debug)]
pub struct Lab {
    plan: Plan,
    files: Files,
    network: Network,
    pki: Pki,
    agent: Option<Background>,
    locator: Option<Background>,
    keep: bool,
    claim: claim::Claim,
}

impl Lab {
    /// Brings a lab up. Whatever an earlier lab of that name left is removed first.
    ///
    /// # Errors
    /// Something of it could not be made or did not become ready; nothing of it stays.
    pub fn up(plan: Plan) -> Result<Self> {
        if let Some(why) = obstacle() {
            bail!("{why}");
        }
        plan.require_binaries()?;
        let folder = std::path::absolute(&plan.folder)?;
        let claim = claim::Claim::take(&plan.name, &folder)?;
        sweep::sweep(&plan.name, &folder)?;
        let files = Files::make(&folder)?;
        let network = Network::named(&plan.name);
        let pki = Pki::issue(&files.pki(), &KeyCache::in_folder(&plan.keys));
        let (pki, made) = match pki {
            Ok(pki) => (pki, network.up()),
            Err(error) => {
                sweep::sweep(&plan.name, &folder)?;
                return Err(error);
            }
        };
        // From here on dropping the lab removes what there is of it.
        let mut lab = Self {
            plan,
            files,
            network,
            pki,
            agent: None,
            locator: None,
            keep: false,
            claim,
        };
        made?;
        lab.write_settings()?;
        lab.start_locator()?;
        lab.start_agent()?;
        record::write(&lab)?;
        Ok(lab)
    }

    /// Leaves the lab up for later processes.
    pub fn leave(mut self) {
        self.keep = true;
    }

    /// Starts the record locator and waits until it listens.
    ///
    /// # Errors
    /// It did not start; the message ends with its log.
    pub fn start_locator(&mut self) -> Result<()> {
        let run = Run::inside(&self.network.namespace(Host::Edge), &self.plan.locator)
            .args([
                "--listen",
                UPSTREAM,
                "--public-url",
                &format!("https://{EDGE_FQDN}"),
                "--database",
            ])
            .arg(self.files.database());
        let mut process = Background::start("record-locator", &run, &self.files)?;
        wait_for("the record locator to listen", PATIENCE, || {
            process.must_run()?;
            Ok(process.log()?.contains("listening on").then_some(()))
        })
        .with_context(|| process.tail())?;
        self.locator = Some(process);
        Ok(())
    }

    /// Kills the record locator, so that the gateway has no upstream.
    ///
    /// # Errors
    /// The process could not be killed.
    pub fn kill_locator(&mut self) -> Result<()> {
        self.locator.take().map_or(Ok(()), Background::kill)
    }

    /// Starts the agent and waits until it serves.
    ///
    /// # Errors
    /// It did not start; the message ends with its log.
    pub fn start_agent(&mut self) -> Result<()> {
        self.start_agent_with(&["run"])
    }

    /// Starts the agent in another way than by `run` alone, and waits until it serves.
    ///
    /// # Errors
    /// It did not start; the message ends with its log.
    pub fn start_agent_with(&mut self, command: &[&str]) -> Result<()> {
        let run = Run::inside(&self.network.namespace(Host::Edge), &self.plan.agent)
            .arg("--config")
            .arg(self.files.config())
            .args(command);
        self.start_agent_by(&run)
    }

    /// Starts the agent through another program, and waits until it serves. What is started must end with status 0 after
    /// SIGTERM.
    ///
    /// # Errors
    /// It did not start; the message ends with its log.
    pub fn start_agent_by(&mut self, run: &Run) -> Result<()> {
        let mut process = Background::start("agent", run, &self.files)?;
        let agent = self.agent();
        wait_for("the agent to answer `spinegate status`", PATIENCE, || {
            process.must_run()?;
            Ok(agent.json(&["status"]).ok())
        })
        .with_context(|| process.tail())?;
        self.agent = Some(process);
        Ok(())
    }

    /// Starts another agent that takes over from the running one, and waits until that has ended.
    ///
    /// # Errors
    /// The other did not start or take over, or the first did not end in order.
    pub fn take_over(&mut self) -> Result<()> {
        let old = self.agent.take().context("no agent is running")?;
        let name = match old.name() {
            "agent" => "successor",
            _ => "agent",
        };
        let run = Run::inside(&self.network.namespace(Host::Edge), &self.plan.agent)
            .arg("--config")
            .arg(self.files.config())
            .args(["run", "--take-over"]);
        let mut process = Background::start(name, &run, &self.files)?;
        let (agent, id) = (self.agent(), process.id());
        let serving = wait_for("the successor to answer `spinegate status`", PATIENCE, || {
            process.must_run()?;
            let status = agent.json(&["status"]).ok();
            Ok(status.filter(|status| *at(status, "/pid") == id))
        });
        if let Err(error) = serving {
            let tail = process.tail();
            process.kill()?;
            self.agent = Some(old);
            return Err(error.context(tail));
        }
        self.agent = Some(process);
        old.ended(PATIENCE)
    }

    /// The running agent's process.
    ///
    /// # Errors
    /// There is none.
    pub fn agent_process(&self) -> Result<&Background> {
        self.agent.as_ref().context("no agent is running")
    }

    /// Waits for the end of the agent, which something else brings about.
    ///
    /// # Errors
    /// It did not end in time.
    pub fn agent_ended(&mut self, limit: Duration) -> Result<()> {
        self.agent.take().map_or(Ok(()), |process| process.ended(limit))
    }

    /// Kills the agent as `kill -9` does: it can tidy up nothing.
    ///
    /// # Errors
    /// The process could not be killed.
    pub fn kill_agent(&mut self) -> Result<()> {
        self.agent.take().map_or(Ok(()), Background::kill)
    }

    /// Stops the agent with SIGTERM and waits for its end.
    ///
    /// # Errors
    /// It did not end in time.
    pub fn stop_agent(&mut self) -> Result<()> {
        self.agent.take().map_or(Ok(()), |process| process.stop(PATIENCE))
    }

    /// Changes the agent's configuration file. The agent sees it when it starts or reloads.
    ///
    /// # Errors
    /// The file can't be read or written.
    pub fn configure(&self, edit: impl FnOnce(&mut Table)) -> Result<()> {
        let path = self.files.config();
        let mut table: Table = toml::from_str(&fs::read_to_string(&path)?)?;
        edit(&mut table);
        fs::write(&path, toml::to_string(&table)?).with_context(|| format!("can't write {}", path.display()))
    }

    /// The same, and has the agent reload.
    ///
    /// # Errors
    /// The file can't be read or written, or the agent refuses it.
    pub fn reconfigure(&self, edit: impl FnOnce(&mut Table)) -> Result<()> {
        self.configure(edit)?;
        self.agent().order(&["reload"]).map(drop)
    }

    /// What the agent serves as its metrics, where they are [opened](open_metrics).
    ///
    /// # Errors
    /// It serves none.
    pub fn metrics(&self) -> Result<String> {
        Run::inside(&self.network.namespace(Host::Edge), "curl")
            .args(["-sS", &format!("http://{}/metrics", settings::METRICS)])
            .success()
    }

    /// The agent's command line.
    #[must_use]
    pub fn agent(&self) -> Agent {
        Agent::new(&self.plan.agent, &self.files.socket())
    }

    /// Announces an order to the filter's keeper as a user, and gives what that says.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn announce(&self, user: u32, order: &str) -> Result<String> {
        const CALL: &str = "$SIG{PIPE} = q(IGNORE); $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die $!; print $s \"$ARGV[1]\\n\"; \
                            print scalar <$s>";
        Run::new("setpriv")
            .args([&format!("--reuid={user}"), &format!("--regid={user}")])
            .args([
                "--clear-groups",
                "/usr/bin/perl",
                "-MIO::Socket::UNIX",
                "-e",
                CALL,
            ])
            .arg(self.files.socket().with_extension("keeper"))
            .arg(order)
            .success()
    }

    /// Runs a command of the agent on the edge host with a configuration, to its end.
    ///
    /// # Errors
    /// The binary can't be started.
    pub fn at_edge(&self, config: &Path, arguments: &[&str]) -> Result<Finished> {
        Run::inside(&self.network.namespace(Host::Edge), &self.plan.agent)
            .arg("--config")
            .arg(config)
            .args(arguments)
            .output()
    }

    /// A client on a host, with the certificate that belongs there: `good` for the proxy, `system` for the system.
    #[must_use]
    pub fn client(&self, host: Host) -> Client<'_> {
        Client::new(self, host)
    }

    /// Begins to listen to what reaches the edge host's network stack.
    ///
    /// # Errors
    /// As [`Tap::open`].
    pub fn tap(&self) -> Result<Tap> {
        Tap::open(&self.network.namespace(Host::Edge))
    }

    /// The agent's audit log.
    #[must_use]
    pub fn audit(&self) -> Audit {
        Audit::new(self.files.audit())
    }

    /// The record locator's database.
    #[must_use]
    pub fn database(&self) -> Database {
        Database::new(self.files.database())
    }

    /// The lab's PKI.
    #[must_use]
    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    /// The lab's files.
    #[must_use]
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// The lab's namespaces.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The lab's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.plan.name
    }

    /// The agent's binary.
    #[must_use]
    pub fn binary(&self) -> &Path {
        &self.plan.agent
    }

    /// Where the gateway listens.
    #[must_use]
    pub fn gateway(&self, family: Family) -> SocketAddr {
        SocketAddr::new(Host::Edge.address(family), PORT)
    }

    /// The folder on bpffs with the agent's pins.
    #[must_use]
    pub fn pins(&self) -> PathBuf {
        settings::pins(&self.plan.name)
    }

    fn write_settings(&self) -> Result<()> {
        let mut table = base_configuration(&self.pki, &self.files, INTERFACE, &self.plan.name);
        (self.plan.edit)(&mut table);
        fs::write(self.files.config(), toml::to_string(&table)?)?;
        fs::write(self.files.registry(), settings::registry()?)?;
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        // Children first, so that none of them stays as a zombie of this process.
        for process in [self.agent.take(), self.locator.take()].into_iter().flatten() {
            let _ = process.kill();
        }
        match sweep::sweep(&self.plan.name, self.files.folder()) {
            Ok(_) => self.claim.release(),
            Err(error) => eprintln!("lab {} is not wholly down: {error:#}", self.plan.name),
        }
    }
}
