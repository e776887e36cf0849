//! Debian's kernels: fetched as packages, unpacked, never installed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::Series;
use crate::{
    command::{output, program},
    debian::{self, only_named},
    host,
};

/// An unpacked kernel.
pub(super) struct Kernel {
    image: PathBuf,
    modules: PathBuf,
    release: String,
}

impl Kernel {
    /// The series' newest kernel for virtual machines, from the cache or from Debian.
    pub(super) fn fetch(series: Series) -> Result<Self> {
        let package = resolve(series)?;
        let folder = host::cache()?.join("kernels").join(&package);
        if !folder.join("boot").exists() {
            debian::unpack(&package, &folder)?;
        }
        let image = only_named(&folder.join("boot"), "vmlinuz-")?;
        let release = image
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .replacen("vmlinuz-", "", 1);
        let modules = folder.join("lib/modules").join(&release);
        Ok(Self {
            image,
            modules,
            release,
        })
    }

    pub(super) fn image(&self) -> &Path {
        &self.image
    }

    pub(super) fn release(&self) -> &str {
        &self.release
    }

    /// A module's files in the order in which they must be loaded; empty if the kernel has it built in, or has none.
    pub(super) fn module(&self, name: &str) -> Result<Vec<PathBuf>> {
        let modules = fs::read_to_string(self.modules.join("modules.dep"));
        let modules = match modules {
            Ok(listing) => listing,
            // The package leaves the list to depmod: then the tree itself is searched.
            Err(_) => return self.search(name),
        };
        Ok(dependencies(&modules, name)
            .into_iter()
            .map(|file| self.modules.join(file))
            .collect())
    }

    fn search(&self, name: &str) -> Result<Vec<PathBuf>> {
        let tree = self.modules.join("kernel");
        let mut find = program("find", [tree.as_os_str()]);
        find.args(["-name", &format!("{name}.ko*")]);
        Ok(output(&mut find)?.lines().map(PathBuf::from).collect())
    }
}

/// The package that the series' meta package depends on.
fn resolve(series: Series) -> Result<String> {
    let meta = match series {
        Series::Bookworm => "linux-image-cloud-amd64",
        Series::Security => "linux-image-6.12-cloud-amd64",
    };
    let listing = output(&mut program("apt-cache", ["depends", meta]))
        .with_context(|| format!("Debian's lists have no {meta}: run `apt-get update`"))?;
    let package = listing
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: "));
    package
        .map(str::to_owned)
        .with_context(|| format!("{meta} depends on nothing"))
}

/// What `modules.dep` says: each line is a file, a colon, and the files that it needs, the nearest first.
fn dependencies(listing: &str, name: &str) -> Vec<String> {
    let is_module = |file: &str| {
        let file = file.rsplit('/').next().unwrap_or_default();
        file.split(".ko").next() == Some(name)
    };
    let line = listing
        .lines()
        .find(|line| line.split(':').next().is_some_and(is_module));
    let Some((file, needs)) = line.and_then(|line| line.split_once(':')) else {
        return Vec::new();
    };
    let needs = needs.split_whitespace().rev();
    needs.chain([file]).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::dependencies;

    #[test]
    fn what_a_module_needs_is_loaded_before_it() {
        let listing = "kernel/net/802/stp.ko: kernel/net/llc/llc.ko\n\
                       kernel/net/bridge/bridge.ko: kernel/net/802/stp.ko kernel/net/llc/llc.ko\n\
                       kernel/net/llc/llc.ko:\n";
        assert_eq!(
            dependencies(listing, "bridge"),
            [
                "kernel/net/llc/llc.ko",
                "kernel/net/802/stp.ko",
                "kernel/net/bridge/bridge.ko"
            ]
        );
        assert_eq!(dependencies(listing, "llc"), ["kernel/net/llc/llc.ko"]);
        assert!(dependencies(listing, "veth").is_empty());
    }
}
