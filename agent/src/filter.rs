//! The agent's hold on the kernel half: load, attach, pin, upgrade; the policy swapped atomically; counters; events.

mod attachment;
mod clock;
mod counters;
mod error;
mod events;
mod interface;
mod object;
mod policy;
mod preflight;
mod verdicts;

use std::{net::IpAddr, path::Path, time::Duration};

use spinegate_common::{Reason, VerdictOrigin};

use crate::config;

pub use attachment::{Attachment, detach};
pub use counters::{Counters, Tally};
pub use error::FilterError;
pub use events::{Drop, Events};
pub use preflight::problems;
pub use verdicts::Verdict;

/// The loaded filter. Dropping it leaves everything in force: only [`detach`] takes the filter away.
pub struct Filter {
    object: object::Object,
    attachments: Vec<Attachment>,
    generation: u64,
}

impl Filter {
    /// Loads the program, puts the policy in force, and attaches it to the interfaces. What an earlier agent left
    /// pinned is adopted: its policy holds until the new one is complete, and each interface goes from the old
    /// program to the new one without a packet in between.
    ///
    /// # Errors
    /// Names the step that failed and its mend; interfaces that were attached before stay attached.
    pub fn open(config: &config::Filter, sources: &[config::Source]) -> Result<Self, FilterError> {
        let mut object = object::Object::load(Some(&config.pin_dir))?;
        let generation = policy::apply(&mut object, config, sources)?;
        let attachments = attachment::attach_all(&mut object, config)?;
        Ok(Self {
            object,
            attachments,
            generation,
        })
    }

    /// Loads the program with maps of its own, attached to nothing: what the packet tables are run against.
    ///
    /// # Errors
    /// As [`Filter::open`].
    pub fn unattached(config: &config::Filter, sources: &[config::Source]) -> Result<Self, FilterError> {
        let mut object = object::Object::load(None)?;
        let generation = policy::apply(&mut object, config, sources)?;
        Ok(Self {
            object,
            attachments: Vec::new(),
            generation,
        })
    }

    /// Puts another policy in force between two packets.
    ///
    /// # Errors
    /// The old policy stays in force.
    pub fn apply(&mut self, config: &config::Filter, sources: &[config::Source]) -> Result<(), FilterError> {
        self.generation = policy::apply(&mut self.object, config, sources)?;
        self.attachments = attachment::attach_all(&mut self.object, config)?;
        Ok(())
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

    /// What it has counted.
    ///
    /// # Errors
    /// If the kernel refuses the maps.
    pub fn counters(&self) -> Result<Counters, FilterError> {
        counters::read(&self.object)
    }

    /// Denies a source for a time, from the next packet on.
    ///
    /// # Errors
    /// If the map is full or the kernel refuses it.
    pub fn deny(
        &mut self,
        source: IpAddr,
        ttl: Duration,
        reason: Reason,
        origin: VerdictOrigin,
    ) -> Result<(), FilterError> {
        verdicts::deny(&mut self.object, source, ttl, reason, origin)
    }

    /// Lifts the verdict on a source; false if there was none in force.
    ///
    /// # Errors
    /// If the kernel refuses the map.
    pub fn lift(&mut self, source: IpAddr) -> Result<bool, FilterError> {
        verdicts::lift(&mut self.object, source)
    }

    /// The verdicts in force.
    ///
    /// # Errors
    /// If the kernel refuses the map.
    pub fn verdicts(&self) -> Result<Vec<Verdict>, FilterError> {
        verdicts::list(&self.object)
    }

    /// The verdict in force on a source.
    ///
    /// # Errors
    /// If the kernel refuses the map.
    pub fn verdict_on(&self, source: IpAddr) -> Result<Option<Verdict>, FilterError> {
        verdicts::find(&self.object, source)
    }

    /// Deletes verdicts that have expired, and says how many.
    ///
    /// # Errors
    /// If the kernel refuses the map.
    pub fn forget_expired(&mut self) -> Result<usize, FilterError> {
        verdicts::forget_expired(&mut self.object)
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
    ///
    /// # Errors
    /// If the kernel refuses, for example a frame shorter than an Ethernet header.
    pub fn test(&self, frame: &[u8], repeat: u32) -> Result<(bool, Duration), FilterError> {
        self.object.test(frame, repeat)
    }
}

/// The folder of the pinned maps inside the pin folder: its name holds the layout's version, so that an agent with
/// another layout never reads them.
fn map_folder(pin_dir: &Path) -> std::path::PathBuf {
    pin_dir.join(format!("v{}", spinegate_common::policy::LAYOUT))
}

/// The folder of the pinned links inside the pin folder. A link outlives every layout.
fn link_folder(pin_dir: &Path) -> std::path::PathBuf {
    pin_dir.join("links")
}
