//! xdp-filter (package xdp-tools): default deny, the same sources allowed.

use anyhow::{Context as _, Result};
use aya::programs::{ProgramInfo, loaded_programs};
use spinegate::config::Source;

use crate::shell;

pub(crate) struct XdpFilter {
    info: ProgramInfo,
    frame: tempfile::NamedTempFile,
    interface: String,
}

impl XdpFilter {
    /// On an interface of its own.
    pub(crate) fn attach(sources: &[Source]) -> Result<Self> {
        shell::run(
            "ip",
            &["link", "add", "peer0", "type", "veth", "peer", "name", "peer1"],
        )?;
        shell::run("ip", &["link", "set", "peer0", "up"])?;
        shell::run("ip", &["link", "set", "peer1", "up"])?;
        Self::attach_to("peer0", sources)
    }

    pub(crate) fn attach_to(interface: &str, sources: &[Source]) -> Result<Self> {
        shell::run("xdp-filter", &["load", "-p", "deny", "-f", "ipv4", interface])?;
        let filter = Self {
            info: loaded()?,
            frame: tempfile::NamedTempFile::new()?,
            interface: interface.to_owned(),
        };
        for source in sources {
            let address = source.cidr.addr().to_string();
            shell::run("xdp-filter", &["ip", "-m", "src", &address])?;
        }
        Ok(filter)
    }

    /// The mean time of a run.
    pub(crate) fn run(&self, frame: &[u8], repeat: u32) -> Result<f64> {
        std::fs::write(self.frame.path(), frame)?;
        let (path, repeat) = (self.frame.path().to_string_lossy(), repeat.to_string());
        let id = self.info.id().to_string();
        #[rustfmt::skip]
        let run = ["-j", "prog", "run", "id", &id, "data_in", &path, "repeat", &repeat];
        let answer: serde_json::Value = serde_json::from_str(&shell::run("bpftool", &run)?)?;
        answer
            .get("duration")
            .and_then(serde_json::Value::as_f64)
            .context("bpftool says no duration")
    }

    /// How many packets it has dropped.
    pub(crate) fn dropped(&self) -> Result<u64> {
        let status = shell::run("xdp-filter", &["status"])?;
        let line = status
            .lines()
            .find(|line| line.trim_start().starts_with("XDP_DROP"))
            .context("`xdp-filter status` says nothing of XDP_DROP")?;
        let packets = line.split_whitespace().nth(1).context("packets")?;
        Ok(packets.replace(',', "").parse()?)
    }
}

impl Drop for XdpFilter {
    fn drop(&mut self) {
        // What is left of it ends with the namespace, but for its pins.
        let _ = shell::run("xdp-filter", &["unload", &self.interface]);
    }
}

/// Its program: the newest that has its name.
fn loaded() -> Result<ProgramInfo> {
    loaded_programs()
        .filter_map(Result::ok)
        .filter(|info| info.name_as_str().is_some_and(|name| name.starts_with("xdpfilt")))
        .last()
        .context("xdp-filter's program is not loaded")
}
