//! The hosts that a request may be for.

use std::sync::Arc;

/// The gateway's own names, in lower case, IPv6 addresses in brackets. Where none is listed, any will do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hosts(Arc<[String]>);

impl Hosts {
    pub(crate) const fn new(names: Arc<[String]>) -> Self {
        Self(names)
    }

    /// Whether a well-formed Host field names one of them, at whatever port: clients may come through one that is forwarded.
    pub(super) fn have(&self, host: &[u8]) -> bool {
        let is_port = |byte: &u8| *byte == b':';
        let name = match host.iter().position(|byte| *byte == b']') {
            Some(end) => host.get(..=end),
            None => host.split(is_port).next(),
        };
        self.0.is_empty()
            || self
                .0
                .iter()
                .any(|own| name.is_some_and(|name| name.eq_ignore_ascii_case(own.as_bytes())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(names: &[&str]) -> Hosts {
        Hosts::new(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn a_host_is_one_of_the_listed_names_whatever_its_case_and_port() {
        let hosts = hosts(&["edge.nhs.uk", "10.0.0.1", "[fd00::1]"]);
        for host in [
            "edge.nhs.uk",
            "EDGE.nhs.uk:8443",
            "10.0.0.1:443",
            "[fd00::1]",
            "[FD00::1]:443",
        ] {
            assert!(hosts.have(host.as_bytes()), "{host}");
        }
        for host in [
            "edge",
            "edge.nhs.uk.",
            "an.edge.nhs.uk",
            "edge.nhs.ukx",
            "10.0.0.10",
            "[fd00::2]",
            "[fd00:0::1]",
            "fd00",
            "",
        ] {
            assert!(!hosts.have(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn without_a_list_any_host_will_do() {
        assert!(hosts(&[]).have(b"a"));
    }
}
