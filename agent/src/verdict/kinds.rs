//! Which kind of source an address is, found without going through the whole allowlist.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
};

use ipnet::IpNet;

use crate::config::{Source, SourceKind};

/// The kinds of all sources.
#[derive(Debug, Default)]
pub(super) struct Kinds {
    kinds: HashMap<IpNet, SourceKind>,
    /// The prefix lengths that occur, of IPv4 and of IPv6 alike.
    lengths: BTreeSet<u8>,
}

impl Kinds {
    pub(super) fn of(sources: &[Source]) -> Self {
        Self {
            kinds: sources.iter().map(|source| (source.cidr, source.kind)).collect(),
            lengths: sources.iter().map(|source| source.cidr.prefix_len()).collect(),
        }
    }

    /// The kind of the longest prefix that covers the address; a system where none does.
    pub(super) fn of_address(&self, address: IpAddr) -> SourceKind {
        let covering = self.lengths.iter().rev().find_map(|length| {
            let network = IpNet::new(address, *length).ok()?.trunc();
            self.kinds.get(&network).copied()
        });
        covering.unwrap_or(SourceKind::System)
    }
}

#[cfg(test)]
mod tests {
    use super::{Kinds, SourceKind};
    use crate::config::Source;

    #[test]
    fn the_longest_prefix_decides_and_families_are_kept_apart() {
        let source = |cidr: &str, kind| Source {
            kind,
            ..Source::new(cidr.parse().unwrap(), cidr)
        };
        let kinds = Kinds::of(&[
            source("10.0.0.0/8", SourceKind::Proxy),
            source("10.1.0.0/16", SourceKind::System),
            source("10.1.2.3/32", SourceKind::Proxy),
            source("::/0", SourceKind::Proxy),
        ]);
        for (address, kind) in [
            ("10.2.0.1", SourceKind::Proxy),
            ("10.1.0.1", SourceKind::System),
            ("10.1.2.3", SourceKind::Proxy),
            ("192.0.2.1", SourceKind::System),
            ("2001:db8::1", SourceKind::Proxy),
        ] {
            assert_eq!(kinds.of_address(address.parse().unwrap()), kind, "{address}");
        }
    }
}
