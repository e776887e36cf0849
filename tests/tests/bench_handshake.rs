//! The handshakes' benchmark, as far as its parts run: what it measures is nothing for a test.

use std::{env, path::PathBuf, process::Command};

use serde_json::Value;

const FIGURES: [&str; 11] = [
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

#[test]
fn every_part_of_the_handshake_benchmark_runs() {
    const NAME: &str = "every_part_of_the_handshake_benchmark_runs";
    let built = env::current_exe().unwrap();
    let built = built.ancestors().nth(2).unwrap();
    let (benchmark, agent) = (built.join("examples/bench-handshake"), built.join("spinegate"));
    let peers = cache().map(|cache| cache.join("spinegate/peers"));
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED {NAME}: namespaces need root");
        return;
    }
    let Some(peers) = peers.filter(|peers| peers.join("stunnel4").is_dir()) else {
        println!(
            "SKIPPED {NAME}: nginx, haproxy and stunnel4 are not there; `cargo xtask setup` unpacks them"
        );
        return;
    };
    assert!(
        benchmark.is_file() && agent.is_file(),
        "`cargo build -p spinegate -p spinegate-tests --bins --examples` builds what this runs"
    );

    let output = Command::new(benchmark)
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
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
    let figures = figures.as_object().unwrap();
    for key in FIGURES {
        let figure = figures[key].as_f64().unwrap();
        // Twenty or thirty connections can find all their memory in what is there already.
        let least = if key.contains("idle") { -100.0 } else { 0.001 };
        assert!(figure.is_finite() && figure >= least, "{key}: {figure}\n{said}");
    }
    assert_eq!(figures.len(), FIGURES.len());
}

fn cache() -> Option<PathBuf> {
    env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
}
