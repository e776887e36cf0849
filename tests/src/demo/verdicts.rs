//! Scene 4: failures that become verdicts, which the kernel executes (R14).

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{
    packets::dropped,
    story::{Seen, Story},
};
use crate::{
    client::{Knock, Message, NHS_NUMBER, Offer},
    json::at,
    lab::{CONSUMER, FQDN_BOUND, Lab, System, UNKNOWN_ASID},
    netns::Host,
    wait::wait_until,
};

/// More failures than any threshold of the lab.
const MANY: usize = 60;

pub(super) fn play(story: &mut Story, lab: &Lab) -> Result<()> {
    story.say("\nVerdicts");
    let (agent, proxy, system) = (lab.agent(), lab.client(Host::Ssp), lab.client(Host::System));

    let expected = "each one refused; no verdict on the proxy, and others behind it are still served";
    story.step(
        format!("A system behind the proxy fails {MANY} times"),
        expected,
        || {
            let unknown = System {
                asid: UNKNOWN_ASID,
                ..CONSUMER
            };
            let (codes, _) = proxy.repeat(&Message::search(NHS_NUMBER).from(&unknown), MANY)?;
            let refused = codes.iter().filter(|code| **code == 400).count();
            let verdict = agent.verdict_on(&proxy.address())?;
            let after = proxy.send(&Message::search(NHS_NUMBER).from(&CONSUMER))?;
            let observed = format!(
                "{refused} of {MANY} refused; {}; a search of another system: {after}",
                if verdict.is_some() {
                    "A VERDICT ON THE PROXY"
                } else {
                    "no verdict"
                }
            );
            Ok(Seen::plain(
                observed,
                refused == MANY && verdict.is_none() && after.status() == Some(200),
            ))
        },
    )?;

    story.step(
        "A dedicated system keeps coming without its certificate",
        "a deny verdict",
        || {
            let bare = system.clone().without_certificate();
            let mut failures = 0;
            let verdict = loop {
                if let Some(verdict) = agent.verdict_on(&system.address())? {
                    break verdict;
                }
                if failures == MANY {
                    return Ok(Seen::plain(
                        format!("no verdict after {failures} failures"),
                        false,
                    ));
                }
                bare.handshake(Offer::RIGHT)?;
                failures += 1;
            };
            let kind = at(&verdict, "/kind");
            let (reason, seconds) = (at(&verdict, "/reason"), at(&verdict, "/remaining_seconds"));
            let observed = format!(
                "after {failures} failures: {}, {seconds} s left",
                kind.as_str().unwrap_or("no kind")
            );
            let reason = reason.as_str().context("the verdict has no reason")?.to_owned();
            Ok(Seen::refused(
                observed,
                reason,
                "certificate_missing",
                kind == "deny",
            ))
        },
    )?;
    let denied = Instant::now();
    story.step("Its next SYN", "dropped in XDP", || {
        dropped(lab, &system, "verdict_deny")
    })?;
    story.step(
        "The same system, with its certificate, once the verdict has expired",
        "served again",
        || {
            let limit = Duration::from_secs(15);
            wait_until("the verdict to expire", limit, || {
                Ok(system.knock()? == Knock::Opened)
            })?;
            let waited = denied.elapsed().as_secs_f32();
            let answer = system.answer(&Message::search(NHS_NUMBER).from(&FQDN_BOUND))?;
            Ok(Seen::plain(
                format!("{answer} after {waited:.1} s"),
                answer.status == 200,
            ))
        },
    )?;

    story.step(
        "The operator denies the proxy",
        "its next SYN dropped in XDP",
        || {
            agent.order(&["verdicts", "add", &proxy.address(), "--ttl", "10m"])?;
            dropped(lab, &proxy, "verdict_deny")
        },
    )?;
    story.step("The operator lifts that", "served again", || {
        agent.order(&["verdicts", "remove", &proxy.address()])?;
        let answer = proxy.answer(&Message::search(NHS_NUMBER).from(&CONSUMER))?;
        Ok(Seen::plain(answer.to_string(), answer.status == 200))
    })
}
