//! Ten thousand mutated handshakes from a seed: none harms the gateway, and each is counted for some reason.
//!
//! 9500 are ClientHellos over a bare socket. 500 are client certificates, which cost both sides a key exchange.

use std::{
    fs,
    process::ExitCode,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use fastrand::Rng;
use spinegate_tests::{
    client::Client,
    expect::serves,
    lab::{self, Lab},
    netns::Host,
    observe::Counts,
    seed::seed,
    suite::Suite,
    wait::wait_for,
};

const HELLOS: usize = 9_500;
const CERTIFICATES: usize = 500;
/// By then every pool and cache of the agent has grown to what this load needs.
const WARM: usize = 2_000;
/// What the memory may still grow by after that: the allocator's play, but not a leak of a kilobyte a handshake.
const PLAY_KIB: u64 = 6 * 1024;
const AT_ONCE: usize = 8;
/// The gateway gives up a handshake after five seconds.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    Suite {
        name: "mutations",
        edit: lab::open_limits,
        tests: spinegate_tests::tests![
            of_ten_thousand_mutated_handshakes_each_is_refused_and_counted_and_none_leaves_anything_behind,
        ],
    }
    .run()
}

fn of_ten_thousand_mutated_handshakes_each_is_refused_and_counted_and_none_leaves_anything_behind(
    lab: &mut Lab,
) -> Result<()> {
    let seed = seed()?;
    let begun = Instant::now();
    let client = lab.client(Host::Ssp);
    let template = client.hello()?;
    let before = Counts::read(&lab.agent())?;
    let hello = |number| send_hello(&client, &template, &mut Rng::with_seed(seed ^ number as u64));
    let certificate = |number| bend_certificate(&client, &mut Rng::with_seed(seed ^ number as u64));

    in_parallel(0..WARM, hello)?;
    counted(lab, &before, WARM)?;
    let warm = memory(lab)?;
    in_parallel(WARM..HELLOS, hello)?;
    in_parallel(HELLOS..HELLOS + CERTIFICATES, certificate)?;
    let counts = counted(lab, &before, HELLOS + CERTIFICATES)?;
    let end = memory(lab)?;
    println!(
        "{counts:?} in {:.1} s; memory after {WARM}: {warm} KiB, in the end: {end} KiB",
        begun.elapsed().as_secs_f32()
    );
    ensure!(counts.of(Counts::ACCEPTED) == 0, "one was accepted: {counts:?}");
    ensure!(
        end < warm + PLAY_KIB,
        "the agent's memory grew from {warm} to {end} KiB"
    );
    let log = fs::read_to_string(lab.files().log("agent"))?;
    ensure!(!log.contains("panicked"), "the agent's log: {log}");
    serves(lab)
}

fn send_hello(client: &Client<'_>, template: &[u8], rng: &mut Rng) -> Result<()> {
    let mut hello = template.to_vec();
    for _ in 0..=rng.usize(..3) {
        mutate(rng, &mut hello);
    }
    // Else most would end at the first length that is no longer right.
    if rng.bool() {
        repair(&mut hello);
    }
    // Most say that nothing more comes, so that the gateway need not wait for the rest.
    client.offer(&hello, rng.usize(..16) > 0)
}

fn bend_certificate(client: &Client<'_>, rng: &mut Rng) -> Result<()> {
    let finished = client.with_bent_certificate(|record| {
        if rng.usize(..4) == 0 {
            // Anywhere in the message, lengths included.
            let at = rng.usize(9..record.len());
            if let Some(byte) = record.get_mut(at) {
                *byte ^= 1 << rng.u8(..8);
            }
        } else {
            bend_leaf(rng, record);
        }
    })?;
    ensure!(!finished, "a handshake with a mutated certificate was finished");
    Ok(())
}

/// Mutates the first certificate of a Certificate message, and makes the lengths around it right again.
fn bend_leaf(rng: &mut Rng, record: &mut Vec<u8>) {
    const LEAF: usize = 5 + 4 + 3 + 3;
    let length = record.get(LEAF - 3..LEAF).unwrap_or_default();
    let end = LEAF + length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    let mut leaf = record.get(LEAF..end).unwrap_or_default().to_vec();
    let others = record.get(end..).unwrap_or_default().to_vec();
    let whole = leaf.clone();
    for _ in 0..=rng.usize(..3) {
        mutate(rng, &mut leaf);
    }
    if leaf == whole {
        leaf.pop();
    }
    let list = [&vector(&leaf), others.as_slice()].concat();
    let message = [&[11], vector(&vector(&list)).as_slice()].concat();
    *record = [
        &[22, 3, 3],
        ((message.len() as u16).to_be_bytes()).as_slice(),
        &message,
    ]
    .concat();
}

fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>) {
    const TELLING: [u8; 12] = [0, 1, 2, 3, 11, 16, 20, 22, 0x30, 0x7f, 0x80, 0xff];
    if bytes.is_empty() {
        bytes.push(rng.u8(..));
        return;
    }
    let at = rng.usize(..bytes.len());
    match rng.usize(..8) {
        0..3 => replace(bytes, at, |byte| byte ^ 1 << rng.u8(..8)),
        3 | 4 => replace(bytes, at, |_| {
            TELLING.get(rng.usize(..TELLING.len())).copied().unwrap_or(0)
        }),
        5 => bytes.truncate(at),
        6 => {
            let more: Vec<u8> = (0..rng.usize(1..64)).map(|_| rng.u8(..)).collect();
            bytes.splice(at..at, more);
        }
        _ => {
            let end = (at + rng.usize(1..16)).min(bytes.len());
            bytes.drain(at..end);
        }
    }
}

fn replace(bytes: &mut [u8], at: usize, with: impl FnOnce(u8) -> u8) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte = with(*byte);
    }
}

/// Makes a record with a ClientHello of what it holds, however much that is.
fn repair(hello: &mut Vec<u8>) {
    let body = hello.get(9..).unwrap_or_default();
    let message = [&[1], vector(body).as_slice()].concat();
    *hello = [
        &[22, 3, 1],
        ((message.len() as u16).to_be_bytes()).as_slice(),
        &message,
    ]
    .concat();
}

/// A vector with a length of three bytes (RFC 5246 section 4.3).
fn vector(content: &[u8]) -> Vec<u8> {
    [&(content.len() as u32).to_be_bytes()[1..], content].concat()
}

fn in_parallel(numbers: std::ops::Range<usize>, act: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    let next = AtomicUsize::new(numbers.start);
    let worker = || loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= numbers.end {
            return Ok(());
        }
        act(number).with_context(|| format!("number {number}"))?;
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().map_err(|_| anyhow!("a worker panicked"))?)
    })
}

/// Waits until as many connections are counted as were made, not one more or less.
fn counted(lab: &Lab, before: &Counts, made: usize) -> Result<Counts> {
    wait_for(&format!("{made} connections to be counted"), PATIENCE, || {
        let counts = Counts::read(&lab.agent())?.since(before);
        ensure!(
            counts.sum() <= made as u64,
            "{made} connections made, but {counts:?}"
        );
        Ok((counts.sum() == made as u64).then_some(counts))
    })
}

/// What the agent has in memory, in KiB.
fn memory(lab: &Lab) -> Result<u64> {
    let pid = fs::read_to_string(lab.files().pid("agent"))?;
    let status = fs::read_to_string(format!("/proc/{}/status", pid.trim())).context("the agent is gone")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let size = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    size.context("no VmRSS in the agent's status")
}
