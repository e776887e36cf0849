//! `cargo xtask test`: everything that must hold, run as far as it goes, and counted at the end.

mod report;

use std::{
    process::{Command, ExitCode},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};

pub(crate) use self::report::Report;
use crate::{
    build,
    command::{Ended, bounded},
    conformance, host, package, threats, vm,
};

const MINUTE: Duration = Duration::from_secs(60);

/// `cargo xtask test`
pub(crate) fn run(allow_skips: bool) -> Result<ExitCode> {
    let mut report = Report::default();
    check(
        &mut report,
        "format",
        5 * MINUTE,
        build::cargo()?.args(["fmt", "--all", "--check"]),
    );
    // Where the guest is emulated it takes ten minutes. What runs beside it is not timed. It is made before anything else is
    // built, as two cargos wait for each other.
    report.begin("what the guest runs");
    let guest =
        vm::Guest::new(vm::Series::Bookworm, vm::Payload::Filter).context("building what the guest runs");
    let guest = thread::spawn(|| run_guest(guest));
    #[rustfmt::skip]
    check(&mut report, "clippy", 20 * MINUTE, build::cargo()?.args(["clippy", "--quiet", "--workspace",
        "--exclude", "spinegate-ebpf", "--all-targets", "--", "-D", "warnings"]));
    check(
        &mut report,
        "clippy of the kernel half",
        10 * MINUTE,
        &mut kernel_clippy()?,
    );
    // One package at a time, so that each test has a name of its own.
    for package in ["xtask", "spinegate-common", "spinegate"] {
        suite(&mut report, package, &[]);
    }
    report.begin("what the lab runs");
    build::binaries().context("building what the lab runs")?;
    package::for_the_suite().context("making the packages that the lab installs")?;
    build::tests("spinegate-tests").context("building the lab's suites")?;
    report_guest(&mut report, guest);
    // The lab's suites are timed, and share the machine's network stack: one after the other, and beside nothing else.
    suite(&mut report, "spinegate-tests", &["--test-threads=1"]);
    conformance::check(&mut report);
    threats::check(&mut report);
    Ok(report.close(allow_skips))
}

/// A step that holds or does not.
fn check(report: &mut Report, name: &str, limit: Duration, command: &mut Command) {
    report.begin(name);
    match bounded(command, limit, |line| println!("{line}")) {
        Ok(ended) if ended.is_success() => report.passed(name),
        Ok(Ended::TimedOut) => report.failed(name, &format!("still running after {} s", limit.as_secs())),
        Ok(Ended::Exit(status)) => report.failed(name, &status.to_string()),
        Err(error) => report.failed(name, &format!("{error:#}")),
    }
}

/// The tests of a package, each counted by its own line.
fn suite(report: &mut Report, package: &str, arguments: &[&str]) {
    report.begin(&format!("tests of {package}"));
    let cargo = build::cargo().map(|mut cargo| {
        cargo
            .args([
                "test",
                "--no-fail-fast",
                "--package",
                package,
                "--",
                "--nocapture",
            ])
            .args(arguments);
        cargo
    });
    let ended = cargo.and_then(|mut cargo| {
        let mut output = report.suite(package);
        let ended = bounded(&mut cargo, 30 * MINUTE, |line| {
            println!("{line}");
            output.line(line);
        });
        output.end(matches!(&ended, Ok(ended) if ended.is_success()));
        ended
    });
    match ended {
        Ok(Ended::Exit(_)) => {}
        Ok(Ended::TimedOut) => report.failed(package, "its tests did not end in time"),
        Err(error) => report.failed(package, &format!("{error:#}")),
    }
}

/// What a guest printed, and whether it succeeded.
type GuestEnded = (Vec<String>, Result<bool>);

/// The packet tables on the oldest kernel that is served.
fn run_guest(guest: Result<vm::Guest>) -> GuestEnded {
    let mut lines = Vec::new();
    let succeeded = guest.and_then(|guest| guest.boot(|line| lines.push(line.to_owned())));
    (lines, succeeded)
}

fn report_guest(report: &mut Report, guest: JoinHandle<GuestEnded>) {
    const NAME: &str = "filter on kernel 6.1";
    report.begin(NAME);
    let ended = guest.join();
    let (lines, succeeded) = ended.unwrap_or_else(|_| (Vec::new(), Err(anyhow!("its thread panicked"))));
    let mut output = report.suite("kernel-6.1");
    for line in &lines {
        println!("{line}");
        output.line(line);
    }
    match succeeded {
        Ok(succeeded) => output.end(succeeded),
        Err(error) => {
            drop(output);
            report.failed(NAME, &format!("{error:#}"));
        }
    }
}

/// Lints of the kernel half need the compiler that builds it, which is Debian's.
fn kernel_clippy() -> Result<Command> {
    let mut clippy = Command::new("/usr/bin/cargo");
    clippy
        .args([
            "clippy",
            "--quiet",
            "--package",
            "spinegate-ebpf",
            "--target",
            "bpfel-unknown-none",
        ])
        .args(["--", "-D", "warnings"])
        .current_dir(host::root())
        .env(
            "PATH",
            format!("/usr/bin:{}", std::env::var("PATH").unwrap_or_default()),
        )
        .env("CARGO_TARGET_DIR", host::target().join("kernel-clippy"))
        .env("RUSTC_BOOTSTRAP", "aya_ebpf,spinegate_xdp")
        .env("CARGO_ENCODED_RUSTFLAGS", "--cfg=bpf_target_arch=\"x86_64\"");
    // What rustup and cargo have set for this process is of the other toolchain.
    for name in ["RUSTC", "RUSTUP_TOOLCHAIN", "CARGO", "RUSTDOC"] {
        clippy.env_remove(name);
    }
    Ok(clippy)
}
