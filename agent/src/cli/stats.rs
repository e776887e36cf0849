//! `spinegate stats`

use std::collections::BTreeMap;

use super::{Exit, Failure, Place, table::Table, watch::Watched};
use crate::control::{Request, Response, Stats, Tally};

pub(super) fn run(place: &Place, watched: Watched) -> Result<Exit, Failure> {
    let ask = || match place.ask(Request::Stats)? {
        Response::Stats(stats) => Ok(*stats),
        _ => Err(Failure::other_answer()),
    };
    watched.show(ask, render)
}

/// Zeros of the reasons are left out: most never occur.
pub(super) fn render(stats: &Stats) -> String {
    let mut filter = Table::titled(["FILTER", "REASON", "PACKETS", "BYTES"]);
    let mut rows = |outcome: &str, tallies: &BTreeMap<String, Tally>| {
        for (reason, tally) in tallies.iter().filter(|(_, tally)| tally.packets > 0) {
            filter.row([
                outcome.to_owned(),
                reason.clone(),
                tally.packets.to_string(),
                tally.bytes.to_string(),
            ]);
        }
    };
    rows("drop", &stats.filter.drops);
    rows("would drop", &stats.filter.would_drops);
    rows("pass", &stats.filter.passes);

    let mut services = Table::titled(["SERVICE", "DROPPED", "WOULD DROP", "PASSED"]);
    let packets =
        |tallies: &BTreeMap<String, Tally>| tallies.values().map(|tally| tally.packets).sum::<u64>();
    for (name, service) in &stats.filter.services {
        services.row([
            name.clone(),
            packets(&service.drops).to_string(),
            packets(&service.would_drops).to_string(),
            packets(&service.passes).to_string(),
        ]);
    }

    let mut sums = Table::titled(["GATEWAY", "COUNT"]);
    let mut sum = |name: &str, count: u64| sums.row([name.to_owned(), count.to_string()]);
    sum("handshakes accepted", stats.handshakes.accepted);
    sum("handshakes refused", stats.handshakes.refused);
    sum("requests allowed", stats.requests.allowed);
    sum("requests refused", stats.requests.refused);
    sum("requests in shadow", stats.requests.shadowed);
    sum("verdicts issued", stats.verdicts_issued);
    sum("drop events lost", stats.filter.lost_events);

    let mut actions = Table::titled(["INTERACTION", "ALLOWED", "REFUSED"]);
    for (action, decided) in &stats.actions {
        if decided.allowed + decided.refused > 0 {
            actions.row([
                action.clone(),
                decided.allowed.to_string(),
                decided.refused.to_string(),
            ]);
        }
    }

    let mut refusals = Table::titled(["REFUSED FOR", "COUNT"]);
    for (reason, count) in stats.refusals.iter().filter(|(_, count)| **count > 0) {
        refusals.row([reason.clone(), count.to_string()]);
    }
    [
        filter.render(),
        services.render(),
        sums.render(),
        actions.render(),
        refusals.render(),
    ]
    .join("\n")
}
