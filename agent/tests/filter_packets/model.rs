//! The loaded program against the host's build of the same decision, packet by packet: what the compiler, the verifier
//! and the maps made of it must be what it says.

use std::{borrow::Cow, collections::BTreeMap, net::IpAddr, time::Duration};

use ipnet::IpNet;
use spinegate::filter::{Explained, Filter, Model, NewVerdict};
use spinegate_common::{
    Budget, Outcome, Standing, VerdictKind, World,
    packet::{Address, Frame, Packet},
    policy::Head,
    tree::Page,
};

use crate::{
    frames::{self, Rng},
    packets::*,
    random_policy::RandomPolicy,
};

const POLICIES: usize = 10;
/// Where few packets are compared, as in a guest that is emulated, an outcome may be missing; further policies are tried then.
const MOST_POLICIES: usize = 20 * POLICIES;
/// What the packets must have met with: a generator that never gets behind the first steps proves little.
const OUTCOMES: [&str; 15] = [
    "Passed(Unguarded)",
    "Passed(Control)",
    "Passed(Allowlisted)",
    "Passed(Fragment)",
    "Passed(Failsafe)",
    "Passed(Reply)",
    "Dropped(PacketTruncated)",
    "Dropped(PacketBadHeader)",
    "Dropped(PacketTooManyHeaders)",
    "Dropped(FragmentWithoutPorts)",
    "Dropped(FragmentNotAllowlisted)",
    "Dropped(VerdictDeny)",
    "Dropped(SourceNotAllowlisted)",
    "Dropped(EthertypeUnknown)",
    "WouldDrop(SourceNotAllowlisted)",
];

/// The model with verdicts, each source's found by looking through them all.
struct Judged<'a> {
    model: &'a Model,
    verdicts: &'a [(IpNet, NewVerdict)],
}

impl Judged<'_> {
    fn explain(&self, frame: &[u8]) -> Explained {
        let (judgement, packet) = self.model.judge_in(self, true, &FirstBuffer(frame));
        let described = self.model.describe(&judgement, packet);
        // The explanation's packet is read by the agent, from the whole frame.
        let mut packet = Packet::default();
        let _ = spinegate_common::packet::parse(&frame, &mut packet);
        Explained { packet, ..described }
    }

    fn standing(&self, source: IpAddr, single: bool) -> Option<Standing<()>> {
        let covering = self
            .verdicts
            .iter()
            .filter(|(net, _)| net.contains(&source) && single == (net.prefix_len() == net.max_prefix_len()));
        let mut standing = None;
        for (_, verdict) in covering {
            let found = standing.get_or_insert(Standing {
                deny_until: 0,
                trust_until: 0,
                verdict: (),
            });
            match verdict.kind {
                VerdictKind::Deny => found.deny_until = u64::MAX,
                VerdictKind::Trust => found.trust_until = u64::MAX,
            }
        }
        standing
    }
}

/// What the kernel half can read of a frame that BPF_PROG_TEST_RUN lays out: a page less headroom and tailroom.
struct FirstBuffer<'a>(&'a [u8]);

impl Frame for FirstBuffer<'_> {
    fn reaches(&self, end: usize) -> bool {
        self.0.reaches(end)
    }

    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        const LINEAR: usize = 4096 - 256 - 320;
        let readable = self.0.get(..LINEAR).unwrap_or(self.0);
        readable.read(offset)
    }
}

impl World for Judged<'_> {
    type Verdict = ();

    fn head_page<'head>(&self, head: &'head Head, page: u32) -> Option<&'head Page> {
        self.model.head_page(head, page)
    }

    fn page(&self, slot: u32, page: u32) -> Option<&Page> {
        self.model.page(slot, page)
    }

    fn leaf6(&self, slot: u32, address: &Address) -> u32 {
        self.model.leaf6(slot, address)
    }

    fn verdict(&self, source: &Address) -> Option<Standing<()>> {
        self.standing(spinegate::filter::address(source), true)
    }

    fn prefix_verdict(&self, source: &Address) -> Option<Standing<()>> {
        self.standing(spinegate::filter::address(source), false)
    }

    fn hit(&self, (): ()) {}

    fn spend_trusted(&self, (): (), budget: &Budget) -> bool {
        self.model.spend_trusted((), budget)
    }

    fn spend_untrusted(&self, source: &Address, budget: &Budget) -> bool {
        self.model.spend_untrusted(source, budget)
    }

    fn spend_control(&self, budget: &Budget) -> bool {
        self.model.spend_control(budget)
    }

    fn boot_time(&self) -> u64 {
        self.model.boot_time()
    }
}

/// What the program must have counted.
#[derive(Default)]
struct Expected {
    services: BTreeMap<(String, &'static str, Cow<'static, str>), u64>,
    entries: BTreeMap<IpNet, u64>,
}

impl Expected {
    fn count(&mut self, explained: &Explained) {
        let (column, name) = match explained.outcome {
            Outcome::Dropped(reason) => ("drop", reason.as_str()),
            Outcome::WouldDrop(reason) => ("would drop", reason.as_str()),
            Outcome::Passed(pass) => ("pass", pass.as_str()),
        };
        let service = explained.service.clone();
        *self.services.entry((service, column, name.into())).or_default() += 1;
        if let Some(entry) = explained.entry_cidr {
            *self.entries.entry(entry).or_default() += 1;
        }
    }

    fn counted(filter: &Filter, policy: &RandomPolicy) -> Self {
        let counters = filter.counters().expect("counters");
        let mut counted = Self::default();
        for (service, outcomes) in counters.services {
            let columns = [
                ("drop", outcomes.drops),
                ("would drop", outcomes.would_drops),
                ("pass", outcomes.passes),
            ];
            for (column, tallies) in columns {
                for (name, tally) in tallies {
                    counted
                        .services
                        .insert((service.clone(), column, name), tally.packets);
                }
            }
        }
        for source in &policy.settings.sources {
            if let Some(tally) = filter.passed(source).expect("counters") {
                counted.entries.insert(source.cidr, tally.packets);
            }
        }
        counted.services.retain(|_, count| *count > 0);
        counted.entries.retain(|_, count| *count > 0);
        counted
    }
}

#[test]
fn the_loaded_program_judges_every_packet_as_the_host_does() {
    let seed = frames::seed();
    println!("seed {seed}");
    let mut rng = Rng::new(seed);
    // The large one has fewer.
    let rounds = frames::rounds(100_000).div_ceil(POLICIES - 1);
    let mut seen = BTreeMap::new();
    for number in 0..MOST_POLICIES {
        if number >= POLICIES && OUTCOMES.iter().all(|outcome| seen.contains_key(*outcome)) {
            break;
        }
        let policy = RandomPolicy::new(&mut rng, number);
        let mut filter = filter!(&policy.settings);
        for (source, verdict) in &policy.verdicts {
            filter.judge(*source, *verdict).expect("a verdict");
        }
        let model = Model::new(&policy.settings, &policy.settings.sources).expect("a policy");
        let judged = Judged {
            model: &model,
            verdicts: &policy.verdicts,
        };
        // Until what ends soon has ended, for both.
        std::thread::sleep(Duration::from_millis(120));
        let mut expected = Expected::default();
        // Each entry is looked up by its number among all of them.
        let rounds = if policy.is_large() { rounds / 10 } else { rounds };
        for round in 0..rounds {
            let frame = frames::any(&mut rng, &policy.pool);
            let said = judged.explain(&frame);
            let theirs = filter.explain(&frame).expect("an explanation");
            let (passed, _) = filter.test(&frame, 1).expect("a test run");
            assert!(
                said == theirs && passed == said.outcome.passes(),
                "seed {seed}, policy {number}, packet {round}: {}\nthe host says {said:?}\nthe program explains \
                 {theirs:?}\nit passed: {passed}",
                frames::hex(&frame)
            );
            expected.count(&said);
            *seen.entry(format!("{:?}", said.outcome)).or_insert(0_u64) += 1;
        }
        let counted = Expected::counted(&filter, &policy);
        assert_eq!(
            counted.services, expected.services,
            "seed {seed}, policy {number}: counters by service"
        );
        assert_eq!(
            counted.entries, expected.entries,
            "seed {seed}, policy {number}: counters by entry"
        );
    }
    println!("{seen:#?}");
    for outcome in OUTCOMES {
        assert!(
            seen.contains_key(outcome),
            "seed {seed}: {outcome} was not seen: {seen:?}"
        );
    }
}
