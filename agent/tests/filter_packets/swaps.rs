//! Policies and verdicts that change under traffic: no packet ever sees half of one.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use spinegate::{
    config::{Filter as Settings, Source},
    filter::Filter,
};
use spinegate_common::{Pass, Reason};

use crate::packets::*;

#[test]
fn a_swapped_policy_holds_for_the_next_packet_and_counters_go_on() {
    let before = settings();
    let mut filter = filter!(&before);
    let not_listed = Reason::SourceNotAllowlisted;
    is_dropped(&filter, "a stranger", &syn(STRANGER4, 443), not_listed);
    let mut after = settings();
    after.sources = vec![source("198.51.100.0/24", &[])];
    for generation in 2..6 {
        let (now, in_force, out_of_force) = if generation % 2 == 0 {
            (&after, STRANGER4, LISTED4)
        } else {
            (&before, LISTED4, STRANGER4)
        };
        filter.apply(now, &now.sources).expect("a policy swap");
        assert_eq!(filter.generation(), generation);
        passes(&filter, "a source of the policy in force", &syn(in_force, 443));
        is_dropped(
            &filter,
            "a source of the other",
            &syn(out_of_force, 443),
            not_listed,
        );
    }
    assert_eq!(
        counted(&filter, spinegate_common::Outcome::Dropped(not_listed)),
        5
    );
}

#[test]
fn swapping_back_and_forth_leaves_nothing_of_the_other_policy() {
    let plain = settings();
    let mut other = settings();
    other.services = vec![guarded("udp/53")];
    other.sources = vec![source("10.0.0.0/8", &["udp/53"]), source("fd00::/8", &[])];
    other.failsafes = vec![spinegate::config::Failsafe {
        cidr: net("198.51.100.0/24"),
        services: vec!["udp/53".parse().expect("a service")],
    }];
    let mut filter = filter!(&plain);
    for _ in 0..3 {
        filter.apply(&other, &other.sources).expect("a policy");
        passes_as(&filter, "its failsafe", &udp(STRANGER4, 53), Pass::Failsafe);
        passes(&filter, "its source", &udp("10.1.1.1", 53));
        passes(&filter, "its IPv6 source", &udp("fd00::1", 53));
        is_dropped(
            &filter,
            "the other's source",
            &udp(LISTED6, 53),
            Reason::SourceNotAllowlisted,
        );
        passes_as(
            &filter,
            "the other's service",
            &syn(STRANGER6, 443),
            Pass::Unguarded,
        );
        filter.apply(&plain, &plain.sources).expect("a policy");
        passes_as(&filter, "its service", &udp(STRANGER4, 53), Pass::Unguarded);
        for source in ["10.1.1.1", "fd00::1", STRANGER4] {
            is_dropped(
                &filter,
                "its source",
                &syn(source, 443),
                Reason::SourceNotAllowlisted,
            );
        }
    }
}

/// Pinned maps that two programs share, as they do while an agent takes over from another: one is changed while the
/// other, on threads of its own, runs on frames.
struct Shared {
    program: Filter,
    pins: PathBuf,
}

fn shared(name: &str, settings: &Settings) -> (Filter, Shared) {
    let pins = PathBuf::from(format!(
        "/sys/fs/bpf/spinegate-test-{}-{name}",
        std::process::id()
    ));
    let settings = Settings {
        pin_dir: pins.clone(),
        ..settings.clone()
    };
    let [filter, program] =
        [(); 2].map(|()| Filter::open(&settings, &settings.sources).expect("the kernel takes the program"));
    (filter, Shared { program, pins })
}

impl std::ops::Deref for Shared {
    type Target = Filter;

    fn deref(&self) -> &Filter {
        &self.program
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // A failure here must not hide the test's own.
        let _ = spinegate::filter::detach(&self.pins);
    }
}

/// What a policy says of the traffic's sources: those of both policies, of one alone, and of none.
const BOTH: [&str; 4] = ["192.0.2.7", "10.77.3.9", "2001:db8::7", "2001:db8:77::9"];
const NEITHER: [&str; 4] = ["198.51.100.9", "10.78.0.1", "2001:db8:ff00::9", "2001:db8:78::1"];
const ONE: [&str; 4] = ["10.1.0.1", "10.2.0.1", "2001:db8:a::1", "2001:db8:b::1"];

/// A policy that has the shared sources under different prefixes, and so under different nodes, grants and numbers.
fn policy(first: bool) -> Settings {
    let mut settings = settings();
    let mut shared: Vec<Source> = if first {
        vec![
            source("192.0.2.0/28", &[]),
            source("10.77.0.0/16", &["tcp/443"]),
            source("2001:db8::/64", &["tcp/443"]),
            source("2001:db8:77::/48", &[]),
        ]
    } else {
        settings.services.reverse();
        settings.services.push(guarded("udp/53"));
        vec![
            source("192.0.2.7/32", &["tcp/443"]),
            source("10.77.3.0/24", &[]),
            source("10.77.3.8/31", &["udp/53"]),
            source("2001:db8::7/128", &[]),
            source("2001:db8:77::9/128", &["tcp/443"]),
        ]
    };
    let own = if first {
        ["10.1.0.0/16", "2001:db8:a::/48"]
    } else {
        ["10.2.0.0/16", "2001:db8:b::/48"]
    };
    shared.extend(own.map(|cidr| source(cidr, &[])));
    // Sparse nodes around the sources that neither knows, so that a page of the other policy would be taken for its own.
    let filler = if first { 0..200_u8 } else { 55..255 };
    shared.extend(
        filler
            .clone()
            .map(|third| source(&format!("10.79.{third}.0/25"), &[])),
    );
    shared.extend(filler.map(|third| source(&format!("172.16.{third}.7/32"), &["tcp/443"])));
    settings.sources = shared;
    settings
}

/// Runs frames of these sources until told to stop, and gives how many passed and how many did not.
fn traffic(program: &Filter, sources: &[&str], stop: &AtomicBool) -> (u64, u64) {
    let frames: Vec<_> = sources.iter().map(|source| ack(source, 443)).collect();
    let (mut passed, mut dropped) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        for frame in &frames {
            if program.test(frame, 1).expect("a test run").0 {
                passed += 1;
            } else {
                dropped += 1;
            }
        }
    }
    (passed, dropped)
}

#[test]
fn no_packet_sees_half_of_a_policy_while_policies_are_swapped() {
    let (first, second) = (policy(true), policy(false));
    needs_root!();
    let (mut filter, program) = shared("swapped", &first);
    let stop = AtomicBool::new(false);
    let mut swaps = 0_u32;
    let (both, neither, one) = thread::scope(|scope| {
        let both = scope.spawn(|| traffic(&program, &BOTH, &stop));
        let neither = scope.spawn(|| traffic(&program, &NEITHER, &stop));
        let one = scope.spawn(|| traffic(&program, &ONE, &stop));
        let begun = Instant::now();
        let swapped: Result<(), _> = (|| {
            // A slow machine swaps slowly.
            let enough = |swaps| begun.elapsed() >= Duration::from_secs(3) && swaps >= 10;
            while !enough(swaps) && begun.elapsed() < Duration::from_secs(60) {
                let next = if swaps.is_multiple_of(2) { &second } else { &first };
                filter.apply(next, &next.sources)?;
                swaps += 1;
            }
            Ok::<(), spinegate::filter::FilterError>(())
        })();
        stop.store(true, Ordering::Relaxed);
        swapped.expect("policy swaps");
        let join = |thread: thread::ScopedJoinHandle<'_, _>| thread.join().expect("traffic");
        (join(both), join(neither), join(one))
    });
    println!("{swaps} swaps; both {both:?}, neither {neither:?}, one {one:?}");
    assert_eq!(both.1, 0, "dropped, though both policies allow it");
    assert_eq!(neither.0, 0, "passed, though both policies deny it");
    // The test proves something only if the traffic met both policies.
    assert!(swaps >= 10, "{swaps} swaps");
    assert!(both.0 > 100 && neither.1 > 100, "too little traffic");
    assert!(one.0 > 0 && one.1 > 0, "each policy was seen: {one:?}");
}

#[test]
fn a_denied_source_never_passes_once_the_verdict_is_written() {
    let mut settings = settings();
    settings.sources = vec![source("10.0.0.0/8", &[]), source("2001:db8::/32", &[])];
    needs_root!();
    let (mut filter, program) = shared("judged", &settings);
    // Odd: the verdict is written, and stays until the number is even again.
    let phase = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let targets = [
        ("10.1.1.1", "10.1.1.1"),
        ("10.2.2.2", "10.2.0.0/16"),
        ("2001:db8::1", "2001:db8::1"),
        ("2001:db8:2::2", "2001:db8:2::/48"),
    ];
    let frames = targets.map(|(address, _)| ack(address, 443));
    let seen = thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            let (mut while_denied, mut while_allowed) = (0_u64, 0_u64);
            while !stop.load(Ordering::SeqCst) {
                let before = phase.load(Ordering::SeqCst);
                let target = (before / 2) as usize % targets.len();
                let (passed, _) = program.test(&frames[target], 1).expect("a test run");
                if before != phase.load(Ordering::SeqCst) {
                    continue;
                }
                if before % 2 == 1 {
                    assert!(!passed, "{} passed though denied", targets[target].0);
                    while_denied += 1;
                } else if passed {
                    while_allowed += 1;
                }
            }
            (while_denied, while_allowed)
        });
        let begun = Instant::now();
        let judged: Result<(), _> = (|| {
            while begun.elapsed() < Duration::from_millis(1500) && !traffic.is_finished() {
                let target = (phase.load(Ordering::SeqCst) / 2) as usize % targets.len();
                let source = net(targets[target].1);
                filter.judge(source, deny(HOUR))?;
                phase.fetch_add(1, Ordering::SeqCst);
                // A policy swap in between takes no verdict away.
                if target == 0 {
                    filter.apply(&settings, &settings.sources)?;
                }
                thread::sleep(Duration::from_micros(200));
                phase.fetch_add(1, Ordering::SeqCst);
                filter.lift(source)?;
                filter.forget_expired()?;
                thread::sleep(Duration::from_micros(200));
            }
            Ok::<(), spinegate::filter::FilterError>(())
        })();
        stop.store(true, Ordering::SeqCst);
        judged.expect("verdicts");
        traffic.join().expect("traffic")
    });
    println!(
        "{} written; {seen:?} packets while denied, while not",
        phase.into_inner() / 2
    );
    assert!(seen.0 > 100 && seen.1 > 100, "{seen:?}");
}

#[test]
fn a_filter_that_is_attached_to_nothing_leaves_the_pins_of_others_alone() {
    let mut settings = settings();
    settings.pin_dir = format!("/sys/fs/bpf/spinegate-test-{}-untouched", std::process::id()).into();
    let mut filter = filter!(&settings);
    filter.apply(&settings, &settings.sources).expect("a policy swap");
    let made = settings.pin_dir.exists();
    let _ = spinegate::filter::detach(&settings.pin_dir);
    assert!(!made, "{} was made", settings.pin_dir.display());
}
