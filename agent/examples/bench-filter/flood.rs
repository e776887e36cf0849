//! How many packets of strangers one core drops in a second: they are sent from one end of a veth pair, and dropped at
//! the other by the filter or by one of its peers. Sending is part of the time, for all of them alike.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
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
    shell,
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
    let _peer = XdpFilter::attach_to(&theirs.name, &sources)?;
    let _ingress = Nftables::install(Hook::Ingress, &ingress.name, &sources)?;
    let _prerouting = Nftables::install(Hook::Prerouting, &prerouting.name, &sources)?;

    let frame = syn([198, 51, 100, 9], PORT);
    let mut rates = vec![Vec::new(); pairs.len()];
    for _ in 0..ROUNDS {
        for (pair, rates) in pairs.iter().zip(&mut rates) {
            let took = driver.flood(pair.sender, &frame, FRAMES)?;
            rates.push(f64::from(FRAMES) / took.max(Duration::from_nanos(1)).as_secs_f64());
        }
    }
    let dropped: u64 = filter
        .0
        .counters()?
        .all
        .drops
        .values()
        .map(|tally| tally.packets)
        .sum();
    let sent = u64::from(FRAMES) * ROUNDS as u64;
    ensure!(
        dropped * 100 >= sent * 99,
        "the filter saw {dropped} of {sent} frames: the rates say nothing"
    );
    let medians: Vec<f64> = rates.iter().map(|rates| median(rates)).collect();
    let [none, ours, theirs, ingress, prerouting] = medians.as_slice() else {
        anyhow::bail!("five rates");
    };
    report.add("drop_empty_mpps", none / 1e6);
    report.add("drop_mpps", ours / 1e6);
    report.add("drop_xdp_filter_mpps", theirs / 1e6);
    report.add("drop_nft_ingress_mpps", ingress / 1e6);
    report.add("drop_nft_prerouting_mpps", prerouting / 1e6);
    report.add("drop_vs_nft_ingress", ours / ingress);
    report.add("drop_vs_nft_prerouting", ours / prerouting);
    report.add("drop_vs_xdp_filter", ours / theirs);
    Ok(())
}

/// A veth pair; frames are sent out of one end and dropped at the other.
struct Pair {
    name: String,
    receiver: u32,
    sender: u32,
}

impl Pair {
    fn make(name: &str) -> Result<Self> {
        let sender = format!("{name}-s");
        shell::run(
            "ip",
            &["link", "add", name, "type", "veth", "peer", "name", &sender],
        )?;
        for end in [name, &sender] {
            shell::run("ip", &["link", "set", end, "up"])?;
            // Redirected frames are taken only by an end that polls, and it polls for GRO even without a program.
            shell::run("ethtool", &["-K", end, "gro", "on"])?;
        }
        Ok(Self {
            name: name.to_owned(),
            receiver: index(name)?,
            sender: index(&sender)?,
        })
    }
}

fn index(interface: &str) -> Result<u32> {
    nix::net::if_::if_nametoindex(interface).with_context(|| format!("the index of {interface}"))
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
