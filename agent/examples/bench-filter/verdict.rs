//! How long it takes from a verdict to the first packet that is dropped for it, with many other verdicts in force.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use ipnet::IpNet;
use spinegate::filter::NewVerdict;
use spinegate_common::{Reason, VerdictKind, VerdictOrigin};

use crate::{
    frames::{PORT, segment},
    policies,
    report::Report,
};

const OTHERS: u32 = 1_000_000;
const ROUNDS: usize = 2000;

pub(crate) fn measure(report: &mut Report) -> Result<()> {
    let mut filter = policies::filter(&policies::spread(1))?;
    let verdict = NewVerdict {
        kind: VerdictKind::Deny,
        reason: Reason::OperatorOrder,
        origin: VerdictOrigin::Operator,
        ttl: Duration::from_secs(600),
    };
    for number in 0..OTHERS {
        let address = IpAddr::from(Ipv4Addr::from(0x0b00_0000 + number));
        filter.judge(IpNet::from(address), verdict)?;
    }
    let mut times = Vec::new();
    for round in 0..ROUNDS as u32 {
        let address = Ipv4Addr::from(0x0a00_0000 + round);
        let frame = segment(address.octets(), PORT);
        ensure!(
            filter.test(&frame, 1)?.0,
            "{address} is denied before its verdict"
        );
        let begun = Instant::now();
        filter.judge(IpNet::from(IpAddr::from(address)), verdict)?;
        let (passed, _) = filter.test(&frame, 1)?;
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
        ensure!(!passed, "a packet of {address} passed after its verdict");
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| {
        times
            .get((times.len() as f64 * share) as usize)
            .copied()
            .unwrap_or_default()
    };
    report.add("verdict_p50_ms", at(0.5));
    report.add("verdict_p99_ms", at(0.99));
    Ok(())
}
