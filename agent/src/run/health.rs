//! Whether the agent can serve: what load balancers go by.

use std::time::SystemTime;

use super::{Agent, interfaces};
use crate::{
    config::{Config, OcspMode, OnFailure, Revocation},
    metrics::{Need, Readiness},
};

impl Agent {
    /// What keeps it from serving, if anything does.
    pub(super) fn readiness(&self) -> Readiness {
        let config = self.config.load();
        let looked = [
            (Need::Filter, self.filter_amiss()),
            (Need::Crl, self.crl_amiss(&config)),
            (Need::Registry, self.registry_amiss()),
            (Need::Upstream, self.upstream_amiss()),
            (Need::Audit, self.audit_amiss()),
            (Need::NotDraining, self.draining()),
        ];
        Readiness::of(
            looked
                .into_iter()
                .filter_map(|(need, amiss)| Some((need, amiss?))),
        )
    }

    /// An interface that is gone brings no packets, unless it was the last one.
    fn filter_amiss(&self) -> Option<String> {
        let interfaces = match self.filter.as_ref()?.interfaces() {
            Ok(found) => interfaces::status(&found),
            Err(error) => return Some(error.to_string()),
        };
        let guarded = |owner: &str| owner == "spinegate";
        let bare = interfaces
            .iter()
            .find(|interface| !guarded(&interface.owner) && interface.owner != "gone");
        match bare {
            Some(bare) => Some(format!(
                "the filter is not attached to {}: {} is",
                bare.name, bare.owner
            )),
            None if !interfaces.iter().any(|interface| guarded(&interface.owner)) => {
                Some("every interface of `filter.interfaces` is gone".to_owned())
            }
            None => None,
        }
    }

    /// Where OCSP is asked, a client without a CRL may still be accepted.
    fn crl_amiss(&self, config: &Config) -> Option<String> {
        let client = &config.tls.client;
        if client.revocation != Revocation::Require || client.ocsp.mode != OcspMode::Off {
            return None;
        }
        let crls = self.acceptor.trust().crls(SystemTime::now());
        if crls.iter().any(|crl| crl.state != "stale") {
            return None;
        }
        Some("no CRL is in force that is not too old, so every client is refused".to_owned())
    }

    fn registry_amiss(&self) -> Option<String> {
        let sources = self.directory.status();
        let source = sources
            .iter()
            .find(|source| matches!(source.state.as_str(), "overdue" | "none"))?;
        Some(match source.state.as_str() {
            "none" => format!("the source {} of the registry gave nothing yet", source.source),
            _ => format!(
                "the snapshot of the registry's source {} is too old",
                source.source
            ),
        })
    }

    fn upstream_amiss(&self) -> Option<String> {
        let upstreams = self.gateway.upstreams();
        let serves = |state: &str| matches!(state, "up" | "trial");
        (!upstreams.iter().any(|upstream| serves(&upstream.state)))
            .then(|| "every upstream is ejected or down".to_owned())
    }

    fn audit_amiss(&self) -> Option<String> {
        let amiss = self.audit.is_failing() && self.audit.on_failure() == OnFailure::Refuse;
        amiss.then(|| "the audit log takes no records, so no request is served".to_owned())
    }

    fn draining(&self) -> Option<String> {
        self.drain
            .is_cancelled()
            .then(|| "the agent finishes what is under way, and stops".to_owned())
    }
}
