//! The edge host as its own kernel sees it: whether a packet reached the network stack at all.

use anyhow::{Context, Result};

use crate::command::Run;

/// The edge host's network stack.
#[derive(Clone, Debug)]
pub struct Edge {
    namespace: String,
}

impl Edge {
    /// The stack of a namespace.
    #[must_use]
    pub const fn new(namespace: String) -> Self {
        Self { namespace }
    }

    /// How many TCP segments reached the stack, over IPv4 and IPv6. What XDP drops is not among them.
    ///
    /// # Errors
    /// The kernel's counters can't be read.
    pub fn segments(&self) -> Result<u64> {
        let printed = Run::inside(&self.namespace, "cat")
            .arg("/proc/net/snmp")
            .success()?;
        counter(&printed, "Tcp:", "InSegs").context("/proc/net/snmp has no Tcp InSegs")
    }
}

/// The counter under a heading: `/proc/net/snmp` has a line of headings and a line of values for each protocol.
fn counter(printed: &str, protocol: &str, heading: &str) -> Option<u64> {
    let mut lines = printed.lines().filter(|line| line.starts_with(protocol));
    let (headings, values) = (lines.next()?.split(' '), lines.next()?.split(' '));
    headings
        .zip(values)
        .find(|(one, _)| *one == heading)?
        .1
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_found_under_its_heading() {
        let printed = "Icmp: InMsgs InSegs\nIcmp: 7 8\nTcp: CurrEstab InSegs OutSegs\nTcp: 1 42 3\n";
        assert_eq!(counter(printed, "Tcp:", "InSegs"), Some(42));
        assert_eq!(counter(printed, "Tcp:", "Nonsense"), None);
    }
}
