//! Networks in CIDR notation, taken strictly.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A network without host bits, and not an IPv4 network in the clothes of IPv6 (RFC 4291 section 2.5.5.2): the filter
/// sees such a source as IPv4, so that an entry of that form would never match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr(IpNet);

/// Why a text is not a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}; {mend}")]
pub struct CidrError {
    /// What is wrong, naming the text.
    pub message: String,
    /// What to write instead.
    pub mend: String,
}

impl Cidr {
    /// The network.
    #[must_use]
    pub const fn network(self) -> IpNet {
        self.0
    }
}

impl From<IpNet> for Cidr {
    /// Host bits, if there are any, are cut off.
    fn from(network: IpNet) -> Self {
        Self(network.trunc())
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let Some((address, _)) = text.split_once('/') else {
            return Err(without_prefix(text));
        };
        let network: IpNet = text.parse().map_err(|_| CidrError {
            message: match address.parse::<IpAddr>() {
                Ok(IpAddr::V4(_)) => format!("{text:?} has no prefix length of 0 to 32"),
                Ok(IpAddr::V6(_)) => format!("{text:?} has no prefix length of 0 to 128"),
                Err(_) => format!("{text:?} is not a network in CIDR notation"),
            },
            mend: "write an address and a prefix length, as in \"10.239.14.31/32\" or \"2001:db8::/64\""
                .to_owned(),
        })?;
        if let IpNet::V6(v6) = network
            && v6.prefix_len() >= 96
            && let Some(v4) = v6.addr().to_ipv4_mapped()
        {
            return Err(CidrError {
                message: format!(
                    "{text:?} is an IPv4 network written as IPv6, which no packet's source would match"
                ),
                mend: format!("write \"{v4}/{}\"", v6.prefix_len() - 96),
            });
        }
        if network.trunc() != network {
            return Err(CidrError {
                message: format!("{text:?} has host bits set"),
                mend: format!(
                    "write \"{}\" for the network, or \"{}/{}\" for the one address",
                    network.trunc(),
                    network.addr(),
                    network.max_prefix_len()
                ),
            });
        }
        Ok(Self(network))
    }
}

fn without_prefix(text: &str) -> CidrError {
    match text.parse::<IpAddr>() {
        Ok(address) => CidrError {
            message: format!("{text:?} has no prefix length"),
            mend: format!("write \"{}\" for the one address", IpNet::from(address)),
        },
        Err(_) => CidrError {
            message: format!("{text:?} is not a network in CIDR notation"),
            mend: "write an address and a prefix length, as in \"10.239.14.31/32\" or \"2001:db8::/64\""
                .to_owned(),
        },
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_network_with_host_bits_is_refused_and_the_right_one_is_named() {
        let error = "10.1.2.3/16".parse::<Cidr>().unwrap_err();
        assert_eq!(error.message, "\"10.1.2.3/16\" has host bits set");
        assert_eq!(
            error.mend,
            "write \"10.1.0.0/16\" for the network, or \"10.1.2.3/32\" for the one address"
        );
    }

    #[test]
    fn an_ipv4_mapped_network_is_refused_and_its_ipv4_form_is_named() {
        let error = "::ffff:10.1.2.0/120".parse::<Cidr>().unwrap_err();
        assert_eq!(error.mend, "write \"10.1.2.0/24\"");
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for bad in [
            "",
            "/",
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0/8",
            "::/129",
            "host/8",
            "10.0.0.0/8 ",
            "10.0.0.0/-1",
        ] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken_or_refused_without_a_panic(text in ".{0,60}") {
            if let Ok(cidr) = text.parse::<Cidr>() {
                prop_assert_eq!(cidr.to_string().parse::<Cidr>(), Ok(cidr));
            }
        }

        #[test]
        fn a_cidr_never_has_host_bits(address in any::<u32>(), prefix in 0_u8..=32) {
            let text = format!("{}/{prefix}", std::net::Ipv4Addr::from(address));
            let clean = prefix == 32 || address << prefix == 0;
            prop_assert_eq!(text.parse::<Cidr>().is_ok(), clean);
        }
    }
}
