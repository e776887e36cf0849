//! The guest's file system: busybox, binaries with their libraries, modules, and an init that runs one script.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::kernel::Kernel;
use crate::command::{output, program, run};

/// What the lab needs of a kernel that keeps it in modules.
const MODULES: [&str; 10] = [
    "llc",
    "stp",
    "garp",
    "mrp",
    "bridge",
    "veth",
    "8021q",
    "af_packet",
    "dummy",
    "overlay",
];

/// An image in the making.
pub(super) struct Image {
    root: PathBuf,
    archive: PathBuf,
    libraries: BTreeSet<PathBuf>,
    modules: Vec<String>,
}

impl Image {
    /// An image with busybox and the kernel's modules.
    pub(super) fn new(folder: &Path, kernel: &Kernel) -> Result<Self> {
        let root = folder.join("root");
        // What an earlier run left.
        let _ = fs::remove_dir_all(&root);
        for part in [
            "bin",
            "dev",
            "etc",
            "lib/modules",
            "mnt",
            "payload",
            "proc",
            "run",
            "sys",
            "tmp",
            "var",
        ] {
            let part = root.join(part);
            fs::create_dir_all(&part).with_context(|| format!("making {}", part.display()))?;
        }
        copy(Path::new("/bin/busybox"), &root.join("bin/busybox"))?;
        let mut image = Self {
            root,
            archive: folder.join("image.cpio"),
            libraries: BTreeSet::new(),
            modules: Vec::new(),
        };
        for module in MODULES {
            for file in kernel.module(module)? {
                image.add_module(&file)?;
            }
        }
        Ok(image)
    }

    /// Adds a program of ours, without its debug information; where it is in the guest.
    pub(super) fn add_binary(&mut self, binary: &Path, name: &str) -> Result<String> {
        let guest = format!("/payload/{name}");
        let copy = self.root.join(guest.trim_start_matches('/'));
        run(program("strip", ["--strip-debug", "-o"]).arg(&copy).arg(binary))?;
        self.add_libraries_of(binary)?;
        Ok(guest)
    }

    /// Adds a program of this machine.
    pub(super) fn add_tool(&mut self, name: &str) -> Result<()> {
        let found = output(&mut program("sh", ["-c", &format!("command -v {name}")]))
            .with_context(|| format!("{name} is not installed: run `cargo xtask setup`"))?;
        let tool = PathBuf::from(found.trim());
        copy(&tool, &self.root.join("bin").join(name))?;
        self.add_libraries_of(&tool)
    }

    /// Adds a file or a folder of this machine's, with all that is in it.
    pub(super) fn add_tree(&mut self, tree: &Path, guest: &str) -> Result<()> {
        let copy = self.root.join(guest.trim_start_matches('/'));
        if let Some(folder) = copy.parent() {
            fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        }
        run(program("cp", ["--archive"]).arg(tree).arg(&copy))
    }

    /// Writes init and the script, and packs everything. Init prints the token and the script's exit code.
    pub(super) fn pack(self, commands: &[String], token: &str) -> Result<PathBuf> {
        for library in &self.libraries {
            copy(
                library,
                &self.root.join(library.strip_prefix("/").unwrap_or(library)),
            )?;
        }
        if Path::new("/etc/ssl/openssl.cnf").exists() {
            copy(
                Path::new("/etc/ssl/openssl.cnf"),
                &self.root.join("etc/ssl/openssl.cnf"),
            )?;
            copy(
                Path::new("/etc/ssl/openssl.cnf"),
                &self.root.join("usr/lib/ssl/openssl.cnf"),
            )?;
        }
        fs::write(self.root.join("etc/passwd"), "root:x:0:0:root:/tmp:/bin/sh\n")?;
        fs::write(
            self.root.join("etc/hosts"),
            "127.0.0.1 localhost\n::1 localhost\n",
        )?;
        self.script("payload/run", &payload_script(commands))?;
        self.script("init", &init_script(&self.modules, token))?;
        // The names go in relative to the root, and the archive lies outside of it.
        let pack = format!(
            "find . | cpio --quiet --create --format=newc > '{}'",
            self.archive.display()
        );
        run(Command::new("sh").args(["-c", &pack]).current_dir(&self.root))?;
        Ok(self.archive)
    }

    fn add_module(&mut self, file: &Path) -> Result<()> {
        let name = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if !self.modules.contains(&name) {
            copy(file, &self.root.join("lib/modules").join(&name))?;
            self.modules.push(name);
        }
        Ok(())
    }

    fn add_libraries_of(&mut self, binary: &Path) -> Result<()> {
        // Statically linked programs make ldd fail; they need none.
        let listing = output(program("ldd", [binary.as_os_str()]).env("LC_ALL", "C")).unwrap_or_default();
        self.libraries.extend(libraries(&listing));
        Ok(())
    }

    fn script(&self, path: &str, content: &str) -> Result<()> {
        let path = self.root.join(path);
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
        Ok(fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?)
    }
}

/// The files that `ldd` names: behind an arrow, or alone for the loader.
fn libraries(listing: &str) -> Vec<PathBuf> {
    let words = |line: &str| {
        line.split_whitespace()
            .find(|word| word.starts_with('/'))
            .map(PathBuf::from)
    };
    listing.lines().filter_map(words).collect()
}

/// Runs all commands, and fails if any did.
fn payload_script(commands: &[String]) -> String {
    let lines: String = commands
        .iter()
        .map(|command| format!("{command} || failed=1\n"))
        .collect();
    format!("#!/bin/sh\nfailed=0\n{lines}exit $failed\n")
}

fn init_script(modules: &[String], token: &str) -> String {
    let load: String = modules
        .iter()
        .map(|module| format!("insmod /lib/modules/{module}\n"))
        .collect();
    format!(
        "#!/bin/busybox sh\n\
         /bin/busybox mkdir -p /usr/bin /usr/sbin /sbin\n\
         for applet in $(/bin/busybox --list); do\n\
         \x20 [ -e /bin/$applet ] || /bin/busybox ln -s busybox /bin/$applet\n\
         done\n\
         export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/tmp\n\
         mount -t devtmpfs dev /dev\n\
         mount -t proc proc /proc\n\
         mount -t sysfs sys /sys\n\
         mount -t bpf bpf /sys/fs/bpf\n\
         mount -t tmpfs tmp /tmp\n\
         mount -t tmpfs run /run\n\
         {load}\
         ip link set lo up 2>/dev/null || ifconfig lo up\n\
         /payload/run 2>&1; code=$?\n\
         echo\n\
         echo {token} $code\n\
         sync\n\
         reboot -f\n"
    )
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    fs::copy(from, to).with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_and_the_libraries_are_read_from_ldd() {
        let listing = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibssl.so.3 => /lib/x86_64-linux-gnu/libssl.so.3 (0x1)\n\
                       \t/lib64/ld-linux-x86-64.so.2 (0x2)\n\tlibgone.so => not found\n";
        let found: Vec<_> = libraries(listing)
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        assert_eq!(
            found,
            ["/lib/x86_64-linux-gnu/libssl.so.3", "/lib64/ld-linux-x86-64.so.2"]
        );
    }

    #[test]
    fn init_reports_the_payloads_own_exit_code() {
        let script = init_script(&["veth.ko".to_owned()], "token");
        assert!(script.contains("insmod /lib/modules/veth.ko\n"));
        assert!(script.contains("/payload/run 2>&1; code=$?\necho\necho token $code\n"));
        assert!(payload_script(&["a".to_owned()]).ends_with("a || failed=1\nexit $failed\n"));
    }
}
