//! Builds the kernel half for its own target and leaves the object where the agent embeds it.
//!
//! Two toolchains can do it: Debian's compiler with its prebuilt `core` for BPF, linked into rustup as `bpf`
//! (`cargo xtask setup` does that), or a nightly with `rust-src`. `SPINEGATE_EBPF_TOOLCHAIN` names another choice.

use std::{
    env,
    ffi::OsString,
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result, bail};
use aya_build::{Package, Toolchain, build_ebpf};

const CHOICE: &str = "SPINEGATE_EBPF_TOOLCHAIN";
const CHOSEN: &str = "SPINEGATE_EBPF_TOOLCHAIN_CHOSEN";
const DEBIAN: &str = "bpf";
const NIGHTLY: &str = "nightly";

fn main() -> Result<ExitCode> {
    match env::var(CHOSEN) {
        Ok(toolchain) => build(&toolchain).map(|()| ExitCode::SUCCESS),
        Err(_) => again_with_environment(&choose()?),
    }
}

/// The build inherits its environment from this process, and a process can't soundly change its own: so run again.
fn again_with_environment(toolchain: &str) -> Result<ExitCode> {
    println!("cargo:rerun-if-env-changed={CHOICE}");
    println!("cargo:rerun-if-changed=../common/src");
    println!("cargo:rerun-if-changed=../ebpf");
    let mut again = Command::new(env::current_exe().context("finding the build script itself")?);
    again.env(CHOSEN, toolchain).env("PATH", path_with_linker()?);
    if toolchain != NIGHTLY {
        // aya-ebpf needs inline assembly for BPF, which stable compilers allow only by name. Naming the crate,
        // and not "1", tells aya-build that `core` is prebuilt.
        again.env("RUSTC_BOOTSTRAP", "aya_ebpf,spinegate_xdp");
    }
    let output = again
        .stderr(Stdio::inherit())
        .output()
        .context("running the build script again")?;
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        if !output.status.success() || !is_progress(line) {
            println!("{line}");
        }
    }
    Ok(if output.status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Whether a line only says what the inner cargo is busy with; aya-build passes those on as warnings.
fn is_progress(line: &str) -> bool {
    const VERBS: [&str; 7] = [
        "Compiling",
        "Finished",
        "Downloading",
        "Downloaded",
        "Updating",
        "Locking",
        "Blocking",
    ];
    line.strip_prefix("cargo:warning=")
        .and_then(|line| line.split_whitespace().next())
        .is_some_and(|verb| VERBS.contains(&verb))
}

fn build(toolchain: &str) -> Result<()> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../ebpf");
    let features: &[&str] = if env::var_os("CARGO_FEATURE_KERNEL_LOG").is_some() {
        &["log"]
    } else {
        &[]
    };
    let package = Package {
        name: "spinegate-ebpf",
        root_dir: root,
        features,
        ..Package::default()
    };
    build_ebpf([package], Toolchain::Custom(toolchain))
        .context("building the kernel half; `cargo xtask setup` installs what it needs")
}

fn choose() -> Result<String> {
    if let Ok(choice) = env::var(CHOICE) {
        return Ok(choice);
    }
    if !succeeds(Command::new("rustup").arg("--version")) {
        return Ok(DEBIAN.to_owned());
    }
    for toolchain in [DEBIAN, NIGHTLY] {
        let mut sysroot = Command::new("rustup");
        sysroot.args(["run", toolchain, "rustc", "--print", "sysroot"]);
        let Some(sysroot) = output(&mut sysroot) else {
            continue;
        };
        let library = PathBuf::from(sysroot).join("lib/rustlib");
        if library.join("bpfel-unknown-none").is_dir() || library.join("src").is_dir() {
            return Ok(toolchain.to_owned());
        }
    }
    bail!("no compiler here can build for BPF: run `cargo xtask setup`")
}

/// `PATH` with the folder in which setup keeps bpf-linker in front.
fn path_with_linker() -> Result<OsString> {
    let cache = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME is set")?;
    let linker = cache.join("spinegate/bpf-linker-0.13.0-llvm22/bin");
    let path = env::var_os("PATH").unwrap_or_default();
    env::join_paths(std::iter::once(linker).chain(env::split_paths(&path))).context("extending PATH")
}

fn succeeds(command: &mut Command) -> bool {
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn output(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
