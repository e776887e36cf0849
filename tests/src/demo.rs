//! The demo: what Spinegate is for, played with real packets, handshakes and requests, each step checked.

mod handshakes;
mod packets;
mod requests;
mod story;
mod survival;
mod verdicts;

use std::{
    fmt::Write,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Instant,
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{
    client::{Message, NHS_NUMBER, Offer},
    lab::{Lab, PROVIDER, Plan},
    netns::Host,
};
use story::Story;

/// How the demo is shown.
#[derive(Clone, Copy, Debug)]
pub struct Show {
    /// Leave the lab up at the end.
    pub keep: bool,
    /// Print JSON at the end instead of text on the way.
    pub json: bool,
}

/// Brings a lab up, plays the story, and tells whether all of it held.
///
/// # Errors
/// The lab can't be brought up, or Ctrl-C was pressed; nothing of the lab stays.
pub fn play(plan: Plan, show: Show) -> Result<bool> {
    let begin = Instant::now();
    let mut story = Story::new(!show.json, interruption()?);
    story.say("Bringing up the lab: namespaces, PKI, record locator, agent.");
    let mut lab = Lab::up(plan)?;
    story.say(&format!("Up after {:.1} s.", begin.elapsed().as_secs_f32()));

    packets::play(&mut story, &lab)?;
    handshakes::play(&mut story, &lab)?;
    requests::play(&mut story, &lab)?;
    verdicts::play(&mut story, &lab)?;
    survival::play(&mut story, &mut lab)?;

    let counters = lab
        .agent()
        .json(&["stats"])?
        .get("filter")
        .cloned()
        .unwrap_or_default();
    let seconds = begin.elapsed().as_secs_f32();
    if show.json {
        let results = json!({
            "held": story.held(),
            "steps": story.steps(),
            "counters": counters,
            "seconds": seconds,
            "lab": show.keep.then(|| lab.files().record()),
        });
        println!("{}", serde_json::to_string_pretty(&results)?);
    } else {
        story.say(&format!("\nWhat the kernel counted\n{}", table(&counters)));
        story.say(&story.summary(seconds));
    }
    if show.keep {
        if !show.json {
            println!("\n{}", commands(&lab));
        }
        lab.leave();
    }
    Ok(story.held())
}

/// Commands to try on a lab that is up, ready to be pasted into a shell.
#[must_use]
pub fn commands(lab: &Lab) -> String {
    let spinegate = format!(
        "{} --socket {}",
        lab.binary().display(),
        lab.files().socket().display()
    );
    let search = Message::search(NHS_NUMBER).from(&PROVIDER);
    let lines = [
        (
            "a search through the proxy (its token is good for five minutes)",
            lab.client(Host::Ssp).curl_line(&search),
        ),
        (
            "the same from a stranger: nothing comes back",
            lab.client(Host::Stranger).curl_line(&search),
        ),
        ("a handshake", lab.client(Host::Ssp).handshake_line(Offer::RIGHT)),
        (
            "a handshake of TLS 1.3",
            lab.client(Host::Ssp).handshake_line(Offer::TLS13),
        ),
        (
            "what was counted, and who may come",
            format!("{spinegate} stats; {spinegate} sources list"),
        ),
        (
            "cut the proxy off, and let it in again",
            format!(
                "{spinegate} verdicts add {0} --ttl 10m; {spinegate} verdicts remove {0}",
                Host::Ssp.v4()
            ),
        ),
        (
            "every decision",
            format!("tail -f {}", lab.files().audit().display()),
        ),
    ];
    lines
        .iter()
        .fold("To try:\n".to_owned(), |mut text, (what, command)| {
            let _ = writeln!(text, "\n# {what}\n{command}");
            text
        })
}

/// Set when Ctrl-C is pressed. Without this the process would end at once, and leave the lab behind.
fn interruption() -> Result<Arc<AtomicBool>> {
    let pressed = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&pressed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no runtime")?;
    thread::spawn(move || {
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            set.store(true, Ordering::Relaxed);
        }
    });
    Ok(pressed)
}

fn table(counters: &Value) -> String {
    let mut text = String::new();
    for (heading, key) in [
        ("dropped", "drops"),
        ("passed", "passes"),
        ("would drop", "would_drops"),
    ] {
        let Some(counts) = counters[key].as_object() else {
            continue;
        };
        for (name, count) in counts.iter().filter(|(_, count)| count["packets"] != 0) {
            let (packets, bytes) = (&count["packets"], &count["bytes"]);
            let _ = writeln!(
                text,
                "  {heading:<11}{name:<28}{packets:>7} packets {bytes:>9} bytes"
            );
        }
    }
    text.trim_end().to_owned()
}
