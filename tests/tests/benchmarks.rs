//! The benchmarks beside other proxies, as far as their parts run: what they measure is nothing for a test.

use std::{env, path::Path, process::Command};

use serde_json::Value;
use spinegate_tests::tools;

const HANDSHAKE: &[&str] = &[
    "floor_ms",
    "full_ms",
    "ratio_floor",
    "ratio_nginx",
    "ratio_haproxy",
    "ratio_stunnel",
    "ratio_nginx_system_openssl",
    "flood_p99_ratio",
    "nginx_flood_p99_ratio",
    "idle_kib_per_conn",
    "haproxy_idle_kib_per_conn",
];

const GATEWAY: &[&str] = &[
    "cpu_us_read",
    "haproxy_cpu_us",
    "nginx_cpu_us",
    "ratio_haproxy",
    "ratio_nginx",
    "rps_1",
    "rps_2",
    "scale_2",
    "mib_ratio_haproxy",
    "p99_ratio_haproxy",
];

#[test]
fn every_part_of_the_handshake_benchmark_runs() {
    every_part_runs(
        "every_part_of_the_handshake_benchmark_runs",
        "handshake",
        HANDSHAKE,
    );
}

#[test]
fn every_part_of_the_gateway_benchmark_runs() {
    every_part_runs("every_part_of_the_gateway_benchmark_runs", "gateway", GATEWAY);
}

#[allow(clippy::unwrap_used, reason = "a test's own failure is its message")]
fn every_part_runs(name: &str, subject: &str, figures: &[&str]) {
    let built = env::current_exe().unwrap();
    let built = built.ancestors().nth(2).unwrap();
    let (benchmark, agent) = (built.join("examples/bench-proxies"), built.join("spinegate"));
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED {name}: namespaces need root");
        return;
    }
    let stunnel = tools::peer("stunnel4").ok();
    let Some(peers) = stunnel.as_deref().and_then(Path::parent) else {
        println!(
            "SKIPPED {name}: nginx, haproxy and stunnel4 are not there; `cargo xtask setup` unpacks them"
        );
        return;
    };
    assert!(
        benchmark.is_file() && agent.is_file(),
        "`cargo build -p spinegate -p spinegate-tests --bins --examples` builds what this runs"
    );

    let output = Command::new(benchmark)
        .arg(subject)
        .arg("--agent")
        .arg(&agent)
        .arg("--agent-system")
        .arg(&agent)
        .arg("--peers")
        .arg(peers)
        .args(["--smoke", "--json"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let found = found.as_object().unwrap();
    for key in figures {
        let figure = found.get(*key).and_then(Value::as_f64).unwrap();
        // Twenty or thirty connections can find all their memory in what is there already, and a few requests through a
        // proxy can be as fast as those without it.
        let least = if key.contains("idle") || key.contains("p99_ratio") {
            -100.0
        } else {
            0.001
        };
        assert!(figure.is_finite() && figure >= least, "{key}: {figure}\n{said}");
    }
    assert_eq!(found.len(), figures.len());
}
