//! What a registry of a million systems costs: to be loaded from disk, to be held, to be asked. Run by
//! `cargo xtask bench registry`.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use openssl::sha::Sha256;
use serde_json::json;
use spinegate::{
    config::{self, Fqdns, Ldap, MaxShrink, SecureUrl, UpstreamTls},
    directory::{Directory, Order},
    nrl::Asid,
    registry::{Registry, Source},
};

const SYSTEMS: u64 = 1_000_000;
/// The first ASID.
const FIRST: u64 = 200_000_000_000;
/// Sets of interactions, and organisations, that the systems share.
const SETS: u64 = 40;
const ORGANISATIONS: u64 = 9_000;
const INTERACTIONS: u64 = 12;
/// Lookups, half of them of ASIDs that nobody has.
const LOOKUPS: usize = 2_000_000;
/// Systems that are at work at a time: what is looked up again and again.
const AT_WORK: u64 = 1_000;
const BASE: &str = "ou=services,o=nhs";

fn main() -> Result<()> {
    let json = std::env::args().any(|argument| argument == "--json");
    let folder = std::env::temp_dir().join(format!("spinegate-bench-registry-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let measured = measure(&folder);
    fs::remove_dir_all(&folder)?;
    let figures = measured?;
    if json {
        println!("{}", serde_json::to_string_pretty(&figures)?);
    } else {
        for (name, value) in &figures {
            println!("{name}: {value}");
        }
    }
    Ok(())
}

fn measure(folder: &Path) -> Result<BTreeMap<&'static str, f64>> {
    let settings = settings(folder)?;
    let origin = settings.ldap.as_ref().map(|ldap| format!("{} {BASE}", ldap.url));
    write(&folder.join("ldap.jsonl"), &origin.context("no server")?)?;
    let (order, _) =
        Order::load(&settings, SystemTime::now()).map_err(|problems| anyhow::anyhow!("{problems:?}"))?;

    let before = resident()?;
    let begun = Instant::now();
    let registry = Directory::kept(order);
    let load = begun.elapsed();
    ensure!(registry.len() as u64 == SYSTEMS, "{} systems", registry.len());
    let held = resident()?.saturating_sub(before);

    // The first round warms the caches, as far as they go.
    lookups(&registry, AT_WORK)?;
    let warm = sorted(lookups(&registry, AT_WORK)?);
    let any = sorted(lookups(&registry, SYSTEMS)?);
    let clock = quantile(
        &sorted((0..LOOKUPS).map(|_| nanoseconds(Instant::now())).collect()),
        0.5,
    );
    let at = |times: &[u32], share| f64::from(quantile(times, share).saturating_sub(clock));
    eprintln!(
        "{SYSTEMS} systems, each with an FQDN of its own; {SETS} sets of {INTERACTIONS} interactions, {ORGANISATIONS} \
         organisations\n{LOOKUPS} lookups, half of them in vain, each timed by itself; the clock's own {clock} ns are taken off"
    );
    Ok(BTreeMap::from([
        ("lookup_p50_ns", at(&warm, 0.5)),
        ("lookup_p99_ns", at(&warm, 0.99)),
        ("lookup_any_p50_ns", at(&any, 0.5)),
        ("lookup_any_p99_ns", at(&any, 0.99)),
        ("load_1m_seconds", (load.as_secs_f64() * 1000.0).round() / 1000.0),
        ("bytes_per_system", (held as f64 / SYSTEMS as f64).round()),
    ]))
}

fn nanoseconds(begun: Instant) -> u32 {
    begun.elapsed().as_nanos().try_into().unwrap_or(u32::MAX)
}

fn sorted(mut times: Vec<u32>) -> Vec<u32> {
    times.sort_unstable();
    times
}

fn quantile(sorted: &[u32], share: f64) -> u32 {
    let at = (sorted.len() as f64 * share) as usize;
    sorted.get(at).copied().unwrap_or_default()
}

/// The time of each lookup, in nanoseconds. So many systems are looked up, which lie all over the registry.
fn lookups(registry: &Registry, systems: u64) -> Result<Vec<u32>> {
    let step = SYSTEMS / systems;
    let now = SystemTime::now();
    let mut times = Vec::with_capacity(LOOKUPS);
    let mut found = 0;
    for _ in 0..LOOKUPS {
        let asid = Asid::from_number(FIRST + fastrand::u64(..systems) * 2 * step + fastrand::u64(..2))
            .context("an ASID")?;
        let begun = Instant::now();
        let system = registry.system(&asid, now);
        times.push(nanoseconds(begun));
        found += usize::from(system.is_some());
    }
    ensure!(found > LOOKUPS / 3, "only {found} lookups found a system");
    Ok(times)
}

/// A snapshot as the agent keeps it.
fn write(path: &Path, origin: &str) -> Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    let mut hash = Sha256::new();
    let mut line = |value: serde_json::Value| -> Result<()> {
        let text = format!("{value}\n");
        hash.update(text.as_bytes());
        Ok(out.write_all(text.as_bytes())?)
    };
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)?
        .as_secs();
    line(json!({
        "format": "spinegate-registry", "version": 2, "source": "ldap", "origin": origin, "fetched": now, "full": now,
        "mark": null, "sets": SETS, "parties": SYSTEMS, "systems": SYSTEMS,
    }))?;
    for set in 0..SETS {
        let ids: Vec<String> = (0..INTERACTIONS)
            .map(|id| format!("urn:nhs:names:services:example{set}:Resource{id}.read"))
            .collect();
        line(json!(ids))?;
    }
    for party in 0..SYSTEMS {
        line(json!([
            format!("A{party:05}-{party:06}"),
            [format!("system-{party}.example.nhs.uk")]
        ]))?;
    }
    for system in 0..SYSTEMS {
        line(json!([
            (FIRST + 2 * system).to_string(),
            format!("A{:05}", system % ORGANISATIONS),
            system % SETS,
            system,
        ]))?;
    }
    let digest: String = hash.finish().iter().map(|byte| format!("{byte:02x}")).collect();
    out.write_all(format!("{}\n", json!({ "sha256": digest })).as_bytes())?;
    Ok(out.flush()?)
}

fn settings(folder: &Path) -> Result<config::Registry> {
    let url = SecureUrl::parse("ldaps://ldap.example.nhs.uk", "ldaps", 636).map_err(anyhow::Error::msg)?;
    let hour = Duration::from_secs(3600);
    Ok(config::Registry {
        file: None,
        precedence: vec![Source::Ldap],
        state_dir: folder.to_owned(),
        max_age: 24 * hour,
        max_shrink: MaxShrink::Percent(10),
        max_systems: 2 * SYSTEMS as usize,
        fqdns: Fqdns::Require,
        ldap: Some(Ldap {
            url,
            tls: UpstreamTls {
                ca: Vec::new(),
                certificate: None,
                private_key: None,
                server_name: None,
            },
            bind_dn: None,
            password_file: None,
            base: BASE.to_owned(),
            page_size: 500,
            interval: hour,
            full_interval: 6 * hour,
            timeout: hour,
            max_entry_bytes: 1 << 20,
            max_bytes: 1 << 30,
        }),
        sds: None,
    })
}

/// The process's memory, in bytes.
fn resident() -> Result<usize> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("no VmRSS")?;
    let kib: usize = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}
