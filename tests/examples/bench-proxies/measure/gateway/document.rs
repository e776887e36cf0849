//! A document of one MiB on its way through: the CPU time of each MiB.

use anyhow::{Context as _, Result};

use super::{Contestant, Extent};
use crate::{
    ground::{Ground, Limits},
    isolation::Cores,
    load::{Kept, read},
    origin::{DOCUMENT, MIB},
    report::{Report, note, ratio, spread},
};

/// Few: each has a document under way.
const CONNECTIONS: usize = 4;

pub(super) fn measure(ground: &Ground, extent: &Extent, report: &mut Report) -> Result<()> {
    let client = ground.client()?;
    let mut contestants = Vec::new();
    for server in [
        ground.agent(Limits::Wide, Cores::One)?,
        ground.haproxy(Cores::One)?,
    ] {
        let kept = Kept::open(&client, server.address, CONNECTIONS)
            .with_context(|| format!("connections to {}", server.name))?;
        contestants.push(Contestant { server, kept });
    }
    let mut costs = vec![Vec::new(); contestants.len()];
    for _ in 0..extent.rounds {
        for (contestant, costs) in contestants.iter_mut().zip(&mut costs) {
            let turn = contestant
                .turn(extent.turn, &read(DOCUMENT), MIB)
                .with_context(|| format!("documents through {}", contestant.server.name))?;
            costs.push(turn.cost);
        }
    }
    note(format!(
        "CPU of a MiB through, over {CONNECTIONS} connections, medians of {} rounds (least to most):",
        extent.rounds
    ));
    for (contestant, costs) in contestants.iter().zip(&costs) {
        note(spread(contestant.server.name, costs, "µs"));
    }
    let [agent, haproxy] = costs.as_slice() else {
        anyhow::bail!("not two contestants");
    };
    report.add("mib_ratio_haproxy", ratio(agent, haproxy));
    Ok(())
}
