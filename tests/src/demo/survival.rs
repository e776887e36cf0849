//! Scene 5: the policy holds without the agent, and a new one takes it over.

use anyhow::Result;

use super::story::{Seen, Story};
use crate::{
    client::{Knock, Message, NHS_NUMBER},
    lab::{CONSUMER, Lab},
    netns::Host,
};

pub(super) fn play(story: &mut Story, lab: &mut Lab) -> Result<()> {
    const REASON: &str = "source_not_allowlisted";
    story.say("\nThe agent dies");
    let drops = lab.agent().drops(REASON)?;
    lab.kill_agent()?;

    story.step(
        "Agent killed with SIGKILL; the stranger's SYN",
        "still dropped: no answer at all",
        || {
            let (tap, client) = (lab.tap()?, lab.client(Host::Stranger));
            let knock = client.knock()?;
            let seen = tap.syns(client.ip())?;
            let observed = format!("{}; SYNs that reached the network stack: {seen}", knock.as_str());
            Ok(Seen::plain(observed, knock == Knock::Silence && seen == 0))
        },
    )?;
    story.step(
        "The proxy's SYN",
        "passed to the host, which refuses it: nobody listens",
        || {
            let knock = lab.client(Host::Ssp).knock()?;
            Ok(Seen::plain(knock.as_str(), knock == Knock::Refused))
        },
    )?;

    let started = lab.start_agent();
    story.step("Agent started again; a search through the proxy", "200", || {
        started?;
        let answer = lab
            .client(Host::Ssp)
            .answer(&Message::search(NHS_NUMBER).from(&CONSUMER))?;
        Ok(Seen::plain(answer.to_string(), answer.status == 200))
    })?;
    story.step(
        "The kernel's counter",
        "kept, and moved on while there was no agent",
        || {
            let now = lab.agent().drops(REASON)?;
            Ok(Seen::plain(format!("{drops} before, {now} now"), now > drops))
        },
    )
}
