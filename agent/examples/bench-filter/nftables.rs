//! nftables (package nftables): a set of the same sources, asked in netdev ingress or in prerouting.

use anyhow::{Context as _, Result};
use spinegate::config::Source;

use crate::{frames::PORT, shell};

/// Where the set is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    Ingress,
    Prerouting,
}

impl Hook {
    const fn family(self) -> &'static str {
        match self {
            Self::Ingress => "netdev",
            Self::Prerouting => "ip",
        }
    }

    /// How many packets its rule has dropped.
    pub(crate) fn dropped(self) -> Result<u64> {
        let listed = shell::run(
            "nft",
            &["list", "chain", self.family(), "spinegate_bench", "filter"],
        )?;
        let mut words = listed
            .split_whitespace()
            .skip_while(|word| *word != "packets")
            .skip(1);
        Ok(words.next().context("a counter in nftables' rule")?.parse()?)
    }
}

pub(crate) struct Nftables;

impl Nftables {
    /// Drops what comes in on the interface for the guarded port, unless its source is in the set.
    pub(crate) fn install(hook: Hook, interface: &str, sources: &[Source]) -> Result<Self> {
        let family = hook.family();
        let chain = match hook {
            Hook::Ingress => {
                format!("type filter hook ingress device \"{interface}\" priority 0; policy accept;")
            }
            Hook::Prerouting => "type filter hook prerouting priority raw; policy accept;".to_owned(),
        };
        let elements: Vec<String> = sources
            .iter()
            .map(|source| source.cidr.addr().to_string())
            .collect();
        let rules = format!(
            "table {family} spinegate_bench {{\n set allowed {{ type ipv4_addr; elements = {{ {} }} }}\n \
             chain filter {{ {chain}\n  iifname \"{interface}\" tcp dport {PORT} ip saddr != @allowed counter drop\n }}\n}}\n",
            elements.join(", ")
        );
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), rules)?;
        shell::run("nft", &["-f", &file.path().to_string_lossy()])?;
        Ok(Self)
    }
}

impl Drop for Nftables {
    fn drop(&mut self) {
        let _ = shell::run("nft", &["flush", "ruleset"]);
    }
}
