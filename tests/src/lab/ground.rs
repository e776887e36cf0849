//! What a machine needs before a lab can stand on it.

use std::{env, fs, os::unix::fs::MetadataExt, path::Path};

use crate::command::Run;

/// bpffs, where the agent pins its maps.
const BPFFS: &str = "/sys/fs/bpf";

/// Why no lab can be up here, with the mend; none if one can. Mounts bpffs where only that is missing.
#[must_use]
pub fn obstacle() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("a lab needs root, for network namespaces and BPF: run it as root, or in a guest with `cargo xtask vm -- demo`".into());
    }
    for program in ["ip", "nsenter", "curl", "openssl"] {
        if !on_path(program) {
            return Some(format!(
                "a lab needs `{program}`: `cargo xtask setup` installs it"
            ));
        }
    }
    if mount_of(BPFFS).as_deref() != Some("bpf")
        && let Err(error) = Run::new("mount").args(["-t", "bpf", "bpf", BPFFS]).success()
    {
        return Some(format!(
            "bpffs can't be mounted at {BPFFS} ({error}): this kernel or container has no BPF; use `cargo xtask vm -- demo`"
        ));
    }
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Some("this kernel has no BTF (/sys/kernel/btf/vmlinux): use `cargo xtask vm -- demo`".into());
    }
    None
}

fn on_path(program: &str) -> bool {
    env::var_os("PATH").is_some_and(|path| {
        env::split_paths(&path).any(|folder| {
            fs::metadata(folder.join(program)).is_ok_and(|file| file.is_file() && file.mode() & 0o111 != 0)
        })
    })
}

/// The type of the file system mounted there.
fn mount_of(point: &str) -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().rev().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        (fields.next()? == point).then(|| fields.next().map(str::to_owned))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_system_of_a_mount_point_is_found() {
        assert_eq!(mount_of("/proc").as_deref(), Some("proc"));
        assert_eq!(mount_of("/no/such/place"), None);
    }

    #[test]
    fn only_programs_on_the_path_are_found() {
        assert!(on_path("sh") && !on_path("no-such-program"));
    }
}
