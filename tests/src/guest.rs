//! A bare Debian on the lab's edge host: booted by systemd in namespaces of its own, on this machine's kernel. Nothing of it is
//! on a disk, and all of it is gone with its first process.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::{
    command::{Finished, Run},
    lab::{Background, Lab},
    netns::Host,
    tools,
    wait::wait_for,
};

/// The unpacked Debian, in the cache.
const BARE: &str = "guests/bookworm-1";
/// An emulated machine takes its time.
const BOOT_LIMIT: Duration = Duration::from_secs(300);
const COMMAND_LIMIT: Duration = Duration::from_secs(300);

/// What the first process does before it becomes systemd; its arguments are the bare system and an empty folder.
const BOOT: &str = r#"
set -e
mount -t tmpfs tmpfs "$2"
mkdir "$2/upper" "$2/work" "$2/root"
root="$2/root"
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t bpf -o mode=0700 bpf "$root/sys/fs/bpf"
mount -t tmpfs -o mode=0755 tmpfs "$root/run"
mount -t tmpfs -o mode=0755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount -o bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t tmpfs tmpfs "$root/dev/shm"
cd "$root"
# Not pivot_root, which the first file system of a machine without disks does not allow.
mount -o move . /
exec env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot . /lib/systemd/systemd --log-target=console
"#;

/// A booted system.
#[derive(Debug)]
pub struct Guest {
    process: Option<Background>,
    /// Its first process, as the host numbers it.
    init: u32,
}

/// Why no system can be booted here; none if one can.
#[must_use]
pub fn obstacle() -> Option<String> {
    let kernel = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    for wanted in ["overlay", "cgroup2"] {
        if !kernel.lines().any(|line| line.split('\t').nth(1) == Some(wanted)) {
            return Some(format!(
                "this kernel has no {wanted}, which a system in a container needs"
            ));
        }
    }
    // A container may have the file system, and not be allowed to mount it.
    let mounting = "mount -t cgroup2 cgroup2 /mnt && mount -t tmpfs tmpfs /mnt";
    let tried = Run::new("unshare")
        .args(["--mount", "--cgroup", "--propagation", "private"])
        .args(["sh", "-c", mounting])
        .success();
    tried
        .err()
        .map(|error| format!("no control groups can be had here: {error:#}"))
}

impl Guest {
    /// Boots a system in the edge host's network, and waits until it is up.
    ///
    /// # Errors
    /// The bare system is not there, or it does not boot; the message ends with its console.
    pub fn boot(lab: &Lab) -> Result<Self> {
        let folder = lab.files().folder().join("guest");
        fs::create_dir_all(&folder)?;
        let run = Run::inside(&lab.network().namespace(Host::Edge), "unshare")
            .args(["--mount", "--propagation", "private", "--pid", "--uts", "--ipc"])
            .args(["--cgroup", "--fork", "--kill-child"])
            .args(["sh", "-c", BOOT, "guest"])
            .arg(tools::installed(Path::new(BARE))?)
            .arg(&folder);
        let mut process = Background::start("guest", &run, lab.files())?;
        let id = process.id();
        let booted = wait_for("the first process of the guest", BOOT_LIMIT, || {
            process.must_run()?;
            systemd_of(id)
        });
        let init = booted.with_context(|| process.tail())?;
        let guest = Self {
            process: Some(process),
            init,
        };
        wait_for("the guest to be up", BOOT_LIMIT, || {
            let state = guest.output(&["systemctl", "is-system-running"])?;
            Ok(["running", "degraded"]
                .contains(&state.stdout.trim())
                .then_some(()))
        })
        .with_context(|| guest.console())?;
        Ok(guest)
    }

    /// Where a file of the guest is for the host.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.init))
    }

    /// A command in the guest.
    #[must_use]
    pub fn run(&self, command: &[&str]) -> Run {
        Run::new("nsenter")
            .arg(format!("--target={}", self.init))
            .args(["--all", "--", "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"])
            .args(["DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8"])
            .args(command)
            .within(COMMAND_LIMIT)
    }

    /// Runs a command in the guest to its end, whatever its exit status.
    ///
    /// # Errors
    /// It can't be started.
    pub fn output(&self, command: &[&str]) -> Result<Finished> {
        self.run(command).output()
    }

    /// Runs a command in the guest that has to succeed, and gives what it printed.
    ///
    /// # Errors
    /// Its exit status was not 0.
    pub fn success(&self, command: &[&str]) -> Result<String> {
        self.run(command).success()
    }

    /// A property of a unit.
    ///
    /// # Errors
    /// systemd does not tell.
    pub fn property(&self, unit: &str, name: &str) -> Result<String> {
        let printed = self.success(&["systemctl", "show", "--value", "--property", name, unit])?;
        Ok(printed.trim().to_owned())
    }

    /// Every file and folder of the guest's own, without what lists and logs of every installation leave.
    ///
    /// # Errors
    /// They can't be listed.
    pub fn files(&self) -> Result<Vec<String>> {
        const OF_EVERY_INSTALLATION: &[&str] = &[
            "/var/lib/dpkg/",
            "/var/lib/apt/",
            "/var/cache/",
            "/var/log/apt/",
            "/var/log/dpkg.log",
            "/var/log/alternatives.log",
            "/var/log/journal/",
            "/var/lib/systemd/",
            "/var/tmp/",
            // The copies that each change of users makes.
            "/etc/passwd-",
            "/etc/shadow-",
            "/etc/group-",
            "/etc/gshadow-",
            "/etc/subuid-",
            "/etc/subgid-",
        ];
        let printed = self.success(&["find", "/", "/run", "-xdev", "-not", "-type", "s"])?;
        let is_own = |path: &&str| {
            !OF_EVERY_INSTALLATION
                .iter()
                .any(|beginning| path.starts_with(beginning))
                && !path.starts_with("/run/systemd/")
        };
        let mut files: Vec<_> = printed.lines().filter(is_own).map(str::to_owned).collect();
        files.sort();
        Ok(files)
    }

    /// What a unit has logged, and the end of the console, for an error message.
    #[must_use]
    pub fn account(&self, unit: &str) -> String {
        let said = |command: &[&str]| {
            self.output(command)
                .map_or_else(|error| error.to_string(), |ended| ended.said())
        };
        let log = said(&[
            "journalctl",
            "--no-pager",
            "--lines",
            "40",
            "--output",
            "short-monotonic",
            "--unit",
            unit,
        ]);
        let status = said(&[
            "systemctl",
            "--no-pager",
            "--full",
            "--lines",
            "0",
            "status",
            unit,
        ]);
        format!("{status}\n{log}")
    }

    fn console(&self) -> String {
        self.process.as_ref().map(Background::tail).unwrap_or_default()
    }

    /// Ends the guest as a power cut does.
    ///
    /// # Errors
    /// Its first process could not be killed.
    pub fn end(mut self) -> Result<()> {
        self.process.take().map_or(Ok(()), Background::kill)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            let _ = process.kill();
        }
    }
}

/// The child of the process that made the namespaces, once it has become systemd.
fn systemd_of(parent: u32) -> Result<Option<u32>> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))?;
    let Some(child) = children.split_whitespace().next() else {
        return Ok(None);
    };
    let name = fs::read_to_string(format!("/proc/{child}/comm")).unwrap_or_default();
    if name.trim() != "systemd" {
        return Ok(None);
    }
    let child = child.parse().context("a process without a number")?;
    ensure!(child != 0, "the child is of other namespaces");
    Ok(Some(child))
}
