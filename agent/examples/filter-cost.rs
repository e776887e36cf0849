//! What a packet costs: this filter and xdp-filter (package xdp-tools) on the same frames, by BPF_PROG_TEST_RUN.
//!
//! Run by `cargo xtask bench filter`. The runs are interleaved and the medians compared, as machines are noisy; a test
//! run repeats one frame, so caches are warm: compare the ratios, not the nanoseconds.

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use spinegate::{
    config::{Filter as Settings, GuardedService, Service, ServiceProtocol, Source},
    filter::Filter,
};

const ROUNDS: usize = 15;
const REPEAT: u32 = 200_000;
const SOURCES: u32 = 10_000;
const NAMESPACE: &str = "spinegate-bench";

fn main() -> Result<()> {
    let json = std::env::args().any(|argument| argument == "--json");
    let filter = Filter::unattached(&settings(), &settings().sources)?;
    let peer = XdpFilter::load()?;
    let mut measured: Vec<Row> = frames().into_iter().map(Row::new).collect();
    for _ in 0..ROUNDS {
        for row in &mut measured {
            let (_, ours) = filter.test(&row.frame, REPEAT)?;
            row.ours.push(u64::try_from(ours.as_nanos())?);
            row.theirs.push(peer.run(&row.frame)?);
        }
    }
    drop(peer);
    print(&measured, json);
    Ok(())
}

struct Row {
    name: &'static str,
    frame: Vec<u8>,
    ours: Vec<u64>,
    theirs: Vec<u64>,
}

impl Row {
    fn new((name, frame): (&'static str, Vec<u8>)) -> Self {
        Self {
            name,
            frame,
            ours: Vec::new(),
            theirs: Vec::new(),
        }
    }
}

fn median(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn print(rows: &[Row], json: bool) {
    let mut text = String::new();
    for row in rows {
        let (ours, theirs) = (median(&row.ours), median(&row.theirs));
        let ratio = ours as f64 / theirs.max(1) as f64;
        let _ = if json {
            writeln!(
                text,
                "{{\"frame\":\"{}\",\"spinegate_ns\":{ours},\"xdp_filter_ns\":{theirs},\"ratio\":{ratio:.2}}}",
                row.name
            )
        } else {
            writeln!(
                text,
                "{:<28} spinegate {ours:>4} ns  xdp-filter {theirs:>4} ns  ratio {ratio:.2}",
                row.name
            )
        };
    }
    print!("{text}");
}

fn settings() -> Settings {
    Settings {
        max_sources: 1 << 14,
        services: vec![GuardedService::everywhere(Service {
            protocol: ServiceProtocol::Tcp,
            port: 443,
        })],
        sources: addresses().map(|address| source(&address)).collect(),
        ..Settings::default()
    }
}

/// The allowlist of both: 10.0.0.1, 10.0.1.1, … as host routes, which is all that xdp-filter has.
fn addresses() -> impl Iterator<Item = String> {
    (0..SOURCES).map(|number| format!("10.{}.{}.1", number >> 8, number & 0xff))
}

fn source(address: &str) -> Source {
    Source::new(format!("{address}/32").parse().unwrap_or_default(), address)
}

fn frames() -> Vec<(&'static str, Vec<u8>)> {
    let syn = |source: [u8; 4], port: u16| {
        let mut frame = Vec::new();
        let step = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(source, [10, 255, 0, 1], 64);
        // Writing to memory can't fail.
        let _ = step.tcp(40000, port, 1, 1024).syn().write(&mut frame, &[]);
        frame
    };
    let ack = |source: [u8; 4], port: u16| {
        let mut frame = Vec::new();
        let step = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(source, [10, 255, 0, 1], 64);
        let _ = step.tcp(40000, port, 1, 1024).ack(1).write(&mut frame, &[]);
        frame
    };
    vec![
        ("ACK, listed, guarded port", ack([10, 1, 44, 1], 443)),
        ("SYN, listed, guarded port", syn([10, 1, 44, 1], 443)),
        ("SYN, stranger, guarded port", syn([198, 51, 100, 9], 443)),
        ("SYN, stranger, unguarded port", syn([198, 51, 100, 9], 22)),
    ]
}

/// xdp-filter in a namespace of its own: default deny, the same sources allowed.
struct XdpFilter {
    program: String,
    frame: tempfile::NamedTempFile,
}

impl XdpFilter {
    fn load() -> Result<Self> {
        Self::clean();
        sh("ip", &["netns", "add", NAMESPACE])?;
        sh(
            "ip",
            &[
                "-n", NAMESPACE, "link", "add", "bench0", "type", "veth", "peer", "name", "bench1",
            ],
        )?;
        sh("ip", &["-n", NAMESPACE, "link", "set", "bench0", "up"])?;
        sh("ip", &["-n", NAMESPACE, "link", "set", "bench1", "up"])?;
        inside(&["xdp-filter", "load", "-p", "deny", "-f", "ipv4", "bench0"])?;
        for address in addresses() {
            inside(&["xdp-filter", "ip", "-m", "src", &address])?;
        }
        let programs = sh("bpftool", &["-j", "prog", "show"])?;
        let programs: serde_json::Value = serde_json::from_str(&programs)?;
        let named = programs.as_array().into_iter().flatten().rev().find(|program| {
            program
                .get("name")
                .and_then(|name| name.as_str())
                .is_some_and(|name| name.starts_with("xdpfilt"))
        });
        let id = named
            .and_then(|program| program.get("id"))
            .context("xdp-filter's program is not loaded")?;
        Ok(Self {
            program: id.to_string(),
            frame: tempfile::NamedTempFile::new()?,
        })
    }

    fn run(&self, frame: &[u8]) -> Result<u64> {
        fs::write(self.frame.path(), frame)?;
        let path = self.frame.path().to_string_lossy();
        let repeat = REPEAT.to_string();
        let run = [
            "-j",
            "prog",
            "run",
            "id",
            &self.program,
            "data_in",
            &path,
            "repeat",
            &repeat,
        ];
        let answer: serde_json::Value = serde_json::from_str(&sh("bpftool", &run)?)?;
        answer
            .get("duration")
            .and_then(serde_json::Value::as_u64)
            .context("bpftool says no duration")
    }

    fn clean() {
        if Path::new("/run/netns").join(NAMESPACE).exists() {
            let _ = inside(&["xdp-filter", "unload", "-a"]);
            let _ = sh("ip", &["netns", "delete", NAMESPACE]);
        }
    }
}

impl Drop for XdpFilter {
    fn drop(&mut self) {
        Self::clean();
    }
}

fn inside(command: &[&str]) -> Result<String> {
    // Not `ip netns exec`: it hides the BPF file system, which xdp-filter pins its maps to.
    let net = format!("--net=/run/netns/{NAMESPACE}");
    sh("nsenter", &[&[net.as_str()], command].concat())
}

fn sh(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("running {program}"))?;
    if !output.status.success() {
        bail!(
            "{program} {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
