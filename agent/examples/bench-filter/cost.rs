//! What one packet costs with warm caches, beside xdp-filter on the same frames and the same 10 000 sources.

use anyhow::Result;

use crate::{
    driver::Driver,
    frames::{PORT, segment, syn},
    policies,
    report::{Report, median},
    xdp_filter::XdpFilter,
};

const SOURCES: u32 = 10_000;
const ROUNDS: usize = 21;
const REPEAT: u32 = 200_000;

pub(crate) fn measure(report: &mut Report) -> Result<()> {
    let (listed, stranger) = ([10, 1, 44, 1], [198, 51, 100, 9]);
    let frames = [
        ("deny", syn(stranger, PORT)),
        ("allow", segment(listed, PORT)),
        ("allow_syn", syn(listed, PORT)),
        ("unguarded", segment(stranger, 22)),
    ];
    let mut driver = Driver::load()?;
    let filter = policies::filter(&policies::hosts(SOURCES))?;
    let peer = XdpFilter::attach(&policies::hosts(SOURCES))?;
    let mut floors = Vec::new();
    let mut ours = vec![Vec::new(); frames.len()];
    let mut theirs = vec![Vec::new(); frames.len()];
    for _ in 0..ROUNDS {
        for ((frame, ours), theirs) in frames.iter().zip(&mut ours).zip(&mut theirs) {
            floors.push(driver.floor(&frame.1, REPEAT)?);
            ours.push(filter.test(&frame.1, REPEAT)?.1.as_nanos() as f64);
            theirs.push(peer.run(&frame.1, REPEAT)?);
        }
    }
    let floor = median(&floors);
    report.add("floor_ns", floor);
    for (((name, _), ours), theirs) in frames.iter().zip(&ours).zip(&theirs) {
        let (ours, theirs) = (median(ours), median(theirs));
        report.add(&format!("{name}_ns"), ours);
        report.add(&format!("{name}_xdp_filter_ns"), theirs);
        report.add(&format!("{name}_net_ratio"), (ours - floor) / (theirs - floor));
    }
    Ok(())
}
