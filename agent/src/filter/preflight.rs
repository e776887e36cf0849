//! What would keep the filter from starting, found without starting anything.

use std::path::Path;

use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::{
    FilterError,
    attachment::{occupied, pinned_program},
    interface, layout,
};
use crate::config::{self, FilterMode, Problem};

/// Everything about the host that stands against this configuration.
#[must_use]
pub fn problems(config: &config::Filter) -> Vec<Problem> {
    if config.mode == FilterMode::Off {
        return Vec::new();
    }
    let mut problems = Vec::new();
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        problems.push(problem("filter.mode", &FilterError::NoBtf));
    }
    if !is_on_bpffs(&config.pin_dir) {
        problems.push(problem(
            "filter.pin_dir",
            &FilterError::NoBpffs {
                folder: config.pin_dir.clone(),
            },
        ));
    }
    if let Err(error) = layout::refuse_newer(&config.pin_dir) {
        problems.push(problem("filter.pin_dir", &error));
    }
    for (position, name) in config.interfaces.iter().enumerate() {
        let key = format!("filter.interfaces[{position}]");
        match interface::find(name) {
            Ok(found)
                if found.program.is_some() && found.program != pinned_program(&config.pin_dir, name) =>
            {
                let program = found.program.unwrap_or_default();
                problems.push(problem(&key, &occupied(name, program)));
            }
            Ok(_) => {}
            Err(error) => problems.push(problem(&key, &error)),
        }
    }
    problems
}

/// Whether a folder is on a BPF file system, or would be if it were made.
#[must_use]
pub fn is_on_bpffs(folder: &Path) -> bool {
    let existing = folder.ancestors().find(|folder| folder.exists());
    existing.is_some_and(|folder| statfs(folder).is_ok_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC))
}

/// The errors of this room say the fault first and the mend after a colon or semicolon.
fn problem(key: &str, error: &FilterError) -> Problem {
    let text = error.to_string();
    match text.split_once(": ") {
        Some((fault, mend)) => Problem::new(key, fault, mend),
        None => Problem::new(key, text, "see `spinegate check`"),
    }
}
