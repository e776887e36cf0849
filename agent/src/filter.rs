//! The agent's hold on the kernel half: load, attach, pin, upgrade; the policy swapped atomically; counters; events.

mod address;
mod attachment;
mod clock;
mod counters;
mod error;
mod events;
mod explain;
mod genetlink;
mod interface;
mod layout;
mod model;
mod object;
mod offload;
mod policy;
mod preflight;
mod serial;
mod survey;
mod verdicts;

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use aya::programs::ProgramFd;
use ipnet::IpNet;

use crate::config::{self, Source};

pub use address::address;
pub use attachment::{Attachment, Owner, detach, foreign, titled};
pub use counters::{Counters, Outcomes, Tally};
pub use error::FilterError;
pub use events::{Drop, Events};
pub use explain::Explained;
pub use model::Model;
pub use offload::{MTU_OF_A_PAGE, remarks};
pub use preflight::{is_on_bpffs, problems};
pub use survey::{Surveyed, survey};
pub use verdicts::{NewVerdict, Verdict};

/// The loaded filter. Dropping it leaves everything in force: only [`detach`] takes the filter away.
pub struct Filter {
    object: object::Object,
    numbers: policy::numbers::Numbers,
    ends: verdicts::Ends,
    attachments: Vec<Attachment>,
    /// It was never on, or an operator has taken it off: only an operator puts it back.
    detached: bool,
    generation: u64,
    policy_bytes: usize,
}

impl Filter {
    /// Loads the program, puts the policy in force, and attaches it to the interfaces. What an earlier agent left
    /// pinned is adopted: its policy holds until the new one is complete, and each interface goes from the old
    /// program to the new one without a packet in between.
    ///
    /// # Errors
    /// Names the step that failed and its mend; interfaces that were attached before stay attached.
    pub fn open(config: &config::Filter, sources: &[Source]) -> Result<Self, FilterError> {
        refuse_newer_layout(config)?;
        let inherited = layout::inherited(&config.pin_dir)?;
        let mut filter = Self::load(config, Some(&config.pin_dir))?;
        attachment::check(&mut filter.object, config)?;
        filter.put_in_force(config, sources)?;
        // Before attaching, so that there is no packet for which a denial has lapsed.
        filter.inherit(inherited)?;
        filter.attach(config)?;
        layout::remove_older(&config.pin_dir)?;
        Ok(filter)
    }

    /// Loads the program with maps of its own, attached to nothing: what the packet tables are run against.
    ///
    /// # Errors
    /// As [`Filter::open`].
    pub fn unattached(config: &config::Filter, sources: &[Source]) -> Result<Self, FilterError> {
        let mut filter = Self::load(config, None)?;
        // It has no pins, and must not touch those of a filter that guards this host.
        filter.detached = true;
        filter.put_in_force(config, sources)?;
        Ok(filter)
    }

    fn load(config: &config::Filter, pin_dir: Option<&Path>) -> Result<Self, FilterError> {
        let object = object::Object::load(pin_dir, config.max_sources + 1)?;
        let numbers =
            policy::numbers::Numbers::open(pin_dir.map(map_folder).as_deref(), config.max_sources + 1)?;
        let ends = verdicts::Ends::read(&object)?;
        Ok(Self {
            object,
            numbers,
            ends,
            attachments: Vec::new(),
            detached: false,
            generation: 0,
            policy_bytes: 0,
        })
    }

    /// Puts another policy in force between two packets, and attaches to the interfaces that it names, unless an operator
    /// has taken the filter off.
    ///
    /// # Errors
    /// The old policy stays in force, unless attaching failed in spite of the interfaces having been looked at before.
    pub fn apply(&mut self, config: &config::Filter, sources: &[Source]) -> Result<(), FilterError> {
        attachment::check(&mut self.object, config)?;
        self.put_in_force(config, sources)?;
        if self.detached {
            return Ok(());
        }
        self.attach(config)
    }

    /// Puts another policy in force between two packets, whatever holds the interfaces.
    ///
    /// # Errors
    /// The old policy stays in force.
    pub fn put_in_force(&mut self, config: &config::Filter, sources: &[Source]) -> Result<(), FilterError> {
        let kept = self.numbers.kept_services();
        let compiled = policy::compile::Compiled::new(config, sources, &mut self.numbers, clock::now());
        // A policy that comes to nothing takes no service's number away from the policy that stays.
        let compiled = compiled.inspect_err(|_| self.numbers.restore_services(kept))?;
        // Numbers are written down before anything is counted under them.
        self.numbers.save()?;
        self.generation = policy::put_in_force(&mut self.object, &compiled)?;
        self.policy_bytes = compiled.bytes();
        verdicts::retract(&mut self.object)?;
        policy::retire(&mut self.object, &mut self.numbers, sources)
    }

    /// Attaches to the interfaces that are there and not attached to, as one that went away and came back.
    ///
    /// # Errors
    /// Names the first interface that could not be attached to, and the mend; the others are attached to.
    pub fn attach(&mut self, config: &config::Filter) -> Result<(), FilterError> {
        self.detached = false;
        let (attachments, failure) = attachment::attach_all(&mut self.object, config)?;
        self.attachments = attachments;
        failure.map_or(Ok(()), Err)
    }

    /// Takes the filter off every interface until it is told to [attach](Self::attach), and gives their names. The maps
    /// stay, with the policy, the verdicts and the counters.
    ///
    /// # Errors
    /// If a pin can't be removed.
    pub fn detach(&mut self, config: &config::Filter) -> Result<Vec<String>, FilterError> {
        self.detached = true;
        self.attachments.clear();
        attachment::release(&config.pin_dir)
    }

    /// Whether an operator has taken it off.
    #[must_use]
    pub const fn is_detached(&self) -> bool {
        self.detached
    }

    fn inherit(&mut self, verdicts: Vec<(IpNet, NewVerdict)>) -> Result<(), FilterError> {
        for (source, verdict) in verdicts {
            // An earlier attempt may have got as far as this, and what has been reached since then is newer.
            if self.verdict_on(source)?.is_none() {
                self.judge(source, verdict)?;
            }
        }
        Ok(())
    }

    /// What holds an interface's XDP slot now.
    pub fn owner(&mut self, config: &config::Filter, interface: &str) -> Owner {
        attachment::owner(&mut self.object, config, interface)
    }

    /// Where it is attached.
    #[must_use]
    pub fn attachments(&self) -> &[Attachment] {
        &self.attachments
    }

    /// Counts the policies since the maps were made.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Memory that the policy takes in the kernel, in bytes.
    #[must_use]
    pub const fn policy_bytes(&self) -> usize {
        self.policy_bytes
    }

    /// What it has counted.
    ///
    /// # Errors
    /// If the kernel refuses the maps.
    pub fn counters(&self) -> Result<Counters, FilterError> {
        counters::read(&self.object, &self.numbers)
    }

    /// Drop events that were only counted, since the maps were made: cheaper than all counters.
    ///
    /// # Errors
    /// If the kernel refuses the map.
    pub fn lost_events(&self) -> Result<u64, FilterError> {
        counters::lost_events(&self.object)
    }

    /// What the allowlist's entry of a source let pass; none where it has no counters of its own.
    ///
    /// # Errors
    /// If the kernel refuses the map.
    pub fn passed(&self, source: &Source) -> Result<Option<Tally>, FilterError> {
        counters::of_source(&self.object, &self.numbers, source)
    }

    /// The name of a service's number.
    #[must_use]
    pub fn service_name(&self, number: u32) -> String {
        counters::service_name(&self.numbers, number)
    }

    /// Reaches a verdict on an address or a prefix, from the next packet on.
    ///
    /// # Errors
    /// If the map is full or the kernel refuses it.
    pub fn judge(&mut self, source: IpNet, verdict: NewVerdict) -> Result<(), FilterError> {
        verdicts::put(&mut self.object, source, verdict)?;
        self.ends.note(source, verdict.ttl);
        Ok(())
    }

    /// Lifts the verdict on an address or a prefix; false if there was none in force.
    ///
    /// # Errors
    /// If the kernel refuses the map.
    pub fn lift(&mut self, source: IpNet) -> Result<bool, FilterError> {
        verdicts::lift(&mut self.object, source)
    }

    /// The verdicts in force.
    ///
    /// # Errors
    /// If the kernel refuses the map.
    pub fn verdicts(&self) -> Result<Vec<Verdict>, FilterError> {
        verdicts::list(&self.object)
    }

    /// How many verdicts there are.
    ///
    /// # Errors
    /// If the kernel refuses the map.
    pub fn count_verdicts(&self) -> Result<usize, FilterError> {
        verdicts::count(&self.object)
    }

    /// The verdict in force on the very same address or prefix.
    ///
    /// # Errors
    /// If the kernel refuses the map.
    pub fn verdict_on(&self, source: IpNet) -> Result<Option<Verdict>, FilterError> {
        verdicts::find(&self.object, source)
    }

    /// The verdicts in force that an address is judged by.
    ///
    /// # Errors
    /// If the kernel refuses the map.
    pub fn verdicts_over(&self, address: IpAddr) -> Result<Vec<Verdict>, FilterError> {
        verdicts::covering(&self.object, address)
    }

    /// Deletes verdicts that have expired, and says how many.
    ///
    /// # Errors
    /// If the kernel refuses the map.
    pub fn forget_expired(&mut self) -> Result<usize, FilterError> {
        verdicts::forget_expired(&mut self.object, &mut self.ends)
    }

    /// The stream of sampled drops. There is one: a second call gives none.
    ///
    /// # Errors
    /// If the kernel refuses the ring buffer.
    pub fn events(&mut self) -> Result<Option<Events>, FilterError> {
        events::open(&mut self.object)
    }

    /// Writes what the program has said through aya-log to the agent's log.
    #[cfg(feature = "kernel-log")]
    pub fn relay_log(&mut self) {
        self.object.relay_log();
    }

    /// Runs the loaded program on a frame, as BPF_PROG_TEST_RUN does: whether it passes, and the mean time of a run.
    /// The frame is counted, and may use up budgets and make an event.
    ///
    /// # Errors
    /// If the kernel refuses, for example a frame shorter than an Ethernet header.
    pub fn test(&self, frame: &[u8], repeat: u32) -> Result<(bool, Duration), FilterError> {
        self.object.test(frame, repeat)
    }

    /// How many instructions the kernel's verifier went through before it took the program, and the one that explains.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn verified_instructions(&mut self) -> Result<[u32; 2], FilterError> {
        self.object.verified_instructions()
    }

    /// The program's descriptor, for those who run it in ways of their own.
    ///
    /// # Errors
    /// If the kernel has no descriptor left to give.
    pub fn descriptor(&mut self) -> Result<ProgramFd, FilterError> {
        self.object.descriptor()
    }

    /// What the loaded program would do with a frame, without counting it or using anything up.
    ///
    /// # Errors
    /// As [`Filter::test`].
    pub fn explain(&mut self, frame: &[u8]) -> Result<Explained, FilterError> {
        explain::explain(&mut self.object, &self.numbers, frame)
    }
}

/// Fails if a newer agent, whose maps this one can't read, has pinned them in the configuration's folder.
///
/// # Errors
/// Names the folder and the mend.
pub fn refuse_newer_layout(config: &config::Filter) -> Result<(), FilterError> {
    layout::refuse_newer(&config.pin_dir)
}

/// The folder of the pinned maps inside the pin folder: its name holds the layout's version, so that an agent with
/// another layout never reads them.
fn map_folder(pin_dir: &Path) -> PathBuf {
    layout_folder(pin_dir, spinegate_common::policy::LAYOUT)
}

fn layout_folder(pin_dir: &Path, layout: u32) -> PathBuf {
    pin_dir.join(format!("v{layout}"))
}

/// The folder of the pinned links inside the pin folder. A link outlives every layout.
fn link_folder(pin_dir: &Path) -> PathBuf {
    pin_dir.join("links")
}
