//! System calls that the worker has no use for (seccomp(2)): those that open the kernel's rarely trodden parts to who has no
//! privileges at all. It is a list of what is refused and not of what is allowed: a C library or OpenSSL of another version
//! may make other calls, and a gateway that dies of an upgrade is no safer.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Is, SeccompCondition as Condition,
    SeccompFilter, SeccompRule, TargetArch,
};

use super::SandboxError;

/// Programs, other processes' memory, namespaces and mounts, BPF, tracing, asynchronous rings, keys, modules.
const REFUSED: [i64; 30] = [
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_open_by_handle_at,
    libc::SYS_personality,
];

/// Restricts this process. Says so where the architecture is not known.
pub(super) fn restrict() -> Result<Option<String>, SandboxError> {
    let Ok(arch) = TargetArch::try_from(std::env::consts::ARCH) else {
        return Ok(Some(
            "system calls are not restricted on this architecture".to_owned(),
        ));
    };
    let failed = |error: &dyn std::fmt::Display| {
        SandboxError::step("restricting the agent's system calls")(std::io::Error::other(error.to_string()))
    };
    // Its flags are behind a pointer, which no filter follows: with this answer the C library makes the older call.
    let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let refused = refused().map_err(|error| failed(&error))?;
    for (calls, answer) in [(clone3, libc::ENOSYS), (refused, libc::EPERM)] {
        let answer = SeccompAction::Errno(answer.unsigned_abs());
        let filter =
            SeccompFilter::new(calls, SeccompAction::Allow, answer, arch).map_err(|error| failed(&error))?;
        let program = BpfProgram::try_from(filter).map_err(|error| failed(&error))?;
        seccompiler::apply_filter(&program).map_err(|error| failed(&error))?;
    }
    Ok(None)
}

fn refused() -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    let mut refused: BTreeMap<i64, Vec<SeccompRule>> =
        REFUSED.into_iter().map(|call| (call, Vec::new())).collect();
    // New namespaces, a user's own first of all: with one, everybody has capabilities in it.
    let namespaces = [
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWNET,
        libc::CLONE_NEWNS,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWCGROUP,
    ];
    let mut rules = Vec::new();
    for flag in namespaces {
        let flag = u64::from(flag.unsigned_abs());
        rules.push(SeccompRule::new(vec![Condition::new(
            0,
            Length::Qword,
            Is::MaskedEq(flag),
            flag,
        )?])?);
    }
    refused.insert(libc::SYS_clone, rules);
    // Files, IPv4 and IPv6; and netlink, by which the C library sorts the addresses of a name.
    let families = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
    let mut others = Vec::new();
    for family in families {
        others.push(Condition::new(
            0,
            Length::Dword,
            Is::Ne,
            u64::from(family.unsigned_abs()),
        )?);
    }
    refused.insert(libc::SYS_socket, vec![SeccompRule::new(others)?]);
    Ok(refused)
}
