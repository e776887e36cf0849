//! Services, kinds and names of sources as operators write them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Service, ServiceProtocol, SourceKind};

/// Why a text is not a service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a service: write `tcp/` or `udp/` and a port of 1 to 65535, as in tcp/443")]
pub struct ServiceError(String);

impl ServiceProtocol {
    /// `tcp` or `udp`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl FromStr for Service {
    type Err = ServiceError;

    fn from_str(text: &str) -> Result<Self, ServiceError> {
        let fault = || ServiceError(text.to_owned());
        let (protocol, port) = text.split_once('/').ok_or_else(fault)?;
        let protocol = match protocol {
            "tcp" => ServiceProtocol::Tcp,
            "udp" => ServiceProtocol::Udp,
            _ => return Err(fault()),
        };
        match port.parse() {
            Ok(port) if port != 0 && !text.contains('+') => Ok(Self { protocol, port }),
            _ => Err(fault()),
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.protocol.as_str(), self.port)
    }
}

impl Serialize for Service {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Service {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// What an operator calls a source: 1 to 64 characters, none of them a control character, so that it can stand in a
/// table and in a log line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourceName(String);

/// Why a text is not a source's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a name: write 1 to 64 characters, none of them a control character")]
pub struct SourceNameError(String);

impl SourceName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<SourceName> for String {
    fn from(name: SourceName) -> Self {
        name.0
    }
}

impl FromStr for SourceName {
    type Err = SourceNameError;

    fn from_str(text: &str) -> Result<Self, SourceNameError> {
        if text.trim().is_empty() || text.chars().count() > 64 || text.chars().any(char::is_control) {
            return Err(SourceNameError(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for SourceName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl SourceKind {
    /// `proxy` or `system`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::System => "system",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_a_protocol_and_a_port_and_nothing_else() {
        let https = Service {
            protocol: ServiceProtocol::Tcp,
            port: 443,
        };
        assert_eq!("tcp/443".parse(), Ok(https));
        assert_eq!(https.to_string(), "tcp/443");
        for bad in [
            "",
            "443",
            "tcp",
            "tcp/",
            "tcp/0",
            "tcp/65536",
            "tcp/+443",
            "TCP/443",
            "sctp/443",
            "tcp/443/1",
        ] {
            assert!(bad.parse::<Service>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_name_that_could_break_a_line_is_refused() {
        assert!("ssp-int".parse::<SourceName>().is_ok());
        for bad in ["", "  ", "a\nb", "a\u{1b}[2J", &"x".repeat(65)] {
            assert!(bad.parse::<SourceName>().is_err(), "{bad:?}");
        }
    }
}
