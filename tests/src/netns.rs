//! The lab's network: one namespace a host, joined by veth pairs to a bridge in a namespace of its own.

use std::{
    fmt,
    fs::{self, File},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    thread,
};

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns};

use crate::command::Run;

/// The interface of every host.
pub const INTERFACE: &str = "eth0";
/// The network of those who only come for a test: the address and the length of its prefix.
pub const CROWD: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 239, 14, 128), 25);

/// A host of the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// The edge host: the agent, and the record locator on its loopback.
    Edge,
    /// The Spine Secure Proxy: many systems behind one address.
    Ssp,
    /// One system with an address of its own.
    System,
    /// Someone who is on no allowlist.
    Stranger,
}

impl Host {
    /// Every host.
    pub const ALL: [Self; 4] = [Self::Edge, Self::Ssp, Self::System, Self::Stranger];

    /// The host's name, as in `lab.json` and at the end of its namespace's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Ssp => "ssp",
            Self::System => "system",
            Self::Stranger => "stranger",
        }
    }

    /// The host's IPv4 address, in a /24.
    #[must_use]
    pub const fn v4(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 239, 14, self.number())
    }

    /// The host's IPv6 address, in a /64.
    #[must_use]
    pub const fn v6(self) -> Ipv6Addr {
        // So that it reads as the IPv4 address does: ::31 and .31.
        let (tens, ones) = (self.number() / 10, self.number() % 10);
        Ipv6Addr::new(0xfd00, 0x239, 0x14, 0, 0, 0, 0, (tens * 16 + ones) as u16)
    }

    /// The host's address of one family.
    #[must_use]
    pub const fn address(self, family: Family) -> IpAddr {
        match family {
            Family::V4 => IpAddr::V4(self.v4()),
            Family::V6 => IpAddr::V6(self.v6()),
        }
    }

    /// The address of the host's interface, always the same, so that the others find one that has been made anew.
    #[must_use]
    pub const fn hardware(self) -> [u8; 6] {
        [2, 0, 0, 0, 0, self.number()]
    }

    const fn number(self) -> u8 {
        match self {
            Self::Edge => 26,
            Self::Ssp => 31,
            Self::System => 50,
            Self::Stranger => 66,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

/// The namespaces of one lab. Labs with different names have nothing in common, so they may use the same addresses.
#[derive(Clone, Debug)]
pub struct Network {
    name: String,
}

impl Network {
    /// The network of the lab of this name, whether or not it is there.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }

    /// The namespace of a host.
    #[must_use]
    pub fn namespace(&self, host: Host) -> String {
        format!("{}-{host}", self.name)
    }

    /// Makes the namespaces, links and addresses; duplicate address detection is off, so they work at once.
    ///
    /// # Errors
    /// `ip` failed; its words say why.
    pub fn up(&self) -> Result<()> {
        let lan = self.lan();
        for namespace in self.namespaces() {
            Run::new("ip").args(["netns", "add", &namespace]).success()?;
        }
        batch(
            &lan,
            "link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0\nlink set dev br0 up\n",
        )?;
        Host::ALL.into_iter().try_for_each(|host| self.plug(host))
    }

    /// Gives a host its interface, with its addresses, and connects it with the bridge.
    ///
    /// # Errors
    /// As [`Network::up`].
    pub fn plug(&self, host: Host) -> Result<()> {
        let namespace = self.namespace(host);
        self.connect(&namespace, host.hardware(), host.as_str())?;
        let (v4, v6) = (host.v4(), host.v6());
        batch(
            &namespace,
            &format!("addr add {v4}/24 dev {INTERFACE}\naddr add {v6}/64 dev {INTERFACE} nodad\n"),
        )
    }

    /// Adds a host of the [`CROWD`] to the lab, and gives its namespace. It goes when the lab goes.
    ///
    /// # Errors
    /// As [`Network::up`].
    pub fn join(&self, number: u8) -> Result<String> {
        let peer = format!("crowd-{number}");
        let namespace = format!("{}-{peer}", self.name);
        Run::new("ip").args(["netns", "add", &namespace]).success()?;
        let address = Ipv4Addr::from(u32::from(CROWD.0) + u32::from(number));
        self.connect(&namespace, [2, 0, 0, 0, 1, number], &peer)?;
        batch(&namespace, &format!("addr add {address}/24 dev {INTERFACE}\n"))?;
        Ok(namespace)
    }

    /// Gives a namespace its interface, and connects that with the bridge.
    fn connect(&self, namespace: &str, hardware: [u8; 6], peer: &str) -> Result<()> {
        let hardware = hardware.map(|byte| format!("{byte:02x}")).join(":");
        Run::new("ip")
            .args(["link", "add", INTERFACE, "netns", namespace])
            .args(["address", &hardware, "type", "veth"])
            .args(["peer", "name", peer, "netns", &self.lan()])
            .success()?;
        batch(
            &self.lan(),
            &format!("link set dev {peer} master br0\nlink set dev {peer} up\n"),
        )?;
        batch(
            namespace,
            &format!("link set dev lo up\nlink set dev {INTERFACE} up\n"),
        )
    }

    /// Takes a host's interface away, and the bridge's end with it.
    ///
    /// # Errors
    /// As [`Network::up`].
    pub fn unplug(&self, host: Host) -> Result<()> {
        self.ip(host, &format!("link del dev {INTERFACE}\n"))
    }

    /// Runs `ip` commands on a host, one a line.
    ///
    /// # Errors
    /// As [`Network::up`].
    pub fn ip(&self, host: Host, lines: &str) -> Result<()> {
        batch(&self.namespace(host), lines)
    }

    /// Removes the namespaces that are there, and their links with them. Gives their names.
    ///
    /// # Errors
    /// `ip` failed; its words say why.
    pub fn down(&self) -> Result<Vec<String>> {
        let present = self.present();
        for namespace in &present {
            Run::new("ip").args(["netns", "del", namespace]).success()?;
        }
        Ok(present)
    }

    /// The namespaces that are there.
    #[must_use]
    pub fn present(&self) -> Vec<String> {
        let crowd = format!("{}-crowd-", self.name);
        let entries = fs::read_dir("/run/netns").into_iter().flatten();
        let crowd = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.starts_with(&crowd));
        self.namespaces()
            .into_iter()
            .filter(|name| Path::new("/run/netns").join(name).exists())
            .chain(crowd)
            .collect()
    }

    /// The processes in any of the namespaces.
    ///
    /// # Errors
    /// `ip` failed; its words say why.
    pub fn processes(&self) -> Result<Vec<i32>> {
        let mut found = Vec::new();
        for namespace in self.present() {
            let pids = Run::new("ip").args(["netns", "pids", &namespace]).success()?;
            for pid in pids.split_whitespace() {
                found.push(
                    pid.parse()
                        .with_context(|| format!("`ip netns pids {namespace}` printed {pid:?}"))?,
                );
            }
        }
        Ok(found)
    }

    /// The namespace of the bridge.
    #[must_use]
    pub fn lan(&self) -> String {
        format!("{}-lan", self.name)
    }

    fn namespaces(&self) -> Vec<String> {
        Host::ALL
            .map(|host| self.namespace(host))
            .into_iter()
            .chain([self.lan()])
            .collect()
    }
}

fn batch(namespace: &str, lines: &str) -> Result<()> {
    Run::new("ip")
        .args(["-netns", namespace, "-batch", "-"])
        .stdin(lines)
        .success()?;
    Ok(())
}

/// Does something in a namespace, in a thread of its own, since a namespace is a thread's.
///
/// # Errors
/// The namespace is not there, or what was done failed.
pub fn enter<T: Send>(namespace: &str, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let path = Path::new("/run/netns").join(namespace);
    let file = File::open(&path).with_context(|| format!("no namespace {}", path.display()))?;
    thread::scope(|scope| {
        let thread = scope.spawn(move || {
            setns(file, CloneFlags::CLONE_NEWNET)
                .with_context(|| format!("can't enter {}", path.display()))?;
            act()
        });
        thread
            .join()
            .map_err(|_| anyhow!("what was done in namespace {namespace} panicked"))?
    })
}
