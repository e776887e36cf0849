//! What has to be on the machine, and putting there what is not.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::{
    command::{output, program, run as run_command, succeeds},
    debian, host,
};

/// Debian packages, each with what it is for.
const PACKAGES: &[(&str, &str)] = &[
    ("build-essential", "links Rust programs and builds C parts"),
    ("pkg-config", "finds OpenSSL and SQLite"),
    ("libssl-dev", "OpenSSL, for the agent's TLS"),
    ("libsqlite3-dev", "SQLite, for the lab's record locator"),
    ("rustc-web", "compiles the kernel half"),
    ("cargo-web", "builds the kernel half"),
    ("libstd-rust-web-dev-bpf", "the core library for BPF, prebuilt"),
    ("rust-web-clippy", "lints the kernel half"),
    ("llvm-22-dev", "bpf-linker's LLVM, the compiler's own version"),
    ("libpolly-22-dev", "a part of that LLVM"),
    ("zlib1g-dev", "a part of that LLVM"),
    ("libzstd-dev", "a part of that LLVM"),
    ("libxml2-dev", "a part of that LLVM"),
    (
        "bpftool",
        "shows programs and maps, for the benchmark and for people",
    ),
    ("xdp-tools", "xdp-filter, the benchmark's peer"),
    ("nftables", "nft, the benchmark's other peer"),
    ("ethtool", "the benchmark's interfaces"),
    ("iproute2", "namespaces and interfaces of the lab"),
    ("iperf3", "the lab's load while the agent is killed and upgraded"),
    ("ethtool", "turns off what the lab's interfaces do with VLAN tags"),
    ("curl", "the lab's HTTP client"),
    ("openssl", "the lab's TLS client"),
    ("python3-venv", "the lab's TLS probes and scanners"),
    ("testssl.sh", "one of these scanners"),
    ("tcpdump", "reads the captures of drop events in the lab"),
    ("qemu-system-x86", "virtual machines with other kernels"),
    ("busybox-static", "the virtual machine's commands"),
    ("cpio", "packs the virtual machine's file system"),
    (
        "util-linux",
        "namespaces and scheduling of the handshakes' benchmark",
    ),
    ("mmdebstrap", "the bare Debian that the package is installed on"),
    ("liblua5.3-0", "a library of haproxy"),
    ("libopentracing-c-wrapper0", "a library of haproxy"),
    ("libpcre2-8-0", "a library of nginx and haproxy"),
    ("libwrap0", "a library of stunnel4 and slapd"),
    ("libldap-2.5-0", "a library of slapd"),
    ("libsasl2-2", "a library of slapd"),
    ("libltdl7", "a library of slapd"),
];

/// The handshakes' benchmark and the lab's suites run these by themselves, in namespaces of their own. They are unpacked and
/// not installed, as a package that is installed starts its service, here on ports of the host.
const PEERS: &[&str] = &["nginx", "haproxy", "stunnel4", "slowhttptest", "prometheus"];

/// The lab's LDAP server and its client, unpacked for the same reason.
const DIRECTORY: &[&str] = &["slapd", "ldap-utils"];

const LINKER: &str = "bpf-linker";
const LINKER_VERSION: &str = "0.13.0";
const LLVM: &str = "/usr/lib/llvm-22";
const TOOLCHAIN: &str = "bpf";

const CARGO_DEB: &str = "cargo-deb";
const CARGO_DEB_VERSION: &str = "3.8.0";

/// The bare Debian for the suite of the package: what boots, and what the package depends on.
const GUEST: &str = "systemd,systemd-sysv,libssl3,logrotate";
/// Its name in the cache; another one where what it holds changes, so that it is made anew.
pub(crate) const GUEST_FOLDER: &str = "guests/bookworm-1";

const PYTHON: &str = "/usr/bin/python3";
/// The lab's tools in Python, with their versions.
const REQUIREMENTS: &str = "tests/probes/requirements.txt";

/// Installs what is missing; says each step and why. Says nothing where nothing is missing, unless asked what it would do.
pub(crate) fn run(dry_run: bool) -> Result<()> {
    let Missing { first, lanes } = missing()?;
    let steps: Vec<&Step> = first.iter().chain(lanes.iter().flatten()).collect();
    if steps.is_empty() {
        if dry_run {
            println!("setup: nothing is missing");
        }
        return Ok(());
    }
    for step in &steps {
        println!("setup: {}: {}", step.why, step.shown());
    }
    if dry_run {
        return Ok(());
    }
    if steps.iter().any(|step| step.as_root) && !host::is_root() {
        let commands: Vec<_> = steps
            .iter()
            .filter(|step| step.as_root)
            .map(|step| format!("  sudo {}", step.shown()))
            .collect();
        bail!(
            "this needs root; run\n{}\nand then again what you ran",
            commands.join("\n")
        );
    }
    take(first)?;
    thread::scope(|scope| {
        let lanes: Vec<_> = lanes.into_iter().map(|lane| scope.spawn(|| take(lane))).collect();
        lanes.into_iter().try_for_each(|lane| {
            lane.join()
                .unwrap_or_else(|_| Err(anyhow!("a step of setup panicked")))
        })
    })
}

fn take(steps: Vec<Step>) -> Result<()> {
    steps.into_iter().try_for_each(Step::take)
}

/// `PATH` for builds: with the linker for BPF programs.
pub(crate) fn path() -> Result<std::ffi::OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(linker_root()?.join("bin")).chain(std::env::split_paths(&path));
    std::env::join_paths(folders).context("extending PATH")
}

/// The program that makes Debian packages.
pub(crate) fn cargo_deb() -> Result<PathBuf> {
    Ok(cargo_deb_root()?.join("bin").join(CARGO_DEB))
}

/// The folder of the bare Debian.
pub(crate) fn guest() -> Result<PathBuf> {
    Ok(host::cache()?.join(GUEST_FOLDER))
}

/// The folder of the unpacked [`PEERS`].
pub(crate) fn peers() -> Result<PathBuf> {
    Ok(host::cache()?.join("peers"))
}

/// What has to be done before all else, and then what can be done at the same time: one lane waits for downloads while
/// another compiles.
struct Missing {
    first: Vec<Step>,
    lanes: [Vec<Step>; 3],
}

struct Step {
    why: String,
    as_root: bool,
    /// A failure does not matter if what comes after succeeds.
    may_fail: bool,
    environment: Vec<(&'static str, String)>,
    words: Vec<String>,
    /// Where a package is to be unpacked, instead of what the words say.
    unpack: Option<(&'static str, PathBuf)>,
}

impl Step {
    fn new(why: impl Into<String>, words: &[&str]) -> Self {
        Self {
            why: why.into(),
            as_root: false,
            may_fail: false,
            environment: Vec::new(),
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            unpack: None,
        }
    }

    /// Compiles a tool, in a folder of its own: a target folder or a target of the caller's is not meant for it. Tools run for
    /// seconds, so what they take to build counts for more than their speed.
    fn compile(why: &str, words: &[&str]) -> Result<Self> {
        let mut step = Self::new(why, words);
        let folder = host::cache()?.join("build").to_string_lossy().into_owned();
        step.environment = vec![
            ("CARGO_TARGET_DIR", folder),
            ("CARGO_PROFILE_RELEASE_LTO", "off".to_owned()),
            ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1".to_owned()),
            ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16".to_owned()),
        ];
        Ok(step)
    }

    fn unpack(why: &str, package: &'static str, folder: PathBuf) -> Self {
        let shown = format!("(unpacked into {}, not installed)", folder.display());
        let words = ["apt-get", "download", package, &shown];
        let mut step = Self::new(why, &words);
        step.unpack = Some((package, folder));
        step
    }

    fn shown(&self) -> String {
        let environment = self
            .environment
            .iter()
            .map(|(name, value)| format!("{name}='{value}'"));
        environment
            .chain(self.words.iter().cloned())
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn take(self) -> Result<()> {
        if let Some((package, folder)) = &self.unpack {
            return debian::unpack(package, folder);
        }
        let [name, arguments @ ..] = self.words.as_slice() else {
            return Ok(());
        };
        let mut command = program(name, arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        match run_command(&mut command) {
            Err(error) if self.may_fail => {
                println!("setup: {error:#}; going on, the packages may be there all the same");
                Ok(())
            }
            ended => ended,
        }
    }
}

fn missing() -> Result<Missing> {
    let mut first = packages()?;
    if has_rustup() && !has_toolchain(TOOLCHAIN) && !nightly_can_build() {
        first.push(Step::new(
            "Debian's compiler as a toolchain of rustup's, for the kernel half",
            &["rustup", "toolchain", "link", TOOLCHAIN, "/usr"],
        ));
    }
    // Both are built in one folder.
    let compiled = linker()?.into_iter().chain(cargo_deb_itself()?).collect();
    let debian = unpacked()?.into_iter().chain(guest_itself()?).collect();
    Ok(Missing {
        first,
        lanes: [compiled, debian, python_tools()?],
    })
}

/// Debian packages that are to be installed.
fn packages() -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    let missing = missing_packages()?;
    if !missing.is_empty() {
        let mut update = Step::new("package lists may be old", &["apt-get", "update", "-qq"]);
        update.as_root = true;
        update.may_fail = true;
        steps.push(update);
        let why: Vec<_> = missing
            .iter()
            .map(|(name, why)| format!("{name} ({why})"))
            .collect();
        let install = ["apt-get", "install", "--yes", "-qq", "--no-install-recommends"];
        let words: Vec<&str> = install
            .into_iter()
            .chain(missing.iter().map(|(name, _)| *name))
            .collect();
        let mut install = Step::new(why.join(", "), &words);
        install.as_root = true;
        install
            .environment
            .push(("DEBIAN_FRONTEND", "noninteractive".to_owned()));
        steps.push(install);
    }
    Ok(steps)
}

/// Debian packages that are only unpacked.
fn unpacked() -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    let unpacked = [
        ("a peer of benchmarks and suites", PEERS, peers()?),
        (
            "the lab's LDAP server",
            DIRECTORY,
            host::cache()?.join("directory"),
        ),
    ];
    for (why, packages, place) in unpacked {
        for package in packages {
            let folder = place.join(package);
            if !folder.exists() {
                steps.push(Step::unpack(why, package, folder));
            }
        }
    }
    Ok(steps)
}

/// The linker for BPF programs.
fn linker() -> Result<Option<Step>> {
    let root = linker_root()?;
    if root.join("bin").join(LINKER).exists() {
        return Ok(None);
    }
    let root = root.to_string_lossy().into_owned();
    #[rustfmt::skip]
    let words = ["cargo", "install", LINKER, "--version", LINKER_VERSION, "--no-default-features",
        "--features", "llvm-22", "--root", &root];
    let mut install = Step::compile("the linker for BPF programs", &words)?;
    let path = std::env::var("PATH").unwrap_or_default();
    install.environment.push(("PATH", format!("{LLVM}/bin:{path}")));
    // Without it the linking of the linker does not find LLVM's library.
    install.environment.push(("RUSTFLAGS", format!("-L {LLVM}/lib")));
    Ok(Some(install))
}

/// The program that makes the package.
fn cargo_deb_itself() -> Result<Option<Step>> {
    if cargo_deb()?.exists() {
        return Ok(None);
    }
    let root = cargo_deb_root()?.to_string_lossy().into_owned();
    #[rustfmt::skip]
    let words = ["cargo", "install", CARGO_DEB, "--version", CARGO_DEB_VERSION, "--locked", "--no-default-features",
        "--quiet", "--root", &root];
    Step::compile("the program that makes the Debian package", &words).map(Some)
}

/// What the package is installed on in its suite.
fn guest_itself() -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    let guest = guest()?;
    if !guest.exists() {
        let draft = guest.with_extension("draft").to_string_lossy().into_owned();
        let guest = guest.to_string_lossy().into_owned();
        let (why, include) = (
            "the bare Debian that the package is installed on",
            format!("--include={GUEST}"),
        );
        // What an interrupted one left is in the way.
        let folder = host::cache()?.join("guests").to_string_lossy().into_owned();
        let listed = package_sources()?;
        let sources: Vec<&str> = listed.iter().map(String::as_str).collect();
        #[rustfmt::skip]
        let commands = [
            vec!["rm", "-rf", "--one-file-system", &draft],
            vec!["mkdir", "-p", &folder],
            [vec!["mmdebstrap", "--quiet", "--variant=minbase", &include, "bookworm", &draft], sources].concat(),
            vec!["mv", &draft, &guest],
        ];
        steps.extend(commands.iter().map(|words| {
            let mut step = Step::new(why, words);
            step.as_root = true;
            step
        }));
    }
    Ok(steps)
}

/// Where this host has its own packages from: a bare Debian comes from there, too.
fn package_sources() -> Result<Vec<String>> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(folder) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(folder.flatten().map(|entry| entry.path()));
    }
    let is_list = |file: &PathBuf| {
        file.extension()
            .is_some_and(|ending| ending == "list" || ending == "sources")
    };
    let of_debian = |file: &PathBuf| {
        fs::read_to_string(file).is_ok_and(|text| text.split_whitespace().any(|word| word == "bookworm"))
    };
    let files: Vec<String> = files
        .into_iter()
        .filter(|file| is_list(file) && of_debian(file))
        .map(|file| file.to_string_lossy().into_owned())
        .collect();
    if files.is_empty() {
        bail!(
            "no file in /etc/apt names a source of Debian 12 (bookworm): the bare Debian can't be had from there"
        );
    }
    Ok(files)
}

fn cargo_deb_root() -> Result<PathBuf> {
    Ok(host::cache()?.join(format!("{CARGO_DEB}-{CARGO_DEB_VERSION}")))
}

/// The virtual environment that the suites find their tools in. Its copy of the requirements is written last, so that one
/// that was not finished, or has other versions, is made anew.
fn python_tools() -> Result<Vec<Step>> {
    let requirements = host::root().join(REQUIREMENTS);
    let wanted = fs::read(&requirements).with_context(|| format!("reading {}", requirements.display()))?;
    let folder = host::cache()?.join("tools");
    let installed = folder.join("requirements.txt");
    if fs::read(&installed).is_ok_and(|installed| installed == wanted) {
        return Ok(Vec::new());
    }
    let pip = folder.join("bin/pip").to_string_lossy().into_owned();
    let [folder, requirements, installed] =
        [folder, requirements, installed].map(|path| path.to_string_lossy().into_owned());
    let why = "the lab's TLS probes and scanners";
    Ok(vec![
        Step::new(why, &[PYTHON, "-m", "venv", "--clear", &folder]),
        Step::new(why, &[&pip, "install", "--quiet", "--requirement", &requirements]),
        Step::new(why, &["cp", &requirements, &installed]),
    ])
}

fn missing_packages() -> Result<Vec<(&'static str, &'static str)>> {
    if !Path::new("/usr/bin/dpkg-query").exists() {
        let names: Vec<_> = PACKAGES.iter().map(|(name, _)| *name).collect();
        bail!(
            "setup knows Debian alone; install the like of these yourself: {}",
            names.join(", ")
        );
    }
    let mut query = program(
        "dpkg-query",
        ["--show", "--showformat=${db:Status-Abbrev} ${binary:Package}\n"],
    );
    let installed = installed(&output(&mut query)?);
    Ok(PACKAGES
        .iter()
        .copied()
        .filter(|(name, _)| !installed.contains(*name))
        .collect())
}

/// The names of the installed packages, without their architecture.
fn installed(listing: &str) -> HashSet<String> {
    let lines = listing.lines().filter_map(|line| line.strip_prefix("ii "));
    lines
        .filter_map(|line| Some(line.trim().split(':').next()?.to_owned()))
        .collect()
}

fn linker_root() -> Result<PathBuf> {
    Ok(host::cache()?.join(format!("{LINKER}-{LINKER_VERSION}-llvm22")))
}

fn has_rustup() -> bool {
    succeeds(&mut program("rustup", ["--version"]))
}

fn has_toolchain(name: &str) -> bool {
    sysroot(name).is_some()
}

/// Where a nightly has the library's source, it builds the kernel half by itself.
fn nightly_can_build() -> bool {
    sysroot("nightly").is_some_and(|sysroot| sysroot.join("lib/rustlib/src").is_dir())
}

/// A toolchain that rustup has; it is not to fetch one.
fn sysroot(toolchain: &str) -> Option<PathBuf> {
    let mut command = Command::new("rustup");
    command
        .args(["run", toolchain, "rustc", "--print", "sysroot"])
        .env("RUSTUP_AUTO_INSTALL", "0");
    output(&mut command).ok().map(|path| PathBuf::from(path.trim()))
}

#[cfg(test)]
mod tests {
    use super::installed;

    #[test]
    fn only_packages_that_are_wholly_installed_count() {
        let listing = "ii  curl\nii  libssl-dev:amd64\nrc  cpio\nun  qemu-system-x86\niU  bpftool\n";
        let mut names: Vec<_> = installed(listing).into_iter().collect();
        names.sort();
        assert_eq!(names, ["curl", "libssl-dev"]);
    }
}
