//! What can go wrong between the agent and the kernel.

use std::{io, path::PathBuf};

use aya::{EbpfError, maps::MapError, programs::ProgramError};

/// A failure that names the object and the operator's next step.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// The kernel offers no type information.
    #[error("the kernel has no BTF: boot a kernel built with CONFIG_DEBUG_INFO_BTF (Debian's are)")]
    NoBtf,
    /// The pin folder is not on bpffs.
    #[error("{folder} is not on a BPF file system: mount one with `mount -t bpf bpf /sys/fs/bpf`")]
    NoBpffs {
        /// The folder of `filter.pin_dir`.
        folder: PathBuf,
    },
    /// A folder or a pin can't be made or removed.
    #[error("{path}: {error}; the filter needs to write there as root")]
    Pin {
        /// The pin.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// The object could not be loaded.
    #[error("loading the XDP program: {0}; it needs root, or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON")]
    Load(#[source] Box<EbpfError>),
    /// The kernel refused the program.
    #[error("{action} the XDP program: {error}; it needs root, or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON")]
    Program {
        /// Verifying, testing…
        action: &'static str,
        /// What the kernel said.
        error: Box<ProgramError>,
    },
    /// A map of the object is missing or of another kind.
    #[error("the XDP program has no usable map {name}: agent and kernel half are of different builds")]
    MissingMap {
        /// The map.
        name: &'static str,
    },
    /// The kernel refused a map operation.
    #[error("map {name}: {error}")]
    Map {
        /// The map.
        name: &'static str,
        /// What the kernel said.
        error: Box<MapError>,
    },
    /// An interface of the configuration is not there.
    #[error("interface {name} does not exist: correct `filter.interfaces` (`ip link` lists what there is)")]
    NoInterface {
        /// The interface.
        name: String,
    },
    /// Another program holds the interface's XDP slot.
    #[error(
        "interface {name} already has another XDP program ({named}): see it with `bpftool prog show id \
         {program}`, take it away with `ip link set dev {name} xdp off`, and start again",
        named = super::attachment::titled(*program, program_name)
    )]
    Occupied {
        /// The interface.
        name: String,
        /// The other program's id.
        program: u32,
        /// Its name, if it has one and it may be asked for.
        program_name: String,
    },
    /// A newer agent's maps are pinned.
    #[error(
        "{folder} holds the maps of a newer agent (layout {layout}, this one has {ours}): run the newer agent, or take its \
         filter off first with `spinegate detach`, after which nothing is guarded until this one runs",
        ours = spinegate_common::policy::LAYOUT
    )]
    NewerLayout {
        /// Where they are pinned.
        folder: PathBuf,
        /// Their layout.
        layout: u32,
    },
    /// An older agent's verdicts can't be carried over.
    #[error(
        "{path}: the verdicts of an older agent can't be read ({error}): run that agent again, or give them up with \
         `spinegate detach`"
    )]
    OldLayout {
        /// The pinned map.
        path: PathBuf,
        /// What is wrong with it.
        error: Box<MapError>,
    },
    /// Attaching failed.
    #[error(
        "attaching to interface {name} ({mode}): {error}; `filter.attach = \"generic\"` works on every interface"
    )]
    Attach {
        /// The interface.
        name: String,
        /// native or generic
        mode: &'static str,
        /// What the kernel said.
        error: String,
    },
    /// The kernel's list of interfaces can't be read.
    #[error("asking the kernel for its interfaces: {0}")]
    Netlink(String),
    /// More services than numbers.
    #[error(
        "the filter can guard {limit} services and reply ports at once: guard the whole host with scope `host`"
    )]
    TooManyServices {
        /// How many there can be.
        limit: usize,
    },
    /// More addresses of one port than the filter looks through.
    #[error("{service} is guarded at more than {limit} addresses: guard the port at all addresses")]
    TooManyAddresses {
        /// The service.
        service: crate::config::Service,
        /// How many there can be.
        limit: usize,
    },
    /// Prefixes that cover each other too often.
    #[error(
        "{cidr} lies in {limit} other entries that are limited in time or to services, which is more than the filter \
         looks through: take some of them off the allowlist"
    )]
    NestedTooDeep {
        /// The innermost.
        cidr: ipnet::IpNet,
        /// How many there can be.
        limit: usize,
    },
    /// The verdict map has no room.
    #[error(
        "the verdict map is full: {limit} sources are denied already; lift some with `spinegate verdicts remove`"
    )]
    TooManyVerdicts {
        /// What the map holds.
        limit: usize,
    },
}

impl FilterError {
    pub(super) fn pin(path: &std::path::Path, error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Pin {
            path: path.to_owned(),
            error: io::Error::other(error),
        }
    }

    pub(super) fn map(name: &'static str, error: impl Into<Box<MapError>>) -> Self {
        Self::Map {
            name,
            error: error.into(),
        }
    }
}
