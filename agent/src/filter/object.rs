//! The embedded object: loading it over fresh or pinned maps, and its maps by name.

use std::{fs, io, path::Path, time::Duration};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, Map},
    programs::{ProgramError, ProgramFd, TestRun as _, TestRunOptions, Xdp},
};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::{FilterError, map_folder};

/// The kernel half, as agent/build.rs built it.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/spinegate-xdp"));

const PROGRAM: &str = "spinegate";

/// The program that says what would become of a packet.
const EXPLAIN: &str = "spinegate_explain";

/// The maps that outlive the agent.
const PINNED: [&str; 10] = [
    "CONTROL",
    "HEADS",
    "PAGES",
    "PREFIXES6",
    "VERDICTS",
    "PREFIX_VERDICTS",
    "UNTRUSTED",
    "OUTCOMES",
    "ENTRY_COUNTS",
    "CPUS",
];

/// A loaded object.
pub(super) struct Object {
    ebpf: Ebpf,
    #[cfg(feature = "kernel-log")]
    log: aya_log::EbpfLogger<&'static dyn log::Log>,
}

impl Object {
    /// Loads the object and has the kernel verify it. With a pin folder, maps that are pinned there are taken over,
    /// and the others are pinned there.
    pub(super) fn load(pin_dir: Option<&Path>, entries: u32) -> Result<Self, FilterError> {
        if !Path::new("/sys/kernel/btf/vmlinux").exists() {
            return Err(FilterError::NoBtf);
        }
        let mut loader = EbpfLoader::new();
        let folder = pin_dir.map(map_folder);
        let pins: Vec<_> = folder
            .iter()
            .flat_map(|folder| PINNED.map(|name| (name, folder.join(name))))
            .collect();
        if let (Some(pin_dir), Some(folder)) = (pin_dir, &folder) {
            make_folder(pin_dir, folder)?;
        }
        for (name, path) in &pins {
            loader.map_pin_path(name, path);
        }
        loader.map_max_entries("ENTRY_COUNTS", entries);
        let ebpf = loader
            .load(OBJECT)
            .map_err(|error| FilterError::Load(Box::new(error)))?;
        let mut object = Self::of(ebpf)?;
        object
            .program()?
            .load()
            .map_err(|error| program_error("verifying", error))?;
        Ok(object)
    }

    pub(super) fn program(&mut self) -> Result<&mut Xdp, FilterError> {
        self.program_named(PROGRAM)
    }

    pub(super) fn descriptor(&mut self) -> Result<ProgramFd, FilterError> {
        let descriptor = self
            .program()?
            .fd()
            .map_err(|error| program_error("finding", error))?;
        descriptor
            .try_clone()
            .map_err(|error| program_error("finding", ProgramError::IOError(error)))
    }

    /// Runs the program on a frame: whether it passes, and the mean time of a run.
    pub(super) fn test(&self, frame: &[u8], repeat: u32) -> Result<(bool, Duration), FilterError> {
        let program = self
            .ebpf
            .program(PROGRAM)
            .ok_or(FilterError::MissingMap { name: PROGRAM })?;
        let program = <&Xdp>::try_from(program).map_err(|error| program_error("finding", error))?;
        test(program, frame, repeat)
    }

    /// Runs the program that explains on a frame, and gives what it left: outcome, service and entry.
    pub(super) fn explain(&mut self, frame: &[u8]) -> Result<[u32; 4], FilterError> {
        const NAME: &str = "EXPLAINED";
        test(self.explaining()?, frame, 1)?;
        let explained: Array<_, [u32; 4]> = self.map(NAME)?;
        explained
            .get(&0, 0)
            .map_err(|error| FilterError::map(NAME, error))
    }

    pub(super) fn verified_instructions(&mut self) -> Result<[u32; 2], FilterError> {
        let count = |program: &mut Xdp| {
            let info = program
                .info()
                .map_err(|error| program_error("asking about", error))?;
            info.verified_instruction_count()
                .ok_or(FilterError::MissingMap { name: PROGRAM })
        };
        Ok([count(self.program()?)?, count(self.explaining()?)?])
    }

    /// The program that explains, which is loaded when it is first wanted.
    fn explaining(&mut self) -> Result<&mut Xdp, FilterError> {
        let program = self.program_named(EXPLAIN)?;
        if program.fd().is_err() {
            program
                .load()
                .map_err(|error| program_error("verifying", error))?;
        }
        Ok(program)
    }

    fn program_named(&mut self, name: &'static str) -> Result<&mut Xdp, FilterError> {
        let program = self
            .ebpf
            .program_mut(name)
            .ok_or(FilterError::MissingMap { name })?;
        program
            .try_into()
            .map_err(|error| program_error("finding", error))
    }

    pub(super) fn map<'object, M>(&'object self, name: &'static str) -> Result<M, FilterError>
    where
        M: TryFrom<&'object Map>,
    {
        let map = self.ebpf.map(name).ok_or(FilterError::MissingMap { name })?;
        M::try_from(map).map_err(|_| FilterError::MissingMap { name })
    }

    pub(super) fn map_mut<'object, M>(&'object mut self, name: &'static str) -> Result<M, FilterError>
    where
        M: TryFrom<&'object mut Map>,
    {
        let map = self.ebpf.map_mut(name).ok_or(FilterError::MissingMap { name })?;
        M::try_from(map).map_err(|_| FilterError::MissingMap { name })
    }

    pub(super) fn take_map(&mut self, name: &str) -> Option<Map> {
        self.ebpf.take_map(name)
    }

    #[cfg(feature = "kernel-log")]
    pub(super) fn relay_log(&mut self) {
        self.log.flush();
    }

    #[cfg(not(feature = "kernel-log"))]
    #[expect(clippy::unnecessary_wraps, reason = "with the kernel's log it can fail")]
    const fn of(ebpf: Ebpf) -> Result<Self, FilterError> {
        Ok(Self { ebpf })
    }

    #[cfg(feature = "kernel-log")]
    fn of(mut ebpf: Ebpf) -> Result<Self, FilterError> {
        let log =
            aya_log::EbpfLogger::init(&mut ebpf).map_err(|_| FilterError::MissingMap { name: "AYA_LOGS" })?;
        Ok(Self { ebpf, log })
    }
}

fn test(program: &Xdp, frame: &[u8], repeat: u32) -> Result<(bool, Duration), FilterError> {
    const XDP_PASS: u32 = 2;
    let options = TestRunOptions {
        data_in: Some(frame),
        repeat,
        ..TestRunOptions::default()
    };
    let result = program
        .test_run(options)
        .map_err(|error| program_error("testing", error))?;
    Ok((result.return_value == XDP_PASS, result.duration))
}

fn make_folder(pin_dir: &Path, folder: &Path) -> Result<(), FilterError> {
    let pin_error = |error| FilterError::Pin {
        path: folder.to_owned(),
        error,
    };
    let mut existing = pin_dir;
    while !existing.exists() {
        existing = existing
            .parent()
            .ok_or_else(|| pin_error(io::Error::from(io::ErrorKind::NotFound)))?;
    }
    let kind = statfs(existing)
        .map_err(|error| pin_error(error.into()))?
        .filesystem_type();
    if kind != BPF_FS_MAGIC {
        return Err(FilterError::NoBpffs {
            folder: pin_dir.to_owned(),
        });
    }
    fs::create_dir_all(folder).map_err(pin_error)
}

fn program_error(action: &'static str, error: ProgramError) -> FilterError {
    FilterError::Program {
        action,
        error: Box::new(error),
    }
}
