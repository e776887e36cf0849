//! Scene 1: packets that the kernel half drops before the network stack sees them (R13).

use anyhow::Result;

use super::story::{Seen, Story};
use crate::{
    client::{Client, Knock},
    lab::Lab,
    netns::{Family, Host},
};

pub(super) fn play(story: &mut Story, lab: &Lab) -> Result<()> {
    story.say("\nPackets");
    for (family, name) in [(Family::V4, "IPv4"), (Family::V6, "IPv6")] {
        let client = lab.client(Host::Stranger).over(family);
        let title = format!("A stranger's SYN over {name} to port 443");
        story.step(title, "dropped in XDP, before the network stack", || {
            dropped(lab, &client, "source_not_allowlisted")
        })?;
    }
    let expected = "on the allowlist at once; dropped again at once";
    story.step(
        "The operator lets the stranger in, and out again",
        expected,
        || {
            let (agent, client) = (lab.agent(), lab.client(Host::Stranger));
            let cidr = format!("{}/32", client.address());
            agent.order(&[
                "sources",
                "add",
                &cidr,
                "--name",
                "guest",
                "--kind",
                "system",
                "--service",
                "tcp/443",
            ])?;
            let inside = client.knock()?;
            agent.order(&["sources", "remove", &cidr])?;
            let outside = client.knock()?;
            let observed = format!("{}; then {}", inside.as_str(), outside.as_str());
            Ok(Seen::plain(
                observed,
                (inside, outside) == (Knock::Opened, Knock::Silence),
            ))
        },
    )
}

/// Sends a SYN that has to die in XDP for a reason: its counter moves, and the network stack never sees it.
pub(super) fn dropped(lab: &Lab, client: &Client<'_>, reason: &str) -> Result<Seen> {
    let (agent, tap) = (lab.agent(), lab.tap()?);
    let before = agent.drops(reason)?;
    let knock = client.knock()?;
    let (drops, seen) = (agent.drops(reason)? - before, tap.syns(client.ip())?);
    let observed = format!(
        "{}; the kernel's counter +{drops}; SYNs that reached the network stack: {seen}",
        knock.as_str()
    );
    let held = knock == Knock::Silence && drops > 0 && seen == 0;
    Ok(Seen {
        observed,
        reason: (drops > 0).then(|| reason.to_owned()),
        held,
    })
}
