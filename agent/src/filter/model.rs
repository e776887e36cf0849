//! A policy in memory, judged by the very code of the kernel half: what a policy would do before it is in force.

use std::collections::HashMap;

use spinegate_common::{
    Budget, Judgement, Standing, World, judge,
    packet::{Address, Frame, Packet},
    policy::{Control, Head},
    tree::{Page, tag},
};

use super::{
    Explained, FilterError,
    clock::now,
    explain,
    policy::{compile::Compiled, numbers::Numbers},
};
use crate::config::{self, Source};

/// A compiled policy without verdicts. Its budgets are never used up.
pub struct Model {
    policy: Compiled,
    numbers: Numbers,
    prefixes6: HashMap<(u8, u128), u32>,
}

impl Model {
    /// Compiles the policy.
    ///
    /// # Errors
    /// If it can't be compiled.
    pub fn new(config: &config::Filter, sources: &[Source]) -> Result<Self, FilterError> {
        let mut numbers = Numbers::open(None, config.max_sources + 1)?;
        let policy = Compiled::new(config, sources, &mut numbers, now())?;
        let prefixes6 = policy
            .prefixes6
            .iter()
            .map(|(address, length, leaf)| ((*length, u128::from_be_bytes(address.octets())), *leaf))
            .collect();
        Ok(Self {
            policy,
            numbers,
            prefixes6,
        })
    }

    /// What would become of a frame.
    #[must_use]
    pub fn judge(&self, frame: &[u8]) -> (Judgement, Packet) {
        self.judge_in(self, false, &frame)
    }

    /// What would become of a frame in another world, which has this policy's pages and may know of verdicts.
    #[must_use]
    pub fn judge_in<F: Frame, W: World>(
        &self,
        world: &W,
        has_verdicts: bool,
        frame: &F,
    ) -> (Judgement, Packet) {
        let control = Control {
            slot: 0,
            verdicts: has_verdicts,
            prefix_verdicts: has_verdicts,
            generation: 0,
        };
        let mut packet = Packet::default();
        let judgement = judge(frame, world, control, &self.policy.head, &mut packet);
        (judgement, packet)
    }

    /// A judgement in the words in which [`super::Filter::explain`] says what the loaded program would do.
    #[must_use]
    pub fn describe(&self, judgement: &Judgement, packet: Packet) -> Explained {
        explain::describe(&self.numbers, judgement, packet)
    }
}

impl World for Model {
    type Verdict = ();

    fn head_page<'head>(&self, head: &'head Head, page: u32) -> Option<&'head Page> {
        head.pages.get(usize::try_from(page).ok()?)
    }

    fn page(&self, _slot: u32, page: u32) -> Option<&Page> {
        self.policy.pages.get(usize::try_from(page).ok()?)
    }

    fn leaf6(&self, _slot: u32, address: &Address) -> u32 {
        let address = u128::from_be_bytes(address.octets());
        let longest = (0..=128_u8).rev().find_map(|length| {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or_default();
            self.prefixes6.get(&(length, address & mask))
        });
        longest.copied().unwrap_or(tag::NOTHING)
    }

    fn verdict(&self, _source: &Address) -> Option<Standing<()>> {
        None
    }

    fn prefix_verdict(&self, _source: &Address) -> Option<Standing<()>> {
        None
    }

    fn hit(&self, (): ()) {}

    fn spend_trusted(&self, (): (), _budget: &Budget) -> bool {
        true
    }

    fn spend_untrusted(&self, _source: &Address, _budget: &Budget) -> bool {
        true
    }

    fn spend_control(&self, _budget: &Budget) -> bool {
        true
    }

    fn boot_time(&self) -> u64 {
        now().boot
    }
}
