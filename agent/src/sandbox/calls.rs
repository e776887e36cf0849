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

/// Programs, other processes' memory, signals to who knows whom, namespaces and mounts, BPF, tracing, asynchronous rings, keys,
/// modules.
const REFUSED: [i64; 32] = [
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_tkill,
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

// Of the kernel's headers, and not in `libc`.
const F_SETSIG: i32 = 10;
const F_SETOWN_EX: i32 = 15;
const FIOSETOWN: u64 = 0x8901;
const SIOCSPGRP: u64 = 0x8902;

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
    others_are_left_alone(&mut refused)?;
    Ok(refused)
}

/// Signals and limits are for this process alone. Another of its user, as the keeper may be, could be ended by either; and by
/// a descriptor that is to send its signals there.
fn others_are_left_alone(
    refused: &mut BTreeMap<i64, Vec<SeccompRule>>,
) -> Result<(), seccompiler::BackendError> {
    let is = |argument, value: u64| Condition::new(argument, Length::Dword, Is::Eq, value);
    let is_not = |argument, value: u64| Condition::new(argument, Length::Dword, Is::Ne, value);
    let own = u64::from(std::process::id());
    for call in [
        libc::SYS_kill,
        libc::SYS_tgkill,
        libc::SYS_rt_sigqueueinfo,
        libc::SYS_rt_tgsigqueueinfo,
    ] {
        refused.insert(call, vec![SeccompRule::new(vec![is_not(0, own)?])?]);
    }
    // The C library says 0 for the own one.
    let another = SeccompRule::new(vec![is_not(0, own)?, is_not(0, 0)?])?;
    refused.insert(libc::SYS_prlimit64, vec![another]);
    let mut owners = Vec::new();
    for command in [libc::F_SETOWN, F_SETOWN_EX, F_SETSIG] {
        owners.push(SeccompRule::new(vec![is(1, u64::from(command.unsigned_abs()))?])?);
    }
    refused.insert(libc::SYS_fcntl, owners);
    let mut owners = Vec::new();
    for request in [FIOSETOWN, SIOCSPGRP] {
        owners.push(SeccompRule::new(vec![is(1, request)?])?);
    }
    refused.insert(libc::SYS_ioctl, owners);
    Ok(())
}
