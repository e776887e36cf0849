//! The kernel and what this process may do with it.

use std::{fs, path::Path};

use super::{
    Finding,
    clock::{self, Clock},
};

/// The oldest kernel on which the filter is tested.
const OLDEST: (u32, u32) = (6, 1);
/// From it on, BPF memory counts for the control group and no longer for `RLIMIT_MEMLOCK`.
const WITHOUT_MEMLOCK: (u32, u32) = (5, 11);
/// What maps and programs take, by and large.
const MEMLOCK: u64 = 512 << 20;
/// A token lasts five minutes: a clock may not be off by a good part of that.
const MAX_ERROR_US: i64 = 10_000_000;

/// linux/capability.h
const CAPABILITIES: [(&str, u32); 4] = [
    ("CAP_NET_BIND_SERVICE", 10),
    ("CAP_NET_ADMIN", 12),
    ("CAP_PERFMON", 38),
    ("CAP_BPF", 39),
];

/// What was found of the host; none where the kernel does not tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Host {
    release: String,
    btf: bool,
    jit: Option<String>,
    capabilities: Option<u64>,
    /// In bytes; none: as much as is wanted.
    memlock: Option<u64>,
    clock: Option<Clock>,
}

impl Host {
    pub(super) fn read() -> Self {
        let text = |file: &str| fs::read_to_string(file).ok().map(|text| text.trim().to_owned());
        let limits = text("/proc/self/limits").unwrap_or_default();
        Self {
            release: text("/proc/sys/kernel/osrelease").unwrap_or_default(),
            btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
            jit: text("/proc/sys/net/core/bpf_jit_enable"),
            capabilities: text("/proc/self/status").and_then(|status| effective(&status)),
            memlock: memlock(&limits),
            clock: clock::read(),
        }
    }

    fn is_before(&self, version: (u32, u32)) -> bool {
        version_of(&self.release).is_none_or(|found| found < version)
    }
}

/// The first two numbers of a kernel's release.
fn version_of(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// The effective capabilities in proc_pid_status(5).
fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// The soft limit in proc_pid_limits(5).
fn memlock(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max locked memory"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// `filtered`: the configuration wants the filter. `running`: an agent runs, and has shown that it may.
pub(super) fn judge(host: &Host, filtered: bool, running: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    if filtered {
        findings.extend([
            kernel(host),
            btf(host),
            jit(host),
            capabilities(host, running),
            locked(host),
        ]);
    } else {
        let detail = "filter.mode is \"off\": the kernel guards nothing, and is not looked at";
        findings.push(Finding::warn("kernel", detail, "set filter.mode = \"enforce\""));
    }
    findings.push(time(host));
    findings
}

fn kernel(host: &Host) -> Finding {
    let release = &host.release;
    if host.is_before(OLDEST) {
        let (major, minor) = OLDEST;
        let mend = format!("run a kernel {major}.{minor} or newer, as Debian 12 has it");
        return Finding::fail(
            "kernel",
            format!("{release:?} is older than the filter is tested on"),
            mend,
        );
    }
    Finding::ok("kernel", release.clone())
}

fn btf(host: &Host) -> Finding {
    if host.btf {
        return Finding::ok("btf", "/sys/kernel/btf/vmlinux is there");
    }
    let mend = "run a kernel built with CONFIG_DEBUG_INFO_BTF, and mount /sys";
    Finding::fail(
        "btf",
        "/sys/kernel/btf/vmlinux is not there: no program can be loaded",
        mend,
    )
}

fn jit(host: &Host) -> Finding {
    let mend = "`sysctl -w net.core.bpf_jit_enable=1`, and keep it in /etc/sysctl.d";
    match host.jit.as_deref() {
        Some("1") => Finding::ok("bpf_jit", "programs are compiled"),
        Some("0") => {
            let detail = "programs are interpreted: each packet costs several times as much";
            Finding::warn("bpf_jit", detail, mend)
        }
        Some("2") => {
            let detail = "programs are compiled, and each is written to the kernel's log";
            Finding::warn("bpf_jit", detail, mend)
        }
        _ => {
            let mend = "run as root: `sysctl net.core.bpf_jit_enable` should be 1";
            Finding::warn("bpf_jit", "whether programs are compiled is not known", mend)
        }
    }
}

fn capabilities(host: &Host, running: bool) -> Finding {
    const CHECK: &str = "capabilities";
    let Some(held) = host.capabilities else {
        return Finding::warn(CHECK, "what this user may is not known", "mount /proc");
    };
    let missing: Vec<_> = CAPABILITIES
        .iter()
        .filter(|(_, number)| held & (1 << number) == 0)
        .map(|(name, _)| *name)
        .collect();
    if missing.is_empty() {
        return Finding::ok(CHECK, "this user has all that are needed");
    }
    let missing = missing.join(", ");
    if running {
        let detail = format!("this user has no {missing}; the running agent had what it needed");
        return Finding::ok(CHECK, detail);
    }
    let mend = "start it as root, or by its systemd unit, which gives them";
    Finding::fail(CHECK, format!("this user has no {missing}"), mend)
}

fn locked(host: &Host) -> Finding {
    const CHECK: &str = "memlock";
    if !host.is_before(WITHOUT_MEMLOCK) {
        return Finding::ok(CHECK, "this kernel counts maps for the control group");
    }
    match host.memlock {
        Some(limit) if limit < MEMLOCK => Finding::fail(
            CHECK,
            format!("{} KiB may be locked: too little for the maps", limit / 1024),
            "`LimitMEMLOCK=infinity` in the unit, or `ulimit -l unlimited`",
        ),
        _ => Finding::ok(CHECK, "enough may be locked for the maps"),
    }
}

fn time(host: &Host) -> Finding {
    const CHECK: &str = "clock";
    let mend = "run chrony or systemd-timesyncd: certificates, CRLs and tokens are judged by this clock";
    match host.clock {
        None => Finding::warn(CHECK, "whether something keeps it right is not known", mend),
        Some(clock) if !clock.synchronised => Finding::warn(CHECK, "nothing keeps it right", mend),
        Some(clock) if clock.max_error_us > MAX_ERROR_US => {
            let seconds = clock.max_error_us / 1_000_000;
            Finding::warn(CHECK, format!("it may be off by {seconds} s"), mend)
        }
        Some(clock) => {
            let millis = clock.max_error_us / 1000;
            Finding::ok(CHECK, format!("kept right, to {millis} ms at most"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Health;

    fn good() -> Host {
        Host {
            release: "6.1.0-28-amd64".to_owned(),
            btf: true,
            jit: Some("1".to_owned()),
            capabilities: Some(u64::MAX),
            memlock: Some(8 << 20),
            clock: Some(Clock {
                synchronised: true,
                max_error_us: 20_000,
            }),
        }
    }

    fn outcome(host: &Host, check: &str) -> (Health, bool) {
        let found = judge(host, true, false);
        let finding = found.iter().find(|finding| finding.check == check).unwrap();
        (finding.outcome, finding.mend.is_some())
    }

    #[test]
    fn a_good_host_is_in_order() {
        for finding in judge(&good(), true, false) {
            assert_eq!(
                (finding.outcome, finding.mend.is_none()),
                (Health::Ok, true),
                "{finding:?}"
            );
        }
    }

    #[test]
    fn each_fault_of_a_host_is_found_with_its_mend() {
        let clock = |synchronised, max_error_us| {
            Some(Clock {
                synchronised,
                max_error_us,
            })
        };
        let jit = |jit: &str| Some(jit.to_owned());
        let table: [(&str, Host, Health); 12] = [
            (
                "kernel",
                Host {
                    release: "5.15.0".to_owned(),
                    ..good()
                },
                Health::Fail,
            ),
            (
                "kernel",
                Host {
                    release: String::new(),
                    ..good()
                },
                Health::Fail,
            ),
            ("btf", Host { btf: false, ..good() }, Health::Fail),
            (
                "bpf_jit",
                Host {
                    jit: jit("0"),
                    ..good()
                },
                Health::Warn,
            ),
            (
                "bpf_jit",
                Host {
                    jit: jit("2"),
                    ..good()
                },
                Health::Warn,
            ),
            ("bpf_jit", Host { jit: None, ..good() }, Health::Warn),
            (
                "capabilities",
                Host {
                    capabilities: Some(!(1 << 39)),
                    ..good()
                },
                Health::Fail,
            ),
            (
                "capabilities",
                Host {
                    capabilities: None,
                    ..good()
                },
                Health::Warn,
            ),
            (
                "memlock",
                Host {
                    release: "5.10.0".to_owned(),
                    ..good()
                },
                Health::Fail,
            ),
            (
                "clock",
                Host {
                    clock: None,
                    ..good()
                },
                Health::Warn,
            ),
            (
                "clock",
                Host {
                    clock: clock(false, 0),
                    ..good()
                },
                Health::Warn,
            ),
            (
                "clock",
                Host {
                    clock: clock(true, 11_000_000),
                    ..good()
                },
                Health::Warn,
            ),
        ];
        for (check, host, expected) in table {
            assert_eq!(outcome(&host, check), (expected, true), "{check}: {host:?}");
        }
    }

    #[test]
    fn a_reader_beside_a_running_agent_needs_no_capabilities() {
        let host = Host {
            capabilities: Some(0),
            ..good()
        };
        let found = judge(&host, true, true);
        let finding = found
            .iter()
            .find(|finding| finding.check == "capabilities")
            .unwrap();
        assert_eq!(finding.outcome, Health::Ok);
        assert!(finding.detail.contains("CAP_BPF"), "{finding:?}");
    }

    #[test]
    fn without_a_filter_the_kernel_is_not_looked_at() {
        let found = judge(&Host::default(), false, false);
        assert!(
            found.iter().all(|finding| finding.outcome == Health::Warn),
            "{found:?}"
        );
    }

    #[test]
    fn what_the_kernel_writes_is_read() {
        assert_eq!(version_of("6.12.9+bpo-cloud-amd64"), Some((6, 12)));
        assert_eq!(version_of("6"), None);
        assert_eq!(
            effective("Name:\tx\nCapEff:\t000001ffffffffff\n"),
            Some(0x1ff_ffff_ffff)
        );
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax locked memory         8388608              8388608              bytes\n";
        assert_eq!(memlock(limits), Some(8 << 20));
        assert_eq!(memlock("Max locked memory  unlimited  unlimited  bytes"), None);
        let here = Host::read();
        assert!(
            version_of(&here.release).is_some() && here.capabilities.is_some(),
            "{here:?}"
        );
    }
}
