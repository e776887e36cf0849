//! `cargo xtask vm`: the same binaries on a Debian kernel in QEMU, without a disk and without a network.

mod image;
mod kernel;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Result, bail};
use clap::ValueEnum;

use self::{image::Image, kernel::Kernel};
use crate::{
    build,
    command::{Ended, bounded, program},
    host, package, setup,
};

/// A series of Debian kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Series {
    /// Debian 12's own.
    #[value(name = "6.1")]
    Bookworm,
    /// The one in Debian 12's security updates.
    #[value(name = "6.12")]
    Security,
}

/// What the guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Payload {
    /// The packet tables and the lab's suites.
    Test,
    /// The demo.
    Demo,
    /// The packet tables, and what needs devices that a host's own kernel may lack.
    Filter,
    /// The package, installed on a bare Debian in the guest.
    Package,
}

const BOOT_LIMIT: Duration = Duration::from_secs(30);
/// It is emulated where there is no KVM, and `cargo xtask test` runs it beside builds.
const FILTER_LIMIT: Duration = Duration::from_secs(25 * 60);
const LAB_LIMIT: Duration = Duration::from_secs(60 * 60);

/// `cargo xtask vm`
pub(crate) fn run(series: Series, payload: Payload) -> Result<ExitCode> {
    let succeeded = Guest::new(series, payload)?.boot(|line| println!("{line}"))?;
    Ok(if succeeded {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// A guest that is ready to boot.
pub(crate) struct Guest {
    kernel: Kernel,
    accelerator: &'static str,
    payload: Payload,
    image: PathBuf,
    token: String,
}

impl Guest {
    /// Builds what it runs: nothing is built once it is booted.
    pub(crate) fn new(series: Series, payload: Payload) -> Result<Self> {
        let kernel = Kernel::fetch(series)?;
        let folder = host::target().join("vm").join(kernel.release());
        let accelerator = accelerator(&kernel, &folder)?;
        let mut image = Image::new(&folder.join("payload"), &kernel)?;
        let left_out = if accelerator == EMULATED { LEFT_OUT } else { &[] };
        let commands = add_payload(&mut image, payload, left_out)?;
        let token = token();
        Ok(Self {
            image: image.pack(&commands, &token)?,
            kernel,
            accelerator,
            payload,
            token,
        })
    }

    /// Boots it, hands each line of its console to `line`, and tells whether all that it ran succeeded.
    pub(crate) fn boot(&self, mut line: impl FnMut(&str)) -> Result<bool> {
        let limit = match self.payload {
            Payload::Filter => FILTER_LIMIT,
            Payload::Test | Payload::Demo | Payload::Package => LAB_LIMIT,
        };
        line(&format!(
            "kernel {} under QEMU with {}",
            self.kernel.release(),
            self.accelerator
        ));
        let mut status = None;
        let mut fault = None;
        let mut skipped = 0;
        let ended = bounded(
            &mut qemu(&self.kernel, &self.image, self.accelerator),
            limit,
            |text| {
                let text = text.trim_end_matches('\r');
                if let Some(code) = text.strip_prefix(&format!("{} ", self.token)) {
                    status = code.trim().parse::<u8>().ok();
                } else {
                    if ["Kernel panic", "BUG:", "Oops:"]
                        .iter()
                        .any(|sign| text.contains(sign))
                    {
                        fault.get_or_insert_with(|| text.to_owned());
                    }
                    skipped += usize::from(text.starts_with("SKIPPED "));
                    line(text);
                }
            },
        )?;
        match (ended, status, fault) {
            (_, _, Some(fault)) => bail!("the guest's kernel failed: {fault}"),
            (_, Some(0), None) if self.payload == Payload::Package && skipped > 0 => {
                bail!("{skipped} tests of the package were skipped in the guest")
            }
            (_, Some(status), None) => Ok(status == 0),
            (Ended::TimedOut, None, None) => bail!("the guest was not done after {} s", limit.as_secs()),
            (Ended::Exit(status), None, None) => bail!("the guest ended without a result (QEMU: {status})"),
        }
    }
}

/// The lab's suites that need nothing but what the guest has.
const SUITES: &[&str] = &[
    "filter",
    "network",
    "vlan",
    "lockout",
    "tls",
    "requests",
    "control",
    "explain",
    "events",
    "bad_input",
];

/// Where the package's suite finds what it installs, and on what.
const PACKAGES: &str = "/payload/packages";
const CACHE: &str = "/payload/cache";
/// What watches a clock, or loads a machine, as an emulated one can't keep up with.
const LEFT_OUT: &[&str] = &[
    "an_agent_that_dies_or_hangs",
    "systemd_holds_the_ports",
    "upgrade_and_rollback_under_load",
];

/// Puts the binaries into the image; what the guest's shell then runs, a command a line.
fn add_payload(image: &mut Image, payload: Payload, left_out: &[&str]) -> Result<Vec<String>> {
    let mut commands = Vec::new();
    let skips: String = left_out.iter().map(|test| format!(" --skip {test}")).collect();
    if !matches!(payload, Payload::Demo | Payload::Package) {
        let tables = build::test_binary("spinegate", "filter_packets")?;
        let guest = image.add_binary(&tables, "filter_packets")?;
        commands.push("echo '     Running tests/filter_packets.rs'".to_owned());
        // The host compares many more packets; what matters here is the other kernel. It has two processors.
        commands.push(format!(
            "SPINEGATE_PACKETS=2000 {guest} --nocapture --test-threads=2"
        ));
    }
    let binaries = build::binaries()?;
    let agent = image.add_binary(&binaries.agent, "spinegate")?;
    let locator = image.add_binary(&binaries.locator, "record-locator")?;
    let lab = image.add_binary(&binaries.lab, "spinegate-lab")?;
    for tool in [
        "ip", "nsenter", "unshare", "ethtool", "curl", "openssl", "ss", "tcpdump",
    ] {
        image.add_tool(tool)?;
    }
    if payload == Payload::Demo {
        commands.push(format!(
            "{lab} --agent {agent} --locator {locator} --dir /tmp/lab demo"
        ));
    } else {
        // VLAN devices are what a host's own kernel may lack.
        let suites: &[&str] = match payload {
            Payload::Filter => &["vlan"],
            Payload::Package => &["package"],
            _ => SUITES,
        };
        let mut environment = String::new();
        if payload == Payload::Package {
            let tests = left_out
                .iter()
                .map(|test| format!("echo 'left out of an emulated machine: {test}'"));
            commands.extend(tests);
            image.add_tree(
                &setup::guest()?,
                &format!("{CACHE}/spinegate/{}", setup::GUEST_FOLDER),
            )?;
            image.add_tree(&package::for_the_suite()?, PACKAGES)?;
            environment = format!("XDG_CACHE_HOME={CACHE} SPINEGATE_PACKAGES={PACKAGES} ");
        }
        for suite in suites {
            let binary = build::test_binary("spinegate-tests", suite)?;
            let guest = image.add_binary(&binary, suite)?;
            commands.push(format!("echo '     Running tests/{suite}.rs'"));
            commands.push(format!(
                "{environment}{guest} --nocapture --test-threads=1{skips}"
            ));
        }
    }
    Ok(commands)
}

fn qemu(kernel: &Kernel, image: &Path, accelerator: &str) -> std::process::Command {
    let image = image.to_string_lossy();
    let linux = kernel.image().to_string_lossy().into_owned();
    let mut append = "console=ttyS0 panic=-1 quiet loglevel=4 rdinit=/init".to_owned();
    if accelerator == EMULATED {
        append.push_str(SPARED);
    }
    #[rustfmt::skip]
    let arguments = ["-accel", accelerator, "-cpu", "max", "-m", "3072", "-smp", "2", "-display", "none", "-serial", "stdio", "-monitor", "none", "-no-reboot",
        "-nic", "none", "-kernel", &linux, "-initrd", &image, "-append", &append];
    program("qemu-system-x86_64", arguments)
}

/// QEMU's own emulation.
const EMULATED: &str = "tcg";
/// What is dear where every instruction is emulated, and no test asks for: guards against the processor, a fifth level of page
/// tables, memory that is cleared before it is given.
const SPARED: &str = " mitigations=off no5lvl init_on_alloc=0";

/// KVM where a guest really boots with it (the device alone says little), else QEMU's own emulation.
fn accelerator(kernel: &Kernel, folder: &Path) -> Result<&'static str> {
    if !PathBuf::from("/dev/kvm").exists() {
        return Ok(EMULATED);
    }
    let token = token();
    let image = Image::new(&folder.join("probe"), kernel)?.pack(&[], &token)?;
    let mut booted = false;
    bounded(&mut qemu(kernel, &image, "kvm"), BOOT_LIMIT, |line| {
        booted |= line.contains(&token)
    })?;
    Ok(if booted { "kvm" } else { EMULATED })
}

/// A word that no program in the guest prints by chance.
fn token() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("guest-{}-{}", std::process::id(), now.as_nanos())
}
