//! What an older agent has pinned, adopted by this one in the kernel.
#![allow(clippy::expect_used, reason = "a test says what it expects by panicking")]

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use aya::maps::{Array, HashMap};
use ipnet::IpNet;
use nix::{
    sched::{CloneFlags, unshare},
    time::{ClockId, clock_gettime},
};
use spinegate::{
    config::{Filter as Settings, GuardedService, XdpAttach},
    filter::{self, Filter, FilterError, NewVerdict},
};
use spinegate_common::{Reason, VerdictKind, VerdictOrigin};

const MINUTE: Duration = Duration::from_secs(60);

/// A pin folder of a test's own, removed with all it holds; also what an earlier run left that was killed.
struct Pins(PathBuf);

impl Pins {
    /// None on a machine where nothing can be pinned: that is said, and counted as skipped.
    fn make(test: &str) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            println!("SKIPPED {test}: pinning maps needs root");
            return None;
        }
        let pins = Self(Path::new("/sys/fs/bpf").join(format!("spinegate-test-{test}")));
        pins.remove();
        Some(pins)
    }

    fn settings(&self) -> Settings {
        Settings {
            // The namespace of the test has no other, and no one else's.
            interfaces: vec!["lo".to_owned()],
            attach: XdpAttach::Generic,
            pin_dir: self.0.clone(),
            max_sources: 1024,
            services: vec![GuardedService::everywhere("tcp/443".parse().expect("a service"))],
            ..Settings::default()
        }
    }

    fn older(&self) -> PathBuf {
        self.0.join("v1")
    }

    /// The verdicts of layout 1: an address and what stands under it.
    fn pin_verdicts(&self, verdicts: &[(&str, [u8; 16])]) {
        fs::create_dir_all(self.older()).expect("made");
        let mut map: HashMap<_, [u8; 16], [u8; 16]> = HashMap::create(1 << 16, 1).expect("created");
        for (address, value) in verdicts {
            let key = match address.parse().expect("an address") {
                IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                IpAddr::V6(address) => address.octets(),
            };
            map.insert(key, value, 0).expect("inserted");
        }
        map.pin(self.older().join("VERDICTS")).expect("pinned");
        let other: Array<_, u64> = Array::create(1, 0).expect("created");
        other.pin(self.older().join("CONTROL")).expect("pinned");
    }

    fn remove(&self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Runs a test in a network namespace that goes with its thread.
fn in_namespace(test: impl FnOnce() + Send) {
    let ran = thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a namespace");
            test();
        });
        thread.join()
    });
    if let Err(panic) = ran {
        std::panic::resume_unwind(panic);
    }
}

/// When it ends, kind, reason, origin, padding: what layout 1 has for a verdict.
fn value(left: Duration, reason: Reason, origin: VerdictOrigin) -> [u8; 16] {
    let now = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME).expect("a clock"));
    let expires = u64::try_from((now + left).as_nanos()).expect("no such uptime");
    let mut value = [0; 16];
    let (end, rest) = value.split_at_mut(8);
    end.copy_from_slice(&expires.to_ne_bytes());
    for (place, byte) in rest.iter_mut().zip([1, reason as u8, origin as u8]) {
        *place = byte;
    }
    value
}

#[test]
fn an_older_agents_verdicts_are_carried_over_and_its_maps_removed() {
    let Some(pins) = Pins::make("an_older_agents_verdicts_are_carried_over_and_its_maps_removed") else {
        return;
    };
    pins.pin_verdicts(&[
        (
            "192.0.2.7",
            value(MINUTE, Reason::CertificateMissing, VerdictOrigin::Agent),
        ),
        (
            "2001:db8::7",
            value(2 * MINUTE, Reason::OperatorOrder, VerdictOrigin::Operator),
        ),
        (
            "192.0.2.8",
            value(Duration::ZERO, Reason::OperatorOrder, VerdictOrigin::Operator),
        ),
    ]);
    in_namespace(|| {
        let filter = Filter::open(&pins.settings(), &[]).expect("opened");
        let verdicts = filter.verdicts().expect("listed");
        let found: Vec<_> = verdicts
            .iter()
            .map(|verdict| {
                (
                    verdict.source.addr().to_string(),
                    verdict.kind,
                    verdict.reason,
                    verdict.ordered,
                )
            })
            .collect();
        assert_eq!(
            found,
            [
                (
                    "192.0.2.7".to_owned(),
                    VerdictKind::Deny,
                    Reason::CertificateMissing,
                    false
                ),
                (
                    "2001:db8::7".to_owned(),
                    VerdictKind::Deny,
                    Reason::OperatorOrder,
                    true
                ),
            ]
        );
        for (verdict, whole) in verdicts.iter().zip([MINUTE, 2 * MINUTE]) {
            assert!(
                verdict.remaining <= whole && verdict.remaining > whole - MINUTE / 2,
                "{verdict:?}"
            );
        }
        assert!(!pins.older().exists(), "the older maps are left");
        assert_eq!(filter.attachments().len(), 1);
        drop(filter);

        // A second agent has nothing left to carry over, and loses nothing.
        let again = Filter::open(&pins.settings(), &[]).expect("opened again");
        assert_eq!(again.verdicts().expect("listed").len(), 2);
        assert_eq!(filter::detach(&pins.0).expect("detached"), ["lo"]);
        assert!(!pins.0.exists(), "pins are left");
    });
}

#[test]
fn a_verdict_that_stands_is_not_replaced_by_an_older_agents() {
    let Some(pins) = Pins::make("a_verdict_that_stands_is_not_replaced_by_an_older_agents") else {
        return;
    };
    in_namespace(|| {
        let source = IpNet::from(IpAddr::from([192, 0, 2, 7]));
        let mut filter = Filter::open(&pins.settings(), &[]).expect("opened");
        let standing = NewVerdict {
            kind: VerdictKind::Deny,
            reason: Reason::TlsVersion,
            origin: VerdictOrigin::Agent,
            ttl: 10 * MINUTE,
        };
        filter.judge(source, standing).expect("written");
        drop(filter);
        pins.pin_verdicts(&[(
            "192.0.2.7",
            value(MINUTE, Reason::CertificateMissing, VerdictOrigin::Agent),
        )]);
        let filter = Filter::open(&pins.settings(), &[]).expect("opened");
        let found = filter.verdict_on(source).expect("read").expect("a verdict");
        assert_eq!(found.reason, Reason::TlsVersion);
    });
}

#[test]
fn maps_that_are_not_what_layout_1_has_are_refused_and_stay() {
    let Some(pins) = Pins::make("maps_that_are_not_what_layout_1_has_are_refused_and_stay") else {
        return;
    };
    fs::create_dir_all(pins.older()).expect("made");
    let odd: HashMap<_, u32, u32> = HashMap::create(1, 0).expect("created");
    odd.pin(pins.older().join("VERDICTS")).expect("pinned");
    in_namespace(|| {
        let error = Filter::open(&pins.settings(), &[]).err().expect("refused");
        assert!(matches!(error, FilterError::OldLayout { .. }), "{error}");
        assert!(error.to_string().contains("spinegate detach"), "{error}");
        assert!(pins.older().join("VERDICTS").exists());
    });
}

#[test]
fn a_newer_agents_maps_are_refused_and_nothing_is_touched() {
    let Some(pins) = Pins::make("a_newer_agents_maps_are_refused_and_nothing_is_touched") else {
        return;
    };
    let newer = pins.0.join("v4000");
    fs::create_dir_all(&newer).expect("made");
    in_namespace(|| {
        let error = Filter::open(&pins.settings(), &[]).err().expect("refused");
        assert!(
            matches!(&error, FilterError::NewerLayout { folder, layout: 4000 } if *folder == newer),
            "{error}"
        );
        let left: Vec<_> = fs::read_dir(&pins.0).expect("listed").collect();
        assert_eq!(
            left.len(),
            1,
            "something was pinned beside the newer agent's maps"
        );
        let problems = filter::problems(&pins.settings());
        assert!(
            problems.iter().any(|problem| problem.key == "filter.pin_dir"
                && problem.message.contains("newer agent")
                && problem.mend.contains("spinegate detach")),
            "{problems:?}"
        );
    });
}
