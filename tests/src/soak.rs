//! Traffic of every kind at once, for as long as a test likes, and what it makes of the agent's memory and descriptors.

use std::{
    fs,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::signal::Signal;

use crate::{
    client::{Dialer, Heard, Line, Message, NHS_NUMBER, OTHER_NHS_NUMBER, pointer},
    lab::{CONSUMER, Lab, OTHER_PROVIDER, PROVIDER, UNKNOWN_ASID},
    netns::Host,
    pki::Validity,
};

/// A pause between two requests of a client: the agent is to have some of two cores.
const PAUSE: Duration = Duration::from_millis(5);

/// What is going on in a soak.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How long memory may still grow, until every path has been taken often enough.
    pub warm: Duration,
    /// How long it may not grow after that.
    pub rest: Duration,
    /// How often memory and descriptors are looked at.
    pub sample: Duration,
    /// How often the configuration is reloaded, and the CRLs are published anew.
    pub change: Duration,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Soaked {
    /// Requests that were served, as they had to be.
    pub served: usize,
    /// Requests that were refused, as they had to be.
    pub refused: usize,
    /// Handshakes that were refused, as they had to be.
    pub turned_away: usize,
    /// Connections that were opened.
    pub connections: usize,
    /// Reloads, and as many new CRLs.
    pub changes: usize,
    /// What was seen after the warm-up.
    pub samples: Vec<Sample>,
}

/// The agent at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Since the end of the warm-up.
    pub at: Duration,
    /// Resident memory of its own in KiB.
    pub resident: u64,
    /// Open descriptors.
    pub descriptors: usize,
}

#[derive(Debug, Default)]
struct Counts {
    served: AtomicUsize,
    refused: AtomicUsize,
    turned_away: AtomicUsize,
    connections: AtomicUsize,
}

/// Reads, searches, creates, updates and deletes on kept connections and on new ones, requests that are refused for their
/// form and for their sense, handshakes that are refused, reloads and new CRLs, all at once.
///
/// # Errors
/// A single request or handshake ended otherwise than it had to, or the agent did.
pub fn soak(lab: &Lab, plan: &Plan) -> Result<Soaked> {
    let (done, counts) = (AtomicBool::new(false), Counts::default());
    let client = lab.client(Host::Ssp);
    let good = client.dialer()?;
    let revoked = client.with("revoked")?.dialer()?;
    let (good, revoked, done, counts) = (&good, &revoked, &done, &counts);
    thread::scope(|scope| {
        let clients = [
            scope.spawn(move || until(done, || searches(good, done, counts))),
            scope.spawn(move || until(done, || owns(good, done, counts))),
            scope.spawn(move || until(done, || is_refused(good, counts))),
            scope.spawn(move || until(done, || comes_and_goes(good, revoked, counts))),
        ];
        let looked_on = look_on(lab, plan);
        done.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().map_err(|_| anyhow!("a client panicked"))??;
        }
        let (changes, samples) = looked_on?;
        let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        Ok(Soaked {
            served: count(&counts.served),
            refused: count(&counts.refused),
            turned_away: count(&counts.turned_away),
            connections: count(&counts.connections),
            changes,
            samples,
        })
    })
}

impl Soaked {
    /// How much resident memory has grown from the first sample to the last, in KiB: along the line that fits all of them
    /// best, so that no single one decides.
    #[must_use]
    pub fn memory_growth(&self) -> f64 {
        growth(&self.samples, |sample| sample.resident as f64)
    }

    /// The same of descriptors.
    #[must_use]
    pub fn descriptor_growth(&self) -> f64 {
        growth(&self.samples, |sample| sample.descriptors as f64)
    }
}

/// The slope of least squares, times the time.
fn growth(samples: &[Sample], value: impl Fn(&Sample) -> f64) -> f64 {
    let count = samples.len() as f64;
    let mean = |value: &dyn Fn(&Sample) -> f64| samples.iter().map(value).sum::<f64>() / count;
    let time = |sample: &Sample| sample.at.as_secs_f64();
    let (middle, level) = (mean(&time), mean(&|sample| value(sample)));
    let (mut together, mut spread) = (0.0, 0.0);
    for sample in samples {
        let distance = time(sample) - middle;
        together += distance * (value(sample) - level);
        spread += distance * distance;
    }
    let span = match samples {
        [first, .., last] => time(last) - time(first),
        _ => return 0.0,
    };
    together / spread * span
}

/// Changes what is in force, and takes samples.
fn look_on(lab: &Lab, plan: &Plan) -> Result<(usize, Vec<Sample>)> {
    let process = lab.agent_process()?;
    let (id, begin) = (process.id(), Instant::now());
    let (mut changes, mut samples) = (0, Vec::new());
    let mut change = plan.change;
    let mut sample = plan.warm;
    while begin.elapsed() < plan.warm + plan.rest {
        thread::sleep(Duration::from_millis(20));
        if begin.elapsed() >= change {
            lab.pki().publish_crls(Validity::days(-1, 30))?;
            process.signal(Signal::SIGHUP)?;
            (change, changes) = (change + plan.change, changes + 1);
        }
        if begin.elapsed() >= sample {
            samples.push(Sample {
                at: begin.elapsed().saturating_sub(plan.warm),
                resident: resident(id)?,
                descriptors: descriptors(id)?,
            });
            sample += plan.sample;
        }
    }
    Ok((changes, samples))
}

fn until(done: &AtomicBool, mut act: impl FnMut() -> Result<()>) -> Result<()> {
    while !done.load(Ordering::Relaxed) {
        act()?;
    }
    Ok(())
}

/// Searches on one connection for as long as the gateway keeps it.
fn searches(dialer: &Dialer, done: &AtomicBool, counts: &Counts) -> Result<()> {
    let mut line = counts.open(dialer)?;
    while !done.load(Ordering::Relaxed) {
        if counts.ask(&mut line, &search(), 200)?.closes() {
            break;
        }
    }
    Ok(())
}

/// Creates a pointer, reads it, changes it; another one it deletes.
fn owns(dialer: &Dialer, done: &AtomicBool, counts: &Counts) -> Result<()> {
    let mut line = counts.open(dialer)?;
    let create = || Message::create(&pointer(PROVIDER.ods, OTHER_NHS_NUMBER));
    while !done.load(Ordering::Relaxed) {
        for change in [Message::update, Message::delete] {
            let mut closes = false;
            let mut ask = |message: Message, status| {
                if closes {
                    line = counts.open(dialer)?;
                }
                let heard = counts.ask(&mut line, &message.from(&PROVIDER), status)?;
                closes = heard.closes();
                Ok::<_, anyhow::Error>(heard)
            };
            let created = ask(create(), 201)?;
            let id = created.header("location").and_then(|at| at.rsplit('/').next());
            let id = id.context("a pointer without a place")?;
            ask(Message::read(id), 200)?;
            ask(change(id), 200)?;
            if closes {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Is refused in each layer, and keeps its connection where it may.
fn is_refused(dialer: &Dialer, counts: &Counts) -> Result<()> {
    let mut line = counts.open(dialer)?;
    let unknown = search().header("fromASID", UNKNOWN_ASID);
    let forbidden = Message::create(&pointer(CONSUMER.ods, NHS_NUMBER)).from(&CONSUMER);
    let foreign = Message::create(&pointer(PROVIDER.ods, NHS_NUMBER)).from(&OTHER_PROVIDER);
    let nowhere = Message::new("GET", "/STU3/Patient/1", "read").from(&CONSUMER);
    let no_pointer = Message::create(&serde_json::Value::Null).from(&PROVIDER);
    for (message, status) in [
        (unknown, 400),
        (forbidden, 403),
        (foreign, 400),
        (nowhere, 404),
        (no_pointer, 400),
        (search().without("Authorization"), 400),
    ] {
        if counts.refuse(&mut line, &message.bytes(), status)?.closes() {
            return Ok(());
        }
    }
    let body = "POST /STU3/DocumentReference HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n";
    counts.refuse(&mut line, body, 400).map(drop)
}

/// Opens connections for one request or none, some with a certificate that is revoked.
fn comes_and_goes(good: &Dialer, revoked: &Dialer, counts: &Counts) -> Result<()> {
    let mut line = counts.open(good)?;
    counts.ask(&mut line, &search(), 200)?;
    drop(line);
    // Goes away within a head.
    counts.open(good)?.send("GET /STU3/Doc")?;
    ensure!(revoked.line().is_err(), "a revoked certificate was accepted");
    counts.turned_away.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

fn search() -> Message {
    Message::search(NHS_NUMBER).from(&CONSUMER)
}

impl Counts {
    fn open(&self, dialer: &Dialer) -> Result<Line> {
        self.connections.fetch_add(1, Ordering::Relaxed);
        dialer.line()
    }

    fn ask(&self, line: &mut Line, message: &Message, status: u16) -> Result<Heard> {
        thread::sleep(PAUSE);
        let heard = line.ask(message).with_context(|| message.to_string())?;
        ensure!(heard.status == status, "{message}: {heard:?}");
        self.served.fetch_add(1, Ordering::Relaxed);
        Ok(heard)
    }

    fn refuse(&self, line: &mut Line, bytes: &str, status: u16) -> Result<Heard> {
        thread::sleep(PAUSE);
        line.send(bytes)?;
        let heard = line.reply().with_context(|| bytes.to_owned())?;
        ensure!(heard.status == status, "{bytes:?}: {heard:?}");
        self.refused.fetch_add(1, Ordering::Relaxed);
        Ok(heard)
    }
}

/// How many descriptors a process has open.
///
/// # Errors
/// It has ended.
pub fn descriptors(pid: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// A process's resident memory in KiB, without what it has of files: each page of its code is there from its first use on.
///
/// # Errors
/// It has ended.
pub fn resident(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let value = line.and_then(|line| line.split_whitespace().next());
    Ok(value.context("no RssAnon")?.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn growth_of(values: &[u64]) -> f64 {
        let samples = values.iter().zip(0..).map(|(value, second)| Sample {
            at: Duration::from_secs(second),
            resident: *value,
            descriptors: 0,
        });
        let soaked = Soaked {
            samples: samples.collect(),
            ..Soaked::default()
        };
        assert!(soaked.descriptor_growth().abs() < 0.01);
        soaked.memory_growth()
    }

    #[test]
    fn growth_is_that_of_the_whole_and_not_of_its_ends() {
        assert!((growth_of(&[5, 6, 7, 8]) - 3.0).abs() < 0.01);
        assert!((growth_of(&[8, 7, 6, 5]) + 3.0).abs() < 0.01);
        assert!(growth_of(&[5, 9, 5, 9, 5, 9, 5]).abs() < 0.01);
        assert!(growth_of(&[5, 5, 5, 5, 5, 5, 9]) < 3.0);
        assert!(growth_of(&[7]).abs() < 0.01);
    }
}
