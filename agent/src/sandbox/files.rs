//! Which files the worker reaches (landlock(7)).

use std::{
    fs,
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr as _,
    RulesetCreated, RulesetCreatedAttr as _, RulesetStatus, Scope,
};

use super::SandboxError;
use crate::config::{Config, folder_of};

/// The newest version of Landlock whose rights are asked for; a kernel that has less enforces less.
const WANTED: ABI = ABI::V6;

/// What every process of this kind reads: libraries, names and addresses of hosts, time zones, the number of CPUs, randomness.
/// Its own files in `/etc` are the operator's to keep from it by their modes.
const COMMON: [&str; 10] = [
    "/etc",
    "/usr",
    "/lib",
    "/lib64",
    "/proc/self",
    "/sys/fs/cgroup",
    "/sys/devices/system/cpu",
    "/dev/urandom",
    "/dev/null",
    "/run/systemd/resolve",
];

/// Where the worker reads and where it writes, as the configuration at its start has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    reads: Vec<PathBuf>,
    writes: Vec<PathBuf>,
}

impl Reach {
    /// What a configuration and its own file ask for. Files are replaced by others of their name, so their folders count.
    #[must_use]
    pub fn of(config: &Config, file: &Path) -> Self {
        let mut reads: Vec<PathBuf> = COMMON.iter().map(PathBuf::from).collect();
        let named = std::iter::once(file).chain(config.files());
        for path in named.map(absolute) {
            // A name may be a link to a file in another folder, as that of a renewed certificate is.
            let real = fs::canonicalize(&path).ok();
            for path in std::iter::once(path).chain(real) {
                let folder = if path.is_dir() { &path } else { folder_of(&path) };
                // One that is not there is for who reads the file to tell.
                if folder.is_dir() {
                    reads.push(folder.to_owned());
                }
            }
        }
        let mut writes: Vec<PathBuf> = config.folders().into_iter().map(absolute).collect();
        // It takes its socket away at its end, where its user may.
        writes.push(folder_of(&absolute(&config.control.socket)).to_owned());
        for paths in [&mut reads, &mut writes] {
            paths.sort_unstable();
            paths.dedup();
        }
        Self { reads, writes }
    }

    /// A place that another configuration asks for beyond this.
    #[must_use]
    pub fn lacks(&self, other: &Self) -> Option<PathBuf> {
        let within = |path: &Path, folders: &[PathBuf]| folders.iter().any(|folder| path.starts_with(folder));
        let read = other
            .reads
            .iter()
            .find(|path| !within(path, &self.reads) && !within(path, &self.writes));
        let written = || other.writes.iter().find(|path| !within(path, &self.writes));
        read.or_else(written).cloned()
    }

    /// Restricts this process to it. Says what this kernel can't enforce.
    pub(super) fn restrict(&self) -> Result<Option<String>, SandboxError> {
        let failed = |error: &dyn std::fmt::Display| {
            SandboxError::step("restricting the files that the agent reaches")(std::io::Error::other(
                error.to_string(),
            ))
        };
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        let write = AccessFs::from_all(WANTED) & !AccessFs::Execute;
        let rules = Ruleset::default()
            .handle_access(AccessFs::from_all(WANTED))
            .and_then(|rules| rules.handle_access(AccessNet::BindTcp))
            .and_then(|rules| rules.scope(Scope::Signal))
            .and_then(Ruleset::create)
            .map_err(|error| failed(&error))?;
        let rules = allow(rules, &self.reads, read).map_err(|error| failed(&error))?;
        let rules = allow(rules, &self.writes, write).map_err(|error| failed(&error))?;
        let status = rules.restrict_self().map_err(|error| failed(&error))?;
        Ok(match status.ruleset {
            RulesetStatus::FullyEnforced => None,
            RulesetStatus::PartiallyEnforced => Some(
                "this kernel's Landlock can't restrict everything: a kernel from 6.12 on can (the files are restricted)"
                    .to_owned(),
            ),
            RulesetStatus::NotEnforced => Some(
                "this kernel has no Landlock, so the agent's own user is all that keeps it from files: boot one with \
                 `lsm=landlock,…`"
                    .to_owned(),
            ),
        })
    }
}

fn allow(
    mut rules: RulesetCreated,
    paths: &[PathBuf],
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, landlock::RulesetError> {
    for path in paths {
        // What is not there, or may not be reached at all, needs no leave.
        if let Ok(opened) = PathFd::new(path) {
            let access = if path.is_dir() {
                access
            } else {
                access & AccessFs::from_file(WANTED)
            };
            rules = rules.add_rule(PathBeneath::new(opened, access))?;
        }
    }
    Ok(rules)
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(reads: &[&str], writes: &[&str]) -> Reach {
        let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect();
        Reach {
            reads: paths(reads),
            writes: paths(writes),
        }
    }

    #[test]
    fn a_place_beyond_those_of_the_start_is_told() {
        let old = reach(&["/etc", "/srv/keys"], &["/var/log/spinegate"]);
        assert_eq!(
            old.lacks(&reach(
                &["/etc/spinegate", "/var/log/spinegate"],
                &["/var/log/spinegate/a"]
            )),
            None
        );
        assert_eq!(old.lacks(&reach(&["/srv/other"], &[])), Some("/srv/other".into()));
        assert_eq!(old.lacks(&reach(&[], &["/srv/keys"])), Some("/srv/keys".into()));
        assert_eq!(
            old.lacks(&reach(&["/srv/keysets"], &[])),
            Some("/srv/keysets".into())
        );
    }
}
