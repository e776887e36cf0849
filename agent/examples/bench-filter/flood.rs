//! How many packets of strangers one core drops in a second. They are sent from one end of a veth pair and dropped at
//! the other, by the filter or by one of its peers, in two ways: by the core that sends them as well, so that sending is
//! part of the time for all alike; and by a core of its own, which gets more than it can take.

use std::time::Duration;

use anyhow::{Result, ensure};
use spinegate::{
    config::{Filter as Settings, Source, XdpAttach},
    filter::Filter,
};

use crate::{
    driver::Driver,
    frames::{PORT, syn},
    nftables::{Hook, Nftables},
    policies::{self, Random},
    report::{Report, median},
    veth::{self, Pair},
    xdp_filter::XdpFilter,
};

const FRAMES: u32 = 1_000_000;
const ROUNDS: usize = 5;
const SOURCES: u32 = 10_000;
const PINS: &str = "/sys/fs/bpf/spinegate-bench";

pub(crate) fn measure(report: &mut Report) -> Result<()> {
    let sources = policies::hosts(SOURCES);
    let mut driver = Driver::load()?;
    let mut random = Random::new(3);
    let strangers: Vec<u32> = (0..crate::driver::SOURCES)
        .map(|_| random.next() | 0x8000_0000)
        .collect();
    driver.set_sources(|number| strangers.get(number).copied().unwrap_or_default())?;
    // Each drops on a pair of its own, so that all are there at once and take turns.
    let pairs = ["none", "ours", "theirs", "nft0", "nft1"]
        .into_iter()
        .map(Pair::make)
        .collect::<Result<Vec<_>>>()?;
    let [none, ours, theirs, ingress, prerouting] = pairs.as_slice() else {
        anyhow::bail!("five pairs");
    };
    let _floor = driver.attach_empty(none.receiver)?;
    let filter = Pinned::open(&ours.name, &sources)?;
    let peer = XdpFilter::attach_to(&theirs.name, &sources)?;
    let _ingress = Nftables::install(Hook::Ingress, &ingress.name, &sources)?;
    let _prerouting = Nftables::install(Hook::Prerouting, &prerouting.name, &sources)?;

    let frame = syn([198, 51, 100, 9], PORT);
    let dropped = || -> Result<[u64; 4]> {
        let by_filter = filter
            .0
            .counters()?
            .all
            .drops
            .values()
            .map(|tally| tally.packets)
            .sum();
        Ok([
            by_filter,
            peer.dropped()?,
            Hook::Ingress.dropped()?,
            Hook::Prerouting.dropped()?,
        ])
    };

    let mut rates = vec![Vec::new(); pairs.len()];
    for _ in 0..ROUNDS {
        for (pair, rates) in pairs.iter().zip(&mut rates) {
            let took = driver.flood(pair.sender, &frame, FRAMES)?;
            rates.push(f64::from(FRAMES) / took.max(Duration::from_nanos(1)).as_secs_f64());
        }
    }
    let sent = u64::from(FRAMES) * ROUNDS as u64;
    for (who, dropped) in WHO.iter().zip(dropped()?) {
        ensure!(
            dropped * 100 >= sent * 95,
            "{who} dropped {dropped} of {sent} frames: the rates say nothing"
        );
    }
    let empty = rates.remove(0);
    report.add("same_core_drop_empty_mpps", median(&empty) / 1e6);
    ratios(report, "same_core_", &rates);

    // Now the other core receives, and gets more than it can take.
    veth::pin(0, 0)?;
    for pair in &pairs {
        pair.receive_on(1)?;
    }
    let mut rates = vec![Vec::new(); WHO.len()];
    for _ in 0..ROUNDS {
        for (number, (pair, rates)) in pairs.iter().skip(1).zip(&mut rates).enumerate() {
            let before = dropped()?;
            let took = driver.flood(pair.sender, &frame, 2 * FRAMES)?;
            let after = dropped()?;
            let count = |counts: [u64; 4]| counts.get(number).copied().unwrap_or_default();
            let dropped = count(after) - count(before);
            rates.push(dropped as f64 / took.max(Duration::from_nanos(1)).as_secs_f64());
        }
    }
    ratios(report, "", &rates);
    Ok(())
}

const WHO: [&str; 4] = [
    "the filter",
    "xdp-filter",
    "nftables in ingress",
    "nftables in prerouting",
];

/// The rates of those in [`WHO`], and the filter's beside the others'.
fn ratios(report: &mut Report, beginning: &str, rates: &[Vec<f64>]) {
    let keys = [
        "drop_mpps",
        "drop_xdp_filter_mpps",
        "drop_nft_ingress_mpps",
        "drop_nft_prerouting_mpps",
    ];
    let medians: Vec<f64> = rates.iter().map(|rates| median(rates)).collect();
    for (key, rate) in keys.iter().zip(&medians) {
        report.add(&format!("{beginning}{key}"), rate / 1e6);
    }
    if let [ours, theirs, ingress, prerouting] = medians.as_slice() {
        report.add(&format!("{beginning}drop_vs_xdp_filter"), ours / theirs);
        report.add(&format!("{beginning}drop_vs_nft_ingress"), ours / ingress);
        report.add(&format!("{beginning}drop_vs_nft_prerouting"), ours / prerouting);
    }
}

/// The filter attached as an agent attaches it; its pins go with it.
struct Pinned(Filter);

impl Pinned {
    fn open(interface: &str, sources: &[Source]) -> Result<Self> {
        let settings = Settings {
            interfaces: vec![interface.to_owned()],
            attach: XdpAttach::Native,
            pin_dir: PINS.into(),
            ..policies::settings(sources.len())
        };
        Ok(Self(Filter::open(&settings, sources)?))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = spinegate::filter::detach(PINS.as_ref());
    }
}
