//! Whether the agent can serve, and if not, why: for load balancers and whoever watches over it.

use serde::{Deserialize, Serialize};

/// What must hold for requests to be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Need {
    /// The filter is attached to the interfaces of the configuration.
    Filter,
    /// A CRL that is not too old is in force, where revocation must be known.
    Crl,
    /// Every source of the registry has a snapshot that counts.
    Registry,
    /// An upstream is given requests.
    Upstream,
    /// The audit log takes records, where nothing is served without.
    Audit,
    /// The agent has not begun to stop.
    NotDraining,
}

impl Need {
    /// Every need.
    pub const ALL: [Self; 6] = [
        Self::Filter,
        Self::Crl,
        Self::Registry,
        Self::Upstream,
        Self::Audit,
        Self::NotDraining,
    ];

    /// The word that stands for it in metrics and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Crl => "crl",
            Self::Registry => "registry",
            Self::Upstream => "upstream",
            Self::Audit => "audit",
            Self::NotDraining => "not_draining",
        }
    }
}

/// Something that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unready {
    /// What.
    pub need: Need,
    /// How it is instead.
    pub message: String,
}

/// Whether requests can be served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Whether there are no reasons against it.
    pub ready: bool,
    /// What does not hold.
    pub reasons: Vec<Unready>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self::of([])
    }
}

impl Readiness {
    /// Ready if nothing is amiss.
    #[must_use]
    pub fn of(amiss: impl IntoIterator<Item = (Need, String)>) -> Self {
        let reasons: Vec<_> = amiss
            .into_iter()
            .map(|(need, message)| Unready { need, message })
            .collect();
        Self {
            ready: reasons.is_empty(),
            reasons,
        }
    }

    /// Whether something holds.
    #[must_use]
    pub fn has(&self, need: Need) -> bool {
        self.reasons.iter().all(|unready| unready.need != need)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_amiss_is_named_and_nothing_else() {
        let readiness = Readiness::of([(Need::Upstream, "all upstreams are ejected".to_owned())]);
        assert!(!readiness.ready && !readiness.has(Need::Upstream) && readiness.has(Need::Filter));
        assert_eq!(
            serde_json::to_value(&readiness).unwrap(),
            serde_json::json!({
                "ready": false,
                "reasons": [{ "need": "upstream", "message": "all upstreams are ejected" }],
            })
        );
        assert!(Readiness::of([]).ready);
    }

    #[test]
    fn a_need_has_one_word() {
        for need in Need::ALL {
            assert_eq!(serde_json::to_value(need).unwrap(), need.as_str());
        }
    }
}
