//! Space for the audit log: without it no answer leaves.

use std::path::Path;

use nix::sys::statvfs::statvfs;

use super::Finding;
use crate::{
    audit,
    config::{self, AuditOutput, OnFailure},
};

const CHECK: &str = "audit";
const MIB: u64 = 1 << 20;
/// A busy gateway fills this within minutes.
const LOW: u64 = 100 * MIB;
/// And this within a day.
const SPARSE: u64 = 1024 * MIB;

pub(super) fn audit(config: &config::Audit) -> Vec<Finding> {
    let problems = audit::problems(config);
    if !problems.is_empty() {
        let problems = problems.into_iter();
        return problems
            .map(|problem| Finding::fail(CHECK, problem.message, problem.mend))
            .collect();
    }
    if config.output == AuditOutput::Journald {
        let detail = "the journal has it, which bounds its own size";
        return vec![Finding::ok(CHECK, detail)];
    }
    vec![judge(&config.file, available(&config.file), config.on_failure)]
}

/// Bytes that are left where a file is, or would be; none if nothing says so.
fn available(file: &Path) -> Option<u64> {
    let mut folders = file.ancestors().skip(1);
    let folder = folders.find(|folder| folder.as_os_str().is_empty() || folder.exists())?;
    let folder = Path::new(".").join(folder);
    let found = statvfs(&folder).ok()?;
    Some(found.blocks_available().saturating_mul(found.fragment_size()))
}

fn judge(file: &Path, available: Option<u64>, on_failure: OnFailure) -> Finding {
    let file = file.display();
    let Some(available) = available else {
        let mend = "see `df` of its folder, and whether this user may look into it";
        return Finding::warn(CHECK, format!("how much space {file} has is not known"), mend);
    };
    let detail = format!("{} MiB are left for {file}", available / MIB);
    match available {
        ..LOW => {
            let consequence = match on_failure {
                OnFailure::Refuse => "when it is full, every request is refused",
                OnFailure::Serve => "when it is full, requests are no longer recorded",
            };
            Finding::fail(
                CHECK,
                format!("{detail}: {consequence}"),
                "free space, or rotate the log",
            )
        }
        LOW..SPARSE => Finding::warn(CHECK, detail, "free space, and see that the log is rotated"),
        SPARSE.. => Finding::ok(CHECK, detail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Health;

    #[test]
    fn little_space_is_warned_of_and_hardly_any_is_amiss() {
        let of = |mib: u64| judge(Path::new("/a"), Some(mib * MIB), OnFailure::Refuse);
        assert_eq!(
            [99, 100, 1023, 1024].map(of).map(|found| found.outcome),
            [Health::Fail, Health::Warn, Health::Warn, Health::Ok]
        );
        assert!(of(1).detail.contains("every request is refused"));
        let served = judge(Path::new("/a"), Some(0), OnFailure::Serve);
        assert!(served.detail.contains("no longer recorded"), "{served:?}");
        assert_eq!(
            judge(Path::new("/a"), None, OnFailure::Refuse).outcome,
            Health::Warn
        );
    }

    #[test]
    fn the_space_is_that_of_the_nearest_folder_that_exists() {
        assert!(available(Path::new("/nowhere/at/all/audit.jsonl")).is_some_and(|bytes| bytes > 0));
        assert!(available(Path::new("audit.jsonl")).is_some());
    }
}
