//! Runs programs on frames: on one frame again and again, on a frame with ever other sources, and as a flood.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, ProgramArray},
    programs::{ProgramFd, TestRun as _, TestRunAttrs, TestRunOptions, Xdp, XdpMode, links::FdLink},
};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/spinegate-bench"));
/// Sources that a run goes through.
pub(crate) const SOURCES: usize = 1 << 20;

pub(crate) struct Driver {
    ebpf: Ebpf,
}

impl Driver {
    pub(crate) fn load() -> Result<Self> {
        let mut ebpf = EbpfLoader::new().load(OBJECT)?;
        for name in ["empty", "vary", "send"] {
            program(&mut ebpf, name)?.load()?;
        }
        Ok(Self { ebpf })
    }

    /// The mean time of the empty program.
    pub(crate) fn floor(&mut self, frame: &[u8], repeat: u32) -> Result<f64> {
        run(program(&mut self.ebpf, "empty")?, frame, repeat)
    }

    /// The sources that varied frames go through, again and again.
    pub(crate) fn set_sources(&mut self, sources: impl Fn(usize) -> u32) -> Result<()> {
        let mut map: Array<_, u32> = self.ebpf.map_mut("ADDRESSES").context("ADDRESSES")?.try_into()?;
        for number in 0..SOURCES {
            map.set(number as u32, sources(number).to_be(), 0)?;
        }
        Ok(())
    }

    /// The mean time of varying the source and running a program; of the empty one if there is none.
    pub(crate) fn varied(&mut self, target: Option<&ProgramFd>, frame: &[u8], repeat: u32) -> Result<f64> {
        let empty = program(&mut self.ebpf, "empty")?.fd()?.try_clone()?;
        let mut targets: ProgramArray<_> = self.ebpf.map_mut("TARGET").context("TARGET")?.try_into()?;
        targets.set(0, target.unwrap_or(&empty), 0)?;
        run(program(&mut self.ebpf, "vary")?, frame, repeat)
    }

    /// Sends `count` frames out of an interface, each from the next source, and says how long that took.
    pub(crate) fn flood(&mut self, interface: u32, frame: &[u8], count: u32) -> Result<Duration> {
        const BATCH: u32 = 64;
        let mut map: Array<_, u32> = self.ebpf.map_mut("INTERFACE").context("INTERFACE")?.try_into()?;
        map.set(0, interface, 0)?;
        let begun = Instant::now();
        program(&mut self.ebpf, "send")?.test_run(TestRunOptions {
            data_in: Some(frame),
            repeat: count,
            attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
            ..TestRunOptions::default()
        })?;
        Ok(begun.elapsed())
    }

    /// Attaches a program that drops everything.
    pub(crate) fn attach_empty(&mut self, interface: u32) -> Result<FdLink> {
        let empty = program(&mut self.ebpf, "empty")?;
        let id = empty.attach_to_if_index(interface, XdpMode::Driver)?;
        Ok(FdLink::try_from(empty.take_link(id)?)?)
    }
}

fn program<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut Xdp> {
    Ok(ebpf
        .program_mut(name)
        .context("a program of the driver")?
        .try_into()?)
}

fn run(program: &Xdp, frame: &[u8], repeat: u32) -> Result<f64> {
    let result = program.test_run(TestRunOptions {
        data_in: Some(frame),
        repeat,
        ..TestRunOptions::default()
    })?;
    Ok(result.duration.as_nanos() as f64)
}
